//! Request ids and what they led to, for an hour or the last million.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::{
    clock::Now,
    session::{
        limits::{MAX_REQUEST_IDS, REQUEST_ID_MS},
        state::{Revision, Seq},
        store::{PastRequest, Request},
    },
};

/// What is kept of a request id: 16 bytes of its hash.
type Key = [u8; 16];

/// What a named call led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The session it was about, of several the last.
    pub seq: Seq,
    /// Its last change.
    pub revision: Revision,
    /// How many changes it made.
    pub changes: u32,
}

/// The outcome of a named call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Digest of the call's body.
    pub body: [u8; 16],
    /// What it led to.
    pub led: Led,
    /// When, since the epoch.
    pub at: u64,
}

/// Remembered request ids; the writer owns them.
#[derive(Debug, Default)]
pub struct Requests {
    known: HashMap<Key, Outcome>,
    order: VecDeque<(u64, Key)>,
    since: u64,
}

impl Requests {
    /// What a named call led to.
    pub fn find(&self, request: &Request) -> Option<Outcome> {
        self.known.get(&key(request)).copied()
    }

    /// Remembers a call that was just answered.
    pub fn remember(&mut self, request: &Request, led: Led, now: Now) {
        let outcome = Outcome {
            body: request.body,
            led,
            at: now.wall,
        };
        let key = key(request);
        self.known.insert(key, outcome);
        self.order.push_back((now.wall, key));
        while self.order.len() > MAX_REQUEST_IDS {
            self.forget_oldest();
        }
        self.forget_old(now);
    }

    /// Remembers a change found in the journal, made by a named call; changes come
    /// newest first. Those of one call were made at one time.
    pub fn recall(&mut self, past: &PastRequest) {
        let key = key(&past.request);
        match self.known.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Outcome {
                    body: past.request.body,
                    led: Led {
                        seq: past.seq,
                        revision: past.revision,
                        changes: 1,
                    },
                    at: past.at,
                });
                self.order.push_front((past.at, key));
            }
            Entry::Occupied(mut known) if known.get().at == past.at => {
                known.get_mut().led.changes += 1;
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Forgets what is older than an hour.
    pub fn forget_old(&mut self, now: Now) {
        let since = now.wall.saturating_sub(REQUEST_ID_MS);
        while self.order.front().is_some_and(|(at, _)| *at < since) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front() {
            if self.known.get(&key).is_some_and(|known| known.at == at) {
                self.known.remove(&key);
            }
            self.since = at;
        }
    }

    /// Request ids older than this, since the epoch, are no longer recognised.
    pub fn since(&self, now: Now) -> u64 {
        self.since.max(now.wall.saturating_sub(REQUEST_ID_MS))
    }
}

fn key(request: &Request) -> Key {
    let hash = blake3::hash(request.id.as_str().as_bytes());
    let (head, _) = hash.as_bytes().split_at(16);
    head.try_into().expect("a hash is longer than a key")
}

#[cfg(test)]
mod tests {
    use super::{Led, Requests};
    use crate::{
        clock::Now,
        ids::RequestId,
        session::{
            state::{Revision, Seq},
            store::{PastRequest, Request},
        },
    };

    fn request(name: &str) -> Request {
        Request {
            id: RequestId::parse(name).unwrap(),
            body: [1; 16],
        }
    }

    fn at(wall: u64) -> Now {
        Now {
            boot: 0,
            awake: 0,
            wall,
        }
    }

    fn led(seq: u64, revision: u64, changes: u32) -> Led {
        Led {
            seq: Seq(seq),
            revision: Revision(revision),
            changes,
        }
    }

    #[test]
    fn a_request_id_is_remembered_for_an_hour() {
        let mut requests = Requests::default();
        let hour = 3_600_000;
        requests.remember(&request("a"), led(7, 1, 1), at(hour));
        requests.forget_old(at(2 * hour));
        assert_eq!(requests.find(&request("a")).unwrap().led, led(7, 1, 1));
        requests.forget_old(at(2 * hour + 1));
        assert_eq!(requests.find(&request("a")), None);
        assert_eq!(requests.since(at(2 * hour + 1)), hour + 1);
    }

    #[test]
    fn the_newest_outcome_wins_when_the_journal_is_read_backwards() {
        let mut requests = Requests::default();
        for (revision, seq, at) in [(31, 9, 20), (30, 8, 20), (4, 3, 10)] {
            requests.recall(&PastRequest {
                request: request("a"),
                seq: Seq(seq),
                revision: Revision(revision),
                at,
            });
        }
        let found = requests.find(&request("a")).unwrap();
        assert_eq!(found.led, led(9, 31, 2), "both changes of one call");
    }

    #[test]
    fn of_more_than_a_million_calls_within_an_hour_the_oldest_are_forgotten() {
        const MILLION: u64 = 1_000_000;
        let mut requests = Requests::default();
        let name = |number: u64| request(&format!("r-{number}"));
        for number in 0..=MILLION {
            requests.remember(&name(number), led(1, 1, 1), at(1_000_000 + number / 1_000));
        }
        assert!(requests.find(&name(0)).is_none());
        for kept in [1, MILLION] {
            assert!(requests.find(&name(kept)).is_some(), "{kept}");
        }
        assert_eq!(
            requests.since(at(1_001_000)),
            1_000_000,
            "the oldest's time"
        );
    }
}
