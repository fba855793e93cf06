//! When sessions end by themselves.
//!
//! Owns the heap of moments at which a session must be looked at. An entry is a
//! promise to look, not a verdict: activity moves a deadline without touching the
//! heap, so a session that is looked at too early goes back in.

use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU32};

use crate::{
    clock::Now,
    session::{
        limits::IDLE_GRACE_MS,
        state::{Live, Seq, Session},
    },
};

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The absolute one.
    ExpireTime,
    /// Silence for too long.
    Idle,
    /// An ended session is to be forgotten.
    Purge,
}

impl Due {
    /// The detail in the termination record.
    pub fn detail(self) -> &'static str {
        match self {
            Self::ExpireTime => "expire_time",
            Self::Idle => "idle",
            Self::Purge => "purge",
        }
    }
}

/// Which deadline of a session has passed, if any. `heard_since` is when the
/// daemon began to hear its sessions, on the awake clock.
pub fn due(session: &Session, live: &Live, heard_since: u64, now: Now) -> Option<Due> {
    if let Some(record) = session.record() {
        return record.purge.is_due(now).then_some(Due::Purge);
    }
    if session.expires.is_some_and(|deadline| deadline.is_due(now)) {
        return Some(Due::ExpireTime);
    }
    let idle = session.idle?;
    (idle_deadline(idle, live, heard_since) <= now.awake).then_some(Due::Idle)
}

/// On the awake clock: silence counts from the last call, and never ends within
/// a minute of the moment the daemon could hear again.
fn idle_deadline(idle: NonZeroU32, live: &Live, heard_since: u64) -> u64 {
    let idle = u64::from(idle.get());
    let grace = heard_since + idle.min(IDLE_GRACE_MS);
    (live.last_awake + idle).max(grace)
}

/// When a session must be looked at next, on the boot clock. The awake clock is
/// never faster than the boot clock, so this is never late.
pub fn look_at(session: &Session, live: &Live, heard_since: u64, now: Now) -> Option<u64> {
    if let Some(record) = session.record() {
        return Some(record.purge.boot);
    }
    let absolute = session.expires.map(|deadline| deadline.boot);
    let idle = session.idle.map(|idle| {
        let left = idle_deadline(idle, live, heard_since).saturating_sub(now.awake);
        now.boot + left
    });
    match (absolute, idle) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Moments at which sessions must be looked at.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, Seq)>>,
}

impl Agenda {
    /// Promises to look at a session at that moment, on the boot clock.
    pub fn add(&mut self, at: u64, seq: Seq) {
        self.heap.push(Reverse((at, seq)));
    }

    /// The next session to look at by now.
    pub fn pop(&mut self, now: Now) -> Option<Seq> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now.boot {
            return None;
        }
        self.heap.pop().map(|Reverse((_, seq))| seq)
    }

    /// The next moment, on the boot clock.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
