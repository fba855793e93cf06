//! The gRPC door of agent.sock, beside LBX2: the same keys.
//!
//! Keys travel sealed for a channel that belongs to a connection and is wiped with
//! it, so that no buffer of the transport holds one in clear.

mod api;
mod fields;
mod keys;
mod watch;

use std::sync::Arc;

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use hyper::body::Incoming;
use tokio::{net::UnixStream, sync::mpsc, time::timeout};
use tonic::body::Body;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder;
use tower_service::Service as _;
use zeroize::Zeroizing;

use self::api::Api;
use super::{channels::Channels, config::AgentConfig, keeper::Keeper};
use crate::{
    daemon::{
        connection::serve_calls,
        guard::{Connections, Peer},
    },
    grpc::{
        answer::AnswerBody,
        dispatch::{bearer, discard, give_reason},
        status::{self, Refusal, handle_not_accepted},
    },
    proto::{
        DESCRIPTORS,
        keycache::key_cache_service_server::{KeyCacheServiceServer, SERVICE_NAME},
    },
    reason::Reason,
};

/// The call that takes the shortest way.
const GET_KEY: &str = "/episoded.keycache.v1.KeyCacheService/GetKey";

/// Bytes of a request: a key, its names, and what wraps them.
const MAX_REQUEST: usize = 128 * 1024;

/// An answer is sent by then; what else lasts so long is refused.
const CALL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long calls that have begun may last once the process is to end.
const DRAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Calls that may come with a handle.
const OF_EPISODES: [&str; 2] = [GET_KEY, "/episoded.keycache.v1.KeyCacheService/OpenChannel"];

/// How often everything had been wiped when a call came.
#[derive(Debug, Clone, Copy)]
struct Begun(u64);

/// What a call shows of itself.
#[derive(Clone)]
enum Presented {
    Nothing,
    /// What stands behind `Bearer `.
    Handle(Arc<Zeroizing<Vec<u8>>>),
}

impl Presented {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::Nothing),
            (Some(value), None) => {
                let handle = Zeroizing::new(bearer(value.as_bytes()).to_vec());
                Ok(Self::Handle(Arc::new(handle)))
            }
            (Some(_), Some(_)) => Err(handle_not_accepted()),
        }
    }
}

/// See the module.
pub(super) struct Door {
    keeper: Arc<Keeper>,
    config: Arc<AgentConfig>,
    connections: Arc<Connections>,
    health: HealthServer<HealthService>,
    /// Held by every connection.
    open: mpsc::Sender<()>,
}

impl Door {
    /// Opens it, and tells its health. What follows ends with the last connection.
    pub(super) async fn new(
        keeper: &Arc<Keeper>,
        config: &Arc<AgentConfig>,
        connections: &Arc<Connections>,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let reporter = HealthReporter::new();
        for service in ["", SERVICE_NAME] {
            reporter
                .set_service_status(service, ServingStatus::Serving)
                .await;
        }
        let (open, closed) = mpsc::channel(1);
        let door = Self {
            keeper: Arc::clone(keeper),
            config: Arc::clone(config),
            connections: Arc::clone(connections),
            health: HealthServer::new(HealthService::from_health_reporter(reporter)),
            open,
        };
        (Arc::new(door), closed)
    }

    /// Serves a connection until it ends. `begun` was read from it already.
    pub(super) async fn serve(self: Arc<Self>, stream: UnixStream, begun: Vec<u8>, peer: &Peer) {
        let _open = self.open.clone();
        let stopping = self.keeper.stopping();
        let pid = i32::try_from(peer.pid).unwrap_or(0);
        let channels = self.keeper.new_channels();
        let call = move |request: Request<Incoming>| {
            let (door, channels) = (Arc::clone(&self), Arc::clone(&channels));
            async move {
                let answered = timeout(CALL_TIMEOUT, door.call(pid, channels, request)).await;
                let response = answered.unwrap_or_else(|_| status::late().into_http());
                give_reason(response).map(AnswerBody::from)
            }
        };
        if !serve_calls(stream, begun, call, stopping).await {
            tracing::debug!(pid, "connection did not open as HTTP/2");
        }
    }

    /// Streams have answered once they begin.
    async fn call(
        &self,
        pid: i32,
        channels: Arc<Channels>,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let Ok(response) = match service {
            SERVICE_NAME => {
                let path = request.uri().path();
                let (is_get, of_episodes) = (path == GET_KEY, OF_EPISODES.contains(&path));
                let presented = match Presented::of(request.headers()) {
                    Ok(Presented::Handle(_)) if !of_episodes => Err(not_of_episodes()),
                    presented => presented,
                };
                let presented = match presented {
                    Ok(presented) => presented,
                    Err(refusal) => {
                        discard(request.into_body()).await;
                        return refusal.into_http();
                    }
                };
                let begun = Begun(*self.keeper.wipes().borrow());
                self.keeper.touch();
                let api = Api {
                    keeper: Arc::clone(&self.keeper),
                    config: Arc::clone(&self.config),
                    peers_refused: self.connections.totals().peers_refused,
                    channels,
                    pid,
                };
                if is_get {
                    return keys::get(&api, MAX_REQUEST, presented, request).await;
                }
                request.extensions_mut().insert(begun);
                request.extensions_mut().insert(presented);
                KeyCacheServiceServer::new(api)
                    .max_decoding_message_size(MAX_REQUEST)
                    .call(request)
                    .await
            }
            "grpc.health.v1.Health" => self.health.clone().call(request).await,
            "grpc.reflection.v1.ServerReflection" => match reflection().build_v1() {
                Ok(mut reflection) => reflection.call(request).await,
                Err(_) => Ok(status::internal().into_http()),
            },
            "grpc.reflection.v1alpha.ServerReflection" => match reflection().build_v1alpha() {
                Ok(mut reflection) => reflection.call(request).await,
                Err(_) => Ok(status::internal().into_http()),
            },
            _ => {
                discard(request.into_body()).await;
                Ok(status::unknown_method().into_http())
            }
        };
        response
    }
}

/// Waits until the connections have finished what they had begun; `closed` is what
/// came with the door.
pub(super) async fn drain(door: Arc<Door>, mut closed: mpsc::Receiver<()>) {
    drop(door);
    let _ = timeout(DRAIN, closed.recv()).await;
}

/// Made when it is asked for: few ask, and the schema takes memory.
fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(SERVICE_NAME)
        .with_service_name("grpc.health.v1.Health")
}

fn not_of_episodes() -> Refusal {
    let message = "a call with a handle may take its session's keys, and nothing else";
    Refusal::new(Reason::OperatorOnly, message)
}
