//! What a listing or a search may show.

use std::collections::BTreeMap;

use super::FirewallApi;
use crate::{
    firewall::{
        manifest::{Access, Manifest},
        path::{AbsolutePath, covers},
    },
    grpc::{
        caller::Caller,
        convert::request,
        status::{IntoRefusal, Refusal, Violations, internal},
        token::{self, Position},
    },
    proto::{firewall as pb, manifests},
    reason::Reason,
    session::{error::CheckError, index::View},
};

impl FirewallApi {
    pub(super) fn allowed(
        &self,
        caller: &Caller,
        wire: &pb::ListAllowedRequest,
    ) -> Result<pb::ListAllowedResponse, Refusal> {
        let view = self.view(caller, &wire.session_id)?;
        let name = view.session.id();
        let Some(firewall) = &view.session.firewall else {
            return Err(CheckError::NoFirewall.into_refusal(name));
        };
        let manifest = self.api.sessions.manifest(&firewall.manifest.hash);
        let manifest = manifest.ok_or_else(internal)?;
        let mut bad = Violations::default();
        let limit = request::page_size(wire.page_size, &mut bad);
        let directory = match wire.directory.as_str() {
            "" => Ok(firewall.workspace_root.clone()),
            text => firewall.workspace_root.join(text),
        };
        let directory = directory
            .map_err(|error| bad.add(Reason::InvalidPath, "directory", error.rule()))
            .ok();
        let Some(directory) = directory.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let registry = self.api.sessions.registry_id();
        let seal = format!("{name}\n{directory}\n{}", wire.recursive);
        let at = match wire.page_token.as_str() {
            "" => 0,
            token => token::open("allowed", registry, seal.as_bytes(), token)?.last,
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let all = shown(&view, &manifest, &directory, wire.recursive);
        let count = all.len();
        let paths: Vec<_> = all.into_values().skip(at).take(limit).collect();
        let end = at.saturating_add(paths.len());
        let next = (end < count && !paths.is_empty()).then(|| {
            let at = Position {
                first_revision: 0,
                last: end as u64,
            };
            token::seal("allowed", registry, seal.as_bytes(), at)
        });
        Ok(pb::ListAllowedResponse {
            paths,
            next_page_token: next.unwrap_or_default(),
        })
    }
}

/// What lies below a directory, or directly in it, by path.
fn shown(
    view: &View,
    manifest: &Manifest,
    directory: &AbsolutePath,
    recursive: bool,
) -> BTreeMap<String, pb::AllowedPath> {
    let mut all = BTreeMap::new();
    let Some(firewall) = &view.session.firewall else {
        return all;
    };
    let root = firewall.workspace_root.as_str().trim_end_matches('/');
    let Some(relative) = directory.below(&firewall.workspace_root) else {
        return all;
    };
    let mut add = |path: &str, leaf: pb::AllowedPath| {
        let child = match child(relative, path) {
            Some(child) if !recursive => child,
            _ => path,
        };
        let full = format!("{root}/{child}");
        let shown = if child == path {
            leaf
        } else {
            pb::AllowedPath {
                kind: pb::AllowedKind::Directory.into(),
                ..Default::default()
            }
        };
        let path = full.clone();
        // A tree that is also above entries is a tree.
        all.entry(full).or_insert(pb::AllowedPath { path, ..shown });
    };
    for tree in manifest.trees().iter().filter(|tree| tree.access.reads()) {
        let path = tree.path.as_str();
        let leaf = pb::AllowedPath {
            kind: pb::AllowedKind::Tree.into(),
            tree_access: manifests::shown_tree(tree.access).into(),
            ..Default::default()
        };
        if covers(relative, path) && path != relative {
            add(path, leaf);
        } else if covers(path, relative) {
            add(relative, leaf);
        }
    }
    let lifted = view.session.lifted();
    let same_file = manifest.entry(relative).map(|(_, entry)| entry);
    for entry in manifest.entries_below(relative).iter().chain(same_file) {
        let path = entry.path.as_str();
        let at = manifest.entry(path).map_or(0, |(at, _)| at);
        let pinned = entry.access != Access::ReadWrite || lifted.binary_search(&at).is_err();
        let leaf = pb::AllowedPath {
            kind: pb::AllowedKind::File.into(),
            access: manifests::shown_access(entry.access).into(),
            pinned,
            hash: if pinned {
                entry.hash.to_vec()
            } else {
                Vec::new()
            },
            size: entry.size.filter(|_| pinned),
            ..Default::default()
        };
        add(path, leaf);
    }
    all
}

/// The first step from a directory towards a path below it.
fn child<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    let start = if directory.is_empty() {
        0
    } else {
        directory.len() + 1
    };
    let rest = path.get(start..)?;
    let length = rest.find('/').unwrap_or(rest.len());
    Some(&path[..start + length])
}
