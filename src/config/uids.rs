//! Sets of user ids, as lists of ids and ranges.
//!
//! Owns their text form (`1000`, `1000-1999`). Refuses the id that the kernel
//! uses for "no id", and ranges that run backwards.

use std::fmt;
use std::str::FromStr;

/// `(uid_t)-1`, which chown(2) and setuid(2) take for "leave as it is".
const NO_UID: u32 = u32::MAX;

/// Some user ids. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UidSet {
    /// Sorted, without overlaps or neighbours that could be one.
    ranges: Vec<UidRange>,
}

impl UidSet {
    /// Whether `uid` is one of them.
    pub fn contains(&self, uid: u32) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= uid);
        after > 0 && uid <= self.ranges[after - 1].last
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in ascending order.
    pub fn ranges(&self) -> &[UidRange] {
        &self.ranges
    }
}

impl FromIterator<UidRange> for UidSet {
    fn from_iter<I: IntoIterator<Item = UidRange>>(iter: I) -> Self {
        let mut all: Vec<_> = iter.into_iter().collect();
        all.sort_unstable_by_key(|range| range.first);
        let mut ranges: Vec<UidRange> = Vec::with_capacity(all.len());
        for next in all {
            match ranges.last_mut() {
                Some(range) if next.first <= range.last.saturating_add(1) => {
                    range.last = range.last.max(next.last);
                }
                _ => ranges.push(next),
            }
        }
        Self { ranges }
    }
}

/// From one uid to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    first: u32,
    last: u32,
}

impl From<u32> for UidRange {
    fn from(uid: u32) -> Self {
        Self {
            first: uid,
            last: uid,
        }
    }
}

impl FromStr for UidRange {
    type Err = UidRangeError;

    fn from_str(text: &str) -> Result<Self, UidRangeError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse_uid(first)?, parse_uid(last)?);
        if first > last {
            return Err(UidRangeError);
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for UidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Digits only: `u32::from_str` also takes a sign.
fn parse_uid(text: &str) -> Result<u32, UidRangeError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UidRangeError);
    }
    match text.parse() {
        Ok(NO_UID) | Err(_) => Err(UidRangeError),
        Ok(uid) => Ok(uid),
    }
}

/// The text is neither an id nor an ascending range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRangeError;

impl fmt::Display for UidRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a user id or a range of them such as 1000-1999")
    }
}

impl std::error::Error for UidRangeError {}

#[cfg(test)]
mod tests {
    use super::{UidRange, UidSet};

    fn set(texts: &[&str]) -> UidSet {
        texts
            .iter()
            .map(|text| text.parse::<UidRange>().unwrap())
            .collect()
    }

    #[test]
    fn a_set_contains_its_ids_and_nothing_beside_them() {
        let uids = set(&["3000-3001", "0", "1000-1999"]);
        for uid in [0, 1000, 1500, 1999, 3000, 3001] {
            assert!(uids.contains(uid), "{uid}");
        }
        for uid in [1, 999, 2000, 2999, 3002, u32::MAX] {
            assert!(!uids.contains(uid), "{uid}");
        }
        assert!(UidSet::default().is_empty());
        assert!(!UidSet::default().contains(0));
    }

    #[test]
    fn overlapping_and_neighbouring_ranges_become_one() {
        let uids = set(&["5-7", "1-9", "10", "20", "8-11"]);
        let texts: Vec<_> = uids.ranges().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["1-11", "20"]);
    }

    #[test]
    fn odd_texts_are_refused() {
        for text in [
            "",
            "-",
            "-5",
            "5-",
            "7-5",
            "1-2-3",
            "+5",
            " 5",
            "x",
            "4294967295",
            "4294967296",
        ] {
            assert!(text.parse::<UidRange>().is_err(), "{text:?}");
        }
    }
}
