//! A watcher that resumes where it was cut off.

use std::sync::Arc;

use episoded::proto::session as pb;
use tonic::Status;

use super::load::Shared;
use super::watched::{DERIVED, Heard};
use crate::harness::Client;

/// What it heard so far, and its bookmark.
#[derive(Debug, Default)]
pub struct Watcher {
    pub heard: Vec<Heard>,
    through: u64,
    registry_id: String,
}

impl Watcher {
    /// Follows until the connection breaks.
    pub async fn follow(mut self, client: Client, shared: Arc<Shared>) -> Self {
        let broken = self.hear_until(client, &shared, u64::MAX).await;
        broken.expect_err("the watch does not end by itself");
        self
    }

    /// Follows until everything up to the revision was heard.
    pub async fn hear_until(
        &mut self,
        mut client: Client,
        shared: &Shared,
        until: u64,
    ) -> Result<(), Status> {
        let request = pb::WatchSessionsRequest {
            start: Some(pb::watch_sessions_request::Start::AfterRevision(
                self.through,
            )),
            registry_id: self.registry_id.clone(),
            filter: None,
        };
        let mut answers = client.watch_sessions(request).await?.into_inner();
        while self.through < until {
            let answer = answers.message().await?;
            let answer = answer.ok_or_else(|| Status::unknown("the stream ended"))?;
            for event in answer.events {
                self.hear(event, shared);
            }
            assert!(answer.through >= self.through, "the bookmark moves on");
            self.through = answer.through;
            self.registry_id = answer.registry_id;
        }
        Ok(())
    }

    fn hear(&mut self, event: pb::Event, shared: &Shared) {
        let kind = event
            .kind()
            .as_str_name()
            .strip_prefix("EVENT_KIND_")
            .expect("an event has a kind");
        let session = event.session.map(|session| session.session_id);
        if let Some(id) = &session
            && !DERIVED.contains(&kind)
        {
            shared.with(|ledger| ledger.watched(id, event.revision));
        }
        self.heard.push(Heard {
            revision: event.revision,
            kind,
            session,
        });
    }
}
