//! Streams and the handle they were asked for with.

use std::future::Future;
use std::time::Duration;

use episoded::proto::admin as admin_pb;
use episoded::proto::firewall as firewall_pb;
use episoded::proto::firewall::firewall_service_client::FirewallServiceClient;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use tonic::{Response, Status, Streaming};

use crate::harness::{
    Client, Daemon, bearer, connect, normal_end, refusal, register, registration, within,
};

/// Five times what is promised.
const SOON: Duration = Duration::from_secs(5);

async fn soon<F: Future>(future: F) -> F::Output {
    let soon = tokio::time::timeout(SOON, future).await;
    soon.expect("it happens soon after the handle is dead")
}

/// How the stream ends.
async fn end<T: std::fmt::Debug>(stream: &mut Streaming<T>) -> Result<Response<()>, Status> {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Response::new(())),
            Err(status) => return Err(status),
        }
    }
}

async fn terminate(operator: &mut Client, id: &str) {
    let ended = operator.terminate_session(normal_end(id)).await;
    ended.expect("it ends");
}

#[tokio::test]
async fn a_quiet_watch_ends_soon_after_its_handle_and_says_why() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let quiet = pb::WatchSessionsRequest {
        filter: Some(pb::WatchFilter {
            work_id: "nothing-of-it-happens".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mine = bearer(quiet.clone(), &session.ephemeral_handle);
    let watch = operator.watch_sessions(mine).await;
    let mut watch = watch.expect("it watches").into_inner();
    let theirs = operator.watch_sessions(quiet).await;
    let mut theirs = theirs.expect("it watches").into_inner();
    for watch in [&mut watch, &mut theirs] {
        let first = within(watch.message()).await.expect("it is told");
        first.expect("the bookmark");
    }
    let mut firewall = FirewallServiceClient::new(connect(&daemon.operator_socket()).await);
    let refinements = firewall_pb::WatchRefinementsRequest::default();
    let refinements = bearer(refinements, &session.ephemeral_handle);
    let refinements = firewall.watch_refinements(refinements).await;
    let mut refinements = refinements.expect("it watches").into_inner();
    let first = within(refinements.message()).await.expect("it is told");
    first.expect("the bookmark");

    terminate(&mut operator, &session.session_id).await;
    let ended = soon(end(&mut watch)).await;
    refusal(ended).expect(Reason::HandleNotAccepted);
    let ended = soon(end(&mut refinements)).await;
    refusal(ended).expect(Reason::HandleNotAccepted);

    daemon.sigterm().await;
    let last = loop {
        let answer = within(theirs.message())
            .await
            .expect("it goes on to the end");
        let answer = answer.expect("the last answer says so");
        if answer.r#final {
            break answer;
        }
    };
    assert!(last.events.is_empty());
}

#[tokio::test]
async fn a_busy_watch_tells_nothing_that_came_after_its_handle() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let all = bearer(
        pb::WatchSessionsRequest::default(),
        &session.ephemeral_handle,
    );
    let watch = operator.watch_sessions(all).await;
    let mut watch = watch.expect("it watches").into_inner();
    within(watch.message()).await.expect("the bookmark");
    register(&mut operator, registration("before")).await;
    let told = within(watch.message()).await.expect("it is told");
    assert_eq!(told.expect("an answer").events.len(), 1);

    terminate(&mut operator, &session.session_id).await;
    for _ in 0..10 {
        register(&mut operator, registration("after")).await;
    }
    let next = soon(watch.message()).await;
    refusal(next.map(Response::new)).expect(Reason::HandleNotAccepted);
}

#[tokio::test]
async fn a_backup_ends_with_its_handle() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let large = |_| pb::RegisterSessionRequest {
        labels: (0..10).map(|n| (format!("{n}"), "v".repeat(255))).collect(),
        ..registration("work")
    };
    let requests = pb::RegisterSessionsRequest {
        requests: (0..1000).map(large).collect(),
    };
    let many = operator.register_sessions(requests).await;
    many.expect("they are registered");

    let mut admin = daemon.admin().await;
    let request = bearer(admin_pb::BackupRequest {}, &session.ephemeral_handle);
    let copy = admin.backup(request).await;
    let mut copy = copy.expect("it begins").into_inner();
    within(copy.message()).await.expect("it goes on");
    terminate(&mut operator, &session.session_id).await;
    let ended = soon(end(&mut copy)).await;
    refusal(ended).expect(Reason::HandleNotAccepted);
}
