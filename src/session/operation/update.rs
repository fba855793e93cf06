//! Changing what a session allows to be changed, and asking it to stop.

use std::num::NonZeroU32;

use crate::session::{
    batch::{Batch, Call, Target},
    error::TargetError,
    event::EventKind,
    index::View,
    operation::{Operation, register::Until},
    spec::Labels,
    state::Revision,
};

/// Changes labels, deadline or idle timeout; `None` leaves one as it is.
#[derive(Debug)]
pub struct Update {
    /// Which session.
    pub target: Target,
    /// All its labels from now on.
    pub labels: Option<Labels>,
    /// Its deadline from now on.
    pub until: Option<Until>,
    /// Its idle timeout from now on, in milliseconds; inner `None`: no limit.
    pub idle: Option<Option<NonZeroU32>>,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who changes it.
    pub call: Call,
}

impl Operation for Update {
    type Answer = View;
    type Error = TargetError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<View, TargetError> {
        let view = batch.live_target(&self.target, self.etag)?;
        let mut session = (*view.session).clone();
        if let Some(labels) = &self.labels {
            session.extra_mut().labels = Some(labels.clone());
        }
        if let Some(until) = self.until {
            session.expires = until.deadline(batch);
        }
        if let Some(idle) = self.idle {
            session.idle = idle;
        }
        Ok(batch.put(session, view.live, EventKind::Updated, &self.call))
    }
}

/// Asks an episode to stop.
#[derive(Debug)]
pub struct RequestStop {
    /// Which session.
    pub target: Target,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who asks.
    pub call: Call,
}

impl Operation for RequestStop {
    type Answer = View;
    type Error = TargetError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<View, TargetError> {
        let view = batch.live_target(&self.target, self.etag)?;
        if view.session.stop_requested() {
            return Ok(view);
        }
        let mut session = (*view.session).clone();
        session.extra_mut().stop_requested = true;
        Ok(batch.put(session, view.live, EventKind::StopRequested, &self.call))
    }
}
