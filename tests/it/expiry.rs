//! Deadlines as clients see them.

use std::time::Duration;

use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{Client, Daemon, find, get, own, register, registration, within};

const WEEK: i64 = 7 * 24 * 3_600;

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// How long a session lives that is registered so; none: for ever.
async fn life(operator: &mut Client, request: pb::RegisterSessionRequest) -> Option<i64> {
    let session = register(operator, request).await;
    let created = session.create_time.expect("it was created");
    let expires = session.expire_time?;
    assert_eq!(expires.nanos, created.nanos);
    Some(expires.seconds - created.seconds)
}

#[tokio::test]
async fn without_a_deadline_the_configured_one_is_given_and_zero_is_none() {
    use pb::register_session_request::Deadline;
    let hour = || pb::RegisterSessionRequest {
        deadline: Some(Deadline::Ttl(seconds(3_600))),
        ..registration("work")
    };
    for (arguments, default) in [
        (&[][..], Some(WEEK)),
        (&["--default-ttl", "2h"], Some(7_200)),
        (&["--default-ttl", "0"], None),
    ] {
        let daemon = Daemon::builder().args(arguments).start().await;
        let mut operator = daemon.operator().await;
        let given = life(&mut operator, registration("work")).await;
        assert_eq!(given, default, "{arguments:?}");
        assert_eq!(life(&mut operator, hour()).await, Some(3_600));
    }
}

/// What is promised within a second is there within five.
#[tokio::test]
async fn a_deadline_is_acted_on_within_a_second_though_nobody_calls() {
    use pb::register_session_request::Deadline;
    const TTL: i64 = 1;
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let watch = operator.watch_sessions(pb::WatchSessionsRequest::default());
    let mut watch = watch.await.expect("it watches").into_inner();
    for request in [
        pb::RegisterSessionRequest {
            deadline: Some(Deadline::Ttl(seconds(TTL))),
            ..registration("work")
        },
        pb::RegisterSessionRequest {
            idle_timeout: Some(seconds(TTL)),
            ..registration("work")
        },
    ] {
        let session = register(&mut operator, request).await;
        let ended = async {
            loop {
                let answer = watch.message().await.expect("the watch goes on");
                let answer = answer.expect("the watch does not end");
                let is_end = |event: &pb::Event| event.kind() == pb::EventKind::Terminated;
                if let Some(end) = answer.events.into_iter().find(is_end) {
                    return end.session.expect("it is about one").session_id;
                }
            }
        };
        let promised = Duration::from_secs(TTL.unsigned_abs() + 5);
        let ended = tokio::time::timeout(promised, ended).await;
        assert_eq!(ended.expect("it is told"), session.session_id);
    }
}

#[tokio::test]
async fn a_silent_session_is_ended_while_the_operator_looks_on() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        idle_timeout: Some(seconds(1)),
        ..registration("work")
    };
    let session = register(&mut operator, request).await;
    let ended = async {
        loop {
            let seen = get(&mut operator, &session.session_id).await;
            if let Some(record) = seen.expect("it is there").termination {
                return record;
            }
        }
    };
    let record = within(ended).await;
    assert_eq!(record.reason(), pb::TerminationReason::Timeout);
    assert_eq!((&*record.rationale, &*record.detail), ("timeout", "idle"));
    let dead = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    dead.expect_err("its handle is dead")
        .expect(Reason::HandleNotAccepted);
}
