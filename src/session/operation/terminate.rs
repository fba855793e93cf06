//! Ending sessions, and taking back a registration.

use crate::{
    ids::WorkId,
    secret::LeaseDigest,
    session::{
        batch::{Batch, Call, Ending, Target},
        error::{RemoveError, TargetError},
        event::EventKind,
        filter::Filter,
        index::View,
        limits::MAX_ITEMS,
        operation::Operation,
        state::{Revision, Seq, Status},
    },
};

/// Ends a session.
#[derive(Debug)]
pub struct Terminate {
    /// Which session.
    pub target: Target,
    /// How.
    pub ending: Ending,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who ends it.
    pub call: Call,
}

/// A session that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The session with its record.
    pub view: View,
    /// It had ended before; the record is the first.
    pub already: bool,
}

impl Operation for Terminate {
    type Answer = Ended;
    type Error = TargetError;

    const REVOKES: bool = true;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Ended, TargetError> {
        let view = batch.target(&self.target)?;
        if view.session.status() == Status::Terminated {
            return Ok(Ended {
                view,
                already: true,
            });
        }
        batch.check_etag(&view.session, self.etag)?;
        let view = batch.end(&view, &self.ending, EventKind::Terminated, &self.call);
        Ok(Ended {
            view,
            already: false,
        })
    }
}

/// Which sessions end together.
#[derive(Debug)]
pub enum Selector {
    /// Those of a lease.
    Lease(LeaseDigest),
    /// Those of a work id.
    Work(WorkId),
    /// Those that match.
    Filter(Filter),
}

/// Ends many sessions.
#[derive(Debug)]
pub struct TerminateMany {
    /// Which.
    pub selector: Selector,
    /// How.
    pub ending: Ending,
    /// Only tell which.
    pub dry_run: bool,
    /// Who ends them.
    pub call: Call,
}

/// Sessions that have ended, or would.
#[derive(Debug)]
pub struct EndedMany {
    /// At most [`MAX_ITEMS`].
    pub views: Vec<View>,
    /// How many more match.
    pub remaining: u64,
    /// The revision that has all of this.
    pub revision: Revision,
}

impl Operation for TerminateMany {
    type Answer = EndedMany;
    type Error = std::convert::Infallible;

    const REVOKES: bool = true;

    fn is_alone(&self) -> bool {
        true
    }

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<EndedMany, Self::Error> {
        let mut views = self.matching(batch);
        let remaining = views.len().saturating_sub(MAX_ITEMS) as u64;
        views.truncate(MAX_ITEMS);
        let mut revision = batch.index.index().revision();
        if !self.dry_run {
            for view in &mut views {
                *view = batch.end(view, &self.ending, EventKind::Terminated, &self.call);
                revision = view.session.revision;
            }
        }
        Ok(EndedMany {
            views,
            remaining,
            revision,
        })
    }
}

impl TerminateMany {
    fn matching(&self, batch: &Batch<'_>) -> Vec<View> {
        match &self.selector {
            Selector::Lease(digest) => batch.index.of_lease(digest, usize::MAX),
            Selector::Work(work) => batch.index.of_work(work.as_str(), usize::MAX),
            Selector::Filter(filter) => scan(batch, filter),
        }
    }
}

fn scan(batch: &Batch<'_>, filter: &Filter) -> Vec<View> {
    const SLICE: usize = 1024;
    let index = batch.index.index();
    let mut found = Vec::new();
    let mut cursor = Seq::default();
    loop {
        let slice = index.after(cursor, SLICE);
        let Some(last) = slice.last() else {
            return found;
        };
        cursor = last.session.seq;
        let wanted = |view: &View| view.session.is_active() && filter.matches(view);
        found.extend(slice.into_iter().filter(wanted));
    }
}

/// Takes a registration back.
#[derive(Debug)]
pub struct Remove {
    /// Which session.
    pub target: Target,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who takes it back.
    pub call: Call,
}

impl Operation for Remove {
    type Answer = View;
    type Error = RemoveError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<View, RemoveError> {
        let view = batch.live_target(&self.target, self.etag)?;
        let bound = view.session.process().is_some();
        if view.live.handle_used || bound || view.session.episode_id().is_some() {
            return Err(RemoveError::InUse(view.session));
        }
        batch.remove(&view, &self.call);
        Ok(view)
    }
}
