//! Refusals and what they leave of the connection.

use episoded::proto::session as pb;
use episoded::reason::Reason;
use tokio::task::JoinSet;

use crate::harness::{Daemon, find, own, register, registration};

const REFUSED: usize = 2000;
const IN_FLIGHT: usize = 64;

#[tokio::test]
async fn any_number_of_refused_calls_leaves_a_connection_and_its_watch_alive() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let watch = operator
        .watch_sessions(pb::WatchSessionsRequest::default())
        .await;
    let mut watch = watch.expect("it watches").into_inner();

    let mut calls = JoinSet::new();
    let mut refused = 0;
    for _ in 0..REFUSED {
        if calls.len() == IN_FLIGHT {
            let call = calls.join_next().await.expect("some are in flight");
            call.expect("it is refused with its reason");
            refused += 1;
        }
        let mut operator = operator.clone();
        calls.spawn(async move {
            let unknown = own("H-8a4f1f0e-63f3-4a6b-9d2e-3c5b7a9e1f02");
            let refused = find(&mut operator, unknown).await;
            refused
                .expect_err("it is unknown")
                .expect(Reason::HandleNotAccepted);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("each is refused with its reason");
        refused += 1;
    }
    assert_eq!(refused, REFUSED);

    let found = find(&mut operator, own(&session.ephemeral_handle)).await;
    found.expect("the connection goes on");
    register(&mut operator, registration("work")).await;
    loop {
        let answer = watch.message().await.expect("the watch goes on");
        let answer = answer.expect("the watch does not end");
        if answer
            .events
            .iter()
            .any(|e| e.kind() == pb::EventKind::Created)
        {
            return;
        }
    }
}
