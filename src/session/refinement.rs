//! Refinements: reads outside a manifest, asked back to the coordinator.
//!
//! ```text
//! miss -> PENDING -> ANSWERED (a successor goes on)
//!              |  \
//!              |   DECLINED
//!              EXPIRED (a day later, or with the session's deadline)
//! ```
//!
//! The first answer wins. Closed ones are remembered for a day. A work id gets
//! [`MAX_REFINEMENTS`]; the count outlives its sessions and restarts, until a
//! registration asks for a new one or nothing was asked for a month.

use std::{collections::BTreeMap, fmt, sync::Arc};

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::{
    clock::Now,
    firewall::manifest::ManifestHash,
    ids::SessionId,
    session::{
        firewall::ManifestRef,
        state::{Seq, Session},
    },
};

/// Refinements of one work id; the next miss ends its session without one.
pub const MAX_REFINEMENTS: u32 = 10;

/// A missed path is cut here, in bytes.
pub const MAX_MISSED_BYTES: usize = 1024;

/// How long a refinement can be answered, in milliseconds.
pub const PENDING_MS: u64 = 24 * 3_600_000;

/// How long a closed one is remembered, in milliseconds.
const CLOSED_MS: u64 = 24 * 3_600_000;

/// How long the count of a work id is remembered, in milliseconds.
const COUNT_MS: u64 = 30 * 24 * 3_600_000;

/// The name of a refinement: `R-` and the revision it was asked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RefinementId(pub u64);

impl RefinementId {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("R-")?;
        let plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        number.parse().ok().filter(|_| plain).map(Self)
    }
}

impl fmt::Display for RefinementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{}", self.0)
    }
}

/// Where a refinement is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefinementState {
    /// Nobody has answered.
    Pending,
    /// A session goes on.
    Answered(SessionId),
    /// Refused, and why.
    Declined(Box<str>),
    /// Nobody answered in time.
    Expired,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Refinement {
    /// Its name.
    pub id: RefinementId,
    /// The session that missed, as it was then, lease and all.
    pub session: Arc<Session>,
    /// What it was bound to.
    pub manifest: Arc<ManifestRef>,
    /// The missed path, cut at [`MAX_MISSED_BYTES`].
    pub path: Box<str>,
    /// The how manyth of its work id.
    pub count: u32,
    /// When it was asked, since the epoch.
    pub created: u64,
    /// When it can no longer be answered, since the epoch.
    pub expires: u64,
    /// Where it is in its life.
    pub state: RefinementState,
    /// Since when, since the epoch.
    pub changed: u64,
}

impl Refinement {
    /// Whether nobody has answered.
    pub fn is_pending(&self) -> bool {
        self.state == RefinementState::Pending
    }

    /// Whether it can still be answered.
    pub fn is_open(&self, now: Now) -> bool {
        self.is_pending() && now.wall < self.expires
    }

    /// Whether it has expired and nobody has said so.
    pub fn is_due(&self, now: Now) -> bool {
        self.is_pending() && self.expires <= now.wall
    }

    fn is_forgotten(&self, now: Now) -> bool {
        !self.is_pending() && self.changed + CLOSED_MS <= now.wall
    }
}

/// The path of a miss, cut between two characters.
pub fn cut(path: &str) -> &str {
    if path.len() <= MAX_MISSED_BYTES {
        return path;
    }
    let fits = (0..=MAX_MISSED_BYTES).rev();
    let at = fits.into_iter().find(|at| path.is_char_boundary(*at));
    &path[..at.unwrap_or(0)]
}

/// How many a work id has had, and when the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub count: u32,
    /// When the last, since the epoch.
    pub at: u64,
}

/// All that are remembered. The writer changes them, everybody reads.
#[derive(Debug, Default)]
pub struct Refinements(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<RefinementId, Arc<Refinement>>,
    of_session: HashMap<Seq, Vec<RefinementId>>,
    counts: HashMap<Box<str>, Count>,
}

impl Refinements {
    /// Puts a refinement, new or changed.
    pub(super) fn put(&self, refinement: &Arc<Refinement>) {
        let mut inner = self.0.write();
        let known = inner.by_id.insert(refinement.id, Arc::clone(refinement));
        if known.is_none() {
            let of_session = inner.of_session.entry(refinement.session.seq);
            of_session.or_default().push(refinement.id);
        }
    }

    /// Sets the count of a work id.
    pub(super) fn set_count(&self, work: &str, count: Count) {
        self.0.write().counts.insert(work.into(), count);
    }

    /// Counts the refinements of a work id from 0 again.
    pub(super) fn reset(&self, work: &str) {
        self.0.write().counts.remove(work);
    }

    /// Forgets a refinement.
    pub(super) fn forget(&self, id: RefinementId) {
        let mut inner = self.0.write();
        let Some(gone) = inner.by_id.remove(&id) else {
            return;
        };
        let seq = gone.session.seq;
        if let Some(ids) = inner.of_session.get_mut(&seq) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                inner.of_session.remove(&seq);
            }
        }
    }

    /// How many a work id has had.
    pub fn count(&self, work: &str) -> u32 {
        self.0.read().counts.get(work).map_or(0, |c| c.count)
    }

    /// The refinement of that name.
    pub fn find(&self, id: RefinementId) -> Option<Arc<Refinement>> {
        self.0.read().by_id.get(&id).cloned()
    }

    /// Those of a session, oldest first.
    pub fn of_session(&self, seq: Seq) -> Vec<Arc<Refinement>> {
        let inner = self.0.read();
        let ids = inner.of_session.get(&seq).map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter_map(|id| inner.by_id.get(id).cloned())
            .collect()
    }

    /// Up to `limit` behind `after`, oldest first.
    pub fn after(&self, after: RefinementId, limit: usize) -> Vec<Arc<Refinement>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let inner = self.0.read();
        let range = inner.by_id.range((Excluded(after), Unbounded));
        range.take(limit).map(|(_, it)| Arc::clone(it)).collect()
    }

    /// Those that have expired without a word, and those to forget.
    pub(super) fn due(&self, limit: usize, now: Now) -> (Vec<Arc<Refinement>>, Vec<RefinementId>) {
        let inner = self.0.read();
        let all = || inner.by_id.values();
        let expired = all().filter(|it| it.is_due(now)).take(limit).cloned();
        let forgotten = all().filter(|it| it.is_forgotten(now)).take(limit);
        (expired.collect(), forgotten.map(|it| it.id).collect())
    }

    /// Work ids whose count is to be forgotten.
    pub(super) fn old_counts(&self, limit: usize, now: Now) -> Vec<Box<str>> {
        let inner = self.0.read();
        let all = inner.counts.iter();
        let old = all.filter(|(_, count)| count.at + COUNT_MS <= now.wall);
        old.take(limit).map(|(work, _)| work.clone()).collect()
    }

    /// Whether a refinement that can be answered needs the manifest.
    pub(super) fn needs(&self, manifest: &ManifestHash) -> bool {
        let inner = self.0.read();
        let needs = |it: &Arc<Refinement>| it.is_pending() && it.manifest.hash == *manifest;
        inner.by_id.values().any(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MISSED_BYTES, RefinementId, cut};

    #[test]
    fn a_missed_path_is_cut_between_characters() {
        assert_eq!(cut("/short"), "/short");
        let long = format!("/{}", "ü".repeat(MAX_MISSED_BYTES));
        let kept = cut(&long);
        assert_eq!(kept.len(), MAX_MISSED_BYTES - 1);
        assert!(long.starts_with(kept));
    }

    #[test]
    fn a_refinement_is_named_by_its_revision() {
        assert_eq!(RefinementId::parse("R-17"), Some(RefinementId(17)));
        assert_eq!(RefinementId(17).to_string(), "R-17");
        for bad in ["", "17", "R-", "R-0", "R-017", "R-+1", "R-1x", "r-1"] {
            assert_eq!(RefinementId::parse(bad), None, "{bad}");
        }
    }
}
