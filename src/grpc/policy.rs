//! Who may call what: one row for every method. A method without a row is
//! refused.

/// Who implements a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// It is about the registry, and so waits for its recovery and knows its
    /// callers.
    Ours(Ours),
    /// Every server has it.
    Common(Common),
}

/// episoded's own services, and the methods of them that have a way of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// `episoded.session.v1.SessionService`.
    Session,
    /// `WatchSessions` of the same service.
    Watch,
    /// `RegisterSession` of the same service.
    Register,
    /// `RegisterSessions` of the same service.
    RegisterMany,
    /// `LookupSession` of the same service.
    Lookup,
    /// `episoded.firewall.v1.FirewallService`.
    Firewall,
    /// `CheckToolRequest` of the same service.
    Check,
    /// `episoded.admin.v1.AdminService`.
    Admin,
}

/// The services of gRPC itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Common {
    /// `grpc.health.v1.Health`.
    Health,
    /// `grpc.reflection.v1.ServerReflection`.
    ReflectionV1,
    /// `grpc.reflection.v1alpha.ServerReflection`.
    ReflectionV1Alpha,
}

/// What a method accepts on session.sock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSession {
    /// Nothing: the operator's.
    Refused,
    /// A call made with a session's own handle.
    WithHandle,
    /// Any call.
    Open,
    /// Any call, if the configuration says so.
    IfConfigured,
}

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// As in the request's path.
    pub path: &'static str,
    /// Who implements it.
    pub service: Service,
    /// What it accepts on session.sock.
    pub on_session: OnSession,
    /// Answers once, and so has a deadline of ours.
    pub unary: bool,
    /// A handle that was just replaced may still come with it.
    pub repeats_rotation: bool,
}

const fn method(path: &'static str, service: Ours, on_session: OnSession) -> Method {
    Method {
        path,
        service: Service::Ours(service),
        on_session,
        unary: true,
        repeats_rotation: false,
    }
}

const fn stream(path: &'static str, service: Ours, on_session: OnSession) -> Method {
    Method {
        unary: false,
        ..method(path, service, on_session)
    }
}

const fn common(path: &'static str, service: Common, on_session: OnSession) -> Method {
    Method {
        path,
        service: Service::Common(service),
        on_session,
        unary: false,
        repeats_rotation: false,
    }
}

macro_rules! session {
    ($name:literal) => {
        concat!("/episoded.session.v1.SessionService/", $name)
    };
}

macro_rules! firewall {
    ($name:literal) => {
        concat!("/episoded.firewall.v1.FirewallService/", $name)
    };
}

macro_rules! admin {
    ($name:literal) => {
        concat!("/episoded.admin.v1.AdminService/", $name)
    };
}

use Common::{Health, ReflectionV1, ReflectionV1Alpha};
use OnSession::{IfConfigured, Open, Refused, WithHandle};
use Ours::{Admin, Check, Firewall, Lookup, Register, RegisterMany, Session, Watch};

/// Every method that is served.
pub const METHODS: &[Method] = &[
    method(session!("RegisterSession"), Register, Refused),
    method(session!("RegisterSessions"), RegisterMany, Refused),
    method(session!("GetSession"), Session, Refused),
    method(session!("LookupSession"), Lookup, WithHandle),
    method(session!("ListSessions"), Session, Refused),
    method(session!("BindEpisode"), Session, Refused),
    method(session!("RenewLease"), Session, Refused),
    Method {
        repeats_rotation: true,
        ..method(session!("RotateHandle"), Session, WithHandle)
    },
    method(session!("UpdateSession"), Session, Refused),
    method(session!("HeartbeatSession"), Session, WithHandle),
    method(session!("RequestStop"), Session, Refused),
    method(session!("TerminateSession"), Session, WithHandle),
    method(session!("TerminateSessions"), Session, Refused),
    method(session!("RemoveSession"), Session, Refused),
    stream(session!("WatchSessions"), Watch, Refused),
    method(session!("ListEvents"), Session, Refused),
    method(firewall!("CheckToolRequest"), Check, WithHandle),
    stream(firewall!("CheckToolRequests"), Firewall, WithHandle),
    stream(firewall!("ReadFile"), Firewall, WithHandle),
    method(firewall!("ListAllowed"), Firewall, WithHandle),
    method(firewall!("GetManifest"), Firewall, WithHandle),
    method(firewall!("ExplainRequest"), Firewall, WithHandle),
    method(firewall!("PutManifest"), Firewall, Refused),
    method(firewall!("ListRefinements"), Firewall, Refused),
    stream(firewall!("WatchRefinements"), Firewall, Refused),
    method(firewall!("ReissueContext"), Firewall, Refused),
    method(firewall!("DeclineRefinement"), Firewall, Refused),
    method(admin!("GetServerInfo"), Admin, Refused),
    stream(admin!("Backup"), Admin, Refused),
    method(admin!("Shutdown"), Admin, Refused),
    common("/grpc.health.v1.Health/Check", Health, Open),
    common("/grpc.health.v1.Health/List", Health, Open),
    common("/grpc.health.v1.Health/Watch", Health, Open),
    common(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ReflectionV1,
        IfConfigured,
    ),
    common(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ReflectionV1Alpha,
        IfConfigured,
    ),
];

/// The row of a path.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}
