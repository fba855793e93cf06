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
use crate::harness::{Client, Refusal, refusal, registration, within};

/// The least that can be configured.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);

/// A client of this registry, as the daemon serves it.
async fn client(registry: &Registry) -> Client {
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
    let mut client = client(&registry).await;
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
