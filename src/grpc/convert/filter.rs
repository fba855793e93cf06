//! What a caller wants to see, parsed.

use crate::{
    grpc::{convert::fields, status::Violations},
    ids::{SessionId, WorkId},
    proto::session as pb,
    reason::Reason,
    session::{
        event::EventKind,
        filter::{EventFilter, Filter, LeaseState},
        state::Status,
    },
};

/// Sessions as they are now.
pub(crate) fn filter(filter: pb::SessionFilter, bad: &mut Violations) -> Option<Filter> {
    let status = match pb::SessionStatus::try_from(filter.status) {
        Ok(pb::SessionStatus::Unspecified) => None,
        Ok(pb::SessionStatus::Active) => Some(Status::Active),
        Ok(pb::SessionStatus::Ending) => Some(Status::Ending),
        Ok(pb::SessionStatus::Terminated) => Some(Status::Terminated),
        Err(_) => {
            bad.add(
                Reason::MalformedMessage,
                "filter.status",
                "must be a status",
            );
            None
        }
    };
    let lease = match pb::LeaseState::try_from(filter.lease_state) {
        Ok(pb::LeaseState::Unspecified) => None,
        Ok(pb::LeaseState::Held) => Some(LeaseState::Held),
        Ok(pb::LeaseState::Revoked) => Some(LeaseState::Revoked),
        Err(_) => {
            bad.add(
                Reason::MalformedMessage,
                "filter.lease_state",
                "must be a lease state",
            );
            None
        }
    };
    let work = match filter.work_id.as_str() {
        "" => None,
        text => bad.take("filter.work_id", WorkId::parse(text)),
    };
    let role = match filter.role {
        0 => None,
        number => fields::role("filter.role", number, bad),
    };
    let labels = fields::labels("filter.labels", filter.labels, bad)?;
    Some(Filter {
        status,
        work,
        role,
        labels,
        lease,
    })
}

/// Events a watch wants.
pub(crate) fn watch_filter(
    filter: Option<pb::WatchFilter>,
    bad: &mut Violations,
) -> Option<EventFilter> {
    let filter = filter.unwrap_or_default();
    let role = match filter.role {
        0 => None,
        number => fields::role("filter.role", number, bad),
    };
    Some(EventFilter {
        session: named_session(&filter.session_id, bad),
        work: named_work(&filter.work_id, bad),
        role,
        labels: fields::labels("filter.labels", filter.labels, bad)?,
        ..EventFilter::default()
    })
}

fn named_session(text: &str, bad: &mut Violations) -> Option<SessionId> {
    if text.is_empty() {
        None
    } else {
        fields::session_id("filter.session_id", text, bad)
    }
}

fn named_work(text: &str, bad: &mut Violations) -> Option<WorkId> {
    if text.is_empty() {
        return None;
    }
    bad.take("filter.work_id", WorkId::parse(text))
}

/// Past events.
pub(crate) fn event_filter(
    filter: Option<pb::EventFilter>,
    bad: &mut Violations,
) -> Option<EventFilter> {
    let filter = filter.unwrap_or_default();
    let mut kinds = Vec::new();
    for number in &filter.kinds {
        match kind(*number) {
            Some(kind) => kinds.push(kind),
            None => bad.add(
                Reason::MalformedMessage,
                "filter.kinds",
                "must be event kinds",
            ),
        }
    }
    let mut time = |field: &str, time: Option<prost_types::Timestamp>| {
        let millis = time.map(fields::millis);
        if millis == Some(None) {
            bad.add(Reason::MalformedMessage, field, "must be a time since 1970");
        }
        millis.flatten()
    };
    let start = time("filter.start_time", filter.start_time);
    let end = time("filter.end_time", filter.end_time);
    Some(EventFilter {
        session: named_session(&filter.session_id, bad),
        work: named_work(&filter.work_id, bad),
        role: None,
        labels: fields::labels("filter.labels", filter.labels, bad)?,
        kinds,
        start,
        end,
    })
}

fn kind(number: i32) -> Option<EventKind> {
    use pb::EventKind as Wire;
    Some(match Wire::try_from(number).ok()? {
        Wire::Unspecified => return None,
        Wire::Created => EventKind::Created,
        Wire::Bound => EventKind::Bound,
        Wire::LeaseRenewed => EventKind::LeaseRenewed,
        Wire::LeaseRevoked => EventKind::LeaseRevoked,
        Wire::Updated => EventKind::Updated,
        Wire::HandleRotated => EventKind::HandleRotated,
        Wire::StopRequested => EventKind::StopRequested,
        Wire::Terminated => EventKind::Terminated,
        Wire::Evicted => EventKind::Evicted,
        Wire::Removed => EventKind::Removed,
        Wire::Recovered => EventKind::Recovered,
        Wire::Restarted => EventKind::Restarted,
        Wire::Denied => EventKind::Denied,
        Wire::PinLifted => EventKind::PinLifted,
        Wire::RefinementRequested => EventKind::RefinementRequested,
        Wire::RefinementAnswered => EventKind::RefinementAnswered,
        Wire::RefinementDeclined => EventKind::RefinementDeclined,
        Wire::RefinementExpired => EventKind::RefinementExpired,
    })
}
