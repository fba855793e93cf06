//! What all connections share: the cache, and the ends of everything in it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};
use tracing::{debug, info};

use super::{
    activity::{Activities, Activity, ActivityError, Token},
    channels::Channels,
    owners::Owners,
    put::Put,
    sleep::Sleep,
};
use crate::{
    clock::{Clock, Now},
    ids::SessionId,
    keycache::{
        arena::{Arena, Secret},
        cache::Cache,
        entry::LockboxId,
        error::PutError,
        grant::{GrantEnd, GrantId, Terms},
    },
};

/// A gap between the clocks that grew by more than this means that the machine
/// slept, in milliseconds.
const SLEPT: u64 = 2_000;

/// Events that a watcher may be behind; an older one is lost to it.
const MAX_BEHIND: usize = 1024;

/// A key is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepError {
    /// There is no room for it.
    Full,
    /// Its time is none, or never ends.
    InvalidTtl,
    /// All keys were forgotten while it arrived, or the machine is about to sleep.
    Wiped,
    /// The session that is to own it has ended meanwhile.
    OwnerEnded,
}

impl From<PutError> for KeepError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Full => Self::Full,
            PutError::InvalidTtl => Self::InvalidTtl,
        }
    }
}

/// That all keys were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wipe {
    /// Milliseconds since the epoch.
    pub(super) at: u64,
    pub(super) why: &'static str,
    pub(super) keys: usize,
}

/// What happened to an entry, or to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Stored(LockboxId),
    Expired(LockboxId),
    Forgotten(LockboxId),
    Wiped(Wipe),
    Granted(GrantId),
    GrantEnded(GrantId, GrantEnd),
}

/// See the module.
pub(super) struct Keeper {
    pub(super) arena: Arc<Arena>,
    pub(super) activities: Activities,
    pub(super) sleep: Sleep,
    pub(super) owners: Owners,
    max_ttl: u64,
    cache: Mutex<Cache>,
    /// Of every connection that is open.
    channels: Mutex<Vec<Weak<Channels>>>,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Event>,
    last_wipe: Mutex<Option<Wipe>>,
    /// On the boot clock.
    started: u64,
    wipes: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// How long the machine had slept when that was looked at last.
    slept: AtomicU64,
    /// When the last request came, on the boot clock.
    touched: AtomicU64,
}

impl Keeper {
    /// `max_ttl` in milliseconds, none: any.
    pub(super) fn new(
        arena: Arc<Arena>,
        clock: Arc<dyn Clock>,
        owners: Owners,
        max_ttl: Option<u64>,
    ) -> Self {
        let now = clock.now();
        Self {
            arena,
            activities: Activities::default(),
            sleep: Sleep::default(),
            owners,
            max_ttl: max_ttl.unwrap_or(u64::MAX),
            cache: Mutex::default(),
            channels: Mutex::default(),
            clock,
            events: broadcast::Sender::new(MAX_BEHIND),
            last_wipe: Mutex::default(),
            started: now.boot,
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

    /// Says that a process has a secret in hand: none any more once the machine is about
    /// to sleep, when those that have are ended.
    pub(super) fn begin_activity(
        &self,
        caller: i32,
        activity: Activity,
    ) -> Result<Token, ActivityError> {
        if self.sleep.is_near() {
            return Err(ActivityError::Sleeping);
        }
        self.activities.register(caller, activity)
    }

    /// For a new connection.
    pub(super) fn new_channels(&self) -> Arc<Channels> {
        let channels = Arc::new(Channels::default());
        let mut all = self.channels.lock();
        // Those of connections that have ended.
        all.retain(|channels| channels.strong_count() > 0);
        all.push(Arc::downgrade(&channels));
        channels
    }

    /// A request came.
    pub(super) fn touch(&self) {
        let now = self.clock.now().boot;
        self.touched.store(now, Ordering::Relaxed);
    }

    /// Keeps a key, unless everything was wiped since it began to arrive, or the
    /// machine is about to sleep.
    pub(super) fn put(&self, mut put: Put, begun: u64) -> Result<(), KeepError> {
        let (mut cache, now) = self.cache();
        self.takes_keys(&cache, begun)?;
        put.keep.ttl = put.keep.ttl.min(self.max_ttl);
        let stored = Event::Stored(put.id.clone());
        let kept = cache.put(put.id, put.key, put.path.as_deref(), put.keep, now);
        self.tell_expired(&mut cache);
        kept?;
        self.tell(stored);
        Ok(())
    }

    fn takes_keys(&self, cache: &Cache, begun: u64) -> Result<(), KeepError> {
        let is_over = self.sleep.is_near() || *self.stopping.borrow();
        if is_over || cache.wipes() != begun {
            return Err(KeepError::Wiped);
        }
        Ok(())
    }

    /// Keeps a key for a session, which must be watched.
    pub(super) fn grant(
        &self,
        id: GrantId,
        key: Secret,
        terms: Terms,
        begun: u64,
    ) -> Result<(), KeepError> {
        let (mut cache, now) = self.cache();
        self.takes_keys(&cache, begun)?;
        if !self.owners.is_watched(&id.session) {
            return Err(KeepError::OwnerEnded);
        }
        let granted = Event::Granted(id.clone());
        let kept = cache.grant(id, key, terms, now);
        self.tell_expired(&mut cache);
        kept?;
        self.tell(granted);
        Ok(())
    }

    /// Uses what a session owns: shows its key. None if there is none any more.
    pub(super) fn use_grant<T>(
        &self,
        id: &GrantId,
        use_it: impl FnOnce(&Secret) -> T,
    ) -> Option<T> {
        let (mut cache, now) = self.cache();
        let used = cache.grants.use_one(id, now, use_it);
        self.tell_expired(&mut cache);
        used
    }

    /// Takes back what a session owns; says whether it was there.
    pub(super) fn revoke(&self, id: &GrantId) -> bool {
        let mut cache = self.cache.lock();
        let was_there = cache.grants.revoke(id);
        self.tell_expired(&mut cache);
        was_there
    }

    /// Forgets all that a session owns.
    pub(super) fn end_session(&self, session: &SessionId) {
        let mut cache = self.cache.lock();
        cache.grants.end_session(session);
        self.tell_expired(&mut cache);
    }

    /// Forgets a key; says whether it was there.
    pub(super) fn forget(&self, id: &LockboxId) -> bool {
        let mut cache = self.cache.lock();
        self.tell_expired(&mut cache);
        let was_there = cache.forget(id);
        if was_there {
            self.tell(Event::Forgotten(id.clone()));
        }
        was_there
    }

    /// Forgets all that lie at that path; says how many.
    pub(super) fn forget_path(&self, path: &str) -> usize {
        let mut cache = self.cache.lock();
        self.tell_expired(&mut cache);
        let forgotten = cache.forget_path(path);
        let count = forgotten.len();
        for id in forgotten {
            self.tell(Event::Forgotten(id));
        }
        count
    }

    /// Tells what ended before anything that comes after it.
    fn tell_expired(&self, cache: &mut Cache) {
        let expired = cache.take_expired();
        if !expired.is_empty() {
            debug!(keys = expired.len(), "keys expired");
        }
        for id in expired {
            self.tell(Event::Expired(id));
        }
        for (id, why) in cache.grants.take_ended() {
            self.tell(Event::GrantEnded(id, why));
        }
    }

    /// Tells the watchers, in the order of what happens: the cache is held.
    fn tell(&self, event: Event) {
        // Fails when nobody watches.
        let _ = self.events.send(event);
    }

    /// What happens from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The last time all keys were forgotten.
    pub(super) fn last_wipe(&self) -> Option<Wipe> {
        *self.last_wipe.lock()
    }

    /// The time.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Milliseconds since the start.
    pub(super) fn uptime(&self) -> u64 {
        self.clock.now().boot.saturating_sub(self.started)
    }

    /// Forgets all keys, those that are still arriving too, and what keys were sealed
    /// with.
    pub(super) fn wipe(&self, why: &'static str) -> usize {
        let mut cache = self.cache.lock();
        self.tell_expired(&mut cache);
        let keys = cache.wipe();
        for channels in self.channels.lock().iter().filter_map(Weak::upgrade) {
            channels.end();
        }
        self.wipes.send_replace(cache.wipes());
        let at = self.clock.now().wall;
        let wipe = Wipe { at, why, keys };
        *self.last_wipe.lock() = Some(wipe);
        self.tell(Event::Wiped(wipe));
        info!(keys, why, "all keys forgotten");
        keys
    }

    /// Tells how often everything was wiped, and when it is again.
    pub(super) fn wipes(&self) -> watch::Receiver<u64> {
        self.wipes.subscribe()
    }

    /// Ends what is over.
    pub(super) fn prune(&self) {
        self.activities.prune();
        let (mut cache, now) = self.cache();
        cache.prune(now);
        self.tell_expired(&mut cache);
        self.owners.retain(|session| cache.grants.has(session));
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
        agent::{owners::Owners, put::Put},
        clock::{BootId, Clock, Now},
        keycache::{
            arena::{Allowed, Arena},
            entry::{Keep, LockboxId},
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
            keep: Keep::default(),
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
        let keeper = Keeper::new(
            Arena::new(1 << 20, any).unwrap(),
            clock.clone(),
            Owners::default(),
            None,
        );
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
