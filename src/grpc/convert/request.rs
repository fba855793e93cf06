//! Requests, parsed: every bad field is noted before any is refused.

use std::time::Duration;

use prost::Message;
use zeroize::Zeroizing;

use crate::{
    grpc::{
        caller::Caller,
        convert::{fields, filter as convert_filter, firewall},
        status::{Refusal, Violations},
    },
    ids::{PublicName, SessionId},
    proto::session as pb,
    reason::Reason,
    secret::{Handle, Lease},
    session::{
        batch::Ending,
        limits::{DEFAULT_PAGE, MAX_DETAIL_BYTES, MAX_PAGE},
        operation::{
            lease::RenewLease,
            register::{Register, ShownLease, Until},
            terminate::{Selector, TerminateMany},
            update::Update,
        },
        service::Sessions,
        spec::{IdentityEvidence, PcacPolicy, PointerOnlyWaiver, SovereigntyMode, Spec},
        state::Counters,
    },
};

/// Digest of what a repeated request must repeat. Keyed, because a request may
/// hold a lease.
pub(crate) fn body_of(sessions: &Sessions, request: &impl Message) -> [u8; 16] {
    sessions.digest_body(&Zeroizing::new(request.encode_to_vec()))
}

fn finish<T>(parsed: Option<T>, bad: Violations) -> Result<T, Refusal> {
    match parsed {
        Some(parsed) if bad.is_empty() => Ok(parsed),
        _ => Err(bad.into_refusal()),
    }
}

/// A registration.
pub(crate) fn register(
    mut request: pb::RegisterSessionRequest,
    sessions: &Sessions,
    caller: &Caller,
) -> Result<Register, Refusal> {
    let mut bad = Violations::default();
    let request_id = fields::request_id(&request.request_id, &mut bad);
    let body = request_id
        .as_ref()
        .map_or([0; 16], |_| body_of(sessions, &request));
    let work = fields::work_id(&request.work_id, &mut bad);
    let id = match request.session_id.as_str() {
        "" => Some(SessionId::random()),
        text => fields::session_id("session_id", text, &mut bad),
    };
    let lease = lease(&mut request, sessions, &mut bad);
    let episode = match request.episode_id.as_str() {
        "" => None,
        text => fields::episode_id(text, &mut bad),
    };
    let until = deadline(request.deadline, sessions, &mut bad);
    let idle = request
        .idle_timeout
        .and_then(|idle| fields::idle_timeout(idle, &mut bad));
    let (allow_eviction, exclusive_work) = (request.allow_eviction, request.exclusive_work);
    let reset_refinements = request.reset_refinements;
    let max_entries = sessions.limits().max_manifest_entries;
    let firewall = firewall::guard(&mut request, max_entries, &mut bad);
    let spec = spec(request, &mut bad);
    let parsed = work.zip(id).zip(spec).map(|((work, id), spec)| {
        let handle = Handle::random();
        let digest = sessions.digest_handle(&handle);
        let call = caller.call(request_id, || body);
        Register {
            id,
            work,
            spec,
            lease,
            episode,
            until,
            idle,
            allow_eviction,
            exclusive_work,
            firewall,
            reset_refinements,
            handle,
            digest,
            call,
        }
    });
    finish(parsed, bad)
}

/// The lease moves out of the request into a type that wipes it.
fn lease(
    request: &mut pb::RegisterSessionRequest,
    sessions: &Sessions,
    bad: &mut Violations,
) -> Option<ShownLease> {
    let holder = fields::public_name("lease_holder", &request.lease_holder, bad);
    let secret = std::mem::take(&mut request.lease_id);
    if secret.is_empty() {
        if !request.lease_holder.is_empty() {
            bad.add(Reason::MalformedMessage, "lease_holder", "needs a lease_id");
        }
        return None;
    }
    shown_lease(secret, holder, sessions, bad)
}

fn shown_lease(
    secret: String,
    holder: Option<PublicName>,
    sessions: &Sessions,
    bad: &mut Violations,
) -> Option<ShownLease> {
    let Some(lease) = Lease::new(secret) else {
        bad.add(
            Reason::MalformedMessage,
            "lease_id",
            "must be 1 to 256 bytes",
        );
        return None;
    };
    holder.map(|holder| ShownLease {
        digest: sessions.digest_lease(&lease),
        holder,
    })
}

fn deadline(
    deadline: Option<pb::register_session_request::Deadline>,
    sessions: &Sessions,
    bad: &mut Violations,
) -> Until {
    use pb::register_session_request::Deadline;
    let until = match deadline {
        None => return Until::Default,
        Some(Deadline::ExpireTime(time)) => fields::expire_time(time, sessions.now(), bad),
        Some(Deadline::Ttl(ttl)) => fields::ttl(ttl, bad),
    };
    until.unwrap_or(Until::Default)
}

fn spec(request: pb::RegisterSessionRequest, bad: &mut Violations) -> Option<Spec> {
    let role = fields::role("role", request.role, bad);
    let policy = fields::public_name("policy_resolved_ref", &request.policy_resolved_ref, bad);
    let hash = match request.capability_manifest_hash.len() {
        0 => None,
        _ => hash(
            "capability_manifest_hash",
            request.capability_manifest_hash,
            bad,
        ),
    };
    let coordination = fields::public_name("coordination_id", &request.coordination_id, bad);
    let parent = match request.parent_session_id.as_str() {
        "" => None,
        text => fields::session_id("parent_session_id", text, bad),
    };
    let pcac_policy = request.pcac_policy.and_then(|policy| pcac(policy, bad));
    let waiver = request
        .pointer_only_waiver
        .and_then(|waiver| waiver_of(waiver, bad));
    let labels = fields::labels("labels", request.labels, bad);
    Some(Spec {
        role: role?,
        policy_resolved_ref: policy?,
        capability_manifest_hash: hash,
        coordination_id: coordination?,
        parent_session_id: parent,
        pcac_policy,
        pointer_only_waiver: waiver,
        labels: labels?,
    })
}

fn hash(field: &str, bytes: Vec<u8>, bad: &mut Violations) -> Option<[u8; 32]> {
    let hash: Result<[u8; 32], _> = bytes.try_into();
    hash.map_err(|_| bad.add(Reason::MalformedMessage, field, "must be 32 bytes"))
        .ok()
}

fn pcac(policy: pb::PcacPolicy, bad: &mut Violations) -> Option<PcacPolicy> {
    use pb::{IdentityEvidence as Evidence, SovereigntyMode as Mode};
    let default = PcacPolicy::default();
    let evidence = match policy.min_tier2_identity_evidence.map(Evidence::try_from) {
        None => Some(default.min_tier2_identity_evidence),
        Some(Ok(Evidence::Verified)) => Some(IdentityEvidence::Verified),
        Some(Ok(Evidence::PointerOnly)) => Some(IdentityEvidence::PointerOnly),
        Some(Ok(Evidence::Unspecified) | Err(_)) => None,
    };
    let mode = match policy.tier2_sovereignty_mode.map(Mode::try_from) {
        None => Some(default.tier2_sovereignty_mode),
        Some(Ok(Mode::Strict)) => Some(SovereigntyMode::Strict),
        Some(Ok(Mode::Monitor)) => Some(SovereigntyMode::Monitor),
        Some(Ok(Mode::Disabled)) => Some(SovereigntyMode::Disabled),
        Some(Ok(Mode::Unspecified) | Err(_)) => None,
    };
    let age = policy
        .freshness_max_age_ticks
        .unwrap_or(default.freshness_max_age_ticks);
    let mut note = |field: &str, rule: &str| {
        bad.add(
            Reason::MalformedMessage,
            format!("pcac_policy.{field}"),
            rule,
        );
    };
    if evidence.is_none() {
        note(
            "min_tier2_identity_evidence",
            "must be VERIFIED or POINTER_ONLY, or absent",
        );
    }
    if mode.is_none() {
        note(
            "tier2_sovereignty_mode",
            "must be STRICT, MONITOR or DISABLED, or absent",
        );
    }
    if age == 0 {
        note("freshness_max_age_ticks", "must not be 0");
    }
    Some(PcacPolicy {
        lifecycle_enforcement: policy.lifecycle_enforcement.unwrap_or(true),
        min_tier2_identity_evidence: evidence?,
        freshness_max_age_ticks: age,
        tier2_sovereignty_mode: mode?,
    })
}

fn waiver_of(waiver: pb::PointerOnlyWaiver, bad: &mut Violations) -> Option<PointerOnlyWaiver> {
    let id = fields::public_name("pointer_only_waiver.waiver_id", &waiver.waiver_id, bad);
    if waiver.waiver_id.is_empty() {
        bad.add(
            Reason::MalformedMessage,
            "pointer_only_waiver.waiver_id",
            "must not be empty",
        );
    }
    if waiver.expires_at_tick == 0 {
        let field = "pointer_only_waiver.expires_at_tick";
        bad.add(Reason::MalformedMessage, field, "must be greater than 0");
    }
    let field = "pointer_only_waiver.scope_binding_hash";
    let scope = hash(field, waiver.scope_binding_hash, bad);
    if scope == Some([0; 32]) {
        bad.add(Reason::MalformedMessage, field, "must not be all zero");
    }
    Some(PointerOnlyWaiver {
        waiver_id: id?,
        expires_at_tick: waiver.expires_at_tick,
        scope_binding_hash: scope?,
    })
}

/// How a session is to end.
pub(crate) struct EndingFields {
    pub(crate) reason: i32,
    pub(crate) exit_classification: i32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) tokens_consumed: Option<u64>,
    pub(crate) detail: String,
    pub(crate) counters: Option<pb::Counters>,
}

pub(crate) fn ending(fields_in: EndingFields, bad: &mut Violations) -> Option<Ending> {
    let reason = fields::reason(fields_in.reason, bad);
    let classification = fields::exit_classification(fields_in.exit_classification, bad);
    let detail = fields_in.detail;
    if detail.len() > MAX_DETAIL_BYTES || detail.chars().any(char::is_control) {
        let rule = "must be at most 256 bytes without control characters";
        bad.add(Reason::MalformedMessage, "detail", rule);
    }
    Some(Ending {
        reason: reason?,
        detail: detail.into(),
        exit_classification: classification?,
        exit_code: fields_in.exit_code,
        tokens_consumed: fields_in.tokens_consumed,
        counters: fields::counters(fields_in.counters),
    })
}

/// A call that shows a lease.
pub(crate) fn renew(
    mut request: pb::RenewLeaseRequest,
    sessions: &Sessions,
    caller: &Caller,
) -> Result<RenewLease, Refusal> {
    use pb::renew_lease_request::Deadline;
    let mut bad = Violations::default();
    let request_id = fields::request_id(&request.request_id, &mut bad);
    let body = request_id
        .as_ref()
        .map_or([0; 16], |_| body_of(sessions, &request));
    let secret = std::mem::take(&mut request.lease_id);
    let holder = fields::public_name("lease_holder", &request.lease_holder, &mut bad);
    let lease = shown_lease(secret, holder, sessions, &mut bad);
    let until = match request.deadline {
        None => None,
        Some(Deadline::ExpireTime(time)) => fields::expire_time(time, sessions.now(), &mut bad),
        Some(Deadline::Ttl(ttl)) => fields::ttl(ttl, &mut bad),
    };
    let etag = fields::etag(&request.etag, &mut bad);
    let target = match request.session_id.as_str() {
        "" => {
            if request.take_over {
                bad.add(Reason::MalformedMessage, "take_over", "needs a session_id");
            }
            if !request.etag.is_empty() {
                bad.add(Reason::MalformedMessage, "etag", "needs a session_id");
            }
            None
        }
        text => fields::session_id("session_id", text, &mut bad),
    };
    let target = target.map(crate::session::batch::Target::Named);
    let take_over = request.take_over;
    let parsed = lease.map(|lease| {
        let call = caller.call(request_id, || body);
        RenewLease {
            target,
            lease,
            until,
            take_over,
            etag,
            call,
        }
    });
    finish(parsed, bad)
}

/// A change by field mask.
pub(crate) fn update(
    request: pb::UpdateSessionRequest,
    sessions: &Sessions,
    caller: &Caller,
) -> Result<Update, Refusal> {
    use pb::update_session_request::Deadline;
    let target = caller.target(&request.session_id)?;
    let mut bad = Violations::default();
    let etag = fields::etag(&request.etag, &mut bad);
    let mut update = Update {
        target,
        labels: None,
        until: None,
        idle: None,
        etag,
        call: caller.unnamed(),
    };
    let paths = request
        .update_mask
        .map(|mask| mask.paths)
        .unwrap_or_default();
    if paths.is_empty() {
        let rule = "must name at least one of labels, deadline, idle_timeout";
        bad.add(Reason::MalformedMessage, "update_mask", rule);
    }
    let has = |path: &str| paths.iter().any(|given| given == path);
    if has("labels") {
        update.labels = fields::labels("labels", request.labels, &mut bad);
    }
    if has("deadline") {
        update.until = match request.deadline {
            None => Some(Until::Never),
            Some(Deadline::ExpireTime(time)) => fields::expire_time(time, sessions.now(), &mut bad),
            Some(Deadline::Ttl(ttl)) => fields::ttl(ttl, &mut bad),
        };
    }
    if has("idle_timeout") {
        let idle = request
            .idle_timeout
            .map(|idle| fields::idle_timeout(idle, &mut bad));
        update.idle = Some(idle.flatten());
    }
    for path in paths.iter().filter(|path| !PATHS.contains(&path.as_str())) {
        let rule = format!("has no path {path:.40}: only labels, deadline, idle_timeout");
        bad.add(Reason::MalformedMessage, "update_mask", rule);
    }
    finish(Some(update), bad)
}

const PATHS: [&str; 3] = ["labels", "deadline", "idle_timeout"];

/// Many sessions to end.
pub(crate) fn terminate_many(
    request: pb::TerminateSessionsRequest,
    sessions: &Sessions,
    caller: &Caller,
) -> Result<TerminateMany, Refusal> {
    use pb::terminate_sessions_request::Selector as Wire;
    let mut bad = Violations::default();
    let ending = ending(
        EndingFields {
            reason: request.reason,
            exit_classification: request.exit_classification,
            exit_code: None,
            tokens_consumed: None,
            detail: request.detail,
            counters: None,
        },
        &mut bad,
    );
    let selector = match request.selector {
        Some(Wire::LeaseId(secret)) => Lease::new(secret)
            .map(|lease| Selector::Lease(sessions.digest_lease(&lease)))
            .or_else(|| {
                bad.add(
                    Reason::MalformedMessage,
                    "lease_id",
                    "must be 1 to 256 bytes",
                );
                None
            }),
        Some(Wire::WorkId(work)) => fields::work_id(&work, &mut bad).map(Selector::Work),
        Some(Wire::Filter(filter)) => terminate_filter(filter, &mut bad),
        None => {
            let rule = "must be one of lease_id, work_id, filter";
            bad.add(Reason::MalformedMessage, "selector", rule);
            None
        }
    };
    let dry_run = request.dry_run;
    let parsed = ending
        .zip(selector)
        .map(|(ending, selector)| TerminateMany {
            selector,
            ending,
            dry_run,
            call: caller.unnamed(),
        });
    finish(parsed, bad)
}

/// An empty filter would end everything: it must say something.
fn terminate_filter(wire: pb::SessionFilter, bad: &mut Violations) -> Option<Selector> {
    let allowed = wire.status == 0 && wire.work_id.is_empty() && wire.lease_state == 0;
    if !allowed {
        bad.add(
            Reason::MalformedMessage,
            "filter",
            "may hold role and labels only",
        );
    }
    let filter = convert_filter::filter(wire, bad)?;
    if filter.is_empty() {
        bad.add(
            Reason::MalformedMessage,
            "filter",
            "must hold a role or a label",
        );
    }
    Some(Selector::Filter(filter))
}

/// How many a page holds.
pub(crate) fn page_size(size: i32, bad: &mut Violations) -> usize {
    match usize::try_from(size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => {
            bad.add(
                Reason::MalformedMessage,
                "page_size",
                "must not be negative",
            );
            0
        }
    }
}

/// A heartbeat carries totals only.
pub(crate) fn totals(counters: Option<pb::Counters>) -> Counters {
    fields::counters(counters)
}

/// The wire's whole milliseconds.
pub(crate) fn duration(millis: u64) -> prost_types::Duration {
    let duration = Duration::from_millis(millis);
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
