//! Every session in memory, found by id, handle, work id, episode or lease.
//!
//! Owns the slots and their tables. The writer changes it, through
//! [`IndexWriter`], of which there is one; everybody else reads, and no lock is
//! held after a method returns. A session seen here is durable, except for one
//! that is ENDING. Refuses nothing: it answers what there is.

mod groups;
mod order;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;

use crate::{
    clock::Now,
    secret::{HandleDigest, LeaseDigest},
    session::{
        event::Restart,
        expiry,
        limits::ROTATE_RETRY_MS,
        state::{Counters, Live, Revision, Seq, Session},
    },
};
use groups::Groups;
use order::Order;
use slots::{Circle, Slots};
use table::Table;
pub use writer::{IndexWriter, Interner};

/// One session as a reader sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its newest durable version.
    pub session: Arc<Session>,
    /// What moves without a revision.
    pub live: Live,
}

/// How a presented handle fits a session.
#[derive(Debug, Clone)]
pub enum HandleMatch {
    /// It is the session's handle.
    Current(View),
    /// It was replaced less than a minute ago, and is good for repeating that
    /// rotation only.
    Replaced(View),
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    slots: Slots,
    ids: Table,
    handles: Table,
    works: Groups,
    episodes: Groups,
    leases: Groups,
    order: Order,
    /// Of names, with a seed of its own; a third of what SipHash takes.
    hasher: DefaultHashBuilder,
    live: AtomicU64,
    terminated: AtomicU64,
    revision: AtomicU64,
    restart: OnceLock<Restart>,
    heard_since: AtomicU64,
    /// Sessions whose activity is not in the journal yet.
    dirty: Mutex<Vec<Seq>>,
    /// Sessions whose handle was accepted for the first time.
    first_used: Mutex<Vec<Seq>>,
}

impl Index {
    /// An empty index with room for `capacity` sessions, and the one writer of it.
    pub fn new(capacity: usize) -> (Arc<Self>, IndexWriter) {
        let index = Arc::new(Self {
            slots: Slots::new(capacity),
            ids: Table::new(),
            handles: Table::new(),
            works: Groups::new(Circle::Work),
            episodes: Groups::new(Circle::Episode),
            leases: Groups::new(Circle::Lease),
            order: Order::default(),
            hasher: DefaultHashBuilder::default(),
            live: AtomicU64::new(0),
            terminated: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            restart: OnceLock::new(),
            heard_since: AtomicU64::new(0),
            dirty: Mutex::default(),
            first_used: Mutex::default(),
        });
        let writer = IndexWriter::new(Arc::clone(&index));
        (index, writer)
    }

    /// The session of that id, live or remembered.
    pub fn by_id(&self, id: &str, now: Now) -> Option<View> {
        let is_it = |session: &Session| session.id() == id && !session.is_forgotten(now);
        self.ids
            .find(self.hash(id), |slot| self.view_if(slot, is_it))
    }

    /// The session of that handle, and what the handle is good for. Due
    /// deadlines count even before the writer has acted on them.
    pub fn by_handle(&self, digest: &HandleDigest, now: Now) -> Option<HandleMatch> {
        self.handles.find(digest.hash_bits(), |slot| {
            let view = self.view_if(slot, Session::is_active)?;
            self.match_handle(view, digest, now)
        })
    }

    /// As [`Index::by_handle`] for a current handle, and notes that it was used.
    pub fn use_handle(&self, digest: &HandleDigest, now: Now) -> Option<View> {
        self.handles.find(digest.hash_bits(), |slot| {
            let view = self.view_if(slot, Session::is_active)?;
            match self.match_handle(view, digest, now)? {
                HandleMatch::Current(view) => {
                    self.note_use(slot, view.session.seq, now);
                    Some(view)
                }
                HandleMatch::Replaced(_) => None,
            }
        })
    }

    fn match_handle(&self, view: View, digest: &HandleDigest, now: Now) -> Option<HandleMatch> {
        let session = &view.session;
        if expiry::due(session, &view.live, self.heard_since(), now).is_some() {
            return None;
        }
        if session.handle.as_ref() == Some(digest) {
            return Some(HandleMatch::Current(view));
        }
        let replaced = session.rotated().is_some_and(|rotated| {
            rotated.old == *digest
                && now.boot < rotated.until
                && rotated.until <= now.boot + ROTATE_RETRY_MS
        });
        replaced.then_some(HandleMatch::Replaced(view))
    }

    fn note_use(&self, slot: u32, seq: Seq, now: Now) {
        let touched = self.slots.with(slot, |s| s.touch(now));
        if touched.first_use {
            self.first_used.lock().push(seq);
        }
        if touched.first_since_written {
            self.dirty.lock().push(seq);
        }
    }

    /// Notes activity and counters of a session, by heartbeat. None: it is not live,
    /// or its deadline has passed; who is silent for too long is not brought back
    /// because the writer has not acted on it yet.
    pub fn heartbeat(&self, seq: Seq, counters: Counters, now: Now) -> Option<View> {
        let slot = self.order.slot(seq)?;
        let view = self.view_if(slot, |session| session.seq == seq && session.is_active())?;
        if expiry::due(&view.session, &view.live, self.heard_since(), now).is_some() {
            return None;
        }
        self.note_use(slot, seq, now);
        let became_dirty = self.slots.change(slot, |s| s.merge(counters));
        if became_dirty {
            self.dirty.lock().push(seq);
        }
        self.view_if(slot, |session| session.seq == seq)
    }

    /// The newest live session of a work id.
    pub fn by_work(&self, work: &str, now: Now) -> Option<View> {
        self.first_live(&self.works, work, |s| s.work_id() == work, now)
    }

    /// The session of a work id that ended last.
    pub fn last_ended_of_work(&self, work: &str, now: Now) -> Option<View> {
        self.last_ended(&self.works, work, |s| s.work_id() == work, now)
    }

    /// The newest live session of an episode.
    pub fn by_episode(&self, episode: &str, now: Now) -> Option<View> {
        self.first_live(
            &self.episodes,
            episode,
            |s| s.episode_id() == Some(episode),
            now,
        )
    }

    /// The session of an episode that ended last.
    pub fn last_ended_of_episode(&self, episode: &str, now: Now) -> Option<View> {
        self.last_ended(
            &self.episodes,
            episode,
            |s| s.episode_id() == Some(episode),
            now,
        )
    }

    fn first_live(
        &self,
        groups: &Groups,
        key: &str,
        is_key: impl Fn(&Session) -> bool,
        now: Now,
    ) -> Option<View> {
        groups
            .table
            .find(self.hash(key), |slot| self.view_if(slot, &is_key))
            .filter(|view| {
                let due = expiry::due(&view.session, &view.live, self.heard_since(), now);
                view.session.is_active() && due.is_none()
            })
    }

    fn last_ended(
        &self,
        groups: &Groups,
        key: &str,
        is_key: impl Fn(&Session) -> bool,
        now: Now,
    ) -> Option<View> {
        let has_key = |slot| {
            self.slots
                .with(slot, |s| s.session.as_deref().is_some_and(&is_key))
        };
        let (_, tail) = groups.ends(&self.slots, self.hash(key), has_key)?;
        let ended = |s: &Session| is_key(s) && s.record().is_some() && !s.is_forgotten(now);
        self.view_if(tail, ended)
    }

    /// Up to `limit` sessions registered after `seq`, oldest first.
    pub fn after(&self, seq: Seq, limit: usize) -> Vec<View> {
        let slots = self.order.after(seq, limit);
        let view = |(seq, slot)| self.view_if(slot, |session| session.seq == seq);
        slots.into_iter().filter_map(view).collect()
    }

    /// The session of that sequence number.
    pub fn by_seq(&self, seq: Seq) -> Option<View> {
        let slot = self.order.slot(seq)?;
        self.view_if(slot, |session| session.seq == seq)
    }

    /// Live sessions, and ended ones that are remembered.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.live.load(Ordering::Relaxed),
            self.terminated.load(Ordering::Relaxed),
        )
    }

    /// The newest revision whose change is visible.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// The last restart, once the registry was recovered.
    pub fn restart(&self) -> Option<&Restart> {
        self.restart.get()
    }

    /// Since when the daemon hears its sessions, on the awake clock.
    pub fn heard_since(&self) -> u64 {
        self.heard_since.load(Ordering::Relaxed)
    }

    /// The last revision of a session. A restart changed every session that came
    /// back, at the revision it reserved for it.
    pub fn revision_of(&self, session: &Session) -> Revision {
        match self.restart.get() {
            Some(restart) if session.is_active() && session.revision <= restart.base => {
                restart.derived(session.seq).unwrap_or(session.revision)
            }
            _ => session.revision,
        }
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn hash_lease(digest: &LeaseDigest) -> u64 {
        digest.hash_bits()
    }

    fn view_if(&self, slot: u32, is_it: impl FnOnce(&Session) -> bool) -> Option<View> {
        self.slots.with(slot, |s| {
            let session = s.session.as_ref().filter(|session| is_it(session))?;
            Some(View {
                session: Arc::clone(session),
                live: s.live(),
            })
        })
    }
}
