//! The deadline of a call, while the store does not answer.

use std::convert::Infallible;
use std::os::unix::net::UnixStream as StdUnixStream;
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
use tokio::runtime::Handle as Runtime;
use tonic::transport::Endpoint;

use super::equipment::{Fault, Registry, peer, service};
use crate::harness::{Client, Refusal, get, refusal, registration, within};

/// The least that can be configured.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);

fn asynchronous(stream: StdUnixStream) -> UnixStream {
    stream.set_nonblocking(true).expect("it is a socket");
    UnixStream::from_std(stream).expect("a runtime is there")
}

/// A client of this registry, as the daemon serves it on that runtime.
async fn client(registry: &Registry, server_runtime: &Runtime) -> Client {
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
    let dispatcher = Arc::new(Dispatcher::new(services, Socket::Operator, CALL_TIMEOUT));
    let caller = peer(Socket::Operator);
    let (ours, theirs) = StdUnixStream::pair().expect("a pair of sockets");
    let ours = asynchronous(ours);
    let answer = service_fn(move |request| {
        let (dispatcher, caller) = (Arc::clone(&dispatcher), Arc::clone(&caller));
        async move { Ok::<_, Infallible>(dispatcher.call(&caller, request).await) }
    });
    let server = http2::Builder::new(TokioExecutor::new());
    server_runtime.spawn(async move {
        let theirs = TokioIo::new(asynchronous(theirs));
        server.serve_connection(theirs, answer).await
    });
    let mut ours = Some(ours);
    let connector = tower::service_fn(move |_| {
        let ours = ours.take().ok_or_else(|| std::io::Error::other("once"));
        async move { ours.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = within(endpoint.connect_with_connector(connector)).await;
    Client::new(channel.expect("it connects"))
}

/// Registers these in one call, which the writer's thread takes, and would wait for
/// an hour.
async fn register_all(client: &mut Client, ids: [&str; 2]) -> Refusal {
    let named = |id: &str| pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        ..registration("work")
    };
    let request = pb::RegisterSessionsRequest {
        requests: ids.into_iter().map(named).collect(),
    };
    let mut request = tonic::Request::new(request);
    let hour = "1H".parse().expect("it is printable");
    request.metadata_mut().insert("grpc-timeout", hour);
    refusal(within(client.register_sessions(request)).await)
}

#[tokio::test]
async fn a_call_is_answered_at_its_deadline_and_dropped_if_it_was_not_begun() {
    let registry = Registry::new(Limits::default());
    let mut client = client(&registry, &Runtime::current()).await;
    registry.fail(&[Fault::Held]);
    let begun = register_all(&mut client, ["begun-1", "begun-2"]).await;
    begun.expect(Reason::DeadlineExceeded);
    registry.until_held();
    let waiting = register_all(&mut client, ["waiting-1", "waiting-2"]).await;
    waiting.expect(Reason::DeadlineExceeded);
    assert!(
        registry.get("begun-1").is_none(),
        "not before it is durable"
    );

    registry.clock.advance(CALL_TIMEOUT);
    registry.let_go();
    registry.look().await;
    for id in ["begun-1", "begun-2"] {
        assert!(registry.get(id).is_some(), "{id} was begun");
    }
    for id in ["waiting-1", "waiting-2"] {
        assert!(registry.get(id).is_none(), "{id} was not");
    }
}

/// Registers it in a call about nothing else.
async fn register(client: &mut Client, id: &str) -> Result<(), Refusal> {
    let request = pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        ..registration("work")
    };
    let answer = within(client.register_session(request)).await;
    answer
        .map(drop)
        .map_err(|status| refusal::<()>(Err(status)))
}

/// Has a registration stuck on a worker of the daemon's runtime; its id and answer.
async fn stick(registry: &Registry, client: &mut Client) -> (String, Result<(), Refusal>) {
    for round in 0.. {
        for number in 0.. {
            let warm = register(client, &format!("warm-{round}-{number}")).await;
            warm.expect("it registers");
            if registry.wrote_elsewhere() {
                break;
            }
        }
        registry.fail(&[Fault::Held]);
        let id = format!("stuck-{round}");
        let answer = register(client, &id).await;
        if !registry.until_held() {
            return (id, answer);
        }
        // The thread was in the seat for a moment longer.
        registry.let_go();
        registry.look().await;
    }
    unreachable!("it goes on until it sticks")
}

#[test]
fn a_call_whose_commit_is_stuck_on_its_own_thread_is_answered_and_others_go_on() {
    let one_worker = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime is built");
    let here = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime is built");
    here.block_on(async {
        let registry = Registry::new(Limits::default());
        let mut first = client(&registry, one_worker.handle()).await;
        let mut second = client(&registry, one_worker.handle()).await;
        register(&mut second, "before").await.expect("it registers");

        let (stuck, answer) = stick(&registry, &mut first).await;
        let refused = answer.expect_err("it is not durable yet");
        refused.expect(Reason::DeadlineExceeded);
        for client in [&mut first, &mut second] {
            let found = within(get(client, "before")).await;
            assert_eq!(found.expect("reads go on").session_id, "before");
        }
        let late = register(&mut second, "late").await;
        late.expect_err("it waits").expect(Reason::DeadlineExceeded);

        registry.clock.advance(CALL_TIMEOUT);
        registry.let_go();
        registry.look().await;
        assert!(registry.get(&stuck).is_some(), "it was begun");
        assert!(registry.get("late").is_none(), "it was not");
    });
}
