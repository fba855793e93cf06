//! What happened: one event per revision.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    clock::BootId,
    session::{
        firewall::Denial,
        refinement::Refinement,
        state::{Actor, Live, Revision, Seq, Session},
    },
};

/// What kind of change an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Registered.
    Created,
    /// Bound to its episode.
    Bound,
    /// Its lease was shown.
    LeaseRenewed,
    /// A restart revoked its lease.
    LeaseRevoked,
    /// Labels or deadlines changed.
    Updated,
    /// Its handle was replaced.
    HandleRotated,
    /// Asked to stop.
    StopRequested,
    /// Ended.
    Terminated,
    /// Ended to make room.
    Evicted,
    /// Its registration was taken back.
    Removed,
    /// Came back after a restart.
    Recovered,
    /// The daemon restarted.
    Restarted,
    /// A request was denied, or would have been.
    Denied,
    /// Wrote an entry for the first time.
    PinLifted,
    /// A read outside the manifest was asked back.
    RefinementRequested,
    /// A session goes on under a better manifest.
    RefinementAnswered,
    /// The coordinator refused.
    RefinementDeclined,
    /// Nobody answered in time.
    RefinementExpired,
}

/// What an event is about, besides its session.
#[derive(Debug, Clone, PartialEq)]
pub enum About {
    /// Only the session.
    Session,
    /// The daemon's restart.
    Restart(Restart),
    /// A denial.
    Denial(Arc<Denial>),
    /// A refinement, as it is after the change.
    Refinement(Arc<Refinement>),
}

/// A restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The boot it happened in.
    pub boot_id: BootId,
    /// Starts of this registry, this one included.
    pub incarnation: u64,
    /// Sessions that were live.
    pub live: u64,
    /// The first registration that the range of derived revisions covers.
    pub first_seq: Seq,
    /// The newest revision before the restart: the session of sequence `s` has
    /// the derived revision `base + 1 + s - first_seq`.
    pub base: Revision,
}

impl Restart {
    /// The revision at which watchers see that a session came back; none for one
    /// that was registered before all that did.
    pub fn derived(&self, seq: Seq) -> Option<Revision> {
        let place = seq.0.checked_sub(self.first_seq.0)?;
        Some(Revision(self.base.0 + 1 + place))
    }
}

/// One change to the registry.
#[derive(Debug)]
pub struct Event {
    /// Its number.
    pub revision: Revision,
    /// The same session's event before it; 0: none.
    pub previous: Revision,
    /// What it tells.
    pub kind: EventKind,
    /// When, since the epoch.
    pub at: u64,
    /// Who did it.
    pub actor: Actor,
    /// The session after the change; none for a restart.
    pub session: Option<Arc<Session>>,
    /// What had moved without a revision by then.
    pub live: Live,
    /// What it is about besides.
    pub about: About,
    /// Its encoding for watchers, made by the first that needs it.
    pub encoded: OnceLock<Bytes>,
}

impl Event {
    /// The restart it tells of.
    pub fn restart(&self) -> Option<&Restart> {
        match &self.about {
            About::Restart(restart) => Some(restart),
            About::Session | About::Denial(_) | About::Refinement(_) => None,
        }
    }

    /// The session it is about: as it is after the change, or, of a refinement
    /// whose session is forgotten, as it was when it asked.
    pub fn whose(&self) -> Option<&Arc<Session>> {
        let asked = || self.refinement().map(|refinement| &refinement.session);
        self.session.as_ref().or_else(asked)
    }

    /// The refinement it tells of.
    pub fn refinement(&self) -> Option<&Arc<Refinement>> {
        match &self.about {
            About::Refinement(refinement) => Some(refinement),
            About::Session | About::Restart(_) | About::Denial(_) => None,
        }
    }
}
