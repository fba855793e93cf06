//! What can go wrong with a call, as a caller wants to know it.
//!
//! Owns the reading of a gRPC status: the daemon's `ErrorInfo` and bad fields,
//! or, when no daemon answered, whether there is none, it is another user's,
//! or the connection broke.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use crate::reason::{DOMAIN, Reason};

/// A call that failed.
#[derive(Debug, Clone)]
pub struct ClientError {
    /// The gRPC code.
    pub code: Code,
    /// What to branch on; `None` when the daemon gave none this client knows.
    pub reason: Option<Reason>,
    /// For people.
    pub message: String,
    /// The `ErrorInfo`'s metadata.
    pub metadata: BTreeMap<String, String>,
    /// Every bad field that was named.
    pub violations: Vec<FieldViolation>,
    /// Who says so.
    pub origin: Origin,
}

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Who reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The daemon answered it.
    Daemon,
    /// Nobody accepts connections at the socket.
    Unreachable,
    /// A connection was there and gave no answer.
    Connection,
}

impl ClientError {
    pub(super) fn of_status(status: &Status, socket: &Path) -> Self {
        let details = status.get_error_details();
        if let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) {
            let violations = details.bad_request().into_iter();
            return Self {
                code: status.code(),
                reason: Reason::parse(&info.reason),
                message: status.message().to_owned(),
                metadata: info.metadata.clone().into_iter().collect(),
                violations: violations
                    .flat_map(|request| &request.field_violations)
                    .map(|violation| FieldViolation {
                        field: violation.field.clone(),
                        description: violation.description.clone(),
                    })
                    .collect(),
                origin: Origin::Daemon,
            };
        }
        match status.source() {
            Some(source) if find::<TimeoutExpired>(source).is_some() => Self::timed_out(socket),
            Some(source) => Self::of_connection(source, socket),
            None => Self::new(status.code(), status.message().to_owned(), Origin::Daemon),
        }
    }

    /// An error of the transport below gRPC.
    pub(super) fn of_connection(error: &(dyn Error + 'static), socket: &Path) -> Self {
        let at = socket.display();
        let cause = innermost(error);
        let (message, origin) = match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                (format!("no daemon at {at}: {cause}"), Origin::Unreachable)
            }
            Some(io::ErrorKind::InvalidInput) => (
                format!("cannot connect to {at}: {cause}"),
                Origin::Unreachable,
            ),
            Some(io::ErrorKind::PermissionDenied) => return Self::another_user(socket),
            _ if owner_is_another(socket) => return Self::another_user(socket),
            _ => (
                format!("the connection to {at} gave no answer: {cause}"),
                Origin::Connection,
            ),
        };
        Self::new(Code::Unavailable, message, origin)
    }

    fn another_user(socket: &Path) -> Self {
        let message = format!("the daemon at {} belongs to another user", socket.display());
        Self {
            reason: Some(Reason::PeerMismatch),
            ..Self::new(Code::PermissionDenied, message, Origin::Connection)
        }
    }

    /// What the caller gave cannot be sent.
    pub(super) fn of_caller(reason: Reason, message: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(Code::from_i32(reason.code()), message, Origin::Daemon)
        }
    }

    pub(super) fn timed_out(socket: &Path) -> Self {
        let message = format!("no answer from {} in time", socket.display());
        Self {
            reason: Some(Reason::DeadlineExceeded),
            ..Self::new(Code::DeadlineExceeded, message, Origin::Connection)
        }
    }

    /// A stream that ended without a status of its own.
    pub(super) fn stream_ended(socket: &Path) -> Self {
        let message = format!("the daemon at {} ended the stream", socket.display());
        Self::new(Code::Unavailable, message, Origin::Connection)
    }

    fn new(code: Code, message: String, origin: Origin) -> Self {
        Self {
            code,
            reason: None,
            message,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            origin,
        }
    }

    /// Whether the same call may succeed once the daemon is back or has room.
    pub fn is_transient(&self) -> bool {
        match self.reason {
            Some(reason) => matches!(
                reason,
                Reason::ShuttingDown
                    | Reason::StoreFailed
                    | Reason::RateLimited
                    | Reason::DeadlineExceeded
                    | Reason::Cancelled
            ),
            None => self.code == Code::Unavailable,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ClientError {}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(<dyn Error>::downcast_ref)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A daemon closes connections of uids it does not serve without an answer;
/// whose socket it is tells that apart from a daemon that died.
fn owner_is_another(socket: &Path) -> bool {
    std::fs::metadata(socket).is_ok_and(|metadata| metadata.uid() != geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::{ClientError, Origin};
    use crate::reason::Reason;

    fn status(reason: &str, domain: &str) -> Status {
        let metadata = HashMap::from([("holder".to_owned(), "blue".to_owned())]);
        let mut details = ErrorDetails::with_error_info(reason, domain, metadata);
        details.add_bad_request_violation("work_id", "missing");
        Status::with_error_details(Code::FailedPrecondition, "held", details)
    }

    fn read(status: &Status) -> ClientError {
        ClientError::of_status(status, Path::new("/nowhere/operator.sock"))
    }

    #[test]
    fn a_daemons_error_is_read_whole() {
        let error = read(&status("LEASE_HELD", "episoded"));
        assert_eq!(error.code, Code::FailedPrecondition);
        assert_eq!(error.reason, Some(Reason::LeaseHeld));
        assert_eq!(error.message, "held");
        assert_eq!(error.metadata["holder"], "blue");
        assert_eq!(error.violations[0].field, "work_id");
        assert_eq!(error.origin, Origin::Daemon);
        assert!(!error.is_transient());
    }

    #[test]
    fn a_reason_of_another_domain_or_time_is_none() {
        assert_eq!(read(&status("LEASE_HELD", "elsewhere")).reason, None);
        assert_eq!(read(&status("FROM_THE_FUTURE", "episoded")).reason, None);
    }

    #[test]
    fn what_passes_by_itself_is_transient() {
        assert!(read(&status("SHUTTING_DOWN", "episoded")).is_transient());
        assert!(read(&Status::unavailable("gone")).is_transient());
        assert!(!read(&Status::unimplemented("no")).is_transient());
    }
}
