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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Keeper;
    use crate::{
        agent::put::Put,
        clock::{BootId, Clock, Now},
        keycache::{
            arena::{Allowed, Arena},
            entry::LockboxId,
        },
    };

    struct Hand(Mutex<Now>);

    impl Clock for Hand {
        fn now(&self) -> Now {
            *self.0.lock().unwrap()
        }

        fn boot_id(&self) -> BootId {
            BootId::new("boot")
        }
    }

    fn put(keeper: &Keeper) {
        let put = Put {
            id: LockboxId::parse("a").unwrap(),
            key: keeper.arena.take(32).unwrap(),
            path: None,
            ttl: Some(60_000),
        };
        let begun = *keeper.wipes().borrow();
        keeper.put(put, begun).unwrap();
    }

    #[test]
    fn a_machine_that_slept_finds_no_key_and_one_that_did_not_does() {
        let now = Now {
            boot: 10_000,
            awake: 10_000,
            wall: 0,
        };
        let clock = Arc::new(Hand(Mutex::new(now)));
        let any = Allowed {
            secret: true,
            unlocked: true,
        };
        let keeper = Keeper::new(Arena::new(1 << 20, any).unwrap(), clock.clone());
        for (slept, left) in [(2_000, 1), (2_001, 0), (0, 1)] {
            put(&keeper);
            let mut now = clock.0.lock().unwrap();
            now.awake += 100;
            now.boot += 100 + slept;
            drop(now);
            assert_eq!(keeper.cache().0.len(), left, "{slept}");
        }
    }
}
