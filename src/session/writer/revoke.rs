//! Revocations that cannot be written: they take effect in memory at once, and are
//! tried again until they land.

use std::sync::Arc;

use tracing::warn;

use super::{Writer, outcome_of, settle};
use crate::session::{
    batch::{Call, Overlay},
    event::{Event, EventKind},
    operation::{Job, Outcome},
    refinement::Refinement,
    state::{Seq, Session, Status},
    store::{AppendError, Change},
};

/// A revocation that is not durable yet.
#[derive(Debug)]
pub(super) struct Unwritten {
    seq: Seq,
    kind: EventKind,
    /// The refinement that goes with it.
    refinement: Option<Arc<Refinement>>,
    call: Call,
}

impl Writer {
    /// Decides revocations again, alone, with the reserve released; those that
    /// still cannot be written take effect in memory and are tried again.
    pub(super) fn revoke(&mut self, jobs: Vec<Box<dyn Job>>) -> Result<(), AppendError> {
        if jobs.is_empty() {
            return Ok(());
        }
        self.store.release_ballast();
        self.upkeep.ballast_released();
        let now = self.clock.now();
        let numbers = self.numbers;
        let mut overlay = Overlay::default();
        let mut decided = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            job.decide(&mut self.batch(&mut overlay, now));
            decided.push(job);
        }
        match self.append(&overlay, now) {
            Ok(()) => {
                self.refill_ballast();
                settle(decided, Outcome::Committed);
            }
            Err(unknown @ AppendError::Unknown(_)) => {
                settle(decided, Outcome::Unknown);
                return Err(unknown);
            }
            Err(refused) => {
                self.numbers = numbers;
                self.doom(overlay.into_changes());
                settle(decided, outcome_of(&refused));
            }
        }
        Ok(())
    }

    /// Refuses the handles of sessions whose end or rotation is not durable.
    pub(super) fn doom(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Change::Put {
                session,
                event: Some(event),
                request,
                ..
            } = change
            else {
                continue;
            };
            if let Some(refinement) = event.refinement() {
                self.unwritten.push(Unwritten {
                    seq: session.seq,
                    kind: event.kind,
                    refinement: Some(Arc::clone(refinement)),
                    call: unnamed(&event),
                });
            }
            if !revokes(event.kind) {
                continue;
            }
            let mut doomed = (*session).clone();
            if doomed.record().is_some() {
                doomed.extra_mut().ending = true;
            } else {
                doomed.handle = None;
                doomed.extra_mut().rotated = None;
            }
            let before = self.index.index().by_seq(session.seq);
            doomed.revision = before.map_or(session.revision, |view| view.session.revision);
            let doomed = Arc::new(doomed);
            self.index.replace(&doomed);
            warn!(
                session_id = doomed.id(),
                "revocation not written yet, handle refused"
            );
            self.unwritten.push(Unwritten {
                seq: session.seq,
                kind: event.kind,
                refinement: None,
                call: Call {
                    actor: event.actor.clone(),
                    request,
                },
            });
        }
    }

    /// Tries again to write revocations that took effect in memory only.
    pub(super) fn retry_unwritten(&mut self) -> Result<(), AppendError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let numbers = self.numbers;
        let mut overlay = Overlay::default();
        let unwritten = std::mem::take(&mut self.unwritten);
        for item in &unwritten {
            let current = self.index.index().by_seq(item.seq);
            let Some(current) = current.filter(|view| is_unwritten(&view.session)) else {
                continue;
            };
            let mut session = (*current.session).clone();
            if let Some(extra) = session.extra.as_mut() {
                extra.ending = false;
            }
            let mut batch = self.batch(&mut overlay, now);
            match &item.refinement {
                Some(refinement) => batch.ask_again(item.seq, refinement, &item.call),
                None => drop(batch.put(session, current.live, item.kind, &item.call)),
            }
        }
        match self.append(&overlay, now) {
            Ok(()) => Ok(()),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(_) => {
                self.numbers = numbers;
                self.unwritten = unwritten;
                Ok(())
            }
        }
    }
}

/// Whether a revocation of it is in memory only. Somebody may have ended it, or
/// given it another handle, durably in the meantime.
fn is_unwritten(session: &Session) -> bool {
    match session.status() {
        Status::Ending => true,
        Status::Active => session.handle.is_none(),
        Status::Terminated => false,
    }
}

/// Whether an event of that kind ends a handle.
fn revokes(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Terminated | EventKind::Evicted | EventKind::HandleRotated
    )
}

fn unnamed(event: &Event) -> Call {
    Call {
        actor: event.actor.clone(),
        request: None,
    }
}
