//! How sessions and events lie in the registry: tagged fields, so that a later
//! schema can add some.
//!
//! A field number is never used again. What many rows share (spec, peer) is kept
//! as encoded bytes inside, so that a load decodes each distinct one once.

mod spec;

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use prost::Message;

pub(super) use spec::encode_spec;
use spec::{LabelRow, decode_spec, label_rows, labels_of};

use crate::{
    clock::BootId,
    ids::{PublicName, RequestId},
    secret::{HandleDigest, LeaseDigest},
    session::{
        event::{EventKind, Restart},
        index::Interner,
        spec::{Role, SovereigntyMode, Spec},
        state::{
            Actor, Counters, Deadline, ExitClassification, Extra, LeaseHold, LeaseShown, Live,
            Names, Peer, Process, Record, Revision, Rotated, Seq, Session, Socket,
            TerminationReason,
        },
    },
};

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
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(string, tag = "2")]
    holder: String,
    #[prost(bytes = "vec", tag = "3")]
    presenter: Vec<u8>,
    #[prost(uint64, tag = "4")]
    since: u64,
    #[prost(uint64, tag = "5")]
    revision: u64,
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
    #[prost(bytes = "vec", tag = "11")]
    peer: Vec<u8>,
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
    #[prost(bytes = "vec", tag = "3")]
    registrant: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    handle: Option<Vec<u8>>,
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
}

/// The body of an event's row.
#[derive(Clone, PartialEq, Message)]
struct EventRow {
    #[prost(bytes = "vec", tag = "1")]
    peer: Vec<u8>,
    #[prost(string, optional, tag = "2")]
    request_id: Option<String>,
    #[prost(bytes = "vec", tag = "3")]
    spec: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    session: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    restart: Option<RestartRow>,
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
});

fn encode_peer(peer: &Peer) -> Vec<u8> {
    let row = PeerRow {
        uid: peer.uid,
        pid: peer.pid,
        program: peer.program.clone().into(),
        socket: socket_number(peer.socket),
    };
    row.encode_to_vec()
}

fn counters_row(counters: Counters) -> Option<CountersRow> {
    (counters != Counters::default()).then_some(CountersRow {
        tool_calls: counters.tool_calls,
        events: counters.events,
        tokens: counters.tokens,
    })
}

fn counters_of(row: Option<CountersRow>) -> Counters {
    row.map(|row| Counters {
        tool_calls: row.tool_calls,
        events: row.events,
        tokens: row.tokens,
    })
    .unwrap_or_default()
}

fn record_row(record: &Record) -> RecordRow {
    RecordRow {
        reason: reason_number(record.reason),
        detail: record.detail.clone().into(),
        exit_classification: exit_number(record.exit_classification),
        exit_code: record.exit_code,
        tokens_consumed: record.tokens_consumed,
        counters: counters_row(record.counters),
        ended: record.ended,
        duration: record.duration,
        purge_boot: record.purge.boot,
        purge_wall: record.purge.wall,
        peer: encode_peer(&record.actor.peer),
        request_id: record
            .actor
            .request_id
            .as_ref()
            .map(|id| id.as_str().to_owned()),
    }
}

/// Encodes a session and what had moved without a revision.
pub(super) fn encode_session(session: &Session, live: &Live) -> Vec<u8> {
    let (id, work, episode) = session.names.split();
    let extra = session.extra.as_deref();
    let row = SessionRow {
        names: format!("{id}/{work}/{episode}"),
        created: session.created,
        registrant: encode_peer(&session.registrant),
        handle: session.handle.map(|digest| digest.as_bytes().to_vec()),
        lease: session.lease.as_ref().map(|lease| LeaseRow {
            digest: lease.digest.as_bytes().to_vec(),
            holder: lease.shown.holder.as_str().to_owned(),
            presenter: encode_peer(&lease.shown.presenter),
            since: lease.since,
            revision: lease.revision.0,
        }),
        expires_boot: session.expires.map(|deadline| deadline.boot),
        expires_wall: session.expires.map(|deadline| deadline.wall),
        idle: session.idle.map_or(0, NonZeroU32::get),
        record: session.record().map(record_row),
        stop_requested: session.stop_requested(),
        process: session.process().map(|process| ProcessRow {
            pid: process.pid,
            start: process.start,
        }),
        labels: extra
            .and_then(|extra| extra.labels.as_ref())
            .map(|labels| LabelsRow {
                labels: label_rows(labels),
            }),
        rotated: session.rotated().map(|rotated| RotatedRow {
            old: rotated.old.as_bytes().to_vec(),
            request_id: rotated.request_id.as_str().to_owned(),
            until: rotated.until,
        }),
        last_wall: live.last_wall,
        last_awake: live.last_awake,
        handle_used: live.handle_used,
        counters: counters_row(live.counters),
    };
    row.encode_to_vec()
}

/// Decodes rows, each distinct shared part once.
#[derive(Default)]
pub(super) struct Decoder {
    specs: HashMap<Vec<u8>, Arc<Spec>>,
    peers: HashMap<Vec<u8>, Arc<Peer>>,
}

/// Distinct shared parts remembered at most; beyond that they start afresh.
const MAX_DISTINCT: usize = 65_536;

impl Decoder {
    fn spec(&mut self, bytes: &[u8], interner: &mut Interner) -> Result<Arc<Spec>, BadRow> {
        if let Some(known) = self.specs.get(bytes) {
            return Ok(Arc::clone(known));
        }
        if self.specs.len() >= MAX_DISTINCT {
            self.specs.clear();
        }
        let spec = interner.spec(decode_spec(bytes)?);
        self.specs.insert(bytes.to_vec(), Arc::clone(&spec));
        Ok(spec)
    }

    fn peer(&mut self, bytes: &[u8], interner: &mut Interner) -> Result<Arc<Peer>, BadRow> {
        if let Some(known) = self.peers.get(bytes) {
            return Ok(Arc::clone(known));
        }
        if self.peers.len() >= MAX_DISTINCT {
            self.peers.clear();
        }
        let row = PeerRow::decode(bytes)?;
        let peer = interner.peer(Peer {
            uid: row.uid,
            pid: row.pid,
            program: row.program.into(),
            socket: socket_of(row.socket)?,
        });
        self.peers.insert(bytes.to_vec(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Decodes a session and what had moved without a revision.
    pub(super) fn session(
        &mut self,
        seq: Seq,
        revision: Revision,
        spec: &[u8],
        body: &[u8],
        interner: &mut Interner,
    ) -> Result<(Session, Live), BadRow> {
        let row = SessionRow::decode(body)?;
        let mut names = row.names.splitn(3, '/');
        let mut next = || names.next().ok_or(BadRow("names"));
        let live = Live {
            last_wall: row.last_wall,
            last_awake: row.last_awake,
            handle_used: row.handle_used,
            counters: counters_of(row.counters),
        };
        let names = Names::new(next()?, next()?, next()?);
        let expires = row.expires_boot.zip(row.expires_wall);
        let lease = row
            .lease
            .as_ref()
            .map(|lease| self.lease(lease, interner))
            .transpose()?;
        let handle = row
            .handle
            .map(|bytes| HandleDigest::from_bytes(&bytes).ok_or(BadRow("a digest")));
        let record = row
            .record
            .map(|record| self.record(record, interner))
            .transpose()?;
        let extra = Extra {
            record,
            ending: false,
            stop_requested: row.stop_requested,
            process: row.process.map(|p| Process {
                pid: p.pid,
                start: p.start,
            }),
            labels: row.labels.map(|rows| labels_of(rows.labels)).transpose()?,
            rotated: row.rotated.as_ref().map(rotated_of).transpose()?,
        };
        let session = Session {
            seq,
            revision,
            created: row.created,
            names,
            spec: self.spec(spec, interner)?,
            registrant: self.peer(&row.registrant, interner)?,
            handle: handle.transpose()?,
            lease,
            expires: expires.map(|(boot, wall)| Deadline { boot, wall }),
            idle: NonZeroU32::new(row.idle),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
        };
        Ok((session, live))
    }

    fn lease(&mut self, row: &LeaseRow, interner: &mut Interner) -> Result<LeaseHold, BadRow> {
        let presenter = self.peer(&row.presenter, interner)?;
        let holder = PublicName::parse(&row.holder).map_err(|_| BadRow("a name"))?;
        Ok(LeaseHold {
            digest: LeaseDigest::from_bytes(&row.digest).ok_or(BadRow("a digest"))?,
            shown: interner.shown(LeaseShown { holder, presenter }),
            since: row.since,
            revision: Revision(row.revision),
        })
    }

    fn record(&mut self, row: RecordRow, interner: &mut Interner) -> Result<Record, BadRow> {
        let peer = self.peer(&row.peer, interner)?;
        Ok(Record {
            reason: reason_of(row.reason)?,
            detail: row.detail.into(),
            exit_classification: exit_of(row.exit_classification)?,
            exit_code: row.exit_code,
            tokens_consumed: row.tokens_consumed,
            counters: counters_of(row.counters),
            ended: row.ended,
            duration: row.duration,
            purge: Deadline {
                boot: row.purge_boot,
                wall: row.purge_wall,
            },
            actor: Actor {
                peer,
                request_id: request_id_of(row.request_id)?,
            },
        })
    }

    /// Decodes the body of an event.
    pub(super) fn event(
        &mut self,
        seq: Seq,
        revision: Revision,
        body: &[u8],
        interner: &mut Interner,
    ) -> Result<DecodedEvent, BadRow> {
        let row = EventRow::decode(body)?;
        let peer = self.peer(&row.peer, interner)?;
        let session = if row.session.is_empty() {
            None
        } else {
            Some(self.session(seq, revision, &row.spec, &row.session, interner)?)
        };
        Ok(DecodedEvent {
            actor: Actor {
                peer,
                request_id: request_id_of(row.request_id)?,
            },
            session,
            restart: row.restart.map(|restart| Restart {
                boot_id: BootId::new(&restart.boot_id),
                incarnation: restart.incarnation,
                live: restart.live,
                first_seq: Seq(restart.first_seq),
                base: Revision(restart.base),
            }),
        })
    }
}

/// What the body of an event holds.
pub(super) struct DecodedEvent {
    pub(super) actor: Actor,
    pub(super) session: Option<(Session, Live)>,
    pub(super) restart: Option<Restart>,
}

fn rotated_of(row: &RotatedRow) -> Result<Rotated, BadRow> {
    Ok(Rotated {
        old: HandleDigest::from_bytes(&row.old).ok_or(BadRow("a digest"))?,
        request_id: RequestId::parse(&row.request_id).map_err(|_| BadRow("a request id"))?,
        until: row.until,
    })
}

fn request_id_of(text: Option<String>) -> Result<Option<RequestId>, BadRow> {
    text.map(|text| RequestId::parse(&text))
        .transpose()
        .map_err(|_| BadRow("a request id"))
}

/// Encodes the body of an event about a session, given the session's own
/// encoding.
pub(super) fn encode_event(
    actor: &Actor,
    spec: Vec<u8>,
    session: Vec<u8>,
    restart: Option<&Restart>,
) -> Vec<u8> {
    let row = EventRow {
        peer: encode_peer(&actor.peer),
        request_id: actor.request_id.as_ref().map(|id| id.as_str().to_owned()),
        spec,
        session,
        restart: restart.map(|restart| RestartRow {
            boot_id: restart.boot_id.as_str().to_owned(),
            incarnation: restart.incarnation,
            live: restart.live,
            first_seq: restart.first_seq.0,
            base: restart.base.0,
        }),
    };
    row.encode_to_vec()
}
