//! episoded: a local control plane for agent episodes.
//!
//! Sessions over gRPC on Unix sockets, journaled in SQLite. `docs/architecture.md`
//! says how the modules fit together and which may use which.

pub mod cli;
pub mod client;
pub mod paths;
pub mod proto;
pub mod reason;
