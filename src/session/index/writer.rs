//! The one writer of the index.

use std::{
    collections::VecDeque,
    hash::Hash,
    sync::{Arc, atomic::Ordering},
};

use hashbrown::HashSet;

use super::{
    Index, View,
    groups::{End, Groups},
    slots::NONE,
};
use crate::{
    clock::Now,
    secret::{HandleDigest, LeaseDigest},
    session::{
        event::Restart,
        firewall::{Firewall, ManifestRef},
        spec::Spec,
        state::{LeaseShown, Live, Peer, Revision, Seq, Session},
    },
};

/// Changes the index; there is one, and the writer thread owns it.
#[derive(Debug)]
pub struct IndexWriter {
    index: Arc<Index>,
    free: Vec<u32>,
    next: u32,
    /// Ended sessions, in the order of their end; purged ones may linger.
    ended: VecDeque<Seq>,
}

impl IndexWriter {
    pub(super) fn new(index: Arc<Index>) -> Self {
        Self {
            index,
            free: Vec::new(),
            next: 0,
            ended: VecDeque::new(),
        }
    }

    /// What everybody else reads.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Slots that can still be taken.
    pub fn room(&self) -> usize {
        self.index.slots.capacity() - self.next as usize + self.free.len()
    }

    /// Makes room for so many sessions in the tables of what each has for itself.
    /// Leases are often shared by many: their table grows with them.
    pub fn reserve(&mut self, sessions: usize) {
        let (index, sessions) = (&*self.index, sessions.min(self.room()));
        for table in [
            &index.ids,
            &index.handles,
            &index.works.table,
            &index.episodes.table,
        ] {
            table.reserve(sessions);
        }
    }

    /// Adds a session that was just registered, or one read from the journal.
    pub fn insert(&mut self, session: &Arc<Session>, live: Live) {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.next;
            self.next += 1;
            slot
        });
        let index = &*self.index;
        index.slots.change(slot, |s| {
            s.session = Some(Arc::clone(session));
            s.set_live(live);
        });
        index.order.insert(session.seq, slot);
        index.ids.lock(index.hash(session.id())).insert(slot);
        let end = if session.is_active() {
            End::Front
        } else {
            End::Back
        };
        join_work(index, slot, session, end);
        join_episode(index, slot, session, end);
        link_handles(index, slot, digests(session));
        join_lease(index, slot, session);
        self.count(session, 1);
        if session.record().is_some() {
            self.ended.push_back(session.seq);
        }
    }

    /// Puts a new version in the place of the old one. What both have in common
    /// stays findable throughout.
    pub fn replace(&mut self, session: &Arc<Session>) {
        let index = Arc::clone(&self.index);
        let Some(slot) = index.order.slot(session.seq) else {
            return;
        };
        let Some(old) = index.slots.with(slot, |s| s.session.clone()) else {
            return;
        };
        let ends = old.is_active() && !session.is_active();
        let new_lease = lease_digest(&old) != lease_digest(session);
        let new_episode = old.episode_id() != session.episode_id();
        link_handles(
            &index,
            slot,
            digests(session).filter(|d| !has_handle(&old, d)),
        );
        if new_lease {
            leave_lease(&index, slot, &old);
        }
        if new_episode {
            leave_episode(&index, slot, &old);
        }
        index.slots.change(slot, |s| {
            s.session = Some(Arc::clone(session));
            if session.handle.is_some() && old.handle != session.handle {
                s.forget_use();
            }
        });
        if new_lease {
            join_lease(&index, slot, session);
        }
        if new_episode {
            let end = if session.is_active() {
                End::Front
            } else {
                End::Back
            };
            join_episode(&index, slot, session, end);
        }
        unlink_handles(
            &index,
            slot,
            digests(&old).filter(|d| !has_handle(session, d)),
        );
        if ends {
            retire(&index, slot, session);
        }
        self.count(&old, -1);
        self.count(session, 1);
        if old.record().is_none() && session.record().is_some() {
            self.ended.push_back(session.seq);
        }
    }

    /// Takes a session away.
    pub fn remove(&mut self, seq: Seq) {
        let index = Arc::clone(&self.index);
        let Some(slot) = index.order.slot(seq) else {
            return;
        };
        let Some(old) = index.slots.with(slot, |s| s.session.clone()) else {
            return;
        };
        unlink_handles(&index, slot, digests(&old));
        leave_lease(&index, slot, &old);
        leave_episode(&index, slot, &old);
        index
            .works
            .leave(&index.slots, index.hash(old.work_id()), slot);
        index.ids.lock(index.hash(old.id())).remove(slot);
        index.order.remove(seq);
        index
            .slots
            .change(slot, |s| *s = super::slots::Slot::default());
        self.free.push(slot);
        self.count(&old, -1);
    }

    fn count(&self, session: &Session, by: i64) {
        let counter = if session.record().is_some() {
            &self.index.terminated
        } else {
            &self.index.live
        };
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// Makes changes up to `revision` the newest visible ones.
    pub fn publish(&self, revision: Revision) {
        self.index.revision.store(revision.0, Ordering::Release);
    }

    /// Sets the restart that lease states derive from. Once.
    pub fn set_restart(&self, restart: Restart) {
        let _ = self.index.restart.set(restart);
    }

    /// From now on the daemon hears its sessions (again).
    pub fn set_heard_since(&self, awake: u64) {
        self.index.heard_since.store(awake, Ordering::Relaxed);
    }

    /// The live sessions of a lease.
    pub fn of_lease(&self, digest: &LeaseDigest, limit: usize) -> Vec<View> {
        let index = &*self.index;
        let is_key = |slot| has_lease(index, slot, digest);
        self.walk(&index.leases, Index::hash_lease(digest), is_key, limit)
    }

    /// The live sessions of a work id, newest first.
    pub fn of_work(&self, work: &str, limit: usize) -> Vec<View> {
        let index = &*self.index;
        let is_key = |slot| index.view_if(slot, |s| s.work_id() == work).is_some();
        self.walk(&index.works, index.hash(work), is_key, limit)
    }

    fn walk(
        &self,
        groups: &Groups,
        hash: u64,
        is_key: impl FnMut(u32) -> bool,
        limit: usize,
    ) -> Vec<View> {
        let index = &*self.index;
        let mut found = Vec::new();
        let Some((head, _)) = groups.ends(&index.slots, hash, is_key) else {
            return found;
        };
        let mut slot = head;
        while found.len() < limit {
            let Some(view) = index.view_if(slot, Session::is_active) else {
                break;
            };
            found.push(view);
            slot = groups.next(&index.slots, slot);
            if slot == head || slot == NONE {
                break;
            }
        }
        found
    }

    /// The ended session that is remembered the longest.
    pub fn oldest_ended(&mut self) -> Option<Seq> {
        while let Some(seq) = self.ended.pop_front() {
            if self.index.order.slot(seq).is_some() {
                return Some(seq);
            }
        }
        None
    }

    /// Sessions whose activity is to be written, and what it is.
    pub fn take_dirty(&self) -> Vec<Seq> {
        std::mem::take(&mut *self.index.dirty.lock())
    }

    /// Sessions whose handle was accepted for the first time since the last call.
    pub fn take_first_used(&self) -> Vec<Seq> {
        std::mem::take(&mut *self.index.first_used.lock())
    }

    /// A session whose activity is about to be written.
    pub fn take_written(&self, seq: Seq) -> Option<View> {
        let slot = self.index.order.slot(seq)?;
        self.index
            .slots
            .with(slot, super::slots::Slot::mark_written);
        self.index.view_if(slot, |session| session.seq == seq)
    }

    /// The activity could not be written: it is dirty again.
    pub fn give_back(&self, seqs: impl IntoIterator<Item = Seq>) {
        self.index.dirty.lock().extend(seqs);
    }

    /// Notes activity that came with a call, after its change was applied.
    pub fn note_now(&self, seq: Seq, now: Now) {
        if let Some(slot) = self.index.order.slot(seq) {
            self.index.note_use(slot, seq, now);
        }
    }
}

fn has_lease(index: &Index, slot: u32, digest: &LeaseDigest) -> bool {
    let is_it = |s: &Session| {
        s.lease
            .as_ref()
            .is_some_and(|lease| lease.digest == *digest)
    };
    index
        .slots
        .with(slot, |s| s.session.as_deref().is_some_and(is_it))
}

fn join_work(index: &Index, slot: u32, session: &Session, end: End) {
    let work = session.work_id();
    let is_key = |head| index.view_if(head, |s| s.work_id() == work).is_some();
    index
        .works
        .join(&index.slots, index.hash(work), slot, end, is_key);
}

fn join_episode(index: &Index, slot: u32, session: &Session, end: End) {
    if let Some(episode) = session.episode_id() {
        let is_key = |head| {
            index
                .view_if(head, |s| s.episode_id() == Some(episode))
                .is_some()
        };
        index
            .episodes
            .join(&index.slots, index.hash(episode), slot, end, is_key);
    }
}

fn leave_episode(index: &Index, slot: u32, session: &Session) {
    if let Some(episode) = session.episode_id() {
        index
            .episodes
            .leave(&index.slots, index.hash(episode), slot);
    }
}

fn join_lease(index: &Index, slot: u32, session: &Session) {
    if let Some(lease) = session.lease.as_ref().filter(|_| session.is_active()) {
        let is_key = |head| has_lease(index, head, &lease.digest);
        index.leases.join(
            &index.slots,
            Index::hash_lease(&lease.digest),
            slot,
            End::Front,
            is_key,
        );
    }
}

fn leave_lease(index: &Index, slot: u32, session: &Session) {
    if let Some(lease) = &session.lease {
        index
            .leases
            .leave(&index.slots, Index::hash_lease(&lease.digest), slot);
    }
}

fn lease_digest(session: &Session) -> Option<LeaseDigest> {
    session.lease.as_ref().map(|lease| lease.digest)
}

/// Ended sessions go behind the live ones.
fn retire(index: &Index, slot: u32, session: &Session) {
    let work = session.work_id();
    let same_work = |head| index.view_if(head, |s| s.work_id() == work).is_some();
    index
        .works
        .retire(&index.slots, index.hash(work), slot, same_work);
    if let Some(episode) = session.episode_id() {
        let same = |head| {
            index
                .view_if(head, |s| s.episode_id() == Some(episode))
                .is_some()
        };
        index
            .episodes
            .retire(&index.slots, index.hash(episode), slot, same);
    }
}

fn link_handles(index: &Index, slot: u32, digests: impl Iterator<Item = HandleDigest>) {
    for digest in digests {
        index.handles.lock(digest.hash_bits()).insert(slot);
    }
}

fn unlink_handles(index: &Index, slot: u32, digests: impl Iterator<Item = HandleDigest>) {
    for digest in digests {
        index.handles.lock(digest.hash_bits()).remove(slot);
    }
}

/// The handle, and the one it replaced.
fn digests(session: &Session) -> impl Iterator<Item = HandleDigest> {
    let live = session.is_active();
    let old = session
        .rotated()
        .filter(|_| live)
        .map(|rotated| rotated.old);
    session.handle.filter(|_| live).into_iter().chain(old)
}

fn has_handle(session: &Session, digest: &HandleDigest) -> bool {
    digests(session).any(|own| own == *digest)
}

/// Keeps one copy of what many sessions share.
#[derive(Debug, Default)]
pub struct Interner {
    specs: Shared<Spec>,
    shown: Shared<LeaseShown>,
    peers: Shared<Peer>,
    firewalls: Shared<Firewall>,
    manifests: Shared<ManifestRef>,
}

impl Interner {
    /// The shared copy of a spec.
    pub fn spec(&mut self, spec: &Spec) -> Arc<Spec> {
        self.specs.get(spec)
    }

    /// The shared copy of a lease's presentation.
    pub fn shown(&mut self, shown: &LeaseShown) -> Arc<LeaseShown> {
        self.shown.get(shown)
    }

    /// The shared copy of what a firewall does.
    pub fn firewall(&mut self, firewall: &Firewall) -> Arc<Firewall> {
        self.firewalls.get(firewall)
    }

    /// The shared names of a manifest.
    pub fn manifest(&mut self, manifest: &ManifestRef) -> Arc<ManifestRef> {
        self.manifests.get(manifest)
    }

    /// The shared copy of a peer.
    pub fn peer(&mut self, peer: &Peer) -> Arc<Peer> {
        self.peers.get(peer)
    }
}

#[derive(Debug)]
struct Shared<T> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: 1024,
        }
    }
}

impl<T: Eq + Hash + Clone> Shared<T> {
    fn get(&mut self, value: &T) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
        let shared = Arc::new(value.clone());
        self.known.insert(Arc::clone(&shared));
        shared
    }
}
