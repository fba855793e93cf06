//! Manifests, denials and refinements in a batch.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Batch, Call};
use crate::{
    firewall::manifest::{Manifest, ManifestHash},
    session::{
        event::{About, EventKind},
        firewall::Noted,
        index::View,
        refinement::{MAX_REFINEMENTS, PENDING_MS, Refinement, RefinementId, RefinementState, cut},
        state::{Seq, Session},
        store::Change,
    },
};

/// What the batch itself has added.
#[derive(Debug, Default)]
pub(super) struct Asked {
    manifests: HashMap<ManifestHash, Arc<Manifest>>,
    refinements: HashMap<RefinementId, Arc<Refinement>>,
    counts: HashMap<Box<str>, u32>,
}

impl Batch<'_> {
    /// The manifest of that hash, stored or in this batch.
    pub fn manifest(&self, hash: &ManifestHash) -> Option<Arc<Manifest>> {
        let added = self.overlay.asked.manifests.get(hash);
        added.cloned().or_else(|| self.manifests.find(hash))
    }

    /// How many manifests there are.
    pub fn manifest_count(&self) -> usize {
        self.manifests.len() + self.overlay.asked.manifests.len()
    }

    /// Stores a manifest; whether it was not stored before.
    pub fn store_manifest(&mut self, manifest: &Arc<Manifest>) -> bool {
        let hash = manifest.hash();
        if self.manifest(&hash).is_some() {
            return false;
        }
        let added = Arc::clone(manifest);
        self.overlay.asked.manifests.insert(hash, added);
        let change = Change::PutManifest(Arc::clone(manifest));
        self.overlay.changes.push(change);
        true
    }

    /// Drops a manifest.
    pub fn drop_manifest(&mut self, hash: ManifestHash) {
        self.overlay.changes.push(Change::DropManifest(hash));
    }

    /// Writes a denial down.
    pub fn put_denial(&mut self, view: &View, noted: &Noted) -> View {
        let call = Call {
            actor: noted.actor.clone(),
            request: None,
        };
        let mut session = (*view.session).clone();
        let denials = &mut session.extra_mut().denials;
        *denials = noted.total.max(*denials);
        let about = About::Denial(Arc::clone(&noted.denial));
        self.put_about(session, view.live, EventKind::Denied, about, &call)
    }

    /// How many refinements a work id has had.
    pub fn refinement_count(&self, work: &str) -> u32 {
        let counted = self.overlay.asked.counts.get(work);
        counted
            .copied()
            .unwrap_or_else(|| self.refinements.count(work))
    }

    /// Counts the refinements of a work id from 0 again.
    pub fn reset_refinements(&mut self, work: &str) {
        if self.refinement_count(work) > 0 {
            self.overlay.asked.counts.insert(work.into(), 0);
            let change = Change::ResetRefinements(work.into());
            self.overlay.changes.push(change);
        }
    }

    /// The refinement of that name.
    pub fn refinement(&self, id: RefinementId) -> Option<Arc<Refinement>> {
        let changed = self.overlay.asked.refinements.get(&id);
        changed.cloned().or_else(|| self.refinements.find(id))
    }

    /// The refinement that a session asked for because of a path, or of any.
    pub fn refinement_of(&self, seq: Seq, path: Option<&str>) -> Option<Arc<Refinement>> {
        let known = self.refinements.of_session(seq);
        let added = self.overlay.asked.refinements.values().cloned();
        let fits = |it: &Arc<Refinement>| {
            it.session.seq == seq && path.is_none_or(|path| *it.path == *cut(path))
        };
        known.into_iter().chain(added).filter(fits).last()
    }

    /// Asks back for a path that a session missed; none when the work id has had
    /// its refinements. `before` is the session as it was when it missed.
    pub fn refine(
        &mut self,
        view: &View,
        before: &Arc<Session>,
        path: &str,
        call: &Call,
    ) -> Option<Arc<Refinement>> {
        let firewall = before.firewall.as_ref()?;
        let work = before.work_id();
        let count = self.refinement_count(work) + 1;
        if count > MAX_REFINEMENTS {
            return None;
        }
        let wall = self.now.wall;
        let deadline = before.expires.map_or(u64::MAX, |until| until.wall.get());
        let refinement = Refinement {
            id: RefinementId(self.numbers.revision.0 + 1),
            session: Arc::clone(before),
            manifest: Arc::clone(&firewall.manifest),
            path: cut(path).into(),
            count,
            created: wall,
            expires: deadline.min(wall + PENDING_MS),
            state: RefinementState::Pending,
            changed: wall,
        };
        self.overlay.asked.counts.insert(work.into(), count);
        let kind = EventKind::RefinementRequested;
        Some(self.put_refinement(Some(view), refinement, kind, call))
    }

    /// Asks again, after the first attempt could not be written.
    pub(in crate::session) fn ask_again(
        &mut self,
        seq: Seq,
        refinement: &Arc<Refinement>,
        call: &Call,
    ) {
        let again = Refinement {
            id: RefinementId(self.numbers.revision.0 + 1),
            ..(**refinement).clone()
        };
        let view = self.by_seq(seq);
        let kind = EventKind::RefinementRequested;
        self.put_refinement(view.as_ref(), again, kind, call);
    }

    /// Writes a refinement and tells of it; of a session that is forgotten, only
    /// the refinement.
    pub(in crate::session) fn put_refinement(
        &mut self,
        view: Option<&View>,
        refinement: Refinement,
        kind: EventKind,
        call: &Call,
    ) -> Arc<Refinement> {
        let refinement = Arc::new(refinement);
        let about = About::Refinement(Arc::clone(&refinement));
        if let Some(view) = view {
            let mut session = (*view.session).clone();
            if let RefinementState::Answered(successor) = &refinement.state {
                session.extra_mut().successor = Some(successor.clone());
            }
            self.put_about(session, view.live, kind, about, call);
        } else {
            self.numbers.revision.0 += 1;
            let none = crate::session::state::Revision::default();
            let event = self.event(kind, none, None, about, &call.actor);
            self.overlay.changes.push(Change::Note(event));
        }
        let changed = Arc::clone(&refinement);
        self.overlay
            .asked
            .refinements
            .insert(refinement.id, changed);
        refinement
    }

    /// Forgets a refinement.
    pub fn forget_refinement(&mut self, id: RefinementId) {
        self.overlay.changes.push(Change::ForgetRefinement(id));
    }

    /// Forgets how many refinements a work id has had.
    pub fn forget_count(&mut self, work: Box<str>) {
        self.overlay.changes.push(Change::ResetRefinements(work));
    }
}
