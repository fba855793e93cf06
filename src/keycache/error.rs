//! Why a key is not kept.

use std::fmt;

/// A key cannot be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutError {
    /// No locked memory is left for it, or there are too many entries.
    Full,
    /// The time to live is zero, or ends after the end of time.
    InvalidTtl,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the cache is full",
            Self::InvalidTtl => "the TTL must be at least a second and end before the clock does",
        })
    }
}

impl std::error::Error for PutError {}

/// An id or a path is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameError {
    /// What it must be.
    pub must: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be {}", self.must)
    }
}

impl std::error::Error for NameError {}
