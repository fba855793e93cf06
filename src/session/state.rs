//! One session, as it is at one revision.
//!
//! A [`Session`] is an immutable version: a change makes a new one. Only the
//! writer makes them; everybody else reads shared copies. What moves without a
//! revision (last activity, counters) is in [`Live`].
//!
//! ```text
//! register -> ACTIVE -> TERMINATED -> purged
//!               |  \
//!               |   ENDING (ended, not yet durable) -> TERMINATED
//!               removed (never used: no record)
//! ```

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Now,
    ids::{PublicName, RequestId, SessionId},
    secret::{HandleDigest, LeaseDigest},
    session::{
        firewall::Firewall,
        spec::{Labels, Spec},
    },
};

/// The order of registration; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// The number of one change to the registry; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// A moment on both clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Since boot: decides within one boot.
    pub boot: u64,
    /// Since the epoch: shown, and decides after a reboot. Never 0, so that a
    /// session without a deadline needs no room to say so.
    pub wall: NonZeroU64,
}

impl Deadline {
    /// That moment; the epoch itself counts as a millisecond later.
    pub fn new(boot: u64, wall: u64) -> Self {
        let wall = NonZeroU64::new(wall).unwrap_or(NonZeroU64::MIN);
        Self { boot, wall }
    }

    /// The moment `after` from now.
    pub fn after(now: Now, after: Duration) -> Self {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 4);
        Self::new(now.boot + millis, now.wall + millis)
    }

    /// Whether it has come.
    pub fn is_due(&self, now: Now) -> bool {
        self.boot <= now.boot
    }
}

/// Where a change came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// operator.sock.
    Operator,
    /// session.sock.
    Session,
    /// The daemon itself.
    Daemon,
}

/// The process at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process id when it connected.
    pub pid: i32,
    /// Its name when it connected.
    pub program: Box<str>,
    /// Which socket it connected to.
    pub socket: Socket,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub peer: Arc<Peer>,
    /// The call, if it was named.
    pub request_id: Option<RequestId>,
}

/// Totals since the session began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of tools.
    pub tool_calls: u64,
    /// Events of the episode.
    pub events: u64,
    /// Tokens consumed.
    pub tokens: u64,
}

impl Counters {
    /// The larger of each: a counter never goes back.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            tool_calls: self.tool_calls.max(other.tool_calls),
            events: self.events.max(other.events),
            tokens: self.tokens.max(other.tokens),
        }
    }
}

/// What moves without a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// The last call with the handle, since the epoch.
    pub last_wall: u64,
    /// The same, on the awake clock.
    pub last_awake: u64,
    /// Whether the current handle was ever accepted.
    pub handle_used: bool,
    /// As reported by heartbeats.
    pub counters: Counters,
}

/// The lease of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHold {
    /// What is kept of the secret.
    pub digest: LeaseDigest,
    /// Who showed it, under which name.
    pub shown: Arc<LeaseShown>,
    /// When it was shown, since the epoch.
    pub since: u64,
    /// Whether it was shown since the daemon started: a restart revokes it.
    pub is_current: bool,
}

/// Who showed a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseShown {
    /// The lease's public name; empty: none.
    pub holder: PublicName,
    /// The process that showed it.
    pub presenter: Arc<Peer>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// The episode was done.
    Normal,
    /// The episode died.
    Crash,
    /// A deadline passed.
    Timeout,
    /// Set aside.
    Quarantined,
    /// Out of budget.
    BudgetExhausted,
    /// A read outside the manifest.
    ContextMiss,
    /// Broke a policy.
    PolicyViolation,
    /// Made room for another.
    Evicted,
    /// The daemon restarted and was told not to keep sessions.
    DaemonRestart,
    /// The host rebooted.
    HostReboot,
    /// A person ended it.
    Operator,
    /// Nobody knows.
    Unknown,
}

impl TerminationReason {
    /// The literal that records carry.
    pub fn rationale(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Quarantined => "quarantined",
            Self::BudgetExhausted => "budget_exhausted",
            Self::ContextMiss => "CONTEXT_MISS",
            Self::PolicyViolation => "policy_violation",
            Self::Evicted => "evicted",
            Self::DaemonRestart => "daemon_restart",
            Self::HostReboot => "host_reboot",
            Self::Operator => "operator",
            Self::Unknown => "unknown",
        }
    }
}

/// How an episode came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitClassification {
    /// It did what it was for.
    Success,
    /// It did not.
    Failure,
    /// It was not let.
    Cancelled,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Why.
    pub reason: TerminationReason,
    /// More on why; empty: nothing.
    pub detail: Box<str>,
    /// How it came out.
    pub exit_classification: ExitClassification,
    /// The process's exit code.
    pub exit_code: Option<i32>,
    /// Tokens consumed in all.
    pub tokens_consumed: Option<u64>,
    /// The counters at the end.
    pub counters: Counters,
    /// When, since the epoch.
    pub ended: u64,
    /// From registration to end, in milliseconds.
    pub duration: u64,
    /// When it is forgotten.
    pub purge: Deadline,
    /// Who ended it.
    pub actor: Actor,
}

/// The process of an episode: an id that the kernel may reuse, and what tells
/// the uses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// In the daemon's pid namespace.
    pub pid: i32,
    /// In clock ticks since boot.
    pub start: u64,
}

/// A handle that may still repeat the rotation that replaced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The replaced handle.
    pub old: HandleDigest,
    /// The rotation.
    pub request_id: RequestId,
    /// Until when, on the boot clock.
    pub until: u64,
}

/// What few sessions have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Present once it has ended.
    pub record: Option<Record>,
    /// Ended, but not yet durably.
    pub ending: bool,
    /// Asked to stop.
    pub stop_requested: bool,
    /// The episode's process.
    pub process: Option<Process>,
    /// Labels, if they were changed after registration.
    pub labels: Option<Labels>,
    /// The last rotation.
    pub rotated: Option<Rotated>,
    /// Manifest entries whose pin it lifted by writing them, sorted.
    pub lifted: Vec<u32>,
    /// Requests of it that were denied, or would have been.
    pub denials: u64,
    /// The session whose context was refined into this one.
    pub predecessor: Option<SessionId>,
    /// The session that goes on with a refined context.
    pub successor: Option<SessionId>,
}

/// Session, work and episode id in one allocation, behind their lengths: to look
/// for separators was a fifth of a start and of each lookup by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Box<str>);

impl Names {
    /// The lengths: one octet of seven bits for the session id, two for the work
    /// id, each less one, as neither is empty.
    const HEAD: usize = 3;

    /// Packs names that were parsed: a session id of 1 to 128 bytes, a work id of
    /// 1 to 256; an empty episode id means none. What is longer is refused.
    pub fn new(session: &str, work: &str, episode: &str) -> Option<Self> {
        let first = u8::try_from(session.len().checked_sub(1)?).ok()?;
        let second = u8::try_from(work.len().checked_sub(1)?).ok()?;
        if !first.is_ascii() {
            return None;
        }
        let bytes = Self::HEAD + session.len() + work.len() + episode.len();
        let mut text = String::with_capacity(bytes);
        for octet in [first, second >> 7, second & 0x7f] {
            text.push(char::from(octet));
        }
        for part in [session, work, episode] {
            text.push_str(part);
        }
        Some(Self(text.into_boxed_str()))
    }

    /// The same session and work, and this episode.
    #[must_use]
    pub fn with_episode(&self, episode: &str) -> Self {
        let (_, _, old) = self.split();
        let (kept, _) = self.0.split_at(self.0.len() - old.len());
        Self([kept, episode].concat().into_boxed_str())
    }

    /// All three: session, work, episode.
    pub fn split(&self) -> (&str, &str, &str) {
        let (head, rest) = self.0.split_at(Self::HEAD);
        let [first, high, low] = *head.as_bytes() else {
            return ("", "", "");
        };
        let (session, rest) = rest.split_at(usize::from(first) + 1);
        let (work, episode) = rest.split_at(usize::from(high) * 128 + usize::from(low) + 1);
        (session, work, episode)
    }
}

/// One version of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its place in the order of registration.
    pub seq: Seq,
    /// Its last change.
    pub revision: Revision,
    /// Registered at, since the epoch.
    pub created: u64,
    /// Its names.
    pub names: Names,
    /// What it shares with others.
    pub spec: Arc<Spec>,
    /// Who registered it.
    pub registrant: Arc<Peer>,
    /// Its credential; none once it has ended.
    pub handle: Option<HandleDigest>,
    /// Its lease; none if registered without, or ended.
    pub lease: Option<LeaseHold>,
    /// When it ends at the latest.
    pub expires: Option<Deadline>,
    /// After how much silence it ends, in milliseconds.
    pub idle: Option<NonZeroU32>,
    /// What the context firewall does for it; none: nothing.
    pub firewall: Option<Arc<Firewall>>,
    /// What few sessions have.
    pub extra: Option<Box<Extra>>,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its handle is good.
    Active,
    /// Ended, but not yet durably.
    Ending,
    /// Ended.
    Terminated,
}

impl Session {
    /// Its name.
    pub fn id(&self) -> &str {
        self.names.split().0
    }

    /// What it works on.
    pub fn work_id(&self) -> &str {
        self.names.split().1
    }

    /// Its episode, once bound.
    pub fn episode_id(&self) -> Option<&str> {
        let episode = self.names.split().2;
        (!episode.is_empty()).then_some(episode)
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        match &self.extra {
            Some(extra) if extra.ending => Status::Ending,
            Some(extra) if extra.record.is_some() => Status::Terminated,
            _ => Status::Active,
        }
    }

    /// Whether it has not ended.
    pub fn is_active(&self) -> bool {
        self.status() == Status::Active
    }

    /// How it ended.
    pub fn record(&self) -> Option<&Record> {
        self.extra.as_ref()?.record.as_ref()
    }

    /// Its labels as they are now.
    pub fn labels(&self) -> &Labels {
        let changed = self.extra.as_ref().and_then(|extra| extra.labels.as_ref());
        changed.unwrap_or(&self.spec.labels)
    }

    /// Whether it was asked to stop.
    pub fn stop_requested(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| extra.stop_requested)
    }

    /// The episode's process.
    pub fn process(&self) -> Option<Process> {
        self.extra.as_ref()?.process
    }

    /// The last rotation of its handle.
    pub fn rotated(&self) -> Option<&Rotated> {
        self.extra.as_ref()?.rotated.as_ref()
    }

    /// Manifest entries whose pin it lifted, sorted.
    pub fn lifted(&self) -> &[u32] {
        self.extra.as_ref().map_or(&[], |extra| &extra.lifted)
    }

    /// Requests of it that were denied, as far as that is written down.
    pub fn denials(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.denials)
    }

    /// Makes room for what few sessions have.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether it ended so long ago that it is forgotten.
    pub fn is_forgotten(&self, now: Now) -> bool {
        self.record().is_some_and(|record| record.purge.is_due(now))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Names};

    #[test]
    fn names_come_apart_as_they_went_together() {
        let (longest, longer) = ("s".repeat(128), "w".repeat(256));
        for (session, work) in [("s-1", "W 1"), ("s", "w"), (&longest, &longer)] {
            for episode in ["", "e", &longer] {
                let names = Names::new(session, work, episode).expect("they fit");
                assert_eq!(names.split(), (session, work, episode));
                let bound = names.with_episode("e-2");
                assert_eq!(bound.split(), (session, work, "e-2"));
            }
        }
        for work in [127, 128, 129].map(|length| "w".repeat(length)) {
            let names = Names::new("s", &work, "e").expect("they fit");
            assert_eq!(names.split(), ("s", &*work, "e"));
        }
    }

    #[test]
    fn names_that_no_parser_lets_through_are_refused() {
        for (session, work) in [("", "w"), ("s", ""), (&*"s".repeat(129), "w")] {
            assert_eq!(Names::new(session, work, ""), None);
        }
        assert_eq!(Names::new("s", &"w".repeat(257), ""), None);
    }

    #[test]
    fn counters_never_go_back() {
        let high = Counters {
            tool_calls: 5,
            events: 1,
            tokens: 0,
        };
        let low = Counters {
            tool_calls: 3,
            events: 2,
            tokens: 9,
        };
        assert_eq!(
            high.merged(low),
            Counters {
                tool_calls: 5,
                events: 2,
                tokens: 9
            }
        );
    }
}
