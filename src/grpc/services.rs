//! The services of one socket, side by side.

use std::convert::Infallible;

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
    firewall::{self, FirewallApi},
    policy::Service,
    session::{self, SessionApi},
    status, watch,
};

/// Bytes of a request on operator.sock: a thousand registrations fit.
const OPERATOR_MESSAGE: usize = 4 * 1024 * 1024;

/// Bytes of a request on session.sock: one session says little.
const SESSION_MESSAGE: usize = 256 * 1024;

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
    message: usize,
}

struct Ready {
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

    fn new(health: &Health, reflection: bool, message: usize) -> Self {
        Self {
            ready: SetOnce::new(),
            health: HealthServer::new(HealthService::from_health_reporter(health.0.clone())),
            reflection: reflection.then(reflections),
            message,
        }
    }

    /// Serves from now on.
    pub fn serve(&self, apis: &Apis) {
        let session = SessionServiceServer::new(apis.session.clone())
            .max_decoding_message_size(self.message)
            .max_encoding_message_size(MAX_ANSWER);
        let firewall = FirewallServiceServer::new(apis.firewall.clone())
            .max_decoding_message_size(self.message)
            .max_encoding_message_size(MAX_ANSWER);
        let admin = AdminServiceServer::new(apis.admin.clone())
            .max_decoding_message_size(self.message)
            .max_encoding_message_size(MAX_ANSWER);
        let api = apis.session.clone();
        let _ = self.ready.set(Ready {
            api,
            session,
            firewall_api: apis.firewall.clone(),
            firewall,
            admin,
        });
    }

    /// The registry, once it is recovered.
    pub fn sessions(&self) -> Option<&Sessions> {
        self.ready.get().map(|ready| &ready.api.sessions)
    }

    /// Waits until the registry is recovered.
    pub async fn recovered(&self) {
        self.ready.wait().await;
    }

    /// Whether reflection is served.
    pub fn has_reflection(&self) -> bool {
        self.reflection.is_some()
    }

    /// Passes a call to the service that implements it.
    pub async fn call(&self, service: Service, request: Request<Incoming>) -> Response<Body> {
        let Ok(response) = match (service, self.ready.get(), &self.reflection) {
            (Service::Session, Some(ready), _) => ready.session.clone().call(request).await,
            (Service::Watch, Some(ready), _) => {
                Ok(Box::pin(watch::serve(&ready.api, request)).await)
            }
            (Service::Register, Some(ready), _) => {
                Ok(Box::pin(session::register(&ready.api, self.message, request)).await)
            }
            (Service::RegisterMany, Some(ready), _) => {
                Ok(Box::pin(session::register_many(&ready.api, self.message, request)).await)
            }
            (Service::Lookup, Some(ready), _) => {
                Ok(session::lookup(&ready.api, self.message, request).await)
            }
            (Service::Check, Some(ready), _) => {
                Ok(firewall::check(&ready.firewall_api, self.message, request).await)
            }
            (Service::Firewall, Some(ready), _) => ready.firewall.clone().call(request).await,
            (Service::Admin, Some(ready), _) => ready.admin.clone().call(request).await,
            (Service::Health, ..) => self.health.clone().call(request).await,
            (Service::ReflectionV1, _, Some((v1, _))) => v1.clone().call(request).await,
            (Service::ReflectionV1Alpha, _, Some((_, alpha))) => alpha.clone().call(request).await,
            (
                Service::Session
                | Service::Watch
                | Service::Register
                | Service::RegisterMany
                | Service::Lookup
                | Service::Check
                | Service::Firewall
                | Service::Admin,
                None,
                _,
            ) => Ok(tonic::Status::from(status::not_serving()).into_http()),
            (Service::ReflectionV1 | Service::ReflectionV1Alpha, _, None) => {
                Ok(tonic::Status::from(status::internal()).into_http())
            }
        };
        response
    }
}

/// Both versions: clients still ask for the older one.
fn reflections() -> (Reflection, Reflection) {
    let builder = || {
        tonic_reflection::server::Builder::configure()
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
