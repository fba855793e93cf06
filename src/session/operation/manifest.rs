//! Storing manifests.

use std::sync::Arc;

use crate::{
    firewall::manifest::{Manifest, ManifestHash},
    session::{batch::Batch, error::ManifestError, manifests::MAX_MANIFESTS, operation::Operation},
};

/// Stores a manifest, once for each hash.
#[derive(Debug)]
pub struct PutManifest(pub Arc<Manifest>);

impl Operation for PutManifest {
    /// Whether it was not stored before.
    type Answer = bool;
    type Error = ManifestError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<bool, ManifestError> {
        check(batch, &Context::New(Arc::clone(&self.0)))?;
        Ok(batch.store_manifest(&self.0))
    }
}

/// A manifest that a session is to be bound to.
#[derive(Debug)]
pub enum Context {
    /// One that is stored.
    Stored(ManifestHash),
    /// One that is stored along with the session.
    New(Arc<Manifest>),
}

/// Whether the manifest can be had; changes nothing.
pub(super) fn check(batch: &Batch<'_>, context: &Context) -> Result<(), ManifestError> {
    let (hash, missing) = match context {
        Context::Stored(hash) => (*hash, ManifestError::NotFound),
        Context::New(_) if batch.manifest_count() < MAX_MANIFESTS => return Ok(()),
        Context::New(manifest) => (manifest.hash(), ManifestError::Quota),
    };
    batch.manifest(&hash).map(drop).ok_or(missing)
}

/// The manifest, stored if it comes along.
pub(super) fn take(
    batch: &mut Batch<'_>,
    context: &Context,
) -> Result<Arc<Manifest>, ManifestError> {
    check(batch, context)?;
    match context {
        Context::Stored(hash) => batch.manifest(hash).ok_or(ManifestError::NotFound),
        Context::New(manifest) => {
            batch.store_manifest(manifest);
            Ok(Arc::clone(manifest))
        }
    }
}
