//! Why a session operation is refused: one enum per operation.

use std::{fmt, sync::Arc};

use crate::{
    ids::SessionId,
    session::{
        refinement::Refinement,
        state::{Revision, Session},
    },
};

/// A call that did not give its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError<E> {
    /// Decided: no.
    Refused(E),
    /// Not written, memory as it was: the disk is full.
    DiskFull,
    /// Not written, memory as it was: the store failed.
    StoreFailed,
    /// The commit failed, what is on disk is unknown, and the daemon ends.
    OutcomeUnknown,
    /// Not taken: too many calls wait.
    Busy,
    /// Not taken: its deadline passed while it waited.
    Late,
    /// Not taken, or outcome unknown: the daemon is stopping.
    Stopping,
}

impl<E> CallError<E> {
    /// The same with another refusal.
    pub fn map<F>(self, map: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            Self::Refused(error) => CallError::Refused(map(error)),
            Self::DiskFull => CallError::DiskFull,
            Self::StoreFailed => CallError::StoreFailed,
            Self::OutcomeUnknown => CallError::OutcomeUnknown,
            Self::Busy => CallError::Busy,
            Self::Late => CallError::Late,
            Self::Stopping => CallError::Stopping,
        }
    }
}

/// A request cannot be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckError {
    /// The session cannot be acted on.
    Target(TargetError),
    /// The session has no firewall.
    NoFirewall,
    /// The session's manifest is gone; never, while the session is live.
    NoManifest,
}

/// The session a call is about cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetError {
    /// No such session.
    NotFound,
    /// It has ended.
    Terminated(Arc<Session>),
    /// The handle is not one of a live session.
    HandleNotAccepted,
    /// It changed since the caller read it.
    StaleEtag {
        /// Its revision now.
        current: Revision,
    },
}

/// A registration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterError {
    /// The session id is taken.
    Exists,
    /// The request id was used with another body.
    RequestReused,
    /// The request id made a session that has ended and is forgotten.
    Forgotten,
    /// The work id has a live session and the caller wants to be alone.
    WorkBusy(Arc<Session>),
    /// The registry is full.
    Quota {
        /// Its size.
        limit: usize,
    },
    /// The registry is full, and more would have to end than one call may end.
    Evictions {
        /// Its size.
        limit: usize,
        /// How many would have to end for this registration.
        needed: usize,
    },
    /// The manifest is not stored, or cannot be.
    Manifest(ManifestError),
}

/// A manifest cannot be had or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestError {
    /// None of that hash is stored.
    NotFound,
    /// As many are stored as may be.
    Quota,
}

/// A refinement cannot be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum RefinementError {
    /// No such refinement.
    NotFound,
    /// Another was faster; this session goes on.
    Answered(SessionId),
    /// It was declined or has expired.
    Closed(Arc<Refinement>),
}

/// A successor is refused.
#[derive(Debug, Clone, PartialEq)]
pub enum ReissueError {
    /// The refinement cannot be answered.
    Refinement(RefinementError),
    /// The manifest is not stored, or cannot be.
    Manifest(ManifestError),
    /// The session id is taken.
    Exists,
    /// The request id was used with another body.
    RequestReused,
    /// The request id made a session that has ended and is forgotten.
    Forgotten,
    /// The registry is full.
    Quota {
        /// Its size.
        limit: usize,
    },
}

impl From<RefinementError> for ReissueError {
    fn from(error: RefinementError) -> Self {
        Self::Refinement(error)
    }
}

impl From<ManifestError> for ReissueError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl From<ManifestError> for RegisterError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

/// A binding is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindError {
    /// The session cannot be acted on.
    Target(TargetError),
    /// It is bound to another episode or process.
    AlreadyBound(Arc<Session>),
    /// The request id was used with another body.
    RequestReused,
}

/// A lease is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseError {
    /// The session cannot be acted on.
    Target(TargetError),
    /// Another lease is held on it.
    Held(Arc<Session>),
    /// The request id was used with another body.
    RequestReused,
}

/// A rotation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotateError {
    /// The session cannot be acted on.
    Target(TargetError),
    /// The request id was used with another body.
    RequestReused,
}

/// A removal is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveError {
    /// The session cannot be acted on.
    Target(TargetError),
    /// It was bound, or its handle used.
    InUse(Arc<Session>),
}

macro_rules! from_target {
    ($($error:ident)*) => {
        $(impl From<TargetError> for $error {
            fn from(error: TargetError) -> Self {
                Self::Target(error)
            }
        })*
    };
}

from_target!(BindError LeaseError RotateError RemoveError);

/// The place a watch wants to start at cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResumeError {
    /// Events after it are no longer kept.
    Compacted {
        /// The oldest revision a watch can start after.
        oldest: Revision,
    },
    /// It has not happened yet.
    Unknown {
        /// The newest revision.
        current: Revision,
    },
    /// It is of another registry.
    RegistryChanged,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted { oldest } => {
                write!(f, "events before revision {} are no longer kept", oldest.0)
            }
            Self::Unknown { current } => {
                write!(f, "the newest revision is {}", current.0)
            }
            Self::RegistryChanged => f.write_str("the registry is another one"),
        }
    }
}

impl std::error::Error for ResumeError {}
