//! Keys that are kept for a while: in locked memory, under an id, until a deadline.
//!
//! Owns the one copy of every key. [`Cache`](cache::Cache) decides who is still
//! there; [`Arena`](arena::Arena) holds the bytes and wipes them the moment they
//! are let go. Refuses a deadline that cannot be reached and a key for which there
//! is no locked memory. Knows no sockets, no files and no clock: every decision
//! takes a [`Now`](crate::clock::Now).

pub mod arena;
pub mod cache;
pub mod channel;
pub mod entry;
pub mod error;
pub mod grant;
