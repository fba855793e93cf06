//! What happened: the newest from memory, the rest from the journal.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::Sessions;
use crate::session::{
    error::{CallError, ResumeError},
    event::{About, Event, EventKind},
    feed::Found,
    filter::EventFilter,
    index::View,
    limits::MAX_SCAN,
    state::{Revision, Seq},
    store::{Order, ReadError},
};

/// A page of past events.
#[derive(Debug)]
pub struct History {
    /// What matched, newest first.
    pub events: Vec<Arc<Event>>,
    /// Before which revision the next page begins; none: there is none.
    pub next: Option<Revision>,
}

/// Past events cannot be had.
#[derive(Debug)]
pub enum EventsError {
    /// The place to start at cannot be served.
    Resume(ResumeError),
    /// The journal cannot be read.
    Read(ReadError),
}

impl Sessions {
    /// Tells when the newest revision moves.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.shared.feed.subscribe()
    }

    /// Whether a watch can start after `revision`.
    pub fn check_resume(&self, revision: Revision) -> Result<(), ResumeError> {
        let current = self.revision();
        let oldest = self.shared.tally.read().compacted;
        if revision > current {
            Err(ResumeError::Unknown { current })
        } else if revision < oldest {
            Err(ResumeError::Compacted { oldest })
        } else {
            Ok(())
        }
    }

    /// At most `limit` events after `cursor`, oldest first, and how far they
    /// reach: everything up to there has been seen.
    pub async fn events_after(
        &self,
        cursor: Revision,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision), CallError<EventsError>> {
        match self.shared.feed.after(cursor, limit) {
            Found::Events(events, through) => Ok((events, through)),
            Found::Older => self.older_events(cursor, limit).await,
        }
    }

    async fn older_events(
        &self,
        cursor: Revision,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision), CallError<EventsError>> {
        let refused = |error| CallError::Refused(EventsError::Resume(error));
        self.check_resume(cursor).map_err(refused)?;
        let tally = Arc::clone(&self.shared.tally);
        let read = self.read(move |store| {
            let events = store.events(cursor, Order::Forward, limit)?;
            // On the thread that deletes events: what these begin with is not moved
            // meanwhile.
            Ok((events, tally.read().compacted))
        });
        let (stored, oldest) = flatten(read.await)?;
        if cursor < oldest {
            return Err(refused(ResumeError::Compacted { oldest }));
        }
        let mut events = Vec::with_capacity(stored.len());
        for event in stored {
            if event.restart().is_some() {
                self.expand_restart(&event, cursor, limit - events.len(), &mut events);
                let through = events
                    .last()
                    .map_or(cursor, |last: &Arc<Event>| last.revision);
                if events.len() >= limit {
                    return Ok((events, through));
                }
            }
            events.push(event);
            if events.len() >= limit {
                break;
            }
        }
        let through = events.last().map_or(cursor, |last| last.revision);
        Ok((events, through))
    }

    /// The sessions that came back at a restart, each at the revision that the
    /// restart reserved for it.
    fn expand_restart(
        &self,
        event: &Arc<Event>,
        cursor: Revision,
        limit: usize,
        into: &mut Vec<Arc<Event>>,
    ) {
        let Some(restart) = event.restart() else {
            return;
        };
        let span = event.revision.0.saturating_sub(restart.base.0 + 1);
        let skipped = cursor.0.saturating_sub(restart.base.0).min(span);
        let end = restart.first_seq.0 + span;
        let mut after = Seq((restart.first_seq.0 + skipped).saturating_sub(1));
        let mut left = limit;
        while left > 0 {
            let slice = self.shared.index.after(after, left.min(1024));
            let Some(last) = slice.last() else { return };
            after = last.session.seq;
            for view in slice {
                if view.session.seq.0 >= end {
                    return;
                }
                let was_live = view.session.is_active() || view.session.revision > event.revision;
                let revision = restart.derived(view.session.seq).filter(|_| was_live);
                if let Some(revision) = revision {
                    into.push(came_back(event, revision, view));
                    left -= 1;
                }
            }
        }
    }

    /// Past events before a revision, newest first: looks at a bounded number.
    pub async fn history(
        &self,
        filter: EventFilter,
        before: Revision,
        limit: usize,
    ) -> Result<History, CallError<EventsError>> {
        const SLICE: usize = 1000;
        // Times of events may step back with the wall clock, but not by a day.
        const CLOCK_STEP: u64 = 24 * 3_600_000;
        let mut events = Vec::new();
        let mut cursor = before;
        let mut looked_at = 0;
        loop {
            let read = self
                .read(move |store| store.events(cursor, Order::Backward, SLICE))
                .await;
            let slice = flatten(read)?;
            if slice.is_empty() {
                return Ok(History { events, next: None });
            }
            for event in slice {
                cursor = event.revision;
                looked_at += 1;
                let too_old = filter
                    .start
                    .is_some_and(|start| event.at + CLOCK_STEP < start);
                if filter.matches(&event) {
                    events.push(event);
                }
                if events.len() >= limit || looked_at >= MAX_SCAN {
                    return Ok(History {
                        events,
                        next: Some(cursor),
                    });
                }
                if too_old {
                    return Ok(History { events, next: None });
                }
            }
        }
    }
}

fn flatten<T>(
    read: Result<Result<T, ReadError>, CallError<ReadError>>,
) -> Result<T, CallError<EventsError>> {
    match read {
        Ok(Ok(events)) => Ok(events),
        Ok(Err(error)) => Err(CallError::Refused(EventsError::Read(error))),
        Err(CallError::Busy) => Err(CallError::Busy),
        Err(_) => Err(CallError::Stopping),
    }
}

/// What a watcher is told of a session that came back: it was live then, whatever
/// became of it since.
fn came_back(event: &Event, revision: Revision, view: View) -> Arc<Event> {
    let mut session = view.session;
    if session.record().is_some() {
        let extra = Arc::make_mut(&mut session).extra_mut();
        extra.record = None;
        extra.ending = false;
    }
    let kind = if session.lease.is_some() {
        EventKind::LeaseRevoked
    } else {
        EventKind::Recovered
    };
    Arc::new(Event {
        revision,
        previous: Revision::default(),
        kind,
        at: event.at,
        actor: event.actor.clone(),
        session: Some(session),
        live: view.live,
        about: About::Session,
        encoded: OnceLock::new(),
    })
}
