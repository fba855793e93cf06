//! Sessions: identity, credential, lease and record of episodes.
//!
//! Owns every rule about them. One thread, the [`writer`], makes all changes: it
//! decides each call against the [`index`] plus its own batch, appends the batch
//! to a [`store`], and only then shows it. Everybody else reads the index through
//! [`service::Sessions`]. Refuses what the errors in [`error`] say; knows nothing
//! of gRPC, SQLite or configuration files.

pub mod batch;
pub mod denials;
pub mod error;
pub mod event;
pub mod expiry;
pub mod feed;
pub mod filter;
pub mod firewall;
pub mod index;
pub mod limits;
pub mod manifests;
pub mod operation;
pub mod recovery;
pub mod refinement;
pub mod requests;
pub mod service;
pub mod spec;
pub mod state;
pub mod store;
pub mod writer;
