//! The services, on the wire.
//!
//! Owns everything that knows protobuf on the daemon's side: what each method
//! may be called by ([`policy`]), how a call gets there ([`dispatch`]), the
//! conversions, and the one mapping from refusals to status ([`status`]). A
//! handler parses, makes one call into the domain, and replies. Decides nothing
//! about sessions itself, and never touches storage.

pub mod admin;
pub mod answer;
mod authorised;
pub mod caller;
pub(crate) mod convert;
pub(crate) mod direct;
pub mod dispatch;
pub mod firewall;
mod outbox;
mod parts;
pub mod policy;
pub mod services;
pub mod session;
pub mod status;
mod token;
mod watch;
