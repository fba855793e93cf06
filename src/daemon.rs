//! The daemon `episoded`: from a process to two served sockets.
//!
//! Owns what a process needs around the services: the lock on the state, the
//! sockets and who may come in through them, and the word to the supervisor.

pub mod args;
pub(crate) mod connection;
pub mod guard;
pub mod listen;
pub mod lock;
pub mod notify;
pub mod run;
