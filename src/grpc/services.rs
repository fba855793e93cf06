//! The services of one socket, side by side.

use std::{convert::Infallible, pin::Pin};

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::SetOnce;
use tonic::body::Body;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::util::BoxCloneSyncService;
use tower_service::Service as _;

use crate::proto::{
    DESCRIPTORS,
    admin::admin_service_server::{AdminServiceServer, SERVICE_NAME as ADMIN_SERVICE},
    firewall::firewall_service_server::{FirewallServiceServer, SERVICE_NAME as FIREWALL_SERVICE},
    session::session_service_server::{SERVICE_NAME as SESSION_SERVICE, SessionServiceServer},
};

use crate::session::service::Sessions;

use super::{
    admin::AdminApi,
    answer::MAX_ANSWER,
    caller::Caller,
    firewall::{self, FirewallApi},
    policy::{Common, Ours},
    session::{self, SessionApi},
    status, watch,
};

const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// Bytes of a request on operator.sock: a thousand registrations fit.
const OPERATOR_MESSAGE: usize = 4 * 1024 * 1024;

/// Bytes of a request on session.sock: one session says little.
const SESSION_MESSAGE: usize = 256 * 1024;

/// The answer to a call, on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

type Reflection = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// What is served once the registry is recovered.
#[derive(Clone)]
pub struct Apis {
    /// Sessions.
    pub session: SessionApi,
    /// Their firewalls.
    pub firewall: FirewallApi,
    /// The daemon.
    pub admin: AdminApi,
}

/// Health of every service, told to both sockets.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Not serving yet.
    pub async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(false).await;
        health
    }

    /// Tells everybody who asks or watches.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", SESSION_SERVICE, FIREWALL_SERVICE, ADMIN_SERVICE] {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// See the module.
pub struct Services {
    ready: SetOnce<Ready>,
    health: HealthServer<HealthService>,
    reflection: Option<(Reflection, Reflection)>,
    max_request: usize,
}

/// The services that there are once the registry is recovered.
pub struct Ready {
    max_request: usize,
    api: SessionApi,
    session: SessionServiceServer<SessionApi>,
    firewall_api: FirewallApi,
    firewall: FirewallServiceServer<FirewallApi>,
    admin: AdminServiceServer<AdminApi>,
}

impl Services {
    /// The services of operator.sock.
    pub fn for_operator(health: &Health) -> Self {
        Self::new(health, true, OPERATOR_MESSAGE)
    }

    /// The services of session.sock.
    pub fn for_session(health: &Health, reflection: bool) -> Self {
        Self::new(health, reflection, SESSION_MESSAGE)
    }

    fn new(health: &Health, reflection: bool, max_request: usize) -> Self {
        Self {
            ready: SetOnce::new(),
            health: HealthServer::new(HealthService::from_health_reporter(health.0.clone())),
            reflection: reflection.then(reflections),
            max_request,
        }
    }

    /// Serves from now on.
    pub fn serve(&self, apis: &Apis) {
        let session = SessionServiceServer::new(apis.session.clone())
            .max_decoding_message_size(self.max_request)
            .max_encoding_message_size(MAX_ANSWER);
        let firewall = FirewallServiceServer::new(apis.firewall.clone())
            .max_decoding_message_size(self.max_request)
            .max_encoding_message_size(MAX_ANSWER);
        let admin = AdminServiceServer::new(apis.admin.clone())
            .max_decoding_message_size(self.max_request)
            .max_encoding_message_size(MAX_ANSWER);
        let api = apis.session.clone();
        let _ = self.ready.set(Ready {
            max_request: self.max_request,
            api,
            session,
            firewall_api: apis.firewall.clone(),
            firewall,
            admin,
        });
    }

    /// What serves the registry, once it is recovered.
    pub fn ready(&self) -> Option<&Ready> {
        self.ready.get()
    }

    /// Waits until the registry is recovered.
    pub async fn recovered(&self) {
        self.ready.wait().await;
    }

    /// Whether reflection is served.
    pub fn has_reflection(&self) -> bool {
        self.reflection.is_some()
    }

    /// Passes a call to a service that every server has.
    pub fn call_common(&self, service: Common, request: Request<Incoming>) -> Answer<'_> {
        match (service, &self.reflection) {
            (Common::Health, _) => Box::pin(self.health.clone().call(request).map(sure)),
            (Common::ReflectionV1, Some((v1, _))) => Box::pin(v1.clone().call(request).map(sure)),
            (Common::ReflectionV1Alpha, Some((_, alpha))) => {
                Box::pin(alpha.clone().call(request).map(sure))
            }
            (Common::ReflectionV1 | Common::ReflectionV1Alpha, None) => {
                Box::pin(std::future::ready(status::unknown_method().into_http()))
            }
        }
    }
}

impl Ready {
    /// The registry.
    pub fn sessions(&self) -> &Sessions {
        &self.api.sessions
    }

    /// Passes a call to the service that implements it.
    pub fn call(&self, service: Ours, caller: Caller, request: Request<Incoming>) -> Answer<'_> {
        let (api, max) = (&self.api, self.max_request);
        match service {
            Ours::Register => Box::pin(session::register(api, max, caller, request)),
            Ours::Lookup => Box::pin(session::lookup(api, max, caller, request)),
            Ours::Check => Box::pin(firewall::check(&self.firewall_api, max, caller, request)),
            Ours::Session => {
                let answer = self.session.clone().call(from(caller, request));
                Box::pin(answer.map(sure))
            }
            Ours::Firewall => {
                let answer = self.firewall.clone().call(from(caller, request));
                Box::pin(answer.map(sure))
            }
            Ours::Admin => {
                let answer = self.admin.clone().call(from(caller, request));
                Box::pin(answer.map(sure))
            }
            Ours::Watch => Box::pin(watch::serve(api, from(caller, request))),
            Ours::RegisterMany => Box::pin(session::register_many(api, max, from(caller, request))),
        }
    }
}

/// The answer of a service that never fails without one.
fn sure(Ok(answer): Result<Response<Body>, Infallible>) -> Response<Body> {
    answer
}

/// The request, and who sent it.
fn from(caller: Caller, mut request: Request<Incoming>) -> Request<Incoming> {
    request.extensions_mut().insert(caller);
    request
}

/// Both versions: clients still ask for the older one.
fn reflections() -> (Reflection, Reflection) {
    // The key cache's service is in the descriptors, and is not served here.
    let named = [
        SESSION_SERVICE,
        FIREWALL_SERVICE,
        ADMIN_SERVICE,
        HEALTH_SERVICE,
    ];
    let builder = || {
        named
            .into_iter()
            .fold(
                tonic_reflection::server::Builder::configure(),
                tonic_reflection::server::Builder::with_service_name,
            )
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder()
        .build_v1()
        .expect("the descriptors come from the build");
    let alpha = builder()
        .build_v1alpha()
        .expect("the descriptors come from the build");
    (
        BoxCloneSyncService::new(v1),
        BoxCloneSyncService::new(alpha),
    )
}
