//! Fields that several requests share.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use prost_types::Timestamp;

use crate::{
    clock::Now,
    grpc::status::Violations,
    ids::{EpisodeId, PublicName, RequestId, SessionId, WorkId},
    proto::session as pb,
    reason::Reason,
    session::{
        limits::{MAX_IDLE, MAX_TTL, MIN_TTL},
        operation::register::Until,
        recovery::idle_millis,
        spec::{Labels, Role},
        state::{Counters, ExitClassification, Revision, TerminationReason},
    },
};

pub(crate) fn session_id(field: &str, text: &str, bad: &mut Violations) -> Option<SessionId> {
    let parsed = SessionId::parse(text);
    parsed
        .map_err(|error| bad.add(Reason::InvalidSessionId, field, error.to_string()))
        .ok()
}

pub(crate) fn work_id(text: &str, bad: &mut Violations) -> Option<WorkId> {
    bad.take("work_id", WorkId::parse(text))
}

pub(crate) fn episode_id(text: &str, bad: &mut Violations) -> Option<EpisodeId> {
    bad.take("episode_id", EpisodeId::parse(text))
}

pub(crate) fn public_name(field: &str, text: &str, bad: &mut Violations) -> Option<PublicName> {
    bad.take(field, PublicName::parse(text))
}

/// Empty: none.
pub(crate) fn request_id(text: &str, bad: &mut Violations) -> Option<RequestId> {
    if text.is_empty() {
        return None;
    }
    bad.take("request_id", RequestId::parse(text))
}

/// Empty: none.
pub(crate) fn etag(text: &str, bad: &mut Violations) -> Option<Revision> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse().map(Revision);
    bad.take("etag", parsed.map_err(|_| "must be a decimal revision"))
}

pub(crate) fn role(field: &str, number: i32, bad: &mut Violations) -> Option<Role> {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Implementer) => Some(Role::Implementer),
        Ok(pb::Role::GateExecutor) => Some(Role::GateExecutor),
        Ok(pb::Role::Reviewer) => Some(Role::Reviewer),
        Ok(pb::Role::Coordinator) => Some(Role::Coordinator),
        Ok(pb::Role::Unspecified) | Err(_) => {
            bad.add(
                Reason::MalformedMessage,
                field,
                "must be a role, not UNSPECIFIED",
            );
            None
        }
    }
}

pub(crate) fn labels(
    field: &str,
    pairs: BTreeMap<String, String>,
    bad: &mut Violations,
) -> Option<Labels> {
    let parsed = Labels::new(pairs);
    parsed
        .map_err(|rule| bad.add(Reason::MalformedMessage, field, format!("must {rule}")))
        .ok()
}

/// Milliseconds since the epoch; a time before it is none.
pub(crate) fn millis(time: Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanos = u64::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000)
}

pub(crate) fn expire_time(time: Timestamp, now: Now, bad: &mut Violations) -> Option<Until> {
    let latest = now.wall + u64::try_from(MAX_TTL.as_millis()).unwrap_or(u64::MAX);
    let wall = millis(time).filter(|wall| (now.wall + 1..=latest).contains(wall));
    if wall.is_none() {
        let rule = "must be in the future and within ten years";
        bad.add(Reason::InvalidTtl, "expire_time", rule);
    }
    wall.map(Until::Wall)
}

pub(crate) fn ttl(ttl: prost_types::Duration, bad: &mut Violations) -> Option<Until> {
    let ttl = Duration::try_from(ttl)
        .ok()
        .filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl));
    if ttl.is_none() {
        bad.add(
            Reason::InvalidTtl,
            "ttl",
            "must be at least 1 s and at most ten years",
        );
    }
    ttl.map(Until::After)
}

pub(crate) fn idle_timeout(
    idle: prost_types::Duration,
    bad: &mut Violations,
) -> Option<NonZeroU32> {
    let idle = Duration::try_from(idle)
        .ok()
        .filter(|idle| (MIN_TTL..=MAX_IDLE).contains(idle));
    let idle = idle.and_then(idle_millis);
    if idle.is_none() {
        bad.add(
            Reason::InvalidTtl,
            "idle_timeout",
            "must be at least 1 s and at most 30 days",
        );
    }
    idle
}

pub(crate) fn counters(counters: Option<pb::Counters>) -> Counters {
    counters
        .map(|c| Counters {
            tool_calls: c.tool_calls,
            events: c.events,
            tokens: c.tokens,
        })
        .unwrap_or_default()
}

pub(crate) fn reason(number: i32, bad: &mut Violations) -> Option<TerminationReason> {
    use pb::TerminationReason as Wire;
    let reason = match Wire::try_from(number) {
        Ok(Wire::Normal) => TerminationReason::Normal,
        Ok(Wire::Crash) => TerminationReason::Crash,
        Ok(Wire::Timeout) => TerminationReason::Timeout,
        Ok(Wire::Quarantined) => TerminationReason::Quarantined,
        Ok(Wire::BudgetExhausted) => TerminationReason::BudgetExhausted,
        Ok(Wire::ContextMiss) => TerminationReason::ContextMiss,
        Ok(Wire::PolicyViolation) => TerminationReason::PolicyViolation,
        Ok(Wire::HostReboot) => TerminationReason::HostReboot,
        Ok(Wire::Operator) => TerminationReason::Operator,
        Ok(Wire::Unknown) => TerminationReason::Unknown,
        Ok(Wire::Evicted | Wire::DaemonRestart) => {
            bad.add(
                Reason::MalformedMessage,
                "reason",
                "is given by the daemon only",
            );
            return None;
        }
        Ok(Wire::Unspecified) | Err(_) => {
            bad.add(
                Reason::MalformedMessage,
                "reason",
                "must be a reason, not UNSPECIFIED",
            );
            return None;
        }
    };
    Some(reason)
}

pub(crate) fn exit_classification(number: i32, bad: &mut Violations) -> Option<ExitClassification> {
    use pb::ExitClassification as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Success) => Some(ExitClassification::Success),
        Ok(Wire::Failure) => Some(ExitClassification::Failure),
        Ok(Wire::Cancelled) => Some(ExitClassification::Cancelled),
        Ok(Wire::Unspecified) | Err(_) => {
            let rule = "must be a classification, not UNSPECIFIED";
            bad.add(Reason::MalformedMessage, "exit_classification", rule);
            None
        }
    }
}
