//! Watching refinements: the same cursor as a watch of sessions, narrowed to what
//! tells of refinements.

use std::time::Duration;

use tonic::Status;

use super::{convert, refinements::Filter};
use crate::{
    grpc::{
        caller::Caller,
        convert::show::timestamp,
        outbox::Outbox,
        session::SessionApi,
        status::{IntoRefusal, Refusal, Violations},
        watch::follow::{self, Answers, Follower, Over},
    },
    proto::firewall as pb,
    session::{refinement::RefinementId, state::Revision},
};

/// Events looked at together, and changes in one answer at most.
const MAX_CHANGES: usize = 256;

/// Without a change the bookmark moves at least this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

type Stream = Answers<pb::WatchRefinementsResponse>;

/// Begins to watch; refuses before the first answer what cannot be served.
pub(super) fn begin(
    api: &SessionApi,
    caller: &Caller,
    wire: pb::WatchRefinementsRequest,
) -> Result<Stream, Refusal> {
    let mut bad = Violations::default();
    let filter = Filter::parse(wire.filter, &mut bad);
    if !bad.is_empty() {
        return Err(bad.into_refusal());
    }
    let cursor = api.cursor(&wire.registry_id, wire.after_revision)?;
    let watcher = |answers| Watcher {
        api: api.clone(),
        filter,
        snapshot: wire.after_revision.is_none(),
        cursor,
        told: tokio::time::Instant::now(),
        answers,
    };
    Ok(follow::answers(api, caller, watcher))
}

struct Watcher {
    api: SessionApi,
    filter: Filter,
    /// Begins with what waits for an answer.
    snapshot: bool,
    cursor: Revision,
    told: tokio::time::Instant,
    answers: Outbox<Result<pb::WatchRefinementsResponse, Status>>,
}

impl Follower for Watcher {
    async fn begin(&mut self) {
        let snapshot = self.snapshot;
        let pending = if snapshot { self.pending() } else { Vec::new() };
        self.send(pending, |answer| answer.snapshot_complete = snapshot)
            .await;
    }

    async fn catch_up(&mut self, to: Revision) -> Result<(), Over> {
        while self.cursor < to {
            let sessions = &self.api.sessions;
            let (events, through) = match sessions.events_after(self.cursor, MAX_CHANGES).await {
                Ok(found) => found,
                Err(error) => {
                    let status: Status = error.into_refusal("").into();
                    self.answers.send(Err(status)).await;
                    return Err(Over);
                }
            };
            self.cursor = through.max(self.cursor);
            let change = |event: &std::sync::Arc<crate::session::event::Event>| {
                let refinement = event.refinement().filter(|it| self.filter.matches(it))?;
                Some(pb::RefinementChange {
                    refinement: Some(convert::refinement(refinement)),
                    revision: event.revision.0,
                    time: Some(timestamp(event.at)),
                })
            };
            let changes: Vec<_> = events.iter().filter_map(change).collect();
            if !changes.is_empty() || self.told.elapsed() > BOOKMARK_EVERY {
                self.told = tokio::time::Instant::now();
                self.send(changes, |_| {}).await;
            }
        }
        Ok(())
    }

    async fn last(&mut self) {
        self.send(Vec::new(), |answer| answer.r#final = true).await;
    }
}

impl Watcher {
    fn pending(&self) -> Vec<pb::RefinementChange> {
        let all = self.api.sessions.refinements();
        let all = all.after(RefinementId::default(), usize::MAX);
        let wanted = all
            .iter()
            .filter(|it| it.is_pending() && self.filter.matches(it));
        let change =
            |it: &std::sync::Arc<crate::session::refinement::Refinement>| pb::RefinementChange {
                refinement: Some(convert::refinement(it)),
                revision: 0,
                time: Some(timestamp(it.changed)),
            };
        wanted.map(change).collect()
    }

    async fn send(
        &self,
        mut changes: Vec<pb::RefinementChange>,
        last: impl FnOnce(&mut pb::WatchRefinementsResponse),
    ) {
        loop {
            let rest = changes.split_off(changes.len().min(MAX_CHANGES));
            let mut answer = pb::WatchRefinementsResponse {
                changes,
                through: self.cursor.0,
                registry_id: self.api.registry_id(),
                node: self.api.node(),
                ..Default::default()
            };
            if rest.is_empty() {
                last(&mut answer);
                self.answers.send(Ok(answer)).await;
                return;
            }
            self.answers.send(Ok(answer)).await;
            changes = rest;
        }
    }
}
