//! What the daemon shows.

use std::collections::BTreeMap;

use super::{Fate, Lease};

/// One session in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub fate: Fate,
    pub work_id: String,
    pub episode: Option<String>,
    pub number: u64,
    pub lease: Lease,
    pub stop_requested: bool,
    pub count: u64,
    pub revision: u64,
}

/// One look at everything.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub sessions: BTreeMap<String, Seen>,
    /// The handles that were tried, with the session each was accepted for.
    pub handles: BTreeMap<String, Option<String>>,
    /// The work ids that were looked up, with the session each found.
    pub works: BTreeMap<String, Option<String>>,
    /// How many live sessions the daemon says it has.
    pub live: u64,
    /// How many ended ones.
    pub ended: u64,
}
