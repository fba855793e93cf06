//! Streams and the handle they were asked for with; connections and how they begin.

use std::future::Future;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use episoded::proto::admin as admin_pb;
use episoded::proto::firewall as firewall_pb;
use episoded::proto::firewall::firewall_service_client::FirewallServiceClient;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::harness::{
    Client, Daemon, bearer, connect, get, normal_end, refusal, register, registration, within,
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

/// A connection, and what cuts it off.
async fn cut_off_later(daemon: &Daemon) -> (Channel, StdUnixStream) {
    let stream = StdUnixStream::connect(daemon.operator_socket()).expect("it is taken");
    let end = stream.try_clone().expect("it has two names");
    stream.set_nonblocking(true).expect("it is a socket");
    let mut stream = Some(UnixStream::from_std(stream).expect("a runtime is there"));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("once"));
        async move { stream.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = within(endpoint.connect_with_connector(connector)).await;
    (channel.expect("it connects"), end)
}

/// A client that goes away is no fault of ours, and nobody is there to be told.
#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_its_request_is_no_error() {
    let mut daemon = Daemon::builder().args(["--log", "debug"]).start().await;
    let (channel, end) = cut_off_later(&daemon).await;
    let mut firewall = FirewallServiceClient::new(channel.clone());
    let (requests, taken) = tokio::sync::mpsc::channel(1);
    let open = firewall.check_tool_requests(ReceiverStream::new(taken));
    let open = within(open).await.expect("it is open");
    let (parts, taken) = tokio::sync::mpsc::channel(1);
    let put = tokio::spawn(async move { firewall.put_manifest(ReceiverStream::new(taken)).await });
    // What is answered after it was begun after it.
    for _ in 0..2 {
        let unknown = within(get(&mut Client::new(channel.clone()), "nobody")).await;
        unknown.expect_err("there is none");
    }
    end.shutdown(Shutdown::Both).expect("it is cut");
    daemon.logged("the client went away").await;
    let put = within(put).await.expect("it ends");
    put.expect_err("nothing can be answered");
    drop((requests, open, parts));
    let exit = daemon.sigterm().await;
    assert!(!exit.logs.contains("ERROR"), "{}", exit.logs);
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

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the daemon says until it closes the connection, within five times what is
/// promised.
async fn until_closed(daemon: &Daemon, opening: &[u8]) -> Vec<u8> {
    let stream = UnixStream::connect(daemon.operator_socket()).await;
    let mut stream = stream.expect("it is accepted");
    stream.write_all(opening).await.expect("it is taken");
    let mut said = Vec::new();
    let closed = tokio::time::timeout(5 * SOON, stream.read_to_end(&mut said)).await;
    let _reset_or_end = closed.expect("it is closed in time");
    said
}

#[tokio::test]
async fn a_connection_that_does_not_tell_its_settings_is_closed() {
    let daemon = Daemon::start().await;
    let cut_off: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
    let ping: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0];
    let data: &[u8] = &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let closed = [cut_off, ping, data].map(|frame| [PREFACE, frame].concat());
    let [a, b, c] = &closed;
    let said = tokio::join!(
        until_closed(&daemon, a),
        until_closed(&daemon, b),
        until_closed(&daemon, c)
    );
    assert_eq!(said, (vec![], vec![], vec![]));
}
