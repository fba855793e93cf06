//! Manifests in and out.

use prost::Message as _;
use tonic::{Status, Streaming};

use super::{FirewallApi, convert};
use crate::{
    firewall::manifest::ManifestHash,
    grpc::{
        caller::Caller,
        convert::request,
        status::{IntoRefusal, Refusal, Violations, internal},
        token::{self, Position},
    },
    proto::{firewall as pb, manifest as manifest_pb, manifests},
    reason::Reason,
    session::{
        error::{CheckError, ManifestError},
        operation::manifest::PutManifest,
    },
};

/// Bytes of a manifest on the wire.
const MAX_MANIFEST: usize = 64 * 1024 * 1024;

/// Bytes of entries in one page, well below the largest message.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

impl FirewallApi {
    pub(super) async fn put(
        &self,
        caller: &Caller,
        parts: Streaming<pb::PutManifestRequest>,
    ) -> Result<pb::PutManifestResponse, Status> {
        let whole = gather(parts).await?;
        let max_entries = self.api.sessions.limits().max_manifest_entries;
        // Ten thousand paths and hashes take some milliseconds.
        let built = tokio::task::spawn_blocking(move || manifests::build(whole, max_entries));
        let manifest = built.await.map_err(|_| internal())?.map_err(|faults| {
            let mut bad = Violations::default();
            convert::note_faults("", faults, &mut bad);
            bad.into_refusal()
        })?;
        let manifest = std::sync::Arc::new(manifest);
        let put = PutManifest(std::sync::Arc::clone(&manifest));
        let is_new = self.api.sessions.call(put, caller.wait()).await;
        let is_new = is_new.map_err(|error| error.into_refusal(""))?;
        Ok(pb::PutManifestResponse {
            manifest_hash: manifest.hash().0.to_vec(),
            manifest_id: manifest.manifest_id().to_owned(),
            already_stored: !is_new,
            entries: u32::try_from(manifest.entries().len()).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn manifest_page(
        &self,
        caller: &Caller,
        wire: &pb::GetManifestRequest,
    ) -> Result<pb::GetManifestResponse, Refusal> {
        let mut bad = Violations::default();
        let limit = match wire.page_size {
            0 => crate::session::limits::MAX_PAGE,
            size => request::page_size(size, &mut bad),
        };
        let hash = self.which(caller, wire, &mut bad)?;
        let Some(hash) = hash.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let manifest = self.api.sessions.manifest(&hash);
        let manifest = manifest.ok_or_else(|| ManifestError::NotFound.into_refusal(""))?;
        let registry = self.api.sessions.registry_id();
        let at = match wire.page_token.as_str() {
            "" => 0,
            token => token::open("manifest", registry, &hash.0, token)?.last,
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let mut page = if at == 0 {
            manifests::head(&manifest)
        } else {
            manifest_pb::Manifest::default()
        };
        let mut bytes = 0;
        let entries = manifest.entries().iter().skip(at).take(limit);
        for entry in entries.map(manifest_pb::Entry::from) {
            bytes += entry.encoded_len();
            if bytes > MAX_PAGE_BYTES && !page.entries.is_empty() {
                break;
            }
            page.entries.push(entry);
        }
        let end = at.saturating_add(page.entries.len());
        let next = (end < manifest.entries().len()).then(|| {
            let at = Position {
                first_revision: 0,
                last: end as u64,
            };
            token::seal("manifest", registry, &hash.0, at)
        });
        Ok(pb::GetManifestResponse {
            manifest: Some(page),
            manifest_hash: hash.0.to_vec(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    fn which(
        &self,
        caller: &Caller,
        wire: &pb::GetManifestRequest,
        bad: &mut Violations,
    ) -> Result<Option<ManifestHash>, Refusal> {
        use pb::get_manifest_request::Of;
        let session_id = match &wire.of {
            Some(Of::ManifestHash(bytes)) if caller.own.is_none() => {
                return Ok(convert::manifest_hash("manifest_hash", bytes, bad));
            }
            Some(Of::ManifestHash(_)) => {
                let message = "a handle reaches its own session's manifest only";
                return Err(Refusal::new(Reason::OperatorOnly, message));
            }
            Some(Of::SessionId(id)) => id.as_str(),
            None => "",
        };
        let view = self.view(caller, session_id)?;
        let firewall = view.session.firewall.as_ref();
        let firewall =
            firewall.ok_or_else(|| CheckError::NoFirewall.into_refusal(view.session.id()))?;
        Ok(Some(firewall.manifest.hash))
    }
}

async fn gather(
    mut parts: Streaming<pb::PutManifestRequest>,
) -> Result<manifest_pb::Manifest, Status> {
    let mut whole = manifest_pb::Manifest::default();
    let mut bytes = 0;
    while let Some(part) = parts.message().await? {
        let Some(part) = part.part else { continue };
        bytes += part.encoded_len();
        if bytes > MAX_MANIFEST {
            let message = "a manifest must be at most 64 MiB";
            return Err(Refusal::new(Reason::MessageTooLarge, message).into());
        }
        for (to, from) in [
            (&mut whole.manifest_id, part.manifest_id),
            (&mut whole.profile_id, part.profile_id),
        ] {
            if !from.is_empty() {
                *to = from;
            }
        }
        whole.entries.extend(part.entries);
        whole.trees.extend(part.trees);
        whole.tools.extend(part.tools);
        whole.commands.extend(part.commands);
        whole.named_tools.extend(part.named_tools);
        whole.network.extend(part.network);
        whole.models.extend(part.models);
        whole.artifacts.extend(part.artifacts);
    }
    Ok(whole)
}
