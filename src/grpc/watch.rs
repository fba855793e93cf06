//! Watching: a cursor over the feed, for each watcher.
//!
//! An answer carries what happened within a few milliseconds. A watcher that
//! falls behind is served from the journal; nothing is queued for it.

mod beat;
pub(super) mod follow;

use std::{future::Future, iter::Peekable, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;

use tonic::{Status, body::Body, server::ServerStreamingService};

use crate::{
    proto::session as pb,
    session::{
        event::Event,
        filter::EventFilter,
        state::{Revision, Seq},
    },
};

use beat::Beat;
pub use beat::Beats;
use follow::{Answers, Follower, Over};

use super::{
    answer::MAX_PART,
    caller::Caller,
    convert::filter,
    outbox::Outbox,
    parts::{self, PartsCodec},
    session::SessionApi,
    status::{IntoRefusal, Refusal, Violations},
};

/// Events in one answer at most.
const MAX_EVENTS: usize = 256;

/// Sessions in one part of a snapshot.
const SNAPSHOT_PART: usize = 256;

/// Without a matching event the bookmark moves at least this often, so that a
/// watcher of little does not fall behind what is kept.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

/// One answer, with events that are encoded once for all watchers.
pub(super) type Answer = parts::Answer<pb::WatchSessionsResponse>;

/// What a watcher receives.
pub(super) type Stream = Answers<Answer>;

/// Serves a watch, with answers that share their encoded events.
pub(super) async fn serve(api: &SessionApi, request: Request<Incoming>) -> Response<Body> {
    let mut grpc = tonic::server::Grpc::new(PartsCodec::default());
    grpc.server_streaming(Watches(api.clone()), request).await
}

struct Watches(SessionApi);

impl ServerStreamingService<pb::WatchSessionsRequest> for Watches {
    type Response = Answer;
    type ResponseStream = Stream;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Stream>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<pb::WatchSessionsRequest>) -> Self::Future {
        let begun = Caller::of(request.extensions())
            .cloned()
            .and_then(|caller| Ok(begin(&self.0, &caller, request.into_inner())?));
        Box::pin(async { Ok(tonic::Response::new(begun?)) })
    }
}

/// Begins to watch; refuses before the first answer what cannot be served.
pub(super) fn begin(
    api: &SessionApi,
    caller: &Caller,
    wire: pb::WatchSessionsRequest,
) -> Result<Stream, Refusal> {
    use pb::watch_sessions_request::Start;
    let mut bad = Violations::default();
    let filter = filter::watch_filter(wire.filter, &mut bad).filter(|_| bad.is_empty());
    let Some(filter) = filter else {
        return Err(bad.into_refusal());
    };
    let (after, snapshot) = match wire.start {
        None => (None, false),
        Some(Start::Snapshot(wanted)) => (None, wanted),
        Some(Start::AfterRevision(revision)) => (Some(revision), false),
    };
    let cursor = api.cursor(&wire.registry_id, after)?;
    let watcher = |answers| Watcher {
        api: api.clone(),
        filter,
        snapshot,
        cursor,
        told: tokio::time::Instant::now(),
        answers,
    };
    Ok(follow::answers(api, caller, watcher))
}

struct Watcher {
    api: SessionApi,
    filter: EventFilter,
    /// Begins with the live sessions.
    snapshot: bool,
    cursor: Revision,
    /// When it was last told something.
    told: tokio::time::Instant,
    answers: Outbox<Result<Answer, Status>>,
}

impl Follower for Watcher {
    async fn begin(&mut self) {
        if self.snapshot {
            self.snapshot().await;
        } else {
            self.send(self.answer()).await;
        }
    }

    async fn catch_up(&mut self, to: Revision) -> Result<(), Over> {
        while self.cursor < to {
            let read = self
                .api
                .sessions
                .events_after(self.cursor, MAX_EVENTS)
                .await;
            let (mut events, through) = match read {
                Ok((events, through)) => (events, through.min(to)),
                Err(error) => {
                    let status: Status = error.into_refusal("").into();
                    self.answers.send(Err(status)).await;
                    return Err(Over);
                }
            };
            events.truncate(events.partition_point(|event| event.revision <= to));
            let mut matching = self.matching(&events).into_iter().peekable();
            while matching.peek().is_some() {
                let part = take_part(&mut matching, |(_, event)| event.len());
                // The last part says that all was looked at.
                self.cursor = match (part.last(), matching.peek()) {
                    (Some((revision, _)), Some(_)) => *revision,
                    _ => through.max(self.cursor),
                };
                let events = part.into_iter().map(|(_, event)| event).collect();
                self.told = tokio::time::Instant::now();
                self.send_events(self.answer(), events).await;
            }
            self.cursor = through.max(self.cursor);
            if self.told.elapsed() > BOOKMARK_EVERY {
                self.told = tokio::time::Instant::now();
                self.send(self.answer()).await;
            }
        }
        Ok(())
    }

    async fn follow(&mut self, beat: &Beat) -> Result<(), Over> {
        let in_step = self.cursor == beat.after && !beat.events.is_empty();
        if in_step && self.filter == EventFilter::default() {
            let all = beat.encoded(self.encoder());
            if all.len() <= MAX_PART {
                self.cursor = beat.through;
                self.told = tokio::time::Instant::now();
                self.send_events(self.answer(), vec![all]).await;
                return Ok(());
            }
        }
        self.catch_up(beat.through).await
    }

    async fn last(&mut self) {
        self.send(pb::WatchSessionsResponse {
            r#final: true,
            ..self.answer()
        })
        .await;
    }
}

impl Watcher {
    async fn send(&self, head: pb::WatchSessionsResponse) {
        self.send_events(head, Vec::new()).await;
    }

    async fn send_events(&self, head: pb::WatchSessionsResponse, fields: Vec<Bytes>) {
        self.answers.send(Ok(Answer { head, fields })).await;
    }

    fn answer(&self) -> pb::WatchSessionsResponse {
        pb::WatchSessionsResponse {
            through: self.cursor.0,
            registry_id: self.api.registry_id(),
            node: self.api.node(),
            ..Default::default()
        }
    }

    /// The live sessions that match, in parts.
    async fn snapshot(&self) {
        let mut after = Seq::default();
        loop {
            let slice = self.api.sessions.index().after(after, SNAPSHOT_PART);
            let Some(last) = slice.last() else { break };
            after = last.session.seq;
            let shower = self.api.shower();
            let wanted = slice.iter().filter(|view| {
                view.session.is_active() && self.filter.matches_session(&view.session)
            });
            let shown: Vec<_> = wanted.map(|view| shower.session(view)).collect();
            let mut shown = shown.into_iter().peekable();
            while shown.peek().is_some() {
                let part = take_part(&mut shown, prost::Message::encoded_len);
                self.send(pb::WatchSessionsResponse {
                    snapshot: part,
                    ..self.answer()
                })
                .await;
            }
        }
        self.send(pb::WatchSessionsResponse {
            snapshot_complete: true,
            ..self.answer()
        })
        .await;
    }

    fn matching(&self, events: &[Arc<Event>]) -> Vec<(Revision, Bytes)> {
        let encode = self.encoder();
        let matching = events.iter().filter(|event| self.filter.matches(event));
        matching
            .map(|event| (event.revision, encode(event)))
            .collect()
    }

    /// Encodes an event as it lies in an answer, once.
    fn encoder(&self) -> impl Fn(&Arc<Event>) -> Bytes {
        let shower = self.api.shower();
        move |event| {
            let encode = || {
                let alone = pb::WatchSessionsResponse {
                    events: vec![shower.event(event)],
                    ..Default::default()
                };
                alone.encode_to_vec().into()
            };
            event.encoded.get_or_init(encode).clone()
        }
    }
}

/// As many as fit one answer, at least one.
fn take_part<T>(
    items: &mut Peekable<impl Iterator<Item = T>>,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<T> {
    let mut part: Vec<T> = items.next().into_iter().collect();
    let mut bytes: usize = part.iter().map(&bytes_of).sum();
    while let Some(next) = items.next_if(|next| bytes + bytes_of(next) <= MAX_PART) {
        bytes += bytes_of(&next);
        part.push(next);
    }
    part
}
