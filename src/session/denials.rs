//! Denials that are not in the journal yet.
//!
//! A denial is written within a second or two, by the writer, without making its
//! caller wait. The first [`LISTED`] of a session are written each, after that one
//! row a minute counts them: a denied agent can neither empty the history nor buy
//! an fsync.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::{
    clock::Now,
    session::{
        firewall::{Denial, Noted},
        state::{Actor, Seq},
    },
};

/// Denials of a session that are written each.
pub const LISTED: u64 = 200;

/// One row counts what comes in so long a time, in milliseconds.
const MINUTE: u64 = 60_000;

/// Denials that wait at most; beyond that they are counted.
const MAX_WAITING: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<Seq, Session>,
    waiting: usize,
}

/// Outlives what it had waiting: what was taken is in the session's next version
/// only once it is written, and until then this is the only one that knows the total.
#[derive(Debug, Default)]
struct Session {
    total: u64,
    /// Nothing was waiting when it was last looked at.
    idle: bool,
    waiting: Vec<Noted>,
    counted: Option<Counted>,
}

/// What one row will count.
#[derive(Debug)]
struct Counted {
    since: u64,
    last: Noted,
    count: u64,
}

impl Denials {
    /// Notes a denial of a session that had `before` in its last version. Answers
    /// how many it has had by now.
    pub fn note(&self, seq: Seq, before: u64, denial: Denial, actor: Actor, now: Now) -> u64 {
        let mut inner = self.0.lock();
        let full = inner.waiting >= MAX_WAITING;
        let session = inner.sessions.entry(seq).or_default();
        session.total = session.total.max(before) + 1;
        session.idle = false;
        let total = session.total;
        let noted = Noted {
            denial: Arc::new(denial),
            actor,
            total,
        };
        if total > LISTED || full {
            let counted = session.counted.get_or_insert_with(|| Counted {
                since: now.awake,
                last: noted.clone(),
                count: 0,
            });
            counted.count += 1;
            counted.last = noted;
        } else {
            session.waiting.push(noted);
            inner.waiting += 1;
        }
        total
    }

    /// Whether nothing waits and nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.lock().sessions.is_empty()
    }

    /// What waits of one session, all of it: it is written with a change of the
    /// session.
    pub fn take_of(&self, seq: Seq) -> Vec<Noted> {
        let mut inner = self.0.lock();
        let Some(session) = inner.sessions.get_mut(&seq) else {
            return Vec::new();
        };
        let mut all = std::mem::take(&mut session.waiting);
        let counted = session.counted.take().map(Counted::into_noted);
        inner.waiting -= all.len();
        all.extend(counted);
        all
    }

    /// Takes back what could not be written.
    pub fn give_back(&self, items: Vec<(Seq, Noted)>) {
        let mut inner = self.0.lock();
        for (seq, noted) in items.into_iter().rev() {
            let session = inner.sessions.entry(seq).or_default();
            session.total = session.total.max(noted.total);
            session.idle = false;
            session.waiting.insert(0, noted);
            inner.waiting += 1;
        }
    }

    /// Up to `limit` that are due, by session. With `all`, also counts whose minute
    /// is not over.
    pub fn take_due(&self, limit: usize, all: bool, now: Now) -> Vec<(Seq, Noted)> {
        let mut inner = self.0.lock();
        let mut due = Vec::new();
        let mut taken = 0;
        inner.sessions.retain(|seq, session| {
            let room = limit.saturating_sub(due.len()).min(session.waiting.len());
            taken += room;
            due.extend(session.waiting.drain(..room).map(|noted| (*seq, noted)));
            let over = |counted: &mut Counted| all || now.awake >= counted.since + MINUTE;
            if due.len() < limit
                && let Some(counted) = session.counted.take_if(over)
            {
                due.push((*seq, counted.into_noted()));
            }
            let was_idle = session.idle;
            session.idle = room == 0 && session.waiting.is_empty() && session.counted.is_none();
            !(was_idle && session.idle)
        });
        inner.waiting -= taken;
        due
    }
}

impl Counted {
    fn into_noted(self) -> Noted {
        let mut denial = (*self.last.denial).clone();
        denial.count = self.count;
        Noted {
            denial: Arc::new(denial),
            ..self.last
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Denials, LISTED, MINUTE};
    use crate::{
        clock::Now,
        firewall::decide::DenialReason,
        session::{
            firewall::{DecisionId, Denial},
            state::{Actor, Peer, Seq, Socket},
        },
    };

    const SEQ: Seq = Seq(7);

    fn at(awake: u64) -> Now {
        Now {
            boot: awake,
            awake,
            wall: awake,
        }
    }

    fn note(denials: &Denials, before: u64, now: u64) -> u64 {
        let denial = Denial {
            decision: DecisionId::kept("D-1"),
            reason: DenialReason::ToolNotAllowed,
            request: "read".into(),
            subject: "a".into(),
            rule: "default".into(),
            detail: "".into(),
            enforced: true,
            count: 1,
        };
        let peer = Peer {
            uid: 1,
            pid: 2,
            program: "test".into(),
            socket: Socket::Session,
        };
        let actor = Actor {
            peer: Arc::new(peer),
            request_id: None,
        };
        denials.note(SEQ, before, denial, actor, at(now))
    }

    #[test]
    fn the_total_is_known_while_what_was_taken_is_being_written() {
        let denials = Denials::default();
        assert_eq!(note(&denials, 0, 0), 1);
        assert_eq!(note(&denials, 0, 0), 2);
        assert_eq!(denials.take_due(10, false, at(0)).len(), 2);
        assert_eq!(note(&denials, 0, 0), 3, "its version still says 0");
        assert_eq!(denials.take_of(SEQ).len(), 1);
        assert_eq!(note(&denials, 0, 0), 4);
    }

    #[test]
    fn a_session_is_forgotten_once_nothing_came_for_two_looks() {
        let denials = Denials::default();
        note(&denials, 0, 0);
        assert_eq!(denials.take_due(10, false, at(0)).len(), 1);
        assert!(denials.take_due(10, false, at(0)).is_empty());
        assert!(!denials.is_empty());
        assert!(denials.take_due(10, false, at(0)).is_empty());
        assert!(denials.is_empty());
        assert_eq!(note(&denials, 1, 0), 2, "its version says 1 by now");
    }

    #[test]
    fn what_comes_after_the_listed_is_counted_by_the_minute() {
        let denials = Denials::default();
        for total in 1..=LISTED + 3 {
            assert_eq!(note(&denials, 0, 5), total);
        }
        let each = denials.take_due(usize::MAX, false, at(5));
        assert_eq!(each.len() as u64, LISTED);
        assert!(denials.take_due(10, false, at(4 + MINUTE)).is_empty());
        let counted = denials.take_due(10, false, at(5 + MINUTE));
        let (_, counted) = &counted[0];
        assert_eq!((counted.denial.count, counted.total), (3, LISTED + 3));
    }

    #[test]
    fn what_could_not_be_written_comes_again_in_order() {
        let denials = Denials::default();
        for _ in 0..3 {
            note(&denials, 0, 0);
        }
        let taken = denials.take_due(2, false, at(0));
        denials.give_back(taken);
        let totals = denials
            .take_of(SEQ)
            .iter()
            .map(|it| it.total)
            .collect::<Vec<_>>();
        assert_eq!(totals, [1, 2, 3]);
    }
}
