//! Silence: what ends by it, and what counts as a sign of life.

use std::num::NonZeroU32;
use std::time::Duration;

use episoded::proto::session as pb;
use episoded::proto::session::session_service_server::SessionService as _;
use episoded::reason::Reason;
use episoded::secret::Handle;
use episoded::session::batch::Target;
use episoded::session::error::{CallError, TargetError};
use episoded::session::filter::Filter;
use episoded::session::limits::Limits;
use episoded::session::operation::update::Update;
use episoded::session::state::{Counters, Seq, Status, TerminationReason};

use super::equipment::{Registry, by_operator, call, service, session_id, work_id};
use crate::harness::{refusal, registration};

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_mins(2);
const JUST_BEFORE: Duration = Duration::from_secs(119);

/// Registers a session that silence of that length ends.
async fn silent_for(registry: &Registry, id: &str, idle: Duration) -> Handle {
    let idle = NonZeroU32::new(idle.as_millis() as u32);
    registry
        .registered(id, |operation| operation.idle = idle)
        .await
}

/// Everything an operator reads of sessions.
fn read_in_every_way(registry: &Registry, id: &str) {
    let sessions = &registry.sessions;
    assert!(registry.get(id).is_some());
    assert!(sessions.by_work(&work_id("work")).is_some());
    let page = sessions.list(&Filter::default(), Seq(0), 10);
    assert!(!page.views.is_empty());
    assert!(sessions.info().live > 0);
}

#[track_caller]
fn assert_idled_out(registry: &Registry, id: &str) {
    let record = registry.record(id);
    assert_eq!(
        (record.reason, &*record.detail),
        (TerminationReason::Timeout, "idle")
    );
    assert_eq!(registry.status(id), Status::Terminated);
}

/// Its handle is refused from that instant on; nothing brings it back before the
/// writer has acted.
#[tokio::test]
async fn a_session_that_was_silent_for_too_long_is_not_brought_back() {
    let heartbeat = |id: &str| {
        by_operator(pb::HeartbeatSessionRequest {
            session_id: id.to_owned(),
            ..Default::default()
        })
    };
    let registry = Registry::new(Limits::default());
    let handle = silent_for(&registry, "s", IDLE).await;
    registry.clock.advance(JUST_BEFORE);
    let api = service(&registry);
    let heard = api.heartbeat_session(heartbeat("s")).await;
    heard.expect("it lives");

    registry.clock.advance(IDLE);
    let late = refusal(api.heartbeat_session(heartbeat("s")).await);
    late.expect(Reason::SessionTerminated);
    assert!(registry.opened_by(&handle).is_none());
    registry.look().await;
    assert_idled_out(&registry, "s");
}

#[tokio::test]
async fn a_change_that_comes_after_the_deadline_does_not_move_it() {
    let registry = Registry::new(Limits::default());
    silent_for(&registry, "s", IDLE).await;
    registry.clock.advance(IDLE);
    let moved = Update {
        target: Target::Named(session_id("s")),
        labels: None,
        until: None,
        idle: Some(None),
        etag: None,
        call: call(),
    };
    let refused = registry.call(moved).await.expect_err("it is over");
    assert!(
        matches!(refused, CallError::Refused(TargetError::Terminated(_))),
        "{refused:?}"
    );
    registry.look().await;
    assert_idled_out(&registry, "s");
}

#[tokio::test]
async fn a_lease_of_all_does_not_bring_back_what_is_past_its_deadline() {
    use pb::renew_lease_request::Deadline;
    const LEASE: &str = "the-lease";
    let registry = Registry::new(Limits::default());
    let api = service(&registry);
    let hour = prost_types::Duration {
        seconds: 3_600,
        nanos: 0,
    };
    for (id, seconds) in [("over", 120), ("live", 240)] {
        let request = pb::RegisterSessionRequest {
            session_id: id.to_owned(),
            lease_id: LEASE.to_owned(),
            deadline: Some(pb::register_session_request::Deadline::Ttl(
                prost_types::Duration { seconds, nanos: 0 },
            )),
            ..registration("work")
        };
        let registered = api.register_session(by_operator(request)).await;
        registered.expect("it registers");
    }
    registry.clock.advance(IDLE);
    let renew = pb::RenewLeaseRequest {
        lease_id: LEASE.to_owned(),
        deadline: Some(Deadline::Ttl(hour)),
        ..Default::default()
    };
    let renewed = api.renew_lease(by_operator(renew)).await;
    assert_eq!(renewed.expect("one lives").into_inner().renewed, 1);
    registry.look().await;
    assert_eq!(registry.status("over"), Status::Terminated);
    assert_eq!(&*registry.record("over").detail, "expire_time");
    assert_eq!(registry.status("live"), Status::Active);
}

#[tokio::test]
async fn silence_for_the_idle_timeout_ends_a_session_and_reads_are_silence() {
    let registry = Registry::new(Limits::default());
    let handle = silent_for(&registry, "s", IDLE).await;
    registry.pass(JUST_BEFORE).await;
    assert_eq!(registry.status("s"), Status::Active);
    read_in_every_way(&registry, "s");

    registry.clock.advance(SECOND);
    assert!(registry.opened_by(&handle).is_none(), "at once");
    registry.look().await;
    assert_idled_out(&registry, "s");
    let registry = registry.restart();
    assert_idled_out(&registry, "s");
    assert!(registry.opened_by(&handle).is_none());
}

#[tokio::test]
async fn a_call_with_the_handle_and_a_heartbeat_postpone_the_end_by_silence() {
    let registry = Registry::new(Limits::default());
    let used = silent_for(&registry, "used", IDLE).await;
    silent_for(&registry, "beats", IDLE).await;
    silent_for(&registry, "silent", IDLE).await;
    registry.clock.advance(JUST_BEFORE);
    assert!(registry.opened_by(&used).is_some());
    let beats = registry.get("beats").expect("it is there").session.seq;
    let heard = registry.sessions.heartbeat(beats, Counters::default());
    assert!(heard.is_some());

    registry.pass(JUST_BEFORE).await;
    assert_idled_out(&registry, "silent");
    for id in ["used", "beats"] {
        assert_eq!(registry.status(id), Status::Active, "{id}");
    }
    registry.pass(SECOND).await;
    for id in ["used", "beats"] {
        assert_idled_out(&registry, id);
    }
}

#[tokio::test]
async fn after_a_start_nothing_idles_out_within_a_minute_or_a_shorter_timeout() {
    let registry = Registry::new(Limits::default());
    let long = silent_for(&registry, "long", IDLE).await;
    registry.clock.advance(JUST_BEFORE);
    let short = silent_for(&registry, "short", 10 * SECOND).await;
    registry.clock.advance(SECOND / 2);
    let away = |clock: &super::equipment::HandClock| clock.advance(Duration::from_hours(1));
    let registry = registry.restart_after(away);
    registry.look().await;
    assert_eq!(registry.status("long"), Status::Active);

    registry.pass(9 * SECOND + SECOND / 2).await;
    assert_eq!(registry.status("short"), Status::Active);
    registry.clock.advance(SECOND / 2);
    assert!(registry.opened_by(&short).is_none());
    registry.look().await;
    assert_idled_out(&registry, "short");

    registry.pass(49 * SECOND).await;
    assert_eq!(registry.status("long"), Status::Active);
    registry.clock.advance(SECOND);
    assert!(registry.opened_by(&long).is_none());
    registry.look().await;
    assert_idled_out(&registry, "long");
}

/// What was silent for long before the daemon went away has that silence behind it.
#[tokio::test]
async fn silence_before_a_restart_counts_and_the_time_away_does_not() {
    let registry = Registry::new(Limits::default());
    silent_for(&registry, "s", 2 * IDLE).await;
    registry.clock.advance(IDLE);
    let away = |clock: &super::equipment::HandClock| clock.advance(Duration::from_hours(1));
    let registry = registry.restart_after(away);
    registry.pass(JUST_BEFORE).await;
    assert_eq!(registry.status("s"), Status::Active);
    registry.pass(SECOND).await;
    assert_idled_out(&registry, "s");
}

#[tokio::test]
async fn after_a_sleep_nothing_idles_out_within_a_minute_or_a_shorter_timeout() {
    let registry = Registry::new(Limits::default());
    silent_for(&registry, "long", IDLE).await;
    registry.clock.advance(110 * SECOND);
    silent_for(&registry, "short", 20 * SECOND).await;
    registry.clock.advance(5 * SECOND);
    registry.clock.sleep(Duration::from_hours(1));
    registry.look().await;
    for (after, short, long) in [
        (19, Status::Active, Status::Active),
        (1, Status::Terminated, Status::Active),
        (39, Status::Terminated, Status::Active),
        (1, Status::Terminated, Status::Terminated),
    ] {
        registry.clock.advance(after * SECOND);
        registry.look().await;
        let stands = (registry.status("short"), registry.status("long"));
        assert_eq!(stands, (short, long), "after {after} s more");
    }
    assert_idled_out(&registry, "short");
    assert_idled_out(&registry, "long");
}

#[tokio::test]
async fn without_a_deadline_the_default_one_ends_a_session() {
    let limits = Limits {
        default_ttl: IDLE,
        ..Limits::default()
    };
    let registry = Registry::new(limits);
    let handle = registry.registered("s", |_| {}).await;
    registry.pass(JUST_BEFORE).await;
    assert_eq!(registry.status("s"), Status::Active);
    registry.clock.advance(SECOND);
    assert!(registry.opened_by(&handle).is_none());
    registry.look().await;
    let record = registry.record("s");
    assert_eq!(
        (record.reason, &*record.detail),
        (TerminationReason::Timeout, "expire_time")
    );
}

#[tokio::test]
async fn a_default_of_zero_is_no_deadline() {
    let limits = Limits {
        default_ttl: Duration::ZERO,
        ..Limits::default()
    };
    let registry = Registry::new(limits);
    let handle = registry.registered("s", |_| {}).await;
    assert_eq!(
        registry.get("s").expect("it is there").session.expires,
        None
    );
    registry.pass(Duration::from_hours(24 * 365 * 20)).await;
    assert_eq!(registry.status("s"), Status::Active);
    assert!(registry.opened_by(&handle).is_some());
}
