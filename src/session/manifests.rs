//! The manifests that are stored, shared by the sessions they apply to.
//!
//! The writer changes them, everybody reads. One that no session was bound to for
//! an hour is dropped.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::{
    clock::Now,
    firewall::manifest::{Manifest, ManifestHash},
};

/// Manifests stored at most.
pub const MAX_MANIFESTS: usize = 4096;

/// How long a manifest is kept without a session, in milliseconds.
const UNUSED_MS: u64 = 3_600_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Manifests(RwLock<HashMap<ManifestHash, Held>>);

#[derive(Debug)]
struct Held {
    manifest: Arc<Manifest>,
    /// Sessions, live or remembered.
    sessions: usize,
    /// Since when there are none, on the boot clock.
    unused_since: u64,
}

impl Manifests {
    /// The manifest of that hash.
    pub fn find(&self, hash: &ManifestHash) -> Option<Arc<Manifest>> {
        let held = self.0.read();
        held.get(hash).map(|held| Arc::clone(&held.manifest))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one.
    pub(super) fn add(&self, manifest: Arc<Manifest>, now: Now) {
        let held = Held {
            manifest,
            sessions: 0,
            unused_since: now.boot,
        };
        let mut all = self.0.write();
        all.entry(held.manifest.hash()).or_insert(held);
    }

    /// A session is bound to one.
    pub(super) fn bind(&self, hash: &ManifestHash) {
        if let Some(held) = self.0.write().get_mut(hash) {
            held.sessions += 1;
        }
    }

    /// A session that was bound to one is gone.
    pub(super) fn release(&self, hash: &ManifestHash, now: Now) {
        if let Some(held) = self.0.write().get_mut(hash) {
            held.sessions = held.sessions.saturating_sub(1);
            held.unused_since = now.boot;
        }
    }

    /// Drops one.
    pub(super) fn remove(&self, hash: &ManifestHash) {
        self.0.write().remove(hash);
    }

    /// Those that were not used for an hour.
    pub(super) fn unused(&self, now: Now) -> Vec<Arc<Manifest>> {
        let all = self.0.read();
        let is_unused =
            |held: &&Held| held.sessions == 0 && held.unused_since + UNUSED_MS <= now.boot;
        all.values()
            .filter(is_unused)
            .map(|held| Arc::clone(&held.manifest))
            .collect()
    }
}
