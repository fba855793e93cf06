//! A command that failed: what is said on stderr, and the exit code.
//!
//! Owns the hints that say how to mend it, and the exit codes of failures that
//! no reason of the daemon's covers.

use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;

use serde_json::json;
use tonic::Code;

use super::output::Format;
use crate::client::error::{FieldViolation, Origin};
use crate::client::{ClientError, SecretError};
use crate::paths::PathError;
use crate::reason::Reason;

/// Exit codes of sysexits.h, for what is not a daemon's answer.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Something given is malformed.
    pub const DATA: u8 = 65;
    /// A file to read cannot be read.
    pub const NO_INPUT: u8 = 66;
    /// No daemon answers.
    pub const UNREACHABLE: u8 = 69;
    /// A bug here or in the daemon.
    pub const SOFTWARE: u8 = 70;
    /// The session is there, its handle is not given again.
    pub const WITHHELD: u8 = 6;
    /// A file to write cannot be written.
    pub const CANNOT_CREATE: u8 = 73;
    /// Trying again later may help.
    pub const TRY_AGAIN: u8 = 75;
    /// Not allowed.
    pub const NO_PERMISSION: u8 = 77;
    /// The program that was named cannot be run, as shells have it.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// It is not there, as shells have it.
    pub const COMMAND_NOT_FOUND: u8 = 127;
}

/// Why a command failed.
#[derive(Debug)]
pub struct CliError {
    exit: u8,
    kind: Kind,
    hint: Option<String>,
    /// What is wrong with each part of what was given.
    violations: Vec<FieldViolation>,
}

#[derive(Debug)]
enum Kind {
    /// The reader of stdout has gone: nothing to say.
    Silent,
    Local {
        code: &'static str,
        message: String,
    },
    Call(Box<ClientError>),
}

impl CliError {
    /// The command line cannot be followed.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::local(exit::USAGE, "INVALID_ARGUMENT", message).with_hint(hint)
    }

    /// A file cannot be read.
    pub fn reading(path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self::local(exit::NO_INPUT, "NOT_FOUND", message)
    }

    /// A file cannot be written.
    pub fn writing(path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot write {}: {error}", path.display());
        Self::local(exit::CANNOT_CREATE, "FAILED_PRECONDITION", message)
    }

    /// Stdout cannot be written; a closed pipe is no failure.
    pub fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                exit: 0,
                kind: Kind::Silent,
                hint: None,
                violations: Vec::new(),
            };
        }
        Self::writing(Path::new("stdout"), error)
    }

    /// A failure with an exit code of its own.
    pub fn local(exit: u8, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind: Kind::Local {
                code,
                message: message.into(),
            },
            hint: None,
            violations: Vec::new(),
        }
    }

    /// Nothing to say, but an exit code.
    pub fn silent(exit: u8) -> Self {
        Self {
            exit,
            kind: Kind::Silent,
            hint: None,
            violations: Vec::new(),
        }
    }

    /// The same with a hint how to mend it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with all that is wrong with its parts.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<FieldViolation>) -> Self {
        self.violations = violations;
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// What the process ends with.
    pub fn exit(&self) -> u8 {
        self.exit
    }

    /// Whether it is a call that may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(&self.kind, Kind::Call(error) if error.is_transient())
    }

    /// What is said on stderr; empty when there is nothing to say.
    pub fn render(&self, format: Format) -> String {
        match (&self.kind, format) {
            (Kind::Silent, _) => String::new(),
            (_, Format::Table) => self.text(),
            (_, Format::Json | Format::Jsonl) => format!("{}\n", self.json()),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("episodectl: {self}\n");
        for violation in self.violations() {
            let _ = writeln!(text, "  {}: {}", violation.field, violation.description);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    fn violations(&self) -> &[FieldViolation] {
        match &self.kind {
            Kind::Call(error) => &error.violations,
            Kind::Silent | Kind::Local { .. } => &self.violations,
        }
    }

    fn json(&self) -> serde_json::Value {
        let violations: Vec<_> = self
            .violations()
            .iter()
            .map(|v| json!({"field": v.field, "description": v.description}))
            .collect();
        match &self.kind {
            Kind::Silent => serde_json::Value::Null,
            Kind::Local { code, message } => json!({
                "code": code, "reason": null, "message": message,
                "metadata": {}, "fieldViolations": violations,
            }),
            Kind::Call(error) => json!({
                "code": code_name(error.code),
                "reason": error.reason.map(Reason::as_str),
                "message": error.message,
                "metadata": error.metadata,
                "fieldViolations": violations,
            }),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Silent => Ok(()),
            Kind::Local { message, .. } => f.write_str(message),
            Kind::Call(error) => match error.reason {
                Some(reason) => write!(f, "{} ({})", error.message, reason.as_str()),
                None => f.write_str(&error.message),
            },
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self {
            exit: exit_code(&error),
            hint: hint(&error),
            kind: Kind::Call(Box::new(error)),
            violations: Vec::new(),
        }
    }
}

impl From<SecretError> for CliError {
    fn from(error: SecretError) -> Self {
        Self::local(exit::DATA, "INVALID_ARGUMENT", error.to_string())
    }
}

impl From<PathError> for CliError {
    fn from(error: PathError) -> Self {
        Self::usage(error.to_string(), "or name the socket with --socket")
    }
}

fn exit_code(error: &ClientError) -> u8 {
    if let Some(reason) = error.reason {
        return reason.exit_code();
    }
    match error.code {
        Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange => exit::DATA,
        Code::NotFound => exit::NO_INPUT,
        Code::PermissionDenied | Code::Unauthenticated => exit::NO_PERMISSION,
        Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded => exit::TRY_AGAIN,
        Code::Unavailable | Code::Unimplemented => exit::UNREACHABLE,
        _ => exit::SOFTWARE,
    }
}

fn hint(error: &ClientError) -> Option<String> {
    if error.origin == Origin::Unreachable {
        return Some(
            "start it with `episodectl server start`, or `systemctl --user start episoded` where \
             its units are installed; or name its socket with --socket"
                .to_owned(),
        );
    }
    let hint = match error.reason? {
        Reason::PeerMismatch => {
            "use your own daemon, or have your uid added to operator_uids (session_uids for session.sock)"
        }
        Reason::HandleNotAccepted => {
            "the session has ended or its handle was rotated; `episodectl session lookup` by work id says which"
        }
        Reason::OperatorOnly => {
            "name operator.sock with --socket, or leave the session id out to use the handle"
        }
        Reason::SessionNotFound => {
            "ended sessions are remembered for a while only; `episodectl session history ID` knows longer"
        }
        Reason::SessionExists => "choose another --session-id, or leave it out to have one made",
        Reason::SessionTerminated => "`episodectl session get ID` says how it ended",
        Reason::SessionInUse => "end it with `episodectl session terminate ID`",
        Reason::LeaseHeld => "show that lease, or replace it with --take-over",
        Reason::WorkBusy => {
            "`episodectl session lookup --work-id W` names the live session; end it, or leave out --exclusive"
        }
        Reason::StaleEtag => "read the session again and decide anew",
        Reason::SessionQuota => "end sessions, raise max_sessions, or pass --allow-eviction",
        Reason::DeadlineExceeded => {
            "the outcome is unknown; look before repeating it, or give more --timeout"
        }
        Reason::DiskFull => "free space where the registry lies; reads go on meanwhile",
        Reason::BackupRunning => "wait for it to end",
        Reason::RevisionCompacted => "begin at the oldest revision named above, or with --snapshot",
        Reason::RevisionUnknown | Reason::RegistryChanged => "begin with --snapshot",
        Reason::RequestIdReused => "use a new --request-id for a new request",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The name of a gRPC code in `google.rpc.Code`.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::CliError;
    use crate::cli::output::Format;
    use crate::client::error::{ClientError, FieldViolation, Origin};
    use crate::reason::Reason;

    fn call(code: Code, reason: Option<Reason>) -> CliError {
        ClientError {
            code,
            reason,
            message: "lease is held".into(),
            metadata: [("holder".to_owned(), "blue".to_owned())].into(),
            violations: vec![FieldViolation {
                field: "ttl".into(),
                description: "negative".into(),
            }],
            origin: Origin::Daemon,
        }
        .into()
    }

    #[test]
    fn the_reason_decides_the_exit_code_and_else_the_code() {
        for reason in Reason::ALL {
            assert_eq!(
                call(Code::Unknown, Some(*reason)).exit(),
                reason.exit_code()
            );
        }
        assert_eq!(call(Code::Unavailable, None).exit(), 69);
        assert_eq!(call(Code::NotFound, None).exit(), 66);
    }

    #[test]
    fn people_read_the_message_the_fields_and_what_to_do() {
        let text = call(Code::FailedPrecondition, Some(Reason::LeaseHeld)).render(Format::Table);
        assert_eq!(
            text,
            "episodectl: lease is held (LEASE_HELD)\n  ttl: negative\n\
             hint: show that lease, or replace it with --take-over\n"
        );
    }

    #[test]
    fn programs_read_one_object() {
        let text = call(Code::FailedPrecondition, Some(Reason::LeaseHeld)).render(Format::Json);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["code"], "FAILED_PRECONDITION");
        assert_eq!(object["reason"], "LEASE_HELD");
        assert_eq!(object["metadata"]["holder"], "blue");
        assert_eq!(object["fieldViolations"][0]["field"], "ttl");
        assert_eq!(object.as_object().unwrap().len(), 5);
    }

    #[test]
    fn a_closed_pipe_is_silent_success() {
        let error = CliError::stdout(&std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(
            (error.exit(), error.render(Format::Table).as_str()),
            (0, "")
        );
    }
}
