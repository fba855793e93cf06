//! The newest events, shared by everybody who watches.
//!
//! A watcher is a cursor into this ring, not a queue of its own: a slow one costs
//! nothing. What has left the ring is read from the journal.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::session::{event::Event, state::Revision};

/// Events kept in memory: a few seconds at the highest rate.
const RING: usize = 16 * 1024;

/// What a cursor finds.
#[derive(Debug)]
pub enum Found {
    /// Events after the cursor, oldest first; perhaps none.
    Events(Vec<Arc<Event>>),
    /// The next event has left the ring.
    Older,
}

/// See the module.
#[derive(Debug)]
pub struct Feed {
    ring: RwLock<Ring>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// Every event after this revision is in the ring.
    complete_after: Revision,
}

impl Feed {
    /// A feed of what happens after `revision`.
    pub fn new(revision: Revision) -> Self {
        Self {
            ring: RwLock::new(Ring {
                events: VecDeque::new(),
                complete_after: revision,
            }),
            newest: watch::Sender::new(revision),
        }
    }

    /// Adds events that are durable and visible, oldest first.
    pub fn publish(&self, events: impl IntoIterator<Item = Arc<Event>>, newest: Revision) {
        let mut ring = self.ring.write();
        ring.events.extend(events);
        while ring.events.len() > RING {
            if let Some(gone) = ring.events.pop_front() {
                ring.complete_after = gone.revision;
            }
        }
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// At most `limit` events after `cursor`.
    pub fn after(&self, cursor: Revision, limit: usize) -> Found {
        let ring = self.ring.read();
        if cursor < ring.complete_after {
            return Found::Older;
        }
        let start = ring
            .events
            .partition_point(|event| event.revision <= cursor);
        Found::Events(ring.events.range(start..).take(limit).cloned().collect())
    }

    /// Tells the newest revision, and when it moves.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}
