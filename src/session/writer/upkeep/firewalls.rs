//! What is due for the context firewall.

use tracing::warn;

use super::SLICE;
use crate::{
    clock::Now,
    session::{
        batch::Overlay,
        event::EventKind,
        refinement::{Refinement, RefinementState},
        store::AppendError,
        writer::Writer,
    },
};

impl Writer {
    /// Writes down denials nobody waits for.
    pub(super) fn write_denials(&mut self, all: bool, now: Now) -> Result<(), AppendError> {
        loop {
            let due = self.firewalls.denials.take_due(SLICE, all, now);
            if due.is_empty() {
                return Ok(());
            }
            let numbers = self.numbers;
            let mut overlay = Overlay::default();
            for (seq, noted) in &due {
                let mut batch = self.batch(&mut overlay, now);
                if let Some(view) = batch.by_seq(*seq) {
                    batch.put_denial(&view, noted);
                }
            }
            match self.append(&overlay, now) {
                Ok(()) if !all => return Ok(()),
                Ok(()) => {}
                Err(unknown @ AppendError::Unknown(_)) => return Err(unknown),
                Err(refused) => {
                    self.numbers = numbers;
                    let error = &refused as &dyn std::error::Error;
                    warn!(error, "denials not written");
                    self.firewalls.denials.give_back(due);
                    return Ok(());
                }
            }
        }
    }

    /// Refinements that nobody answered expire; closed ones, counts and manifests
    /// that nobody needs are dropped.
    pub(super) fn tidy_firewalls(&mut self, now: Now) -> Result<(), AppendError> {
        let (expired, forgotten) = self.firewalls.refinements.due(SLICE, now);
        let counts = self.firewalls.refinements.old_counts(SLICE, now);
        let unused = self.firewalls.manifests.unused(now);
        let numbers = self.numbers;
        let mut overlay = Overlay::default();
        let mut batch = self.batch(&mut overlay, now);
        let call = batch.daemon_call();
        for refinement in expired {
            let view = batch.by_seq(refinement.session.seq);
            let expired = Refinement {
                state: RefinementState::Expired,
                changed: now.wall,
                ..(*refinement).clone()
            };
            let kind = EventKind::RefinementExpired;
            batch.put_refinement(view.as_ref(), expired, kind, &call);
        }
        for id in forgotten {
            batch.forget_refinement(id);
        }
        for work in counts {
            batch.forget_count(work);
        }
        for manifest in unused {
            if !batch.refinements.needs(&manifest.hash()) {
                batch.drop_manifest(manifest.hash());
            }
        }
        match self.append(&overlay, now) {
            Ok(()) => Ok(()),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(refused) => {
                self.numbers = numbers;
                let error = &refused as &dyn std::error::Error;
                warn!(error, "refinements not tidied");
                Ok(())
            }
        }
    }
}
