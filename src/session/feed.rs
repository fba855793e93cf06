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
    /// Events after the cursor, oldest first; perhaps none. And how far they
    /// reach: everything up to there has been seen.
    Events(Vec<Arc<Event>>, Revision),
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
    /// Every event after this revision is in the ring,
    complete_after: Revision,
    /// up to this one.
    newest: Revision,
}

impl Feed {
    /// A feed of what happens after `revision`.
    pub fn new(revision: Revision) -> Self {
        Self {
            ring: RwLock::new(Ring {
                events: VecDeque::new(),
                complete_after: revision,
                newest: revision,
            }),
            newest: watch::Sender::new(revision),
        }
    }

    /// Adds events that are durable, oldest first; they reach up to `newest`.
    pub fn add(&self, events: impl IntoIterator<Item = Arc<Event>>, newest: Revision) {
        let mut ring = self.ring.write();
        ring.events.extend(events);
        ring.newest = newest;
        while ring.events.len() > RING {
            if let Some(gone) = ring.events.pop_front() {
                ring.complete_after = gone.revision;
            }
        }
    }

    /// Tells everybody that there are events up to `newest`.
    pub fn tell(&self, newest: Revision) {
        self.newest.send_replace(newest);
    }

    /// At most `limit` events after `cursor`. What is not in the ring yet is not
    /// seen, even if the index shows it.
    pub fn after(&self, cursor: Revision, limit: usize) -> Found {
        let ring = self.ring.read();
        if cursor < ring.complete_after {
            return Found::Older;
        }
        let start = ring
            .events
            .partition_point(|event| event.revision <= cursor);
        let events: Vec<_> = ring.events.range(start..).take(limit).cloned().collect();
        let through = if events.len() < limit {
            ring.newest.max(cursor)
        } else {
            events.last().map_or(cursor, |event| event.revision)
        };
        Found::Events(events, through)
    }

    /// Tells the newest revision, and when it moves.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{Feed, Found};
    use crate::session::state::Revision;

    /// A watcher that looks between a commit and its events must not take them
    /// for seen.
    #[test]
    fn what_is_not_in_the_ring_yet_was_not_seen() {
        let feed = Feed::new(Revision(7));
        for (newest, seen) in [(None, 7), (Some(9), 9)] {
            if let Some(newest) = newest {
                feed.add([], Revision(newest));
            }
            match feed.after(Revision(7), 10) {
                Found::Events(events, through) => {
                    assert_eq!((events.len(), through), (0, Revision(seen)));
                }
                Found::Older => panic!("nothing has left the ring"),
            }
        }
    }
}
