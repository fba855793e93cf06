//! Where sessions are kept: slots in chunks that never move.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    clock::Now,
    session::state::{Counters, Live, Session},
};

/// Slots in a chunk; a chunk has one lock.
const CHUNK: usize = 1024;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Set in a slot's activity once the handle was accepted.
const USED: u64 = 1 << 63;
/// Set in a slot's activity when it is not in the journal yet.
const DIRTY: u64 = 1 << 62;
const WALL: u64 = DIRTY - 1;

/// Neighbours in the circle of sessions with one work id, episode or lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) next: u32,
    pub(super) prev: u32,
}

/// Which circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circle {
    Work = 0,
    Episode = 1,
    Lease = 2,
}

/// One session and what moves without a revision.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) session: Option<Arc<Session>>,
    awake: AtomicU64,
    wall: AtomicU64,
    counters: Option<Box<Counters>>,
    pub(super) links: [Link; 3],
}

impl Default for Slot {
    fn default() -> Self {
        let alone = Link {
            next: NONE,
            prev: NONE,
        };
        Self {
            session: None,
            awake: AtomicU64::new(0),
            wall: AtomicU64::new(0),
            counters: None,
            links: [alone; 3],
        }
    }
}

/// What a touch changed for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) first_use: bool,
    pub(super) first_since_written: bool,
}

impl Slot {
    pub(super) fn live(&self) -> Live {
        let wall = self.wall.load(Ordering::Relaxed);
        Live {
            last_wall: wall & WALL,
            last_awake: self.awake.load(Ordering::Relaxed),
            handle_used: wall & USED != 0,
            counters: self.counters.as_deref().copied().unwrap_or_default(),
        }
    }

    pub(super) fn set_live(&mut self, live: Live) {
        let used = if live.handle_used { USED } else { 0 };
        *self.awake.get_mut() = live.last_awake;
        *self.wall.get_mut() = live.last_wall & WALL | used;
        self.counters = (live.counters != Counters::default()).then(|| Box::new(live.counters));
    }

    /// Notes a call with the handle.
    pub(super) fn touch(&self, now: Now) -> Touched {
        self.awake.fetch_max(now.awake, Ordering::Relaxed);
        let noted = (now.wall & WALL) | USED | DIRTY;
        let before = self.wall.swap(noted, Ordering::Relaxed);
        Touched {
            first_use: before & USED == 0,
            first_since_written: before & DIRTY == 0,
        }
    }

    /// Merges counters; tells whether they were clean before.
    pub(super) fn merge(&mut self, counters: Counters) -> bool {
        let merged = self.live().counters.merged(counters);
        if merged == self.live().counters {
            return false;
        }
        self.counters = Some(Box::new(merged));
        let before = self.wall.fetch_or(DIRTY, Ordering::Relaxed);
        before & DIRTY == 0
    }

    /// A new handle was never used.
    pub(super) fn forget_use(&mut self) {
        *self.wall.get_mut() &= !USED;
    }

    /// What moved is in the journal now.
    pub(super) fn mark_written(&self) {
        self.wall.fetch_and(!DIRTY, Ordering::Relaxed);
    }
}

type Chunk = RwLock<Box<[Slot]>>;

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Slots {
    /// Room for `capacity` slots; a chunk takes memory when it is first used.
    pub(super) fn new(capacity: usize) -> Self {
        let chunks = capacity.div_ceil(CHUNK) + 1;
        Self {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    fn chunk(&self, slot: u32) -> &Chunk {
        self.chunks[slot as usize / CHUNK]
            .get_or_init(|| RwLock::new((0..CHUNK).map(|_| Slot::default()).collect()))
    }

    /// Looks at a slot; no lock is held afterwards.
    pub(super) fn with<T>(&self, slot: u32, look: impl FnOnce(&Slot) -> T) -> T {
        let chunk = self.chunk(slot).read();
        look(&RwLockReadGuard::map(chunk, |c| &c[slot as usize % CHUNK]))
    }

    /// Changes a slot; no lock is held afterwards.
    pub(super) fn change<T>(&self, slot: u32, change: impl FnOnce(&mut Slot) -> T) -> T {
        let chunk = self.chunk(slot).write();
        change(&mut RwLockWriteGuard::map(chunk, |c| {
            &mut c[slot as usize % CHUNK]
        }))
    }

    pub(super) fn link(&self, slot: u32, circle: Circle) -> Link {
        self.with(slot, |s| s.links[circle as usize])
    }
}
