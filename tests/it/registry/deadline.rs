//! The deadline of a call, while the store does not answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use episoded::clock::Clock as _;
use episoded::grpc::admin::{AdminApi, Facts};
use episoded::grpc::dispatch::Dispatcher;
use episoded::grpc::firewall::FirewallApi;
use episoded::grpc::services::{Apis, Health, Services};
use episoded::proto::session as pb;
use episoded::reason::Reason;
use episoded::session::limits::Limits;
use episoded::session::state::Socket;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::equipment::{Fault, Registry, peer, service};
use crate::harness::{Client, Refusal, get, refusal, registration, within};

/// The least that can be configured.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);

/// A client of this registry, as the daemon serves it.
async fn client(registry: &Registry) -> Client {
    let dispatcher = dispatcher(registry, CALL_TIMEOUT).await;
    connect(&dispatcher).await
}

async fn dispatcher(registry: &Registry, call_timeout: Duration) -> Arc<Dispatcher> {
    let health = Health::new().await;
    let services = Services::for_operator(&health);
    let nowhere = std::path::PathBuf::new();
    let facts = Facts {
        started: 0,
        boot_id: registry.clock.boot_id(),
        node: "node".into(),
        state_dir: nowhere.clone(),
        max_connections: 1,
        operator_socket: nowhere.clone(),
        session_socket: nowhere,
    };
    let stop = Arc::default();
    let session = service(registry);
    services.serve(&Apis {
        firewall: FirewallApi::new(session.clone()),
        session,
        admin: AdminApi::new(registry.sessions.clone(), facts, stop),
    });
    Arc::new(Dispatcher::new(services, Socket::Operator, call_timeout))
}

async fn connect(dispatcher: &Arc<Dispatcher>) -> Client {
    let dispatcher = Arc::clone(dispatcher);
    let caller = peer(Socket::Operator);
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let answer = service_fn(move |request| {
        let (dispatcher, caller) = (Arc::clone(&dispatcher), Arc::clone(&caller));
        async move { Ok::<_, Infallible>(dispatcher.call(&caller, request).await) }
    });
    let server = http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(theirs), answer));
    let mut ours = Some(ours);
    let connector = tower::service_fn(move |_| {
        let ours = ours.take().ok_or_else(|| std::io::Error::other("once"));
        async move { ours.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = within(endpoint.connect_with_connector(connector)).await;
    Client::new(channel.expect("it connects"))
}

/// Registers it in a call that would wait that long; none: for ever.
async fn register(client: &mut Client, id: &str, timeout: Option<&str>) -> Result<(), Refusal> {
    let mut request = tonic::Request::new(pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        ..registration("work")
    });
    if let Some(timeout) = timeout {
        let timeout = timeout.parse().expect("it is printable");
        request.metadata_mut().insert("grpc-timeout", timeout);
    }
    let answer = within(client.register_session(request)).await;
    answer
        .map(drop)
        .map_err(|status| refusal::<()>(Err(status)))
}

#[tokio::test]
async fn a_call_is_answered_at_its_deadline_and_dropped_if_it_was_not_begun() {
    let registry = Registry::new(Limits::default());
    let mut first = client(&registry).await;
    let mut second = client(&registry).await;
    let before = register(&mut first, "before", None).await;
    before.expect("it registers");

    registry.fail(&[Fault::Held]);
    let begun = register(&mut first, "begun", Some("1H")).await;
    begun
        .expect_err("it is not durable yet")
        .expect(Reason::DeadlineExceeded);
    registry.until_held();
    let waiting = register(&mut second, "waiting", None).await;
    waiting
        .expect_err("it waits")
        .expect(Reason::DeadlineExceeded);
    assert!(registry.get("begun").is_none(), "not before it is durable");
    for client in [&mut first, &mut second] {
        let found = within(get(client, "before")).await;
        assert_eq!(found.expect("reads go on").session_id, "before");
    }

    registry.clock.advance(CALL_TIMEOUT);
    registry.let_go();
    registry.look().await;
    assert!(registry.get("begun").is_some(), "it was begun");
    assert!(registry.get("waiting").is_none(), "it was not");
}

#[tokio::test]
async fn new_calls_of_a_drain_are_refused_and_those_that_had_begun_are_answered() {
    let registry = Registry::new(Limits::default());
    let dispatcher = dispatcher(&registry, Duration::from_mins(5)).await;
    let mut first = connect(&dispatcher).await;
    let mut second = connect(&dispatcher).await;
    registry.fail(&[Fault::Held]);
    let begun = tokio::spawn(async move { register(&mut first, "begun", None).await });
    let held = async {
        while !registry.has_failed() {
            tokio::task::yield_now().await;
        }
    };
    within(held).await;
    dispatcher.drain();
    let late = register(&mut second, "late", None).await;
    late.expect_err("it came too late")
        .expect(Reason::ShuttingDown);
    registry.until_held();
    registry.let_go();
    let begun = within(begun).await.expect("it does not panic");
    begun.expect("it registers");
    registry.rest().await;
    assert!(registry.get("begun").is_some() && registry.get("late").is_none());
}
