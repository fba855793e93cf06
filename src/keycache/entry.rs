//! One kept key: its names, its bytes, and until when.

use super::{
    arena::Secret,
    error::{NameError, PutError},
};
use crate::clock::Now;

/// Bytes of a lockbox id.
pub const MAX_ID: usize = 1024;

/// The name of a lockbox. Text of its own choice; not a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockboxId(Box<str>);

impl LockboxId {
    /// 1 to [`MAX_ID`] bytes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_ID {
            let must = "1 to 1,024 bytes of UTF-8";
            return Err(NameError { must });
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a hit prolongs an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// To now and its TTL.
    #[default]
    Sliding,
    /// Never.
    Absolute,
}

/// How long an entry is kept. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// From the put, and with [`Expiry::Sliding`] from each hit.
    pub ttl: u64,
    /// What a hit does.
    pub expiry: Expiry,
    /// From the put, however many hits; none: for ever.
    pub max_lifetime: Option<u64>,
}

/// Fifteen minutes: what source 001 gives an entry without a TTL.
pub const DEFAULT_TTL: u64 = 15 * 60 * 1000;

/// Eight hours.
pub const DEFAULT_MAX_LIFETIME: u64 = 8 * 60 * 60 * 1000;

impl Default for Keep {
    fn default() -> Self {
        Self::for_ttl(DEFAULT_TTL)
    }
}

impl Keep {
    /// What is meant where nothing but the TTL is said: eight hours at most, unless the
    /// TTL itself is longer.
    pub fn for_ttl(ttl: u64) -> Self {
        Self {
            ttl,
            expiry: Expiry::Sliding,
            max_lifetime: Some(DEFAULT_MAX_LIFETIME.max(ttl)),
        }
    }
}

/// See the module. Of a hundred thousand, each byte counts: 64 of them, with the
/// path elsewhere because few have one.
#[derive(Debug)]
pub struct Entry {
    path: Option<Box<Lies>>,
    key: Secret,
    /// When it came, in milliseconds since the epoch.
    created: u64,
    /// On the boot clock, which counts while the machine sleeps.
    deadline: u64,
    last: u64,
    /// To how far from now a hit moves the deadline; 0: not at all.
    slide: u64,
    serial: u32,
    hits: u32,
}

/// Where a lockbox lies.
#[derive(Debug)]
struct Lies(Box<str>);

impl Entry {
    pub(super) fn new(
        serial: u32,
        key: Secret,
        path: Option<&str>,
        keep: Keep,
        now: Now,
    ) -> Result<Self, PutError> {
        let end = |span: u64| now.boot.checked_add(span).ok_or(PutError::InvalidTtl);
        if keep.ttl == 0 {
            return Err(PutError::InvalidTtl);
        }
        let last = keep.max_lifetime.map_or(Ok(u64::MAX), end)?;
        Ok(Self {
            path: path.map(|path| Box::new(Lies(path.into()))),
            key,
            created: now.wall,
            deadline: end(keep.ttl)?.min(last),
            last,
            slide: match keep.expiry {
                Expiry::Sliding => keep.ttl,
                Expiry::Absolute => 0,
            },
            serial,
            hits: 0,
        })
    }

    /// The key. Whoever looks first asks whether the entry [is over](Entry::is_over).
    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// Where the lockbox lies, for people.
    pub fn path(&self) -> Option<&str> {
        self.path.as_ref().map(|lies| &*lies.0)
    }

    /// Which put it came with: no two entries of four billion puts share it.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// When it came, in milliseconds since the epoch.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// How often it was asked for.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// What a hit does.
    pub fn expiry(&self) -> Expiry {
        if self.slide == 0 {
            Expiry::Absolute
        } else {
            Expiry::Sliding
        }
    }

    /// Milliseconds until its time comes, if nobody asks for it.
    pub fn remaining(&self, now: Now) -> u64 {
        self.deadline.saturating_sub(now.boot)
    }

    /// Whether its time has come.
    pub fn is_over(&self, now: Now) -> bool {
        now.boot >= self.deadline
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    pub(super) fn hit(&mut self, now: Now) {
        self.hits = self.hits.saturating_add(1);
        if self.slide > 0 {
            self.deadline = now.boot.saturating_add(self.slide).min(self.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn an_entry_has_64_bytes() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
