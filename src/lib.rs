//! episoded: a local control plane for agent episodes.
//!
//! Sessions over gRPC on Unix sockets, journaled in SQLite. `docs/architecture.md`
//! says how the modules fit together and which may use which.

pub mod agent;
pub mod authority;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod firewall;
pub mod grpc;
pub mod ids;
pub mod keycache;
pub mod paths;
pub mod proto;
pub mod reason;
pub mod secret;
pub mod session;
pub mod storage;
pub mod telemetry;
