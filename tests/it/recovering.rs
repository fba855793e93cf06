//! What is served while the registry is brought back, and what waits for it.
//!
//! A registry comes back too soon to look. A preloaded library has the daemon
//! stand still where it opens the file, until the test lets it go.

use std::path::Path;
use std::time::Duration;

use episoded::proto::session as pb;
use episoded::reason::Reason;
use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    Daemon, Preload, connect, find, get, own, refusal, register, registration, within,
};
use crate::reflection;
use crate::transport::wire::{Wire, timed_call};

const REGISTER: &str = "/episoded.session.v1.SessionService/RegisterSession";

/// What is promised within five seconds is there within five times that.
const FIVE_TIMES_FIVE: Duration = Duration::from_secs(25);

const SERVICES: [&str; 4] = [
    "",
    "episoded.session.v1.SessionService",
    "episoded.firewall.v1.FirewallService",
    "episoded.admin.v1.AdminService",
];

/// A daemon that listens and recovers, and goes on when `held` is dropped.
struct Recovering {
    daemon: Daemon,
    held: UnixStream,
    _library: Preload,
}

impl Recovering {
    /// Starts it on the registry of a daemon that ran.
    async fn start(mut daemon: Daemon) -> Self {
        let library = Preload::compile("recovering/held.c");
        let path = daemon.dirs().root().join("held.sock");
        let listener = UnixListener::bind(&path).expect("it listens");
        daemon.wrap(library.wrapper(format!("HELD={}", path.display())));
        daemon.spawn();
        let (held, _) = within(listener.accept()).await.expect("it comes so far");
        Self {
            daemon,
            held,
            _library: library,
        }
    }
}

async fn health_of(socket: &Path) -> Vec<ServingStatus> {
    let mut client = HealthClient::new(connect(socket).await);
    let mut found = Vec::new();
    for service in SERVICES {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = within(client.check(request)).await;
        found.push(answer.expect("it answers").into_inner().status());
    }
    found
}

#[tokio::test]
async fn a_daemon_that_recovers_says_that_it_does_not_serve_yet_and_then_that_it_does() {
    let recovering = Recovering::start(Daemon::builder().stopped()).await;
    let mut daemon = recovering.daemon;
    let sockets = [daemon.operator_socket(), daemon.session_socket()];
    let mut watches = Vec::new();
    for socket in &sockets {
        let not_yet = vec![ServingStatus::NotServing; SERVICES.len()];
        assert_eq!(health_of(socket).await, not_yet, "{}", socket.display());
        let mut client = HealthClient::new(connect(socket).await);
        let watch = client.watch(HealthCheckRequest::default()).await;
        let mut watch = watch.expect("it watches").into_inner();
        let first = within(watch.message()).await.expect("it answers");
        assert_eq!(
            first.expect("at once").status(),
            ServingStatus::NotServing,
            "{}",
            socket.display()
        );
        watches.push(watch);
    }
    let listed = reflection::services(&sockets[0]).await;
    assert!(listed.is_ok(), "reflection does not wait: {listed:?}");

    drop(recovering.held);
    daemon.ready().await;
    for watch in &mut watches {
        let then = within(watch.message()).await.expect("the watch goes on");
        let then = then.expect("it hears of it").status();
        assert_eq!(then, ServingStatus::Serving);
    }
    for socket in &sockets {
        let serving = vec![ServingStatus::Serving; SERVICES.len()];
        assert_eq!(health_of(socket).await, serving, "{}", socket.display());
    }
}

#[tokio::test]
async fn calls_that_come_meanwhile_wait_and_are_answered_from_what_came_back() {
    let mut daemon = Daemon::start().await;
    let session = register(&mut daemon.operator().await, registration("work")).await;
    daemon.kill9();
    let recovering = Recovering::start(daemon).await;
    let mut daemon = recovering.daemon;
    let (mut operator, mut episode) = (daemon.operator().await, daemon.session().await);
    let id = session.session_id.clone();
    let got = tokio::spawn(async move { get(&mut operator, &id).await });
    let found = tokio::spawn(async move {
        let own = own(&session.ephemeral_handle);
        find(&mut episode, own).await
    });
    // They have come once others that were sent after them are answered.
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        health_of(&socket).await;
    }
    assert!(!got.is_finished() && !found.is_finished(), "they wait");
    drop(recovering.held);
    daemon.ready().await;
    for answer in [got, found] {
        let answer = within(answer).await.expect("it does not panic");
        let answer = answer.expect("it is answered");
        assert_eq!(answer.session_id, session.session_id);
        assert_eq!(answer.status(), pb::SessionStatus::Active);
    }
}

/// The call that waits is answered, a health check on another connection too.
#[tokio::test]
async fn a_stop_meanwhile_is_over_within_five_seconds_and_calls_are_told() {
    let recovering = Recovering::start(Daemon::builder().stopped()).await;
    let mut daemon = recovering.daemon;
    let mut operator = daemon.operator().await;
    let waiting = tokio::spawn(async move {
        let answer = operator.register_session(registration("work")).await;
        refusal(answer)
    });
    assert_eq!(
        health_of(&daemon.operator_socket()).await[0],
        ServingStatus::NotServing
    );
    let stopped = tokio::time::timeout(FIVE_TIMES_FIVE, daemon.sigterm()).await;
    let exit = stopped.expect("it is over");
    assert_eq!(exit.code(), Some(0), "{exit:?}");
    assert!(!daemon.operator_socket().exists(), "an orderly stop");
    let refused = within(waiting).await.expect("it does not panic");
    refused.expect(Reason::ShuttingDown);
    drop(recovering.held);
    daemon.wrap(Vec::new());
    daemon.restart().await;
    register(&mut daemon.operator().await, registration("work")).await;
}

#[tokio::test]
async fn a_call_whose_own_deadline_passes_meanwhile_is_not_carried_out() {
    let recovering = Recovering::start(Daemon::builder().stopped()).await;
    let mut daemon = recovering.daemon;
    let mut wire = Wire::open(&daemon.operator_socket()).await;
    let late = pb::RegisterSessionRequest {
        session_id: "late".to_owned(),
        ..registration("work")
    };
    let call = timed_call(1, REGISTER, "200m", &late.encode_to_vec());
    wire.send(&call).await;
    wire.answered(1).await;
    drop(recovering.held);
    daemon.ready().await;
    let found = get(&mut daemon.operator().await, "late").await;
    let unknown = found.expect_err("it was not begun");
    unknown.expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn a_call_waits_no_longer_than_for_the_calls_timeout() {
    let builder = Daemon::builder().config("call_timeout = \"1s\"\n");
    let recovering = Recovering::start(builder.stopped()).await;
    let mut operator = recovering.daemon.operator().await;
    let refused = within(operator.register_session(registration("work"))).await;
    let refused = refusal(refused).expect(Reason::ShuttingDown);
    assert!(refused.message.contains("try again"), "{refused:?}");
}
