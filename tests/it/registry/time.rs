//! What time does to sessions and records.

use std::time::Duration;

use episoded::ids::RequestId;
use episoded::secret::Handle;
use episoded::session::batch::{Call, Target};
use episoded::session::limits::Limits;
use episoded::session::operation::register::Until;
use episoded::session::operation::rotate::Rotate;
use episoded::session::operation::update::Update;
use episoded::session::service::Wait;
use episoded::session::state::{Status, TerminationReason};
use episoded::session::store::Request;

use super::equipment::{Registry, call, identity, registration, session_id};
use crate::harness::within;

const TTL: Duration = Duration::from_mins(5);
const JUST_BEFORE: Duration = Duration::from_secs(299);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_record_is_there_until_its_time_is_over_and_a_restart_does_not_extend_it() {
    let registry = Registry::new(Limits::default());
    let before = identity(&registry);
    registry.register("s", "work").await.expect("it registers");
    registry.terminate("s").await.expect("it ends");
    registry.clock.advance(SECOND);
    assert!(registry.get("s").is_some());

    let registry = registry.restart();
    assert_eq!(identity(&registry), before);
    registry.clock.advance(Duration::from_secs(298));
    let record = registry.get("s").expect("a second before its time is over");
    assert_eq!(record.session.status(), Status::Terminated);
    registry.clock.advance(SECOND);
    assert!(registry.get("s").is_none(), "its time is over");
    registry
        .register("s", "work")
        .await
        .expect("its id is free again");
}

#[tokio::test]
async fn a_record_keeps_to_its_time_whatever_the_wall_clock_and_the_machine_do() {
    let registry = Registry::new(Limits::default());
    for id in ["s", "other"] {
        registry.register(id, "work").await.expect("it registers");
    }
    registry.terminate("s").await.expect("it ends");
    registry.clock.set_back(Duration::from_hours(5));
    registry.clock.sleep(JUST_BEFORE);
    assert!(registry.get("s").is_some());
    registry.clock.sleep(SECOND);
    assert!(registry.get("s").is_none(), "time asleep counts");
    assert!(registry.get("other").is_some());
}

#[tokio::test]
async fn the_oldest_records_make_room_and_are_counted() {
    let limits = Limits {
        max_terminated: 2,
        ..Limits::default()
    };
    let registry = Registry::new(limits);
    for id in ["a", "b", "c"] {
        registry.register(id, "work").await.expect("it registers");
        registry.terminate(id).await.expect("it ends");
    }
    registry.look().await;
    assert!(registry.get("a").is_none(), "the oldest made room");
    assert!(registry.get("b").is_some() && registry.get("c").is_some());
    let info = registry.sessions.info();
    assert_eq!((info.live, info.terminated), (0, 2));
    assert_eq!(info.tally.early_purges, 1);
}

#[tokio::test]
async fn a_deadline_refuses_the_handle_at_its_instant_and_ends_the_session() {
    let registry = Registry::new(Limits::default());
    let mut operation = registration(&registry.sessions, "s", "work");
    operation.until = Until::After(TTL);
    let registered = within(registry.sessions.call(operation, Wait::PATIENT)).await;
    let handle = registered
        .expect("it registers")
        .handle
        .expect("its handle");
    registry.clock.advance(JUST_BEFORE);
    assert!(registry.opened_by(&handle).is_some());
    registry.clock.advance(SECOND);
    assert!(registry.opened_by(&handle).is_none(), "at once");

    registry.look().await;
    let ended = registry.get("s").expect("it is remembered").session;
    let record = ended.record().expect("with its record");
    assert_eq!(record.reason, TerminationReason::Timeout);
    assert_eq!(&*record.detail, "expire_time");
}

#[tokio::test]
async fn a_deadline_that_is_moved_counts_from_then_on_and_the_old_one_does_not() {
    let registry = Registry::new(Limits::default());
    for id in ["nearer", "farther", "never"] {
        registry
            .registered(id, |operation| operation.until = Until::After(2 * TTL))
            .await;
    }
    for (id, until) in [
        ("nearer", Until::After(TTL)),
        ("farther", Until::After(3 * TTL)),
        ("never", Until::Never),
    ] {
        let update = Update {
            target: Target::Named(session_id(id)),
            labels: None,
            until: Some(until),
            idle: None,
            etag: None,
            call: call(),
        };
        registry.call(update).await.expect("it is moved");
    }
    for ended in [1, 1, 2, 2] {
        registry.clock.advance(TTL);
        registry.look().await;
        let live = registry.sessions.info().live;
        assert_eq!(live, 3 - ended, "after {ended}");
    }
    assert_eq!(registry.status("never"), Status::Active);
}

#[tokio::test]
async fn a_replaced_handle_may_repeat_its_rotation_for_a_minute() {
    for (passed, is_repeated) in [(59_999, true), (60_000, false)] {
        let registry = Registry::new(Limits::default());
        let first = registry.registered("s", |_| {}).await;
        let rotate = || {
            let handle = Handle::random();
            Rotate {
                target: Target::Own(registry.sessions.digest_handle(&first)),
                digest: registry.sessions.digest_handle(&handle),
                handle,
                etag: None,
                call: Call {
                    request: Some(Request {
                        id: RequestId::parse("r-1").expect("it is one"),
                        body: [7; 16],
                    }),
                    ..call()
                },
            }
        };
        registry.call(rotate()).await.expect("it rotates");
        registry.clock.advance(Duration::from_millis(passed));
        let again = registry.call(rotate()).await;
        assert_eq!(again.is_ok(), is_repeated, "after {passed} ms: {again:?}");
    }
}
