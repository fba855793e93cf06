//! The context firewall: what a session may read, write and run.
//!
//! Owns the manifest, the normal form of paths, the reading of commands, and the
//! one decision that puts them together. A decision is a pure function of the
//! manifest, the roots, what the session has lifted so far, and the request: it
//! looks at no file and knows no session. Everything that is not allowed is
//! denied. Only [`read`] opens files, once a decision allows it.

pub mod command;
pub mod decide;
pub mod manifest;
pub mod path;
pub mod read;
