//! Sessions, records and events as the wire shows them.

use prost_types::Timestamp;

use crate::{
    grpc::convert::request::duration,
    ids::SessionId,
    proto::session as pb,
    secret::Handle,
    session::{
        event::{About, Event, EventKind},
        filter::{LeaseState, lease_state},
        firewall::Firewall,
        index::{Index, View},
        manifests::Manifests,
        spec::{IdentityEvidence, Labels, PcacPolicy, Role, SovereigntyMode},
        state::{
            Actor, Counters, ExitClassification, Peer, Record, Revision, Session, Socket, Status,
            TerminationReason,
        },
    },
};

/// Bytes of lifted paths that are shown: a manifest can have ten thousand entries
/// of four kilobytes, and a session must fit an answer.
const MAX_LIFTED_BYTES: usize = 16 * 1024;

/// What every shown session carries besides its own.
#[derive(Clone)]
pub(crate) struct Shower<'a> {
    pub(crate) node: &'a str,
    pub(crate) registry_id: &'a str,
    pub(crate) index: &'a Index,
    pub(crate) manifests: &'a Manifests,
}

impl Shower<'_> {
    /// A session as it is now, without its handle.
    pub(crate) fn session(&self, view: &View) -> pb::Session {
        self.session_at(view, self.index.revision_of(&view.session))
    }

    fn session_at(&self, view: &View, revision: Revision) -> pb::Session {
        let session = &*view.session;
        let (id, work, _) = session.names.split();
        let spec = &*session.spec;
        let lease = session.lease.as_ref();
        pb::Session {
            session_id: id.to_owned(),
            work_id: work.to_owned(),
            role: role(spec.role).into(),
            ephemeral_handle: String::new(),
            lease_id: String::new(),
            policy_resolved_ref: spec.policy_resolved_ref.as_str().to_owned(),
            capability_manifest_hash: spec.capability_manifest_hash.map_or(Vec::new(), Vec::from),
            episode_id: session.episode_id().map(str::to_owned),
            pcac_policy: spec.pcac_policy.map(pcac),
            pointer_only_waiver: spec.pointer_only_waiver.as_ref().map(|waiver| {
                pb::PointerOnlyWaiver {
                    waiver_id: waiver.waiver_id.as_str().to_owned(),
                    expires_at_tick: waiver.expires_at_tick,
                    scope_binding_hash: waiver.scope_binding_hash.to_vec(),
                }
            }),
            coordination_id: spec.coordination_id.as_str().to_owned(),
            parent_session_id: spec
                .parent_session_id
                .as_ref()
                .map_or_else(String::new, |id| id.as_str().to_owned()),
            labels: labels(session.labels()),
            status: status(session.status()).into(),
            lease_state: held(session).into(),
            lease_holder: lease.map_or_else(String::new, |l| l.shown.holder.as_str().to_owned()),
            lease_change_time: lease.map(|lease| timestamp(lease.since)),
            lease_presenter: lease.map(|lease| peer(&lease.shown.presenter)),
            create_time: Some(timestamp(session.created)),
            expire_time: session
                .expires
                .map(|deadline| timestamp(deadline.wall.get())),
            idle_timeout: session.idle.map(|idle| duration(idle.get().into())),
            last_activity_time: Some(timestamp(view.live.last_wall)),
            stop_requested: session.stop_requested(),
            handle_used: view.live.handle_used,
            pid: session.process().map(|process| process.pid),
            counters: Some(counters(view.live.counters)),
            revision: revision.0,
            etag: revision.0.to_string(),
            node: self.node.to_owned(),
            registry_id: self.registry_id.to_owned(),
            termination: session.record().map(record),
            registrant: Some(peer(&session.registrant)),
            firewall: session.firewall.as_ref().map(|it| {
                let lifted = self.lifted_paths(it, session);
                super::firewall::firewall(it, session, lifted)
            }),
            predecessor_session_id: name(
                session.extra.as_ref().and_then(|e| e.predecessor.as_ref()),
            ),
            successor_session_id: name(session.extra.as_ref().and_then(|e| e.successor.as_ref())),
        }
    }

    /// What the lifted entries are called, as far as they fit; nothing once the
    /// manifest is dropped.
    fn lifted_paths(&self, firewall: &Firewall, session: &Session) -> Vec<String> {
        if session.lifted().is_empty() {
            return Vec::new();
        }
        let Some(manifest) = self.manifests.find(&firewall.manifest.hash) else {
            return Vec::new();
        };
        let path = |at: &u32| {
            manifest
                .entries()
                .get(*at as usize)
                .map(|e| e.path.as_str())
        };
        let mut bytes = 0;
        let fits = |path: &&str| {
            bytes += path.len();
            bytes <= MAX_LIFTED_BYTES
        };
        let paths = session.lifted().iter().filter_map(path);
        paths.take_while(fits).map(str::to_owned).collect()
    }

    /// What of a session is told when the whole does not fit.
    pub(crate) fn shorten(session: &mut pb::Session) {
        let whole = std::mem::take(session);
        *session = pb::Session {
            session_id: whole.session_id,
            work_id: whole.work_id,
            role: whole.role,
            ephemeral_handle: whole.ephemeral_handle,
            episode_id: whole.episode_id,
            pid: whole.pid,
            status: whole.status,
            revision: whole.revision,
            etag: whole.etag,
            node: whole.node,
            registry_id: whole.registry_id,
            ..Default::default()
        };
    }

    /// A session with the handle that was just made for it.
    pub(crate) fn session_with(&self, view: &View, handle: Option<&Handle>) -> pb::Session {
        let mut session = self.session(view);
        if let Some(handle) = handle {
            handle.expose().clone_into(&mut session.ephemeral_handle);
        }
        session
    }

    /// An event.
    pub(crate) fn event(&self, event: &Event) -> pb::Event {
        let view = event.session.as_ref().map(|session| View {
            session: session.clone(),
            live: event.live,
        });
        let session = view
            .as_ref()
            .map(|view| self.session_at(view, event.revision));
        pb::Event {
            revision: event.revision.0,
            time: Some(timestamp(event.at)),
            kind: kind(event.kind).into(),
            actor: Some(actor(&event.actor)),
            session,
            creation_labels: view.map_or_else(Default::default, |v| labels(&v.session.spec.labels)),
            node: self.node.to_owned(),
            restart: event.restart().map(|restart| pb::Restart {
                boot_id: restart.boot_id.as_str().to_owned(),
                incarnation: restart.incarnation,
                live: restart.live,
            }),
            denial: match &event.about {
                About::Denial(denial) => Some(super::firewall::denial(denial)),
                _ => None,
            },
            refinement: event.refinement().map(|it| super::firewall::refinement(it)),
            registry_id: self.registry_id.to_owned(),
        }
    }
}

fn held(session: &Session) -> pb::LeaseState {
    match lease_state(session) {
        None => pb::LeaseState::Unspecified,
        Some(LeaseState::Held) => pb::LeaseState::Held,
        Some(LeaseState::Revoked) => pb::LeaseState::Revoked,
    }
}

pub(crate) fn timestamp(millis: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    }
}

fn name(id: Option<&SessionId>) -> String {
    id.map_or_else(String::new, |id| id.as_str().to_owned())
}

pub(crate) fn labels(labels: &Labels) -> std::collections::BTreeMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn role(role: Role) -> pb::Role {
    match role {
        Role::Implementer => pb::Role::Implementer,
        Role::GateExecutor => pb::Role::GateExecutor,
        Role::Reviewer => pb::Role::Reviewer,
        Role::Coordinator => pb::Role::Coordinator,
    }
}

pub(crate) fn status(status: Status) -> pb::SessionStatus {
    match status {
        Status::Active => pb::SessionStatus::Active,
        Status::Ending => pb::SessionStatus::Ending,
        Status::Terminated => pb::SessionStatus::Terminated,
    }
}

fn pcac(policy: PcacPolicy) -> pb::PcacPolicy {
    let evidence = match policy.min_tier2_identity_evidence {
        IdentityEvidence::Verified => pb::IdentityEvidence::Verified,
        IdentityEvidence::PointerOnly => pb::IdentityEvidence::PointerOnly,
    };
    let mode = match policy.tier2_sovereignty_mode {
        SovereigntyMode::Strict => pb::SovereigntyMode::Strict,
        SovereigntyMode::Monitor => pb::SovereigntyMode::Monitor,
        SovereigntyMode::Disabled => pb::SovereigntyMode::Disabled,
    };
    pb::PcacPolicy {
        lifecycle_enforcement: Some(policy.lifecycle_enforcement),
        min_tier2_identity_evidence: Some(evidence.into()),
        freshness_max_age_ticks: Some(policy.freshness_max_age_ticks),
        tier2_sovereignty_mode: Some(mode.into()),
    }
}

fn peer(peer: &Peer) -> pb::Actor {
    pb::Actor {
        uid: peer.uid,
        pid: peer.pid,
        program: peer.program.to_string(),
        socket: match peer.socket {
            Socket::Operator => "operator",
            Socket::Session => "session",
            Socket::Daemon => "daemon",
        }
        .to_owned(),
        request_id: String::new(),
    }
}

fn actor(actor: &Actor) -> pb::Actor {
    let mut shown = peer(&actor.peer);
    if let Some(id) = &actor.request_id {
        id.as_str().clone_into(&mut shown.request_id);
    }
    shown
}

fn counters(counters: Counters) -> pb::Counters {
    pb::Counters {
        tool_calls: counters.tool_calls,
        events: counters.events,
        tokens: counters.tokens,
    }
}

fn record(record: &Record) -> pb::TerminationRecord {
    let classification = match record.exit_classification {
        ExitClassification::Success => pb::ExitClassification::Success,
        ExitClassification::Failure => pb::ExitClassification::Failure,
        ExitClassification::Cancelled => pb::ExitClassification::Cancelled,
    };
    pb::TerminationRecord {
        reason: reason(record.reason).into(),
        rationale: record.reason.rationale().to_owned(),
        detail: record.detail.to_string(),
        exit_classification: classification.into(),
        exit_code: record.exit_code,
        tokens_consumed: record.tokens_consumed,
        counters: Some(counters(record.counters)),
        end_time: Some(timestamp(record.ended)),
        purge_time: Some(timestamp(record.purge.wall.get())),
        duration: Some(duration(record.duration)),
        actor: Some(actor(&record.actor)),
    }
}

fn reason(reason: TerminationReason) -> pb::TerminationReason {
    use pb::TerminationReason as Wire;
    match reason {
        TerminationReason::Normal => Wire::Normal,
        TerminationReason::Crash => Wire::Crash,
        TerminationReason::Timeout => Wire::Timeout,
        TerminationReason::Quarantined => Wire::Quarantined,
        TerminationReason::BudgetExhausted => Wire::BudgetExhausted,
        TerminationReason::ContextMiss => Wire::ContextMiss,
        TerminationReason::PolicyViolation => Wire::PolicyViolation,
        TerminationReason::Evicted => Wire::Evicted,
        TerminationReason::DaemonRestart => Wire::DaemonRestart,
        TerminationReason::HostReboot => Wire::HostReboot,
        TerminationReason::Operator => Wire::Operator,
        TerminationReason::Unknown => Wire::Unknown,
    }
}

fn kind(kind: EventKind) -> pb::EventKind {
    match kind {
        EventKind::Created => pb::EventKind::Created,
        EventKind::Bound => pb::EventKind::Bound,
        EventKind::LeaseRenewed => pb::EventKind::LeaseRenewed,
        EventKind::LeaseRevoked => pb::EventKind::LeaseRevoked,
        EventKind::Updated => pb::EventKind::Updated,
        EventKind::HandleRotated => pb::EventKind::HandleRotated,
        EventKind::StopRequested => pb::EventKind::StopRequested,
        EventKind::Terminated => pb::EventKind::Terminated,
        EventKind::Evicted => pb::EventKind::Evicted,
        EventKind::Removed => pb::EventKind::Removed,
        EventKind::Recovered => pb::EventKind::Recovered,
        EventKind::Restarted => pb::EventKind::Restarted,
        EventKind::Denied => pb::EventKind::Denied,
        EventKind::PinLifted => pb::EventKind::PinLifted,
        EventKind::RefinementRequested => pb::EventKind::RefinementRequested,
        EventKind::RefinementAnswered => pb::EventKind::RefinementAnswered,
        EventKind::RefinementDeclined => pb::EventKind::RefinementDeclined,
        EventKind::RefinementExpired => pb::EventKind::RefinementExpired,
    }
}
