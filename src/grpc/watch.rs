//! Watching: a cursor over the feed, for each watcher.
//!
//! An answer carries what happened within a few milliseconds. A watcher that
//! falls behind is served from the journal; nothing is queued for it.

mod codec;

use std::{future::Future, iter::Peekable, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body, server::ServerStreamingService};

use crate::{
    proto::session as pb,
    session::{
        event::Event,
        filter::EventFilter,
        state::{Revision, Seq},
    },
};

pub(super) use codec::Answer;
use codec::{WatchCodec, encode_event};

use super::{
    answer::MAX_PART,
    authorised::Authorised,
    caller::Caller,
    convert::filter,
    session::SessionApi,
    status::{IntoRefusal, Refusal, Violations},
};

/// Events in one answer at most.
const MAX_EVENTS: usize = 256;

/// Sessions in one part of a snapshot.
const SNAPSHOT_PART: usize = 256;

/// For so long an answer gathers what else happens.
const GATHER: Duration = Duration::from_millis(5);

/// Without a matching event the bookmark moves at least this often, so that a
/// watcher of little does not fall behind what is kept.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

/// What a watcher receives.
pub(super) type Stream = Authorised<ReceiverStream<Result<Answer, Status>>>;

/// Serves a watch, with answers that share their encoded events.
pub(super) async fn serve(api: &SessionApi, request: Request<Incoming>) -> Response<Body> {
    let mut grpc = tonic::server::Grpc::new(WatchCodec);
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
    let (answers, stream) = mpsc::channel(2);
    let watcher = Watcher {
        api: api.clone(),
        filter,
        cursor,
        told: tokio::time::Instant::now(),
        answers,
    };
    tokio::spawn(watcher.run(snapshot));
    let stream = ReceiverStream::new(stream);
    Ok(Authorised::new(&api.sessions, caller, stream))
}

struct Watcher {
    api: SessionApi,
    filter: EventFilter,
    cursor: Revision,
    /// When it was last told something.
    told: tokio::time::Instant,
    answers: mpsc::Sender<Result<Answer, Status>>,
}

/// The watcher went away, or was told why it ends.
struct Over;

impl Watcher {
    async fn run(mut self, snapshot: bool) {
        let mut newest = self.api.sessions.subscribe();
        let mut draining = self.api.draining.clone();
        let begun = if snapshot {
            self.snapshot().await
        } else {
            self.bookmark().await
        };
        if begun.is_err() {
            return;
        }
        loop {
            if self.catch_up().await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = self.answers.closed() => return,
                () = async { let _ = draining.wait_for(|draining| *draining).await; } => {
                    let _ = self.finish().await;
                    return;
                }
                moved = async { newest.wait_for(|newest| *newest > self.cursor).await.is_ok() } => {
                    if !moved {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                }
            }
        }
    }

    async fn send(&self, head: pb::WatchSessionsResponse) -> Result<(), Over> {
        self.send_events(head, Vec::new()).await
    }

    async fn send_events(
        &self,
        head: pb::WatchSessionsResponse,
        events: Vec<Bytes>,
    ) -> Result<(), Over> {
        self.answers
            .send(Ok(Answer { head, events }))
            .await
            .map_err(|_| Over)
    }

    fn answer(&self) -> pb::WatchSessionsResponse {
        pb::WatchSessionsResponse {
            through: self.cursor.0,
            registry_id: self.api.registry_id(),
            node: self.api.node(),
            ..Default::default()
        }
    }

    /// Tells where the watch begins.
    async fn bookmark(&self) -> Result<(), Over> {
        self.send(self.answer()).await
    }

    /// The live sessions that match, in parts.
    async fn snapshot(&self) -> Result<(), Over> {
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
                .await?;
            }
        }
        self.send(pb::WatchSessionsResponse {
            snapshot_complete: true,
            ..self.answer()
        })
        .await
    }

    /// Sends everything up to now.
    async fn catch_up(&mut self) -> Result<(), Over> {
        while self.cursor < self.api.sessions.revision() {
            let read = self
                .api
                .sessions
                .events_after(self.cursor, MAX_EVENTS)
                .await;
            let (events, through) = match read {
                Ok(found) => found,
                Err(error) => {
                    let status: Status = error.into_refusal("").into();
                    let _ = self.answers.send(Err(status)).await;
                    return Err(Over);
                }
            };
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
                self.send_events(self.answer(), events).await?;
            }
            self.cursor = through.max(self.cursor);
            if self.told.elapsed() > BOOKMARK_EVERY {
                self.told = tokio::time::Instant::now();
                self.send(self.answer()).await?;
            }
        }
        Ok(())
    }

    fn matching(&self, events: &[Arc<Event>]) -> Vec<(Revision, Bytes)> {
        let shower = self.api.shower();
        let encoded = |event: &Arc<Event>| {
            let encode = || encode_event(shower.event(event));
            (event.revision, event.encoded.get_or_init(encode).clone())
        };
        let matching = events.iter().filter(|event| self.filter.matches(event));
        matching.map(encoded).collect()
    }

    /// The last answer of a daemon that stops.
    async fn finish(&mut self) -> Result<(), Over> {
        self.catch_up().await?;
        self.send(pb::WatchSessionsResponse {
            r#final: true,
            ..self.answer()
        })
        .await
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
