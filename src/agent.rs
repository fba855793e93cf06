//! keycached: the process that keeps keys.
//!
//! Owns agent.sock, the one [`Cache`](crate::keycache::cache::Cache) and the life of
//! the process. One thread does everything; nothing it waits for is done while the
//! cache is held, so no client can delay another, nor an end of all keys.
//!
//! ```text
//! take what was handed over -> find a log -> harden -> configure -> lock the directory
//!   -> lock memory -> listen -> serve -> stop | SIGTERM | idle -> wipe -> remove the socket
//! ```
//!
//! A socket that the supervisor made stays, and with one nobody is idle for too long.

pub mod activity;
pub mod args;
mod channels;
pub mod check;
pub mod config;
mod connection;
mod crowd;
mod frame;
mod harden;
mod keeper;
mod log;
mod owners;
mod put;
mod rpc;
pub mod run;
mod sleep;
