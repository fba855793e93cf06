//! The generated protobuf types, services and descriptors.
//!
//! Owns nothing but the code that `build.rs` generates, the `Debug` of the
//! messages that carry a credential, which never prints one, and the conversion of
//! manifests, which the daemon and the CLI share.

pub mod manifests;

/// As the packages lie: generated code finds its neighbours by `super`.
mod packages {
    #![allow(
        missing_docs,
        reason = "generated from the protos, which are documented"
    )]
    #![allow(
        clippy::all,
        clippy::pedantic,
        reason = "generated code keeps its own style"
    )]

    macro_rules! package {
        ($($name:ident = $package:literal;)*) => {
            $(pub mod $name {
                pub mod v1 {
                    tonic::include_proto!($package);
                }
            })*
        };
    }

    package! {
        admin = "episoded.admin.v1";
        firewall = "episoded.firewall.v1";
        keycache = "episoded.keycache.v1";
        manifest = "episoded.manifest.v1";
        session = "episoded.session.v1";
    }
}

/// `episoded.admin.v1`.
pub use packages::admin::v1 as admin;
/// `episoded.firewall.v1`.
pub use packages::firewall::v1 as firewall;
/// `episoded.keycache.v1`.
pub use packages::keycache::v1 as keycache;
/// `episoded.manifest.v1`.
pub use packages::manifest::v1 as manifest;
/// `episoded.session.v1`.
pub use packages::session::v1 as session;

/// Every file descriptor the daemon serves, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod redacted {
    use std::fmt;

    use super::session::{
        RegisterSessionRequest, RenewLeaseRequest, Session, TerminateSessionsRequest,
        terminate_sessions_request::Selector,
    };

    const REDACTED: &str = "[REDACTED]";

    /// `""` for an absent secret, so that a log tells "none" from "some".
    fn shown(secret: &str) -> &'static str {
        if secret.is_empty() { "" } else { REDACTED }
    }

    impl fmt::Debug for Session {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Session")
                .field("session_id", &self.session_id)
                .field("work_id", &self.work_id)
                .field("role", &self.role())
                .field("ephemeral_handle", &shown(&self.ephemeral_handle))
                .field("lease_id", &shown(&self.lease_id))
                .field("episode_id", &self.episode_id)
                .field("status", &self.status())
                .field("lease_state", &self.lease_state())
                .field("revision", &self.revision)
                .field("termination", &self.termination)
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for RegisterSessionRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("RegisterSessionRequest")
                .field("session_id", &self.session_id)
                .field("work_id", &self.work_id)
                .field("role", &self.role)
                .field("lease_id", &shown(&self.lease_id))
                .field("request_id", &self.request_id)
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for RenewLeaseRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("RenewLeaseRequest")
                .field("lease_id", &shown(&self.lease_id))
                .field("lease_holder", &self.lease_holder)
                .field("session_id", &self.session_id)
                .field("take_over", &self.take_over)
                .field("request_id", &self.request_id)
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for TerminateSessionsRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TerminateSessionsRequest")
                .field("selector", &self.selector)
                .field("reason", &self.reason)
                .field("dry_run", &self.dry_run)
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for Selector {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::LeaseId(lease) => f.debug_tuple("LeaseId").field(&shown(lease)).finish(),
                Self::WorkId(work) => f.debug_tuple("WorkId").field(work).finish(),
                Self::Filter(filter) => f.debug_tuple("Filter").field(filter).finish(),
            }
        }
    }
}
