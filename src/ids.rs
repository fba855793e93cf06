//! Names: ids and labels that are public, each a type of its own.
//!
//! Owns their forms and the making of random ones. A value that exists is valid.
//! Refuses, with the rule in words, anything else.

use std::{fmt, sync::Arc};

use uuid::Uuid;

/// Longest session id, in bytes.
pub const MAX_SESSION_ID_BYTES: usize = 128;
/// Longest of every other name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest request id, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Why a text is not a name, in words that complete "must be".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName(pub &'static str);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be {}", self.0)
    }
}

impl std::error::Error for BadName {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text if it has the right form.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if $check(text.as_bytes()) { Ok(Self(text.into())) } else { Err(BadName($rule)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

const NAME_RULE: &str = "1 to 256 bytes of printable ASCII without `/`";

name!(
    /// The name of a session.
    SessionId,
    is_session_id,
    "a letter or digit, then at most 127 of letters, digits, `.`, `_` and `-`"
);
name!(
    /// What an episode works on.
    WorkId,
    is_name,
    NAME_RULE
);
name!(
    /// The orchestrator's name for the spawned episode.
    EpisodeId,
    is_name,
    NAME_RULE
);
name!(
    /// A public name of any other thing: a lease holder, a coordination, a policy.
    PublicName,
    is_public,
    "at most 256 bytes of printable ASCII"
);
name!(
    /// What makes a repeated call the same call.
    RequestId,
    is_request_id,
    "1 to 128 bytes of printable ASCII"
);

impl SessionId {
    /// Makes an id from 122 random bits.
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self((&*Uuid::new_v4().as_hyphenated().encode_lower(&mut buffer)).into())
    }
}

/// The identity of one registry file, made with it and new after a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryId(Arc<str>);

impl RegistryId {
    /// Makes an id from 122 random bits.
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self((&*Uuid::new_v4().as_hyphenated().encode_lower(&mut buffer)).into())
    }

    /// Takes back what was stored.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_session_id(bytes: &[u8]) -> bool {
    let rest = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    bytes.len() <= MAX_SESSION_ID_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(rest)
}

fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && is_public(bytes) && !bytes.contains(&b'/')
}

fn is_public(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_NAME_BYTES && bytes.iter().all(|b| (0x20..0x7f).contains(b))
}

fn is_request_id(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= MAX_REQUEST_ID_BYTES && is_public(bytes)
}

#[cfg(test)]
mod tests {
    use super::{RequestId, SessionId, WorkId};

    #[test]
    fn session_ids_have_one_form() {
        for good in ["a", "A-1._", &"x".repeat(128)] {
            assert_eq!(SessionId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "é", "a\0", &"x".repeat(129)] {
            assert!(SessionId::parse(bad).is_err(), "{bad:?}");
        }
        SessionId::parse(SessionId::random().as_str()).unwrap();
    }

    #[test]
    fn names_are_printable_ascii_without_slash() {
        for good in ["W-1", "a b", &"x".repeat(256)] {
            WorkId::parse(good).unwrap();
        }
        for bad in ["", "a/b", "é", "a\n", "\u{7f}", &"x".repeat(257)] {
            assert!(WorkId::parse(bad).is_err(), "{bad:?}");
        }
        RequestId::parse("a/b").unwrap();
        assert!(RequestId::parse(&"x".repeat(129)).is_err());
    }
}
