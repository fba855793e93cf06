//! How sessions and events lie in the registry: tagged fields, so that a later
//! schema can add some.
//!
//! A field number is never used again. What many rows share (spec, peer) is kept
//! as encoded bytes inside, so that a load decodes each distinct one once.

mod decode;
mod encode;
mod firewall;
mod spec;

use bytes::Bytes;
use prost::Message;

use crate::session::{
    event::EventKind,
    spec::{Role, SovereigntyMode},
    state::{ExitClassification, Socket, TerminationReason},
};
pub(super) use decode::Decoder;
pub(super) use encode::Encoder;
use firewall::{DenialRow, RefinementRow};
use spec::LabelRow;

#[derive(Clone, PartialEq, Message)]
struct PeerRow {
    #[prost(uint32, tag = "1")]
    uid: u32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(string, tag = "3")]
    program: String,
    #[prost(uint32, tag = "4")]
    socket: u32,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseRow {
    #[prost(bytes = "bytes", tag = "1")]
    digest: Bytes,
    #[prost(string, tag = "2")]
    holder: String,
    #[prost(bytes = "bytes", tag = "3")]
    presenter: Bytes,
    #[prost(uint64, tag = "4")]
    since: u64,
    /// The start of the registry it was last shown in; later ones revoke it.
    #[prost(uint64, tag = "5")]
    incarnation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CountersRow {
    #[prost(uint64, tag = "1")]
    tool_calls: u64,
    #[prost(uint64, tag = "2")]
    events: u64,
    #[prost(uint64, tag = "3")]
    tokens: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RecordRow {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(string, tag = "2")]
    detail: String,
    #[prost(uint32, tag = "3")]
    exit_classification: u32,
    #[prost(int32, optional, tag = "4")]
    exit_code: Option<i32>,
    #[prost(uint64, optional, tag = "5")]
    tokens_consumed: Option<u64>,
    #[prost(message, optional, tag = "6")]
    counters: Option<CountersRow>,
    #[prost(uint64, tag = "7")]
    ended: u64,
    #[prost(uint64, tag = "8")]
    duration: u64,
    #[prost(uint64, tag = "9")]
    purge_boot: u64,
    #[prost(uint64, tag = "10")]
    purge_wall: u64,
    #[prost(bytes = "bytes", tag = "11")]
    peer: Bytes,
    #[prost(string, optional, tag = "12")]
    request_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RotatedRow {
    #[prost(bytes = "vec", tag = "1")]
    old: Vec<u8>,
    #[prost(string, tag = "2")]
    request_id: String,
    #[prost(uint64, tag = "3")]
    until: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessRow {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(uint64, tag = "2")]
    start: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LabelsRow {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelRow>,
}

/// The body of a session's row, and of its part in an event.
#[derive(Clone, PartialEq, Message)]
struct SessionRow {
    #[prost(string, tag = "1")]
    names: String,
    #[prost(uint64, tag = "2")]
    created: u64,
    #[prost(bytes = "bytes", tag = "3")]
    registrant: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    handle: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    lease: Option<LeaseRow>,
    #[prost(uint64, optional, tag = "6")]
    expires_boot: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    expires_wall: Option<u64>,
    #[prost(uint32, tag = "8")]
    idle: u32,
    #[prost(message, optional, tag = "9")]
    record: Option<RecordRow>,
    #[prost(bool, tag = "10")]
    stop_requested: bool,
    #[prost(message, optional, tag = "11")]
    process: Option<ProcessRow>,
    #[prost(message, optional, tag = "12")]
    labels: Option<LabelsRow>,
    #[prost(message, optional, tag = "13")]
    rotated: Option<RotatedRow>,
    #[prost(uint64, tag = "14")]
    last_wall: u64,
    #[prost(uint64, tag = "15")]
    last_awake: u64,
    #[prost(bool, tag = "16")]
    handle_used: bool,
    #[prost(message, optional, tag = "17")]
    counters: Option<CountersRow>,
    #[prost(bytes = "bytes", tag = "18")]
    firewall: Bytes,
    #[prost(uint32, repeated, tag = "19")]
    lifted: Vec<u32>,
    #[prost(uint64, tag = "20")]
    denials: u64,
    #[prost(string, optional, tag = "21")]
    predecessor: Option<String>,
    #[prost(string, optional, tag = "22")]
    successor: Option<String>,
}

/// The body of an event's row.
#[derive(Clone, PartialEq, Message)]
struct EventRow {
    #[prost(bytes = "bytes", tag = "1")]
    peer: Bytes,
    #[prost(string, optional, tag = "2")]
    request_id: Option<String>,
    #[prost(bytes = "bytes", tag = "3")]
    spec: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    session: Bytes,
    #[prost(message, optional, tag = "5")]
    restart: Option<RestartRow>,
    #[prost(message, optional, tag = "6")]
    denial: Option<DenialRow>,
    #[prost(message, optional, tag = "7")]
    refinement: Option<RefinementRow>,
}

#[derive(Clone, PartialEq, Message)]
struct RestartRow {
    #[prost(string, tag = "1")]
    boot_id: String,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    live: u64,
    #[prost(uint64, tag = "4")]
    first_seq: u64,
    #[prost(uint64, tag = "5")]
    base: u64,
}

/// A row does not decode to something valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadRow(pub(super) &'static str);

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a row of the registry is damaged: {}", self.0)
    }
}

impl std::error::Error for BadRow {}

impl From<prost::DecodeError> for BadRow {
    fn from(_: prost::DecodeError) -> Self {
        Self("its fields cannot be read")
    }
}

macro_rules! numbered {
    ($to:ident, $from:ident, $type:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        pub(super) fn $to(value: $type) -> u32 {
            match value { $($type::$variant => $number,)* }
        }

        pub(super) fn $from(number: u32) -> Result<$type, BadRow> {
            match number {
                $($number => Ok($type::$variant),)*
                _ => Err(BadRow(concat!("unknown ", stringify!($type)))),
            }
        }
    };
}

use numbered;

numbered!(role_number, role_of, Role { Implementer = 1, GateExecutor = 2, Reviewer = 3, Coordinator = 4 });
numbered!(mode_number, mode_of, SovereigntyMode { Strict = 1, Monitor = 2, Disabled = 3 });
numbered!(socket_number, socket_of, Socket { Operator = 1, Session = 2, Daemon = 3 });
numbered!(exit_number, exit_of, ExitClassification { Success = 1, Failure = 2, Cancelled = 3 });
numbered!(reason_number, reason_of, TerminationReason {
    Normal = 1, Crash = 2, Timeout = 3, Quarantined = 4, BudgetExhausted = 5, ContextMiss = 6,
    PolicyViolation = 7, Evicted = 8, DaemonRestart = 9, HostReboot = 10, Operator = 11, Unknown = 12,
});
numbered!(kind_number, kind_of, EventKind {
    Created = 1, Bound = 2, LeaseRenewed = 3, LeaseRevoked = 4, Updated = 5, HandleRotated = 6,
    StopRequested = 7, Terminated = 8, Evicted = 9, Removed = 10, Recovered = 11, Restarted = 12,
    Denied = 13, PinLifted = 14, RefinementRequested = 15, RefinementAnswered = 16,
    RefinementDeclined = 17, RefinementExpired = 18,
});
