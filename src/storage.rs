//! The journal: one SQLite file.
//!
//! Owns the registry file, its schema and the files beside it (digest key,
//! reserve). Implements what `session::store` asks for. The writer thread owns
//! the only connection. Refuses to open a file that is foreign, newer or corrupt,
//! and leaves it byte for byte as it was.

mod backup;
mod ballast;
mod batch;
mod firewall;
mod journal;
mod key;
mod meta;
mod migrate;
mod open;
mod restore;
mod rows;
#[cfg(test)]
mod tests;

pub use journal::Journal;
pub use key::{KeyError, read_or_make as read_or_make_key};
pub use open::{Files, OpenError};
pub use restore::{RestoreError, restore};
