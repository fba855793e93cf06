//! Sessions and events that use every field and every number a row can hold.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use super::{NOW, boot};
use crate::{
    ids::{PublicName, RequestId, SessionId},
    secret::{HandleDigest, LeaseDigest},
    session::{
        event::{About, Event, EventKind, Restart},
        spec::{
            IdentityEvidence, Labels, PcacPolicy, PointerOnlyWaiver, Role, SovereigntyMode, Spec,
        },
        state::{
            Actor, Counters, Deadline, ExitClassification, Extra, LeaseHold, LeaseShown, Live,
            Names, Peer, Process, Record, Revision, Rotated, Seq, Session, Socket,
            TerminationReason,
        },
        store::{Change, Request},
    },
};

const ROLES: [Role; 4] = [
    Role::Implementer,
    Role::GateExecutor,
    Role::Reviewer,
    Role::Coordinator,
];

const MODES: [SovereigntyMode; 3] = [
    SovereigntyMode::Strict,
    SovereigntyMode::Monitor,
    SovereigntyMode::Disabled,
];

const REASONS: [TerminationReason; 12] = [
    TerminationReason::Normal,
    TerminationReason::Crash,
    TerminationReason::Timeout,
    TerminationReason::Quarantined,
    TerminationReason::BudgetExhausted,
    TerminationReason::ContextMiss,
    TerminationReason::PolicyViolation,
    TerminationReason::Evicted,
    TerminationReason::DaemonRestart,
    TerminationReason::HostReboot,
    TerminationReason::Operator,
    TerminationReason::Unknown,
];

const EXITS: [ExitClassification; 3] = [
    ExitClassification::Success,
    ExitClassification::Failure,
    ExitClassification::Cancelled,
];

const KINDS: [EventKind; 11] = [
    EventKind::Created,
    EventKind::Bound,
    EventKind::LeaseRenewed,
    EventKind::LeaseRevoked,
    EventKind::Updated,
    EventKind::HandleRotated,
    EventKind::StopRequested,
    EventKind::Terminated,
    EventKind::Evicted,
    EventKind::Removed,
    EventKind::Recovered,
];

fn name(text: &str) -> PublicName {
    PublicName::parse(text).unwrap()
}

pub(super) fn request_id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn peer(socket: Socket) -> Arc<Peer> {
    Arc::new(Peer {
        uid: 1000,
        pid: 4711,
        program: "orchestrator".into(),
        socket,
    })
}

pub(super) fn actor(request: Option<&str>) -> Actor {
    Actor {
        peer: peer(Socket::Operator),
        request_id: request.map(request_id),
    }
}

/// A spec with nothing but what is mandatory.
fn bare_spec() -> Spec {
    Spec {
        role: Role::Implementer,
        policy_resolved_ref: name(""),
        capability_manifest_hash: None,
        coordination_id: name(""),
        parent_session_id: None,
        pcac_policy: None,
        pointer_only_waiver: None,
        labels: Labels::default(),
    }
}

/// A spec with everything.
fn full_spec(number: usize) -> Spec {
    Spec {
        role: ROLES[number % ROLES.len()],
        policy_resolved_ref: name("policy://strict@7"),
        capability_manifest_hash: Some([0xa5; 32]),
        coordination_id: name("coordination-1"),
        parent_session_id: Some(SessionId::parse("parent-1").unwrap()),
        pcac_policy: Some(PcacPolicy {
            lifecycle_enforcement: number.is_multiple_of(2),
            min_tier2_identity_evidence: if number.is_multiple_of(2) {
                IdentityEvidence::PointerOnly
            } else {
                IdentityEvidence::Verified
            },
            freshness_max_age_ticks: 250,
            tier2_sovereignty_mode: MODES[number % MODES.len()],
        }),
        pointer_only_waiver: Some(PointerOnlyWaiver {
            waiver_id: name("waiver-1"),
            expires_at_tick: 99,
            scope_binding_hash: [0x5a; 32],
        }),
        labels: Labels::new([("team", "blue"), ("env", "test")]).unwrap(),
    }
}

/// A session with only what is mandatory.
pub(super) fn bare(seq: u64, revision: u64) -> Session {
    Session {
        seq: Seq(seq),
        revision: Revision(revision),
        created: NOW.wall,
        names: Names::new(&format!("bare-{seq}"), "work-1", "").unwrap(),
        spec: Arc::new(bare_spec()),
        registrant: peer(Socket::Operator),
        handle: Some(HandleDigest::from_bytes(&[seq as u8; 16]).unwrap()),
        lease: None,
        expires: None,
        idle: None,
        firewall: None,
        extra: None,
    }
}

fn full(seq: u64, revision: u64) -> Session {
    let extra = Extra {
        record: None,
        ending: false,
        stop_requested: true,
        process: Some(Process {
            pid: 4712,
            start: 123_456,
        }),
        labels: Some(Labels::new([("team", "red")]).unwrap()),
        rotated: Some(Rotated {
            old: HandleDigest::from_bytes(&[0xee; 16]).unwrap(),
            request_id: request_id("rotate-1"),
            until: NOW.boot + 60_000,
        }),
        ..Extra::default()
    };
    Session {
        names: Names::new(&format!("full-{seq}"), "WORK 2", "episode-2").unwrap(),
        spec: Arc::new(full_spec(seq as usize)),
        registrant: peer(Socket::Session),
        lease: Some(LeaseHold {
            digest: LeaseDigest::from_bytes(&[0xdd; 16]).unwrap(),
            shown: Arc::new(LeaseShown {
                holder: name("holder-1"),
                presenter: peer(Socket::Operator),
            }),
            since: NOW.wall - 5,
            is_current: false,
        }),
        expires: Some(Deadline::new(NOW.boot + 7_000, NOW.wall + 7_000)),
        idle: NonZeroU32::new(30_000),
        extra: Some(Box::new(extra)),
        ..bare(seq, revision)
    }
}

fn ended(seq: u64, revision: u64, number: usize) -> Session {
    let record = Record {
        reason: REASONS[number],
        detail: format!("detail {number}").into(),
        exit_classification: EXITS[number % EXITS.len()],
        exit_code: (!number.is_multiple_of(2)).then_some(-1),
        tokens_consumed: number.is_multiple_of(2).then_some(u64::MAX),
        counters: Counters {
            tool_calls: 1,
            events: 2,
            tokens: 3,
        },
        ended: NOW.wall,
        duration: 1_234,
        purge: Deadline::new(NOW.boot + 300_000, NOW.wall + 300_000),
        actor: Actor {
            peer: peer(Socket::Daemon),
            request_id: Some(request_id("end-1")),
        },
    };
    let extra = Extra {
        record: Some(record),
        ..Extra::default()
    };
    Session {
        spec: Arc::new(full_spec(number)),
        handle: None,
        extra: Some(Box::new(extra)),
        ..bare(seq, revision)
    }
}

/// What had moved when the sample was written.
pub(super) fn live() -> Live {
    Live {
        last_wall: NOW.wall - 1,
        last_awake: NOW.awake - 1,
        handle_used: true,
        counters: Counters {
            tool_calls: 11,
            events: 22,
            tokens: 33,
        },
    }
}

/// A bare one, a full one, and one that ended for each reason.
pub(super) fn sessions() -> Vec<(Session, Live)> {
    let mut all = vec![(bare(1, 1), Live::default()), (full(2, 2), live())];
    for number in 0..REASONS.len() {
        let at = 3 + number as u64;
        all.push((ended(at, at, number), live()));
    }
    all
}

pub(super) fn last_seq() -> Seq {
    Seq(2 + REASONS.len() as u64)
}

pub(super) fn last_revision() -> Revision {
    events().last().unwrap().revision
}

pub(super) fn event(session: &Session, live: Live, kind: EventKind, at: u64) -> Event {
    Event {
        revision: session.revision,
        previous: Revision(session.revision.0 - 1),
        kind,
        at,
        actor: actor(None),
        session: Some(Arc::new(session.clone())),
        live,
        about: About::Session,
        encoded: OnceLock::new(),
    }
}

pub(super) fn restarted(revision: u64, base: u64, at: u64) -> Event {
    Event {
        revision: Revision(revision),
        previous: Revision(0),
        kind: EventKind::Restarted,
        at,
        actor: Actor {
            peer: peer(Socket::Daemon),
            request_id: None,
        },
        session: None,
        live: Live::default(),
        about: About::Restart(Restart {
            boot_id: boot(),
            incarnation: 3,
            live: 2,
            first_seq: Seq(1),
            base: Revision(base),
        }),
        encoded: OnceLock::new(),
    }
}

/// One event for each session, of every kind in turn, and a restart.
pub(super) fn events() -> Vec<Arc<Event>> {
    let mut all: Vec<Event> = sessions()
        .iter()
        .enumerate()
        .map(|(n, (session, live))| {
            let kind = KINDS[n % KINDS.len()];
            let mut event = event(session, *live, kind, NOW.wall - 3);
            event.actor = actor(request(n).as_ref().map(|request| request.id.as_str()));
            event
        })
        .collect();
    let base = all.last().unwrap().revision.0;
    all.push(restarted(base + 3, base, NOW.wall - 2));
    all.into_iter().map(Arc::new).collect()
}

/// Every other event was asked for by a named call.
pub(super) fn request(number: usize) -> Option<Request> {
    number.is_multiple_of(2).then(|| Request {
        id: request_id(&format!("request-{number}")),
        body: [number as u8; 16],
    })
}

/// The sample as one batch.
pub(super) fn changes() -> Vec<Change> {
    let mut events = events();
    let restart = events.pop().unwrap();
    let put = |(number, ((session, live), event))| Change::Put {
        session: Arc::new(session),
        live,
        event: Some(event),
        request: request(number),
    };
    let puts = sessions().into_iter().zip(events).enumerate().map(put);
    puts.chain([Change::Note(restart)]).collect()
}

/// The registration of a bare session, with its number as its revision.
pub(super) fn registered(number: u64) -> Change {
    let session = bare(number, number);
    let event = event(&session, Live::default(), EventKind::Created, NOW.wall);
    Change::Put {
        session: Arc::new(session),
        live: Live::default(),
        event: Some(Arc::new(event)),
        request: None,
    }
}
