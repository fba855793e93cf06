//! The services of one socket, side by side.

use std::{convert::Infallible, pin::Pin};

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::SetOnce;
use tonic::{Status, body::Body};
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
    policy::Service,
    session::{self, SessionApi},
    status::{self, Refusal},
    watch,
};

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

    /// Passes a call to the service that implements it. Who calls is known for the
    /// daemon's own services.
    pub fn call(
        &self,
        service: Service,
        caller: Option<Caller>,
        request: Request<Incoming>,
    ) -> Answer<'_> {
        match (self.ready.get(), caller) {
            (Some(ready), Some(caller)) => ready.call(service, self.message, caller, request),
            (None, _) if service.is_ours() => refuse(status::not_serving()),
            _ => Box::pin(self.call_common(service, request)),
        }
    }

    /// Passes a call to a service that every server has.
    async fn call_common(&self, service: Service, request: Request<Incoming>) -> Response<Body> {
        let Ok(response) = match (service, &self.reflection) {
            (Service::Health, _) => self.health.clone().call(request).await,
            (Service::ReflectionV1, Some((v1, _))) => v1.clone().call(request).await,
            (Service::ReflectionV1Alpha, Some((_, alpha))) => alpha.clone().call(request).await,
            _ => Ok(Status::from(status::internal()).into_http()),
        };
        response
    }
}

impl Ready {
    fn call(
        &self,
        service: Service,
        max_request: usize,
        caller: Caller,
        mut request: Request<Incoming>,
    ) -> Answer<'_> {
        let api = &self.api;
        match service {
            Service::Register => {
                return Box::pin(session::register(api, max_request, caller, request));
            }
            Service::Lookup => {
                return Box::pin(session::lookup(api, max_request, caller, request));
            }
            Service::Check => {
                let firewall = &self.firewall_api;
                return Box::pin(firewall::check(firewall, max_request, caller, request));
            }
            _ => {}
        }
        request.extensions_mut().insert(caller);
        let answered = |Ok(answer): Result<_, Infallible>| answer;
        match service {
            Service::Session => Box::pin(self.session.clone().call(request).map(answered)),
            Service::Firewall => Box::pin(self.firewall.clone().call(request).map(answered)),
            Service::Admin => Box::pin(self.admin.clone().call(request).map(answered)),
            Service::Watch => Box::pin(watch::serve(api, request)),
            Service::RegisterMany => Box::pin(session::register_many(api, max_request, request)),
            Service::Register
            | Service::Lookup
            | Service::Check
            | Service::Health
            | Service::ReflectionV1
            | Service::ReflectionV1Alpha => refuse(status::internal()),
        }
    }
}

fn refuse<'a>(refusal: Refusal) -> Answer<'a> {
    Box::pin(std::future::ready(Status::from(refusal).into_http()))
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
