//! Which sessions and events a caller wants.

use crate::{
    ids::{SessionId, WorkId},
    session::{
        event::{Event, EventKind},
        index::View,
        spec::{Labels, Role},
        state::{Session, Status},
    },
};

/// Whether a lease is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Shown since the last restart.
    Held,
    /// Must be shown again.
    Revoked,
}

/// Sessions as they are now; what is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where it is in its life.
    pub status: Option<Status>,
    /// What it works on.
    pub work: Option<WorkId>,
    /// What it is for.
    pub role: Option<Role>,
    /// Labels it has now.
    pub labels: Labels,
    /// Its lease.
    pub lease: Option<LeaseState>,
}

impl Filter {
    /// Whether a session matches.
    pub fn matches(&self, view: &View) -> bool {
        let session = &view.session;
        self.status.is_none_or(|status| session.status() == status)
            && self
                .work
                .as_ref()
                .is_none_or(|work| session.work_id() == work.as_str())
            && self.role.is_none_or(|role| session.spec.role == role)
            && self
                .lease
                .is_none_or(|lease| lease_state(session) == Some(lease))
            && (self.labels.is_empty() || session.labels().contains(&self.labels))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The state of a session's lease; none: registered without, or ended.
pub fn lease_state(session: &Session) -> Option<LeaseState> {
    let current = session.lease.as_ref()?.is_current;
    Some(if current {
        LeaseState::Held
    } else {
        LeaseState::Revoked
    })
}

/// Events by what never changes in a session; what is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Its name.
    pub session: Option<SessionId>,
    /// What it works on.
    pub work: Option<WorkId>,
    /// What it is for.
    pub role: Option<Role>,
    /// Labels it was registered with.
    pub labels: Labels,
    /// Kinds of event; empty: all.
    pub kinds: Vec<EventKind>,
    /// At or after, in milliseconds since the epoch.
    pub start: Option<u64>,
    /// Before, in milliseconds since the epoch.
    pub end: Option<u64>,
}

impl EventFilter {
    /// Whether an event matches. One about no session matches a filter that
    /// asks for none. A refinement is about the session that asked, even once
    /// that is forgotten.
    pub fn matches(&self, event: &Event) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.start.is_none_or(|start| event.at >= start)
            && self.end.is_none_or(|end| event.at < end)
            && match event.whose() {
                Some(session) => self.matches_session(session),
                None => {
                    self.session.is_none()
                        && self.work.is_none()
                        && self.role.is_none()
                        && self.labels.is_empty()
                }
            }
    }

    /// Whether a session's events match.
    pub fn matches_session(&self, session: &Session) -> bool {
        self.session
            .as_ref()
            .is_none_or(|id| session.id() == id.as_str())
            && self
                .work
                .as_ref()
                .is_none_or(|work| session.work_id() == work.as_str())
            && self.role.is_none_or(|role| session.spec.role == role)
            && (self.labels.is_empty() || session.spec.labels.contains(&self.labels))
    }
}
