//! From a refusal to a gRPC status: one reason for each condition.
//!
//! Every status carries one `google.rpc.ErrorInfo` of domain `episoded`, and what
//! the error table lists besides. Message and details stay under 4 KiB together:
//! some clients lose larger ones.

use std::{collections::HashMap, convert::Infallible, fmt::Write as _, time::Duration};

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    reason::{DOMAIN, Reason},
    session::{
        error::{
            BindError, CallError, CheckError, LeaseError, ManifestError, RefinementError,
            RegisterError, ReissueError, RemoveError, ResumeError, RotateError, TargetError,
        },
        limits::MAX_EVICTIONS,
        refinement::RefinementState,
        service::EventsError,
        state::Session,
        store::ReadError,
    },
};

/// Bad fields that are named; of more only the number is told.
const MAX_VIOLATIONS: usize = 16;

/// Bytes of one description, so that sixteen of them fit.
const MAX_DESCRIPTION: usize = 80;

/// When a client may try again after a passing condition.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A status in the making.
#[derive(Debug)]
pub struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Refusal {
    /// Refuses for a reason; the message is for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            details: ErrorDetails::new(),
        }))
    }

    /// Adds a fact that a client may branch on.
    #[must_use]
    pub fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.0.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Names what was looked for or is in the way.
    #[must_use]
    pub fn about(mut self, kind: &str, name: &str) -> Self {
        self.0.details.set_resource_info(kind, name, "", "");
        self
    }

    fn retry(mut self) -> Self {
        self.0.details.set_retry_info(Some(RETRY_AFTER));
        self
    }

    fn quota(mut self, subject: &str, description: &str) -> Self {
        self.0
            .details
            .add_quota_failure_violation(subject, description);
        self
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// As the answer to a call.
    pub fn into_http(self) -> Response<Body> {
        Status::from(self).into_http()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Parts {
            reason,
            message,
            metadata,
            mut details,
        } = *refusal.0;
        details.set_error_info(reason.as_str(), DOMAIN, metadata);
        Self::with_error_details(Code::from_i32(reason.code()), message, details)
    }
}

/// Bad fields of one request, gathered so that all are named at once.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<(Reason, FieldViolation)>,
}

impl Violations {
    /// Notes a bad field; `rule` says what it must be.
    pub fn add(&mut self, reason: Reason, field: impl Into<String>, rule: impl Into<String>) {
        let mut rule: String = rule.into();
        if rule.len() > MAX_DESCRIPTION {
            let cut = (0..=MAX_DESCRIPTION)
                .rev()
                .find(|at| rule.is_char_boundary(*at));
            rule.truncate(cut.unwrap_or(0));
        }
        self.found.push((reason, FieldViolation::new(field, rule)));
    }

    /// Keeps the value, or notes the field as bad.
    pub fn take<T>(&mut self, field: &str, parsed: Result<T, impl ToString>) -> Option<T> {
        parsed
            .map_err(|error| self.add(Reason::MalformedMessage, field, error.to_string()))
            .ok()
    }

    /// Whether nothing is bad.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// One refusal for all of them: with their reason if they share one.
    pub fn into_refusal(self) -> Refusal {
        let first = self
            .found
            .first()
            .map_or(Reason::MalformedMessage, |(reason, _)| *reason);
        let shared = self.found.iter().all(|(reason, _)| *reason == first);
        let reason = if shared {
            first
        } else {
            Reason::MalformedMessage
        };
        let count = self.found.len();
        let mut message = match self.found.first() {
            Some((_, only)) if count == 1 => format!("{} {}", only.field, only.description),
            _ => {
                let fields = self.found.iter().take(MAX_VIOLATIONS);
                let fields: Vec<&str> = fields.map(|(_, v)| v.field.as_str()).collect();
                format!("{count} fields are not valid: {}", fields.join(", "))
            }
        };
        if count > MAX_VIOLATIONS {
            let more = count - MAX_VIOLATIONS;
            let _ = write!(message, ", and {more} more");
        }
        let mut refusal = Refusal::new(reason, message);
        let shown: Vec<FieldViolation> = self
            .found
            .into_iter()
            .take(MAX_VIOLATIONS)
            .map(|(_, violation)| violation)
            .collect();
        refusal.0.details.set_bad_request(shown);
        if count > MAX_VIOLATIONS {
            refusal = refusal.with("more_violations", &(count - MAX_VIOLATIONS));
        }
        refusal
    }
}

/// One answer for every kind of bad handle.
pub fn handle_not_accepted() -> Refusal {
    Refusal::new(Reason::HandleNotAccepted, "the handle is not accepted")
}

/// The daemon is stopping, or has not begun to serve.
pub fn not_serving() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "the daemon is not serving, try again").retry()
}

/// Too much at once.
pub fn busy() -> Refusal {
    Refusal::new(Reason::RateLimited, "too many calls are waiting, try again").retry()
}

/// Nothing that this socket serves.
pub fn unknown_method() -> Refusal {
    Refusal::new(Reason::MethodUnknown, "no such method on this socket")
}

/// The call's deadline passed.
pub fn late() -> Refusal {
    Refusal::new(
        Reason::DeadlineExceeded,
        "the deadline passed; the outcome of a change is unknown",
    )
}

/// A bug; says nothing of its cause.
pub fn internal() -> Refusal {
    Refusal::new(Reason::Internal, "internal error")
}

/// No session has that name.
pub fn no_session(id: &str) -> Refusal {
    Refusal::new(Reason::SessionNotFound, format!("no session {id}")).about("session", id)
}

fn ended(session: &Session) -> Refusal {
    let rationale = session
        .record()
        .map_or("", |record| record.reason.rationale());
    Refusal::new(
        Reason::SessionTerminated,
        format!("session {} has ended", session.id()),
    )
    .with("session_id", session.id())
    .with("rationale", rationale)
}

fn reused() -> Refusal {
    Refusal::new(
        Reason::RequestIdReused,
        "the request id was used with another body",
    )
    .about("request_id", "")
}

/// A call's refusal on its way to a status.
pub trait IntoRefusal {
    /// The refusal. `name` is what the caller called the session.
    fn into_refusal(self, name: &str) -> Refusal;
}

impl IntoRefusal for TargetError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::NotFound => no_session(name),
            Self::Terminated(session) => ended(&session),
            Self::HandleNotAccepted => handle_not_accepted(),
            Self::StaleEtag { current } => Refusal::new(
                Reason::StaleEtag,
                "the session changed since its etag was read",
            )
            .with("etag", &current.0),
        }
    }
}

impl IntoRefusal for RegisterError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Exists => Refusal::new(
                Reason::SessionExists,
                format!("session {name} exists already"),
            )
            .about("session", name),
            Self::RequestReused => reused(),
            Self::Forgotten => Refusal::new(
                Reason::SessionTerminated,
                "the session that this request made has ended and is forgotten",
            ),
            Self::WorkBusy(session) => Refusal::new(
                Reason::WorkBusy,
                format!("work {} has a live session already", session.work_id()),
            )
            .with("session_id", session.id()),
            Self::Quota { limit } => quota(limit),
            Self::Evictions { limit, needed } => {
                let message = format!(
                    "of the live sessions {needed} would have to end for the limit of {limit}: \
                     one call ends at most {MAX_EVICTIONS}"
                );
                Refusal::new(Reason::SessionQuota, &*message)
                    .quota("sessions", &message)
                    .with("evictions_needed", &needed)
            }
            Self::Manifest(error) => error.into_refusal(""),
        }
    }
}

fn quota(limit: usize) -> Refusal {
    let full = format!("{limit} sessions are live, the limit");
    Refusal::new(Reason::SessionQuota, &*full).quota("sessions", &full)
}

impl IntoRefusal for ManifestError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::NotFound => Refusal::new(
                Reason::ManifestNotFound,
                "no manifest of that hash is stored: store it with PutManifest",
            )
            .about("manifest", name),
            Self::Quota => {
                let full = "as many manifests are stored as may be";
                Refusal::new(Reason::ManifestQuota, full).quota("manifests", full)
            }
        }
    }
}

impl IntoRefusal for RefinementError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::NotFound => {
                Refusal::new(Reason::RefinementNotFound, format!("no refinement {name}"))
                    .about("refinement", name)
            }
            Self::Answered(successor) => Refusal::new(
                Reason::RefinementAnswered,
                format!("refinement {name} was answered: session {successor} goes on"),
            )
            .with("successor_session_id", successor.as_str()),
            Self::Closed(refinement) => {
                let how = match refinement.state {
                    RefinementState::Declined(_) => "was declined",
                    _ => "has expired",
                };
                Refusal::new(Reason::RefinementClosed, format!("refinement {name} {how}"))
            }
        }
    }
}

impl IntoRefusal for ReissueError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Refinement(error) => error.into_refusal(name),
            Self::Manifest(error) => error.into_refusal(""),
            Self::Exists => {
                Refusal::new(Reason::SessionExists, "a session of that id exists already")
            }
            Self::RequestReused => reused(),
            Self::Forgotten => RegisterError::Forgotten.into_refusal(name),
            Self::Quota { limit } => quota(limit),
        }
    }
}

impl IntoRefusal for CheckError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Target(error) => error.into_refusal(name),
            Self::NoFirewall => Refusal::new(
                Reason::NoFirewall,
                "the session was registered without a firewall: mode AUDIT or CONSUME gives it one",
            ),
            Self::NoManifest => internal(),
        }
    }
}

impl IntoRefusal for BindError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Target(error) => error.into_refusal(name),
            Self::AlreadyBound(session) => {
                let to = session.episode_id().unwrap_or_default();
                Refusal::new(
                    Reason::AlreadyBound,
                    format!("session {name} is bound already"),
                )
                .with("episode_id", to)
            }
            Self::RequestReused => reused(),
        }
    }
}

impl IntoRefusal for LeaseError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Target(error) => error.into_refusal(name),
            Self::Held(session) => {
                let holder = session
                    .lease
                    .as_ref()
                    .map_or("", |lease| lease.shown.holder.as_str());
                let message = format!("another holds the lease of session {name}");
                Refusal::new(Reason::LeaseHeld, message).with("holder", holder)
            }
            Self::RequestReused => reused(),
        }
    }
}

impl IntoRefusal for RotateError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Target(error) => error.into_refusal(name),
            Self::RequestReused => reused(),
        }
    }
}

impl IntoRefusal for RemoveError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Target(error) => error.into_refusal(name),
            Self::InUse(session) => Refusal::new(
                Reason::SessionInUse,
                format!("session {} is in use: terminate it instead", session.id()),
            ),
        }
    }
}

impl IntoRefusal for Infallible {
    fn into_refusal(self, _name: &str) -> Refusal {
        match self {}
    }
}

impl IntoRefusal for ResumeError {
    fn into_refusal(self, _name: &str) -> Refusal {
        let message = self.to_string();
        match self {
            Self::Compacted { oldest } => {
                Refusal::new(Reason::RevisionCompacted, message).with("oldest", &oldest.0)
            }
            Self::Unknown { current } => {
                Refusal::new(Reason::RevisionUnknown, message).with("current", &current.0)
            }
            Self::RegistryChanged => Refusal::new(Reason::RegistryChanged, message),
        }
    }
}

impl IntoRefusal for ReadError {
    fn into_refusal(self, _name: &str) -> Refusal {
        tracing::error!(error = &self as &dyn std::error::Error, "journal not read");
        Refusal::new(Reason::StoreFailed, "the journal cannot be read").retry()
    }
}

impl IntoRefusal for EventsError {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Resume(error) => error.into_refusal(name),
            Self::Read(error) => error.into_refusal(name),
        }
    }
}

impl<E: IntoRefusal> IntoRefusal for CallError<E> {
    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Refused(error) => error.into_refusal(name),
            Self::DiskFull => {
                let message = "the disk is full, the change was not written";
                Refusal::new(Reason::DiskFull, message).quota("disk", message)
            }
            Self::StoreFailed => Refusal::new(
                Reason::StoreFailed,
                "the journal refused, the change was not written",
            )
            .retry(),
            Self::OutcomeUnknown => Refusal::new(
                Reason::StoreFailed,
                "the journal failed, the outcome is unknown",
            )
            .retry(),
            Self::Busy => busy(),
            Self::Late => late(),
            Self::Stopping => not_serving(),
        }
    }
}
