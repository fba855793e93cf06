//! Binding a session to its episode.

use crate::{
    ids::EpisodeId,
    session::{
        batch::{Batch, Call, Target},
        error::BindError,
        event::EventKind,
        index::View,
        operation::Operation,
        state::{Process, Revision},
    },
};

/// Writes back what the spawn produced.
#[derive(Debug)]
pub struct Bind {
    /// Which session.
    pub target: Target,
    /// Its episode.
    pub episode: EpisodeId,
    /// The episode's process, looked up by the caller of the writer.
    pub process: Option<Process>,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who binds it.
    pub call: Call,
}

impl Operation for Bind {
    type Answer = View;
    type Error = BindError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<View, BindError> {
        let known = batch.repeated(self.call.request.as_ref());
        let view = batch.live_target(&self.target, None)?;
        if known.map_err(|_| BindError::RequestReused)? == Some(view.session.seq) {
            return Ok(view);
        }
        batch.check_etag(&view.session, self.etag)?;
        let bound = view.session.episode_id();
        let same_episode = bound == Some(self.episode.as_str());
        let process = view.session.process();
        let same_process = self.process.is_none() || process == self.process;
        if same_episode && same_process {
            return Ok(view);
        }
        if bound.is_some() && !same_episode || process.is_some() && !same_process {
            return Err(BindError::AlreadyBound(view.session));
        }
        let mut session = (*view.session).clone();
        session.names = session.names.with_episode(self.episode.as_str());
        if self.process.is_some() {
            session.extra_mut().process = self.process;
        }
        Ok(batch.put(session, view.live, EventKind::Bound, &self.call))
    }
}
