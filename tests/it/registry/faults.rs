//! What a store that fails leaves.

use std::time::Duration;

use episoded::session::error::{CallError, TargetError};
use episoded::session::limits::Limits;
use episoded::session::service::Wait;
use episoded::session::state::{Socket, Status};

use super::equipment::{Fault, Registry, registration};
use crate::harness::within;

#[tokio::test]
async fn a_failure_before_the_commit_refuses_the_call_and_leaves_memory_as_it_was() {
    for (fault, error) in [
        (Fault::Full, CallError::DiskFull),
        (Fault::Failed, CallError::StoreFailed),
    ] {
        let registry = Registry::new(Limits::default());
        registry
            .register("before", "work")
            .await
            .expect("it registers");
        let info = registry.sessions.info();
        registry.fail(&[fault]);
        let refused = registry.register("s", "work").await;
        assert_eq!(refused.expect_err("it is not written"), error);
        assert!(registry.get("s").is_none());
        let after = registry.sessions.info();
        assert_eq!((after.live, after.revision), (info.live, info.revision));
        assert!(registry.get("before").is_some(), "reads go on");

        let registered = registry.register("s", "work").await;
        let handle = registered
            .expect("it registers now")
            .handle
            .expect("its handle");
        let registry = registry.restart();
        assert!(registry.opened_by(&handle).is_some(), "and is durable");
        assert!(registry.get("before").is_some());
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_ends_the_writer_and_the_next_start_finds_out() {
    let registry = Registry::new(Limits::default());
    registry
        .register("before", "work")
        .await
        .expect("it registers");
    registry.fail(&[Fault::Unknown]);
    let unknown = registry.register("s", "work").await;
    assert_eq!(
        unknown.expect_err("nobody knows"),
        CallError::OutcomeUnknown
    );
    registry.ended().await;
    let refused = registry.register("later", "work").await;
    assert_eq!(refused.expect_err("nothing is taken"), CallError::Stopping);
    let registry = registry.restart_after_failure().await;
    assert!(registry.get("before").is_some());
    assert!(registry.get("s").is_none() && registry.get("later").is_none());
    registry.register("s", "work").await.expect("it registers");
}

#[tokio::test]
async fn an_end_that_cannot_be_written_refuses_the_handle_and_is_tried_until_it_lands() {
    let registry = Registry::new(Limits::default());
    let registered = registry.register("s", "work").await;
    let handle = registered
        .expect("it registers")
        .handle
        .expect("its handle");
    assert!(registry.opened_by(&handle).is_some());
    // The writer frees the reserve and tries once more before it gives up.
    registry.fail(&[Fault::Full, Fault::Full]);
    let refused = registry.terminate("s").await;
    assert_eq!(refused.expect_err("it is not written"), CallError::DiskFull);
    assert!(
        registry.opened_by(&handle).is_none(),
        "refused from that instant"
    );
    let ending = registry.get("s").expect("it is there").session;
    assert_eq!(ending.status(), Status::Ending);

    registry.pass(Duration::from_secs(5)).await;
    let ended = registry.get("s").expect("it is there").session;
    assert_eq!(ended.status(), Status::Terminated);
    let registry = registry.restart();
    assert!(registry.opened_by(&handle).is_none());
    let ended = registry.get("s").expect("it is remembered").session;
    assert_eq!(ended.status(), Status::Terminated);
}

#[tokio::test]
async fn a_refused_call_writes_nothing() {
    let registry = Registry::new(Limits::default());
    let before = registry.sessions.revision();
    let refused = registry.terminate("unknown").await;
    assert_eq!(
        refused.expect_err("there is none"),
        CallError::Refused(TargetError::NotFound)
    );
    assert_eq!(registry.sessions.revision(), before);
}

/// Nobody waits for what the writer notes by itself, and yet a commit of unknown
/// outcome must not be built upon.
#[tokio::test]
async fn a_commit_of_unknown_outcome_ends_the_writer_in_its_own_upkeep_too() {
    let registry = Registry::new(Limits::default());
    registry.register("s", "work").await.expect("it registers");
    registry.fail(&[Fault::Failed]);
    registry.pass(Duration::from_secs(61)).await;
    registry.fail(&[Fault::Unknown]);
    registry.clock.advance(Duration::from_secs(61));
    registry.sessions.tick();
    let registry = registry.restart_after_failure().await;
    assert!(registry.get("s").is_some());
}

#[tokio::test]
async fn a_rotation_that_cannot_be_written_refuses_the_old_handle_and_spares_a_later_one() {
    let registry = Registry::new(Limits::default());
    let registered = registry.register("s", "work").await;
    let old = registered
        .expect("it registers")
        .handle
        .expect("its handle");
    registry.fail(&[Fault::Full, Fault::Full]);
    let refused = registry.rotate("s").await;
    assert_eq!(refused.expect_err("it is not written"), CallError::DiskFull);
    assert!(registry.opened_by(&old).is_none(), "refused at once");
    let session = registry.get("s").expect("it is there").session;
    assert_eq!(session.status(), Status::Active);

    let later = registry
        .rotate("s")
        .await
        .expect("there is room now")
        .handle;
    registry.look().await;
    assert!(
        registry.opened_by(&later).is_some(),
        "what was answered stands"
    );
    let registry = registry.restart();
    assert!(registry.opened_by(&later).is_some());
    assert!(registry.opened_by(&old).is_none());
}

#[tokio::test]
async fn calls_of_sessions_fill_half_of_the_queue_and_are_refused_beyond() {
    const ROOM: usize = 2_048;
    const TOO_MANY: usize = 52;
    let registry = Registry::new(Limits::default());
    let begin = |id: &str, socket| {
        let (sessions, operation) = (
            registry.sessions.clone(),
            registration(&registry.sessions, id, "work"),
        );
        let wait = Wait {
            deadline: None,
            socket,
        };
        tokio::spawn(async move { sessions.call(operation, wait).await.map(drop) })
    };
    registry.fail(&[Fault::Held]);
    let stuck = begin("stuck", Socket::Operator);
    tokio::task::yield_now().await;
    registry.until_held();

    let ids: Vec<String> = (0..ROOM + TOO_MANY).map(|n| format!("s-{n}")).collect();
    let calls: Vec<_> = ids.iter().map(|id| begin(id, Socket::Session)).collect();
    let operator = begin("operator", Socket::Operator);
    let is_refused = |number: usize| calls[number].is_finished();
    let last_is_refused = async {
        while !is_refused(ROOM + TOO_MANY - 1) {
            tokio::task::yield_now().await;
        }
    };
    within(last_is_refused).await;
    // They came in this order.
    let refused = (0..calls.len()).filter(|number| is_refused(*number));
    assert_eq!(refused.count(), TOO_MANY);
    assert!(!operator.is_finished(), "the operator's waits");

    registry.let_go();
    within(stuck).await.expect("it ends").expect("it registers");
    within(operator)
        .await
        .expect("it ends")
        .expect("it registers");
    for (number, call) in calls.into_iter().enumerate() {
        let answer = within(call).await.expect("it ends");
        if number < ROOM {
            answer.expect("it registers");
        } else {
            assert_eq!(answer.expect_err("it is refused"), CallError::Busy);
            assert!(registry.get(&ids[number]).is_none());
        }
    }
}
