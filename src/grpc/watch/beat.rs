//! The beat that watchers keep together.
//!
//! What happens after a pause is told at once; what follows is gathered and told
//! every few milliseconds. All watchers read up to the same revision at a beat, so
//! those that keep up and want everything share one encoding of it. The beat goes
//! on while somebody listens.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::session::{event::Event, service::Sessions, state::Revision};

use super::MAX_EVENTS;

/// Watchers are told in so many groups, one after the other: a hundred that are
/// woken at once keep every other call waiting.
const GROUPS: usize = 16;

/// From one beat to the next at the least.
const EVERY: Duration = Duration::from_millis(5);

/// What happened since the beat before.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Beat {
    /// Everything in this beat is later than this revision,
    pub(super) after: Revision,
    /// and reaches up to this one. The same as `after` if there was too much for
    /// one answer: watchers read for themselves then.
    pub(super) through: Revision,
    /// The events in between, oldest first.
    pub(super) events: Vec<Arc<Event>>,
    encoded: OnceLock<Bytes>,
}

impl Beat {
    /// All of its events, one after the other, encoded once.
    pub(super) fn encoded(&self, encode: impl FnMut(&Arc<Event>) -> Bytes) -> Bytes {
        let whole = || {
            let parts: Vec<Bytes> = self.events.iter().map(encode).collect();
            parts.concat().into()
        };
        self.encoded.get_or_init(whole).clone()
    }
}

/// What a watcher listens to.
pub(in crate::grpc) struct Listener(watch::Receiver<Arc<Beat>>);

impl Listener {
    /// The next beat; none once nothing happens any more.
    pub(in crate::grpc) async fn next(&mut self) -> Option<Arc<Beat>> {
        self.0.changed().await.ok()?;
        Some(Arc::clone(&self.0.borrow_and_update()))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Beats {
    running: Mutex<Option<Running>>,
}

/// A beat that somebody listens to.
#[derive(Debug)]
struct Running {
    groups: [watch::Sender<Arc<Beat>>; GROUPS],
    /// Where the next to come is put.
    next: usize,
}

impl Beats {
    /// Listens from now on. The first to come starts the beat.
    pub(in crate::grpc) fn listen(self: &Arc<Self>, sessions: &Sessions) -> Listener {
        let mut running = self.running.lock();
        let beats = running.get_or_insert_with(|| {
            let now = sessions.revision();
            let first = Arc::new(Beat {
                after: now,
                through: now,
                ..Beat::default()
            });
            tokio::spawn(Arc::clone(self).run(sessions.clone(), now));
            Running {
                groups: std::array::from_fn(|_| watch::Sender::new(Arc::clone(&first))),
                next: 0,
            }
        });
        beats.next = (beats.next + 1) % GROUPS;
        Listener(beats.groups[beats.next].subscribe())
    }

    async fn run(self: Arc<Self>, sessions: Sessions, mut told: Revision) {
        let mut newest = sessions.subscribe();
        while newest.wait_for(|newest| *newest > told).await.is_ok() {
            let next = Instant::now() + EVERY;
            let beat = Arc::new(since(&sessions, told).await);
            told = beat.through;
            for group in 0..GROUPS {
                if !self.tell(group, &beat) {
                    return;
                }
                // The calls that came meanwhile are next.
                yield_now().await;
            }
            sleep_until(next).await;
        }
        // Nothing happens any more: who listens hears that.
        *self.running.lock() = None;
    }

    /// False once nobody listens; the next to come starts anew.
    fn tell(&self, group: usize, beat: &Arc<Beat>) -> bool {
        let mut running = self.running.lock();
        let Some(beats) = &*running else { return false };
        beats.groups[group].send_replace(Arc::clone(beat));
        let is_heard = beats.groups.iter().any(|group| group.receiver_count() > 0);
        if !is_heard {
            *running = None;
        }
        is_heard
    }
}

/// What happened after `told`, if one answer can hold it.
async fn since(sessions: &Sessions, told: Revision) -> Beat {
    let newest = sessions.revision();
    match sessions.events_after(told, MAX_EVENTS).await {
        Ok((events, through)) if through >= newest => Beat {
            after: told,
            through,
            events,
            ..Beat::default()
        },
        // Too much, or no longer there: each watcher finds out for itself.
        _ => Beat {
            after: newest,
            through: newest,
            ..Beat::default()
        },
    }
}
