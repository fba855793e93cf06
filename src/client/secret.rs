//! The two credentials a client holds.
//!
//! Owns their text, which is wiped when dropped and absent from `Debug`.
//! Refuses text that cannot be one; a refusal never repeats it.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

use crate::proto::session::Session;

const HANDLE_PREFIX: &str = "H-";
const UUID_LEN: usize = 36;
const MAX_LEASE: usize = 256;
/// Of a made lease: as many random bits as a digest key has.
const MADE_LEASE_BYTES: usize = 32;

/// The bearer credential of a session.
pub struct Handle(Zeroizing<String>);

impl Handle {
    /// A handle from its text, white space around it ignored.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim_ascii();
        let uuid = text
            .strip_prefix(HANDLE_PREFIX)
            .ok_or(SecretError::HandleForm)?;
        if !is_uuid(uuid) {
            return Err(SecretError::HandleForm);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Moves the handle out of an answer, if one came with it.
    pub fn take(session: &mut Session) -> Option<Self> {
        let text = std::mem::take(&mut session.ephemeral_handle);
        (!text.is_empty()).then(|| Self(Zeroizing::new(text)))
    }

    /// The text itself, for the one place it must go.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn bearer(&self) -> MetadataValue<Ascii> {
        let text = Zeroizing::new(format!("Bearer {}", &*self.0));
        let mut value = MetadataValue::try_from(text.as_str())
            .unwrap_or_else(|_| MetadataValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle([REDACTED])")
    }
}

/// The orchestrator's authority for its sessions.
pub struct Lease(Zeroizing<String>);

impl Lease {
    /// A lease from its text, white space around it ignored.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim_ascii();
        if text.is_empty() || text.len() > MAX_LEASE {
            return Err(SecretError::LeaseForm);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// A new random lease.
    pub fn random() -> Result<Self, SecretError> {
        let mut bytes = Zeroizing::new([0; MADE_LEASE_BYTES]);
        getrandom::fill(&mut *bytes).map_err(SecretError::NoRandom)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * MADE_LEASE_BYTES));
        for byte in *bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
            }
        }
        Ok(Self(text))
    }

    /// The text itself, for a request or its file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease([REDACTED])")
    }
}

/// Why a text is no credential.
#[derive(Debug)]
pub enum SecretError {
    /// Not of the form `H-{uuid}`.
    HandleForm,
    /// Empty or over 256 bytes.
    LeaseForm,
    /// The operating system gives no random bytes.
    NoRandom(getrandom::Error),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandleForm => f.write_str("not a handle: it is not of the form H-{uuid}"),
            Self::LeaseForm => write!(f, "not a lease: it must have 1 to {MAX_LEASE} bytes"),
            Self::NoRandom(_) => f.write_str("no random bytes to make a lease of"),
        }
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoRandom(source) => Some(source),
            Self::HandleForm | Self::LeaseForm => None,
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LEN
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::{Handle, Lease};
    use crate::proto::session::Session;

    const CANARY: &str = "H-0b1d2c3e-4f50-4617-8a9b-acbdcedfe0f1";

    #[test]
    fn a_handle_has_its_form_or_is_refused_without_repeating_it() {
        assert_eq!(
            Handle::parse(&format!(" {CANARY}\n")).unwrap().expose(),
            CANARY
        );
        for text in [
            "",
            "H-",
            "H-x",
            &CANARY[2..],
            &format!("{CANARY}0"),
            "H-0b1d2c3e04f50-4617-8a9b-acbdcedfe0f1",
        ] {
            let refused = Handle::parse(text).unwrap_err();
            assert!(text.len() < 3 || !format!("{refused} {refused:?}").contains(text));
        }
    }

    #[test]
    fn no_debug_shows_a_credential() {
        let handle = Handle::parse(CANARY).unwrap();
        let lease = Lease::parse("lease-canary").unwrap();
        let shown = format!("{handle:?} {lease:?} {:?}", handle.bearer());
        assert!(
            !shown.contains("0b1d2c3e") && !shown.contains("canary"),
            "{shown}"
        );
    }

    #[test]
    fn taking_a_handle_leaves_none_behind() {
        let mut session = Session {
            ephemeral_handle: CANARY.to_owned(),
            ..Session::default()
        };
        assert_eq!(Handle::take(&mut session).unwrap().expose(), CANARY);
        assert!(session.ephemeral_handle.is_empty());
        assert!(Handle::take(&mut session).is_none());
    }

    #[test]
    fn made_leases_are_long_and_differ() {
        let [one, two] = [(); 2].map(|()| Lease::random().unwrap());
        assert_eq!(one.expose().len(), 64);
        assert_ne!(one.expose(), two.expose());
        assert!(Lease::parse(one.expose()).is_ok());
    }

    #[test]
    fn a_lease_has_a_length() {
        assert!(Lease::parse(" \n").is_err());
        assert!(Lease::parse(&"x".repeat(257)).is_err());
        assert_eq!(Lease::parse("x\n").unwrap().expose(), "x");
    }
}
