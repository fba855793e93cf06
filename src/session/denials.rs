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

#[derive(Debug, Default)]
struct Session {
    total: u64,
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

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().sessions.is_empty()
    }

    /// What waits of one session, all of it: the session is about to end.
    pub fn take_of(&self, seq: Seq) -> Vec<Noted> {
        let mut inner = self.0.lock();
        let Some(mut session) = inner.sessions.remove(&seq) else {
            return Vec::new();
        };
        inner.waiting -= session.waiting.len();
        let mut all = std::mem::take(&mut session.waiting);
        all.extend(session.counted.take().map(Counted::into_noted));
        all
    }

    /// Takes back what could not be written.
    pub fn give_back(&self, items: Vec<(Seq, Noted)>) {
        let mut inner = self.0.lock();
        for (seq, noted) in items.into_iter().rev() {
            let session = inner.sessions.entry(seq).or_default();
            session.total = session.total.max(noted.total);
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
            !session.waiting.is_empty() || session.counted.is_some()
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
