//! What all connections share: the cache, and the ends of everything in it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::{debug, info};

use super::{activity::Activities, frame::FrameError, put::Put};
use crate::{
    clock::{Clock, Now},
    keycache::{arena::Arena, cache::Cache, entry::Keep, error::PutError},
};

/// A gap between the clocks that grew by more than this means that the machine
/// slept, in milliseconds.
const SLEPT: u64 = 2_000;

/// See the module.
pub(super) struct Keeper {
    pub(super) arena: Arc<Arena>,
    pub(super) activities: Activities,
    cache: Mutex<Cache>,
    clock: Arc<dyn Clock>,
    wipes: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// How long the machine had slept when that was looked at last.
    slept: AtomicU64,
    /// When the last request came, on the boot clock.
    touched: AtomicU64,
}

impl Keeper {
    pub(super) fn new(arena: Arc<Arena>, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            arena,
            activities: Activities::default(),
            cache: Mutex::default(),
            clock,
            wipes: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            slept: AtomicU64::new(now.boot.saturating_sub(now.awake)),
            touched: AtomicU64::new(now.boot),
        }
    }

    /// The cache and the time, for one step that waits for nothing. After a sleep
    /// the cache is empty.
    pub(super) fn cache(&self) -> (MutexGuard<'_, Cache>, Now) {
        let now = self.clock.now();
        let slept = now.boot.saturating_sub(now.awake);
        if slept > self.slept.swap(slept, Ordering::Relaxed) + SLEPT {
            self.wipe("the machine slept");
        }
        (self.cache.lock(), now)
    }

    /// A request came.
    pub(super) fn touch(&self) {
        let now = self.clock.now().boot;
        self.touched.store(now, Ordering::Relaxed);
    }

    /// Keeps a key, unless everything was wiped since it began to arrive.
    pub(super) fn put(&self, put: Put, begun: u64) -> Result<(), FrameError> {
        const TTL: FrameError = FrameError::Malformed(
            "the TTL must be at least a second and end before the clock does",
        );
        let (mut cache, now) = self.cache();
        if cache.wipes() != begun {
            return Err(FrameError::Wiped);
        }
        let keep = Keep {
            ttl: put.ttl.ok_or(TTL)?,
            ..Keep::default()
        };
        let kept = cache.put(put.id, put.key, put.path.as_deref(), keep, now);
        kept.map_err(|error| match error {
            PutError::Full => FrameError::Full,
            PutError::InvalidTtl => TTL,
        })
    }

    /// Forgets all keys, those that are still arriving too.
    pub(super) fn wipe(&self, why: &'static str) {
        let mut cache = self.cache.lock();
        let keys = cache.wipe();
        self.wipes.send_replace(cache.wipes());
        info!(keys, why, "all keys forgotten");
    }

    /// Tells how often everything was wiped, and when it is again.
    pub(super) fn wipes(&self) -> watch::Receiver<u64> {
        self.wipes.subscribe()
    }

    /// Ends what is over.
    pub(super) fn prune(&self) {
        self.activities.prune();
        let (mut cache, now) = self.cache();
        let keys = cache.prune(now);
        if keys > 0 {
            debug!(keys, "keys expired");
        }
    }

    /// Forgets everything and ends the process.
    pub(super) fn stop(&self, why: &'static str) {
        self.wipe(why);
        self.stopping.send_replace(true);
    }

    /// Turns true when the process is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Milliseconds without a request, a key or an activity.
    pub(super) fn idle(&self) -> u64 {
        let (cache, now) = self.cache();
        if !cache.is_empty() || !self.activities.is_empty() {
            self.touched.store(now.boot, Ordering::Relaxed);
        }
        now.boot
            .saturating_sub(self.touched.load(Ordering::Relaxed))
    }
}
