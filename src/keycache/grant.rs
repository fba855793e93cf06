//! Keys that belong to an episode's session, and to nobody else.
//!
//! A grant ends at a time that no use moves, after its uses, when it is revoked and
//! with its session. Whether the session still lives is for others to watch; here
//! it has a name. Its bytes are zero before the call that ends it returns, but for
//! the last use, which sees them once more.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Bound};

use super::{arena::Secret, entry::LockboxId};
use crate::{clock::Now, ids::SessionId};

/// The longest time of a grant, in milliseconds: 24 hours.
pub const MAX_GRANT: u64 = 24 * 60 * 60 * 1000;

/// Grants at most: a few for each of a host's episodes.
pub const MAX_GRANTS: usize = 4_096;

/// Whose key, and of which lockbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantId {
    /// Whose.
    pub session: SessionId,
    /// Which.
    pub lockbox: LockboxId,
}

/// Until when, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Milliseconds from now, at most [`MAX_GRANT`].
    pub time: u64,
    /// None: as often as its owner likes.
    pub uses: Option<NonZeroU32>,
}

/// Why a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantEnd {
    /// Its time was over.
    Expired,
    /// So were its uses.
    UsedUp,
    /// Somebody took it back, or gave another in its place.
    Revoked,
    /// Its session ended.
    SessionEnded,
}

impl GrantEnd {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "its time was over",
            Self::UsedUp => "its uses were over",
            Self::Revoked => "it was revoked",
            Self::SessionEnded => "its session ended",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Grant {
    key: Secret,
    /// In milliseconds since the epoch.
    created: u64,
    /// On the boot clock, which counts while the machine sleeps.
    deadline: u64,
    uses: Option<NonZeroU32>,
    hits: u32,
}

impl Grant {
    /// When it came, in milliseconds since the epoch.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Milliseconds until its time is over.
    pub fn remaining(&self, now: Now) -> u64 {
        self.deadline.saturating_sub(now.boot)
    }

    /// How often it may still be used.
    pub fn uses_left(&self) -> Option<NonZeroU32> {
        self.uses
    }

    /// How often it was used.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    fn is_over(&self, now: Now) -> bool {
        now.boot >= self.deadline
    }
}

/// All grants.
#[derive(Debug, Default)]
pub struct Grants {
    all: BTreeMap<GrantId, Grant>,
    ended: Vec<(GrantId, GrantEnd)>,
}

impl Grants {
    /// Gives a key to a session, in place of what it had of that lockbox.
    pub(super) fn give(&mut self, id: GrantId, key: Secret, terms: Terms, now: Now) {
        self.end(&id, GrantEnd::Revoked);
        let grant = Grant {
            key,
            created: now.wall,
            deadline: now.boot.saturating_add(terms.time.min(MAX_GRANT)),
            uses: terms.uses,
            hits: 0,
        };
        self.all.insert(id, grant);
    }

    /// Uses one: its key is shown to `use_it`, for the last time if that was the last
    /// use. None if there is none any more.
    pub fn use_one<T>(
        &mut self,
        id: &GrantId,
        now: Now,
        use_it: impl FnOnce(&Secret) -> T,
    ) -> Option<T> {
        let grant = self.all.get_mut(id)?;
        if grant.is_over(now) {
            self.end(id, GrantEnd::Expired);
            return None;
        }
        grant.hits = grant.hits.saturating_add(1);
        let used = use_it(&grant.key);
        if let Some(uses) = grant.uses {
            grant.uses = NonZeroU32::new(uses.get() - 1);
            if grant.uses.is_none() {
                self.end(id, GrantEnd::UsedUp);
            }
        }
        Some(used)
    }

    fn end(&mut self, id: &GrantId, why: GrantEnd) -> bool {
        let ended = self.all.remove_entry(id);
        let was_there = ended.is_some();
        self.ended.extend(ended.map(|(id, _)| (id, why)));
        was_there
    }

    /// Takes one back; says whether it was there.
    pub fn revoke(&mut self, id: &GrantId) -> bool {
        self.end(id, GrantEnd::Revoked)
    }

    /// Ends all of a session.
    pub fn end_session(&mut self, session: &SessionId) {
        self.end_where(GrantEnd::SessionEnded, |id, _| id.session == *session);
    }

    /// Ends what is over.
    pub fn prune(&mut self, now: Now) {
        self.end_where(GrantEnd::Expired, |_, grant| grant.is_over(now));
    }

    fn end_where(&mut self, why: GrantEnd, is_it: impl Fn(&GrantId, &Grant) -> bool) {
        let ended = self.all.extract_if(.., |id, grant| is_it(id, grant));
        self.ended.extend(ended.map(|(id, _)| (id, why)));
    }

    /// Ends all, untold; says how many.
    pub(super) fn wipe(&mut self) -> usize {
        std::mem::take(&mut self.all).len()
    }

    /// What ended since this was asked last.
    pub fn take_ended(&mut self) -> Vec<(GrantId, GrantEnd)> {
        std::mem::take(&mut self.ended)
    }

    /// What is there behind an id, by session and lockbox.
    pub fn list(
        &self,
        after: Option<&GrantId>,
        now: Now,
    ) -> impl Iterator<Item = (&GrantId, &Grant)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.all.range((from, Bound::Unbounded));
        behind.filter(move |(_, grant)| !grant.is_over(now))
    }

    /// Whether a session has any.
    pub fn has(&self, session: &SessionId) -> bool {
        self.all.keys().any(|id| id.session == *session)
    }

    /// How many, those that are over included until they are found.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{GrantEnd, GrantId, Grants, MAX_GRANT, NonZeroU32, Terms};
    use crate::{
        clock::Now,
        ids::SessionId,
        keycache::{
            arena::{Allowed, Arena},
            entry::LockboxId,
        },
    };

    fn at(boot: u64) -> Now {
        Now {
            boot,
            awake: boot,
            wall: 0,
        }
    }

    fn id(session: &str, lockbox: &str) -> GrantId {
        GrantId {
            session: SessionId::parse(session).unwrap(),
            lockbox: LockboxId::parse(lockbox).unwrap(),
        }
    }

    fn given(all: &[(&GrantId, u64, u32)]) -> Grants {
        let any = Allowed {
            secret: true,
            unlocked: true,
        };
        let arena = Arena::new(1 << 20, any).unwrap();
        let mut grants = Grants::default();
        for (id, time, uses) in all {
            let uses = NonZeroU32::new(*uses);
            let terms = Terms { time: *time, uses };
            grants.give((*id).clone(), arena.take(32).unwrap(), terms, at(0));
        }
        grants
    }

    #[test]
    fn a_grant_ends_at_its_time_however_often_it_is_used() {
        let one = id("s", "a");
        let mut grants = given(&[(&one, 1_000, 0)]);
        for now in [0, 500, 999] {
            assert_eq!(grants.use_one(&one, at(now), |_| now), Some(now));
        }
        assert_eq!(grants.use_one(&one, at(1_000), |_| ()), None);
        assert_eq!(grants.take_ended(), [(one, GrantEnd::Expired)]);
        assert!(grants.is_empty());
    }

    #[test]
    fn a_grant_is_used_as_often_as_was_said_and_by_its_session_only() {
        let (one, other) = (id("s", "a"), id("t", "a"));
        let mut grants = given(&[(&one, 1_000, 2)]);
        assert_eq!(grants.use_one(&other, at(0), |_| ()), None);
        for left in [1, 0] {
            assert_eq!(grants.use_one(&one, at(0), |_| ()), Some(()));
            assert_eq!(grants.len(), usize::from(left > 0));
        }
        assert_eq!(grants.use_one(&one, at(0), |_| ()), None);
        assert_eq!(grants.take_ended(), [(one, GrantEnd::UsedUp)]);
    }

    #[test]
    fn no_grant_outlives_a_day_its_session_or_its_successor() {
        let (one, other) = (id("s", "a"), id("t", "a"));
        let mut grants = given(&[(&one, u64::MAX, 0), (&other, u64::MAX, 0)]);
        grants.prune(at(MAX_GRANT - 1));
        assert_eq!(grants.len(), 2);
        grants.end_session(&one.session);
        assert!(!grants.has(&one.session) && grants.has(&other.session));
        grants.prune(at(MAX_GRANT));
        let ended = [
            (one.clone(), GrantEnd::SessionEnded),
            (other, GrantEnd::Expired),
        ];
        assert_eq!(grants.take_ended(), ended);
        let mut again = given(&[(&one, 1, 0), (&one, 1, 0)]);
        assert_eq!(again.take_ended(), [(one, GrantEnd::Revoked)]);
        assert_eq!(again.len(), 1);
    }
}
