//! The first allowed write of an entry: from then on its content is not pinned.

use crate::session::{
    batch::{Batch, Call},
    error::TargetError,
    event::EventKind,
    operation::Operation,
    state::Seq,
};

/// Lifts pins.
#[derive(Debug)]
pub struct Lift {
    /// Of which session.
    pub seq: Seq,
    /// Entries of its manifest, by their place.
    pub entries: Vec<u32>,
    /// Who writes.
    pub call: Call,
}

impl Operation for Lift {
    type Answer = ();
    type Error = TargetError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<(), TargetError> {
        let view = batch.by_seq(self.seq);
        let view = view.filter(|view| view.session.is_active());
        let view = view.ok_or(TargetError::HandleNotAccepted)?;
        let mut lifted = view.session.lifted().to_vec();
        lifted.extend(&self.entries);
        lifted.sort_unstable();
        lifted.dedup();
        if lifted == view.session.lifted() {
            return Ok(());
        }
        let mut session = (*view.session).clone();
        session.extra_mut().lifted = lifted;
        batch.put(session, view.live, EventKind::PinLifted, &self.call);
        Ok(())
    }
}
