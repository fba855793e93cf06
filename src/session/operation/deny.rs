//! Denials that change a session: those that end it, and reads that are asked back.

use std::sync::Arc;

use crate::session::{
    batch::{Batch, Call, Ending},
    event::EventKind,
    firewall::{Noted, OnDenial},
    index::View,
    operation::Operation,
    refinement::Refinement,
    state::{Counters, ExitClassification, Seq, TerminationReason},
};

/// What a denial does to its session.
#[derive(Debug)]
pub struct Deny {
    /// Which session.
    pub seq: Seq,
    /// What is not written yet of its denials, this one last.
    pub noted: Vec<Noted>,
    /// The path of a read outside the manifest.
    pub missed: Option<Box<str>>,
    /// How it ends the session; none: it does not by itself.
    pub ending: Option<Ending>,
    /// Who asked.
    pub call: Call,
}

/// What became of it.
#[derive(Debug)]
pub struct DeniedNow {
    /// Whether the session has ended, by this denial or another.
    pub ended: bool,
    /// The refinement that was asked for, now or before.
    pub refinement: Option<Arc<Refinement>>,
    /// The work id has had its refinements.
    pub exceeded: bool,
}

impl Operation for Deny {
    type Answer = DeniedNow;
    type Error = std::convert::Infallible;

    const REVOKES: bool = true;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<DeniedNow, Self::Error> {
        let Some(view) = batch.by_seq(self.seq).filter(|v| v.session.is_active()) else {
            return Ok(self.too_late(batch));
        };
        let before = Arc::clone(&view.session);
        let mut view = view;
        for noted in &self.noted {
            view = batch.put_denial(&view, noted);
        }
        let Some(path) = &self.missed else {
            if let Some(ending) = &self.ending {
                batch.end(&view, ending, EventKind::Terminated, &self.call);
            }
            return Ok(DeniedNow {
                ended: self.ending.is_some(),
                refinement: None,
                exceeded: false,
            });
        };
        let ends = before
            .firewall
            .as_ref()
            .is_some_and(|firewall| firewall.on_denial == OnDenial::End);
        if !ends && let Some(known) = batch.refinement_of(self.seq, Some(path)) {
            self.end_anyway(batch, &view);
            return Ok(DeniedNow {
                ended: self.ending.is_some(),
                refinement: Some(known),
                exceeded: false,
            });
        }
        let exceeded =
            batch.refinement_count(before.work_id()) >= crate::session::refinement::MAX_REFINEMENTS;
        if ends || exceeded {
            view = batch.end(&view, &missed(path), EventKind::Terminated, &self.call);
        } else {
            view = self.end_anyway(batch, &view).unwrap_or(view);
        }
        let refinement = batch.refine(&view, &before, path, &self.call);
        Ok(DeniedNow {
            ended: !view.session.is_active(),
            refinement,
            exceeded,
        })
    }
}

impl Deny {
    /// The session had ended already: whatever ended it, once is enough.
    fn too_late(&self, batch: &Batch<'_>) -> DeniedNow {
        DeniedNow {
            ended: true,
            refinement: batch.refinement_of(self.seq, None),
            exceeded: false,
        }
    }

    fn end_anyway(&self, batch: &mut Batch<'_>, view: &View) -> Option<View> {
        let ending = self.ending.as_ref()?;
        Some(batch.end(view, ending, EventKind::Terminated, &self.call))
    }
}

/// How a read outside the manifest ends a session.
fn missed(path: &str) -> Ending {
    let detail = crate::session::refinement::cut(path);
    ending(TerminationReason::ContextMiss, detail)
}

/// How a denial ends a session.
pub fn violation(detail: &str) -> Ending {
    ending(TerminationReason::PolicyViolation, detail)
}

fn ending(reason: TerminationReason, detail: &str) -> Ending {
    Ending {
        reason,
        detail: detail.into(),
        exit_classification: ExitClassification::Failure,
        exit_code: None,
        tokens_consumed: None,
        counters: Counters::default(),
    }
}
