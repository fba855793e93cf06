//! A watch that survives restarts of the daemon.
//!
//! Owns the bookmark: every message moves it, and after a lost connection the
//! watch resumes behind it, so that nothing is missed and nothing seen twice.
//! When the bookmark is of no use any more (compacted away, or another
//! registry), it says so and begins again with a snapshot. Events that a
//! snapshot already shows are dropped here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Client, ClientError, Stream};
use crate::proto::admin::GetServerInfoResponse as Info;
use crate::proto::session::watch_sessions_request::Start as WireStart;
use crate::proto::session::{
    Event, Session, WatchFilter, WatchSessionsRequest, WatchSessionsResponse,
};
use crate::reason::Reason;

/// Between attempts to reach a daemon that is away. The last one is below the
/// second in which the end of a session must be noticed.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Where a watch begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// Behind a revision; the registry id, unless empty, is checked.
    After {
        /// The last revision already known.
        revision: u64,
        /// Of the answer the revision came from.
        registry_id: String,
    },
    /// With the live sessions, then what changed since.
    Snapshot,
}

/// What a watch saw.
#[derive(Debug)]
pub enum Update {
    /// Live sessions as they are. The rest follows unless `complete`.
    Snapshot {
        /// Part of them.
        sessions: Vec<Session>,
        /// The last part.
        complete: bool,
    },
    /// Changes, in order.
    Events(Vec<Event>),
    /// The connection is lost, and will be looked for until it is back.
    Lost(ClientError),
    /// The connection is back, and with it the watch.
    Resumed,
    /// What happened since the bookmark cannot be had; a snapshot comes next.
    Reset(ClientError),
}

/// A watch and its bookmark.
#[derive(Debug)]
pub struct Follow {
    client: Client,
    filter: WatchFilter,
    start: Start,
    stream: Option<Stream<WatchSessionsResponse>>,
    /// Whether the start is known to be good: before that, every error is final.
    established: bool,
    lost: bool,
    pause: Duration,
    /// Revisions of the snapshot's sessions, until the events are past them.
    shown: HashMap<String, u64>,
    /// Seen, not yet handed out.
    ready: VecDeque<Update>,
}

impl Follow {
    /// A watch that opens with the first [`Follow::next`]. Until it is open, every
    /// error is final: the start may be one that never was any good.
    pub fn new(client: Client, filter: WatchFilter, start: Start) -> Self {
        Self {
            client,
            filter,
            start,
            stream: None,
            established: false,
            lost: false,
            pause: FIRST_PAUSE,
            shown: HashMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// A watch behind an answer of the same daemon, which is waited for from the
    /// beginning.
    pub fn behind(client: Client, filter: WatchFilter, revision: u64, registry_id: String) -> Self {
        let start = Start::After {
            revision,
            registry_id,
        };
        Self {
            established: true,
            ..Self::new(client, filter, start)
        }
    }

    /// A watch of what happens from now on, that is from this call on.
    pub async fn from_now(client: Client, filter: WatchFilter) -> Result<Self, ClientError> {
        let Info {
            revision,
            registry_id,
            ..
        } = client.server_info().await?;
        Ok(Self::behind(client, filter, revision, registry_id))
    }

    /// The next thing seen. Fails only when waiting cannot help. May be dropped
    /// and called again without losing anything.
    pub async fn next(&mut self) -> Result<Update, ClientError> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            let Some(stream) = self.stream.as_mut() else {
                if let Some(update) = self.open().await? {
                    return Ok(update);
                }
                continue;
            };
            let error = match stream.next().await {
                Ok(Some(answer)) => {
                    self.take(answer);
                    continue;
                }
                Ok(None) => ClientError::stream_ended(self.client.socket()),
                Err(error) => error,
            };
            self.stream = None;
            return self.failed(error);
        }
    }

    async fn open(&mut self) -> Result<Option<Update>, ClientError> {
        if self.lost {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
        match self.client.watch_sessions(self.request()).await {
            Ok(stream) => {
                self.stream = Some(stream);
                self.established = true;
                self.pause = FIRST_PAUSE;
                Ok(std::mem::take(&mut self.lost).then_some(Update::Resumed))
            }
            Err(error) if self.lost && error.is_transient() => Ok(None),
            Err(error) => self.failed(error).map(Some),
        }
    }

    fn request(&self) -> WatchSessionsRequest {
        let (start, registry_id) = match &self.start {
            Start::After {
                revision,
                registry_id,
            } => (WireStart::AfterRevision(*revision), registry_id.clone()),
            Start::Snapshot => (WireStart::Snapshot(true), String::new()),
        };
        WatchSessionsRequest {
            start: Some(start),
            registry_id,
            filter: Some(self.filter.clone()),
        }
    }

    fn failed(&mut self, error: ClientError) -> Result<Update, ClientError> {
        if !self.established {
            return Err(error);
        }
        if error.is_transient() {
            self.lost = true;
            return Ok(Update::Lost(error));
        }
        match error.reason {
            Some(Reason::RevisionCompacted | Reason::RevisionUnknown | Reason::RegistryChanged) => {
                self.start = Start::Snapshot;
                self.shown.clear();
                Ok(Update::Reset(error))
            }
            _ => Err(error),
        }
    }

    /// Hands out one answer and moves the bookmark behind it.
    fn take(&mut self, answer: WatchSessionsResponse) {
        if !answer.snapshot.is_empty() || answer.snapshot_complete {
            let revisions = answer.snapshot.iter();
            self.shown
                .extend(revisions.map(|session| (session.session_id.clone(), session.revision)));
            self.ready.push_back(Update::Snapshot {
                sessions: answer.snapshot,
                complete: answer.snapshot_complete,
            });
        }
        let mut events = answer.events;
        events.retain(|event| self.is_news(event));
        if !events.is_empty() {
            self.ready.push_back(Update::Events(events));
        }
        // Inside a snapshot there is nothing to resume behind.
        if matches!(self.start, Start::Snapshot) && !answer.snapshot_complete {
            return;
        }
        if self.shown.values().all(|shown| *shown <= answer.through) {
            self.shown.clear();
        }
        self.start = Start::After {
            revision: answer.through,
            registry_id: answer.registry_id,
        };
    }

    fn is_news(&self, event: &Event) -> bool {
        event
            .session
            .as_ref()
            .and_then(|session| self.shown.get(&session.session_id))
            .is_none_or(|shown| event.revision > *shown)
    }
}
