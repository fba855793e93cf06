//! The cache: who is still there.
//!
//! An entry ends at its deadline, when it is forgotten or replaced, and with
//! everything else when the cache is wiped. Its bytes are zero before the call that
//! ends it returns. A deadline is looked at on every access; [`Cache::prune`] finds
//! those that nobody asks for.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Bound};

use super::{
    arena::Secret,
    entry::{Entry, Keep, LockboxId},
    error::PutError,
    grant::{GrantId, Grants, MAX_GRANTS, Terms},
};
use crate::clock::Now;

/// Entries at most.
pub const MAX_ENTRIES: usize = 100_000;

/// Bytes of ids and paths at most: those are not in locked memory.
pub const MAX_NAMES: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    /// What belongs to sessions.
    pub grants: Grants,
    /// Boxed: the tree's nodes are half empty.
    entries: BTreeMap<LockboxId, Box<Entry>>,
    /// No entry ends before this, on the boot clock.
    earliest: u64,
    wipes: u64,
    /// Puts so far.
    serial: u32,
    /// Bytes of ids and paths.
    names: usize,
    /// What ended by itself and was not told yet.
    expired: Vec<LockboxId>,
}

fn names_of(id: &LockboxId, entry: &Entry) -> usize {
    id.as_str().len() + entry.path().map_or(0, str::len)
}

impl Cache {
    /// Keeps a key, in place of what had its id.
    pub fn put(
        &mut self,
        id: LockboxId,
        key: Secret,
        path: Option<&str>,
        keep: Keep,
        now: Now,
    ) -> Result<(), PutError> {
        self.serial = self.serial.wrapping_add(1);
        let entry = Entry::new(self.serial, key, path, keep, now)?;
        let names = names_of(&id, &entry);
        if !self.has_room(&id, names) {
            self.prune(now);
            if !self.has_room(&id, names) {
                return Err(PutError::Full);
            }
        }
        if self.entries.get(&id).is_some_and(|old| old.is_over(now)) {
            self.expired.push(id.clone());
        }
        self.forget(&id);
        self.earliest = if self.entries.is_empty() {
            entry.deadline()
        } else {
            self.earliest.min(entry.deadline())
        };
        self.names += names;
        self.entries.insert(id, Box::new(entry));
        Ok(())
    }

    /// Gives a key to a session, in place of what it had of that lockbox.
    pub fn grant(
        &mut self,
        id: GrantId,
        key: Secret,
        terms: Terms,
        now: Now,
    ) -> Result<(), PutError> {
        if terms.time == 0 {
            return Err(PutError::InvalidTtl);
        }
        if self.is_full() {
            self.prune(now);
            if self.is_full() {
                return Err(PutError::Full);
            }
        }
        self.grants.give(id, key, terms, now);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let grants = self.grants.len();
        grants >= MAX_GRANTS || self.entries.len() + grants >= MAX_ENTRIES
    }

    /// Whether an entry with so many bytes of names may come, or take the place of
    /// the one that has its id.
    fn has_room(&self, id: &LockboxId, names: usize) -> bool {
        let replaced = self.entries.get(id).map(|old| names_of(id, old));
        let entries = self.entries.len() - usize::from(replaced.is_some()) + self.grants.len();
        entries < MAX_ENTRIES && self.names - replaced.unwrap_or(0) + names <= MAX_NAMES
    }

    /// The entry, prolonged if it slides; none if there is none any more.
    pub fn get(&mut self, id: &LockboxId, now: Now) -> Option<&Entry> {
        let entry = self.entries.get_mut(id)?;
        if entry.is_over(now) {
            self.forget(id);
            self.expired.push(id.clone());
            return None;
        }
        entry.hit(now);
        self.entries.get(id).map(|entry| &**entry)
    }

    /// The same entry again, if it is still there; prolongs nothing.
    pub fn peek(&self, id: &LockboxId, serial: u32, now: Now) -> Option<&Entry> {
        let entry = self.entries.get(id)?;
        (entry.serial() == serial && !entry.is_over(now)).then_some(entry)
    }

    /// Ends one; says whether it was there.
    pub fn forget(&mut self, id: &LockboxId) -> bool {
        let gone = self.entries.remove(id);
        self.names -= gone.as_ref().map_or(0, |entry| names_of(id, entry));
        gone.is_some()
    }

    /// Ends all that lie at that path; says which.
    pub fn forget_path(&mut self, path: &str) -> Vec<LockboxId> {
        self.keep(|entry| entry.path() != Some(path))
    }

    /// Ends all; says how many.
    pub fn wipe(&mut self) -> usize {
        self.wipes += 1;
        self.names = 0;
        std::mem::take(&mut self.entries).len() + self.grants.wipe()
    }

    /// How often everything was wiped: a key that was on its way in before must not
    /// be kept.
    pub fn wipes(&self) -> u64 {
        self.wipes
    }

    /// Ends what is over; says how many.
    pub fn prune(&mut self, now: Now) -> usize {
        self.grants.prune(now);
        if self.entries.is_empty() || now.boot < self.earliest {
            return 0;
        }
        let ended = self.keep(|entry| !entry.is_over(now));
        let deadlines = self.entries.values().map(|entry| entry.deadline());
        self.earliest = deadlines.min().unwrap_or(0);
        let count = ended.len();
        self.expired.extend(ended);
        count
    }

    /// What ended by itself since this was asked last.
    pub fn take_expired(&mut self) -> Vec<LockboxId> {
        std::mem::take(&mut self.expired)
    }

    /// Ends all others; says which.
    fn keep(&mut self, stays: impl Fn(&Entry) -> bool) -> Vec<LockboxId> {
        let (names, mut ended) = (&mut self.names, Vec::new());
        self.entries.retain(|id, entry| {
            let stays = stays(entry);
            if !stays {
                *names -= names_of(id, entry);
                ended.push(id.clone());
            }
            stays
        });
        ended
    }

    /// What is there behind an id, by id. Prolongs nothing.
    pub fn list(
        &self,
        after: Option<&LockboxId>,
        now: Now,
    ) -> impl Iterator<Item = (&LockboxId, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries
            .range((from, Bound::Unbounded))
            .map(|(id, entry)| (id, &**entry))
            .filter(move |(_, entry)| !entry.is_over(now))
    }

    /// How many entries without an owner, those that are over included until they are
    /// found.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key, of sessions neither.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.grants.is_empty()
    }
}
