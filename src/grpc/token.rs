//! Page tokens: where the next page begins, sealed with the filter it is for.
//!
//! A token is a position and a checksum over position, filter and registry. It
//! is no secret: the checksum tells a client's mistake, not an attack.

use crate::{ids::RegistryId, reason::Reason};

use super::status::Refusal;

/// A place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The registry's revision before the first page.
    pub(super) first_revision: u64,
    /// What the last page ended with.
    pub(super) last: u64,
}

/// Makes a token for a list called `list` under `filter`.
pub(super) fn seal(list: &str, registry: &RegistryId, filter: &[u8], at: Position) -> String {
    let Position {
        first_revision,
        last,
    } = at;
    format!(
        "{first_revision:x}.{last:x}.{:016x}",
        checksum(list, registry, filter, at)
    )
}

/// Reads a token back.
pub(super) fn open(
    list: &str,
    registry: &RegistryId,
    filter: &[u8],
    token: &str,
) -> Result<Position, Refusal> {
    let bad = || {
        let message = "the page token is not one of this list and filter: start again without it";
        Refusal::new(Reason::InvalidPageToken, message)
    };
    let mut parts = token.split('.');
    let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
    let position = next().zip(next()).ok_or_else(bad)?;
    let at = Position {
        first_revision: position.0,
        last: position.1,
    };
    let sum = next().ok_or_else(bad)?;
    let whole = parts.next().is_none() && sum == checksum(list, registry, filter, at);
    whole.then_some(at).ok_or_else(bad)
}

fn checksum(list: &str, registry: &RegistryId, filter: &[u8], at: Position) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [list.as_bytes(), registry.as_str().as_bytes(), filter] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&at.first_revision.to_le_bytes());
    hasher.update(&at.last.to_le_bytes());
    let hash = hasher.finalize();
    let (head, _) = hash.as_bytes().split_at(8);
    u64::from_le_bytes(head.try_into().expect("a hash is longer than eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::{Position, open, seal};
    use crate::{ids::RegistryId, reason::Reason};

    #[test]
    fn a_token_opens_only_for_its_list_filter_and_registry() {
        let registry = RegistryId::random();
        let at = Position {
            first_revision: 7,
            last: 1 << 40,
        };
        let token = seal("sessions", &registry, b"f", at);
        assert_eq!(open("sessions", &registry, b"f", &token).unwrap(), at);
        let other = RegistryId::random();
        let tampered = token.replacen('7', "8", 1);
        for result in [
            open("events", &registry, b"f", &token),
            open("sessions", &registry, b"g", &token),
            open("sessions", &other, b"f", &token),
            open("sessions", &registry, b"f", &tampered),
            open("sessions", &registry, b"f", ""),
            open("sessions", &registry, b"f", &format!("{token}.1")),
        ] {
            assert_eq!(result.unwrap_err().reason(), Reason::InvalidPageToken);
        }
    }
}
