//! What keeps a running session alive and sees its end.
//!
//! Owns the calls while the child runs: bind it once, a heartbeat now and then,
//! and a watch on the session. It tells the supervisor what it must act on and
//! goes on whatever the daemon does; a daemon that is away is waited for.

mod successor;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::output::note;
use crate::client::{Client, ClientError, Follow, Handle, Update};
use crate::proto::session::{
    BindEpisodeRequest, Event, EventKind, GetSessionRequest, HeartbeatSessionRequest, Session,
    SessionStatus, TerminationReason,
};

use crate::reason::Reason;
pub use successor::OnMiss;

/// More than a session can say that matters: bound, stop, ended.
const QUEUE: usize = 8;

/// What the supervisor acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The first attempt to bind is over.
    Bound,
    /// Somebody asks the episode to stop.
    StopRequested,
    /// The episode itself ended its session, with its handle.
    EndedItself,
    /// Somebody else ended the session.
    Ended,
}

/// The news; dropping them ends the keeper.
pub struct Newspaper {
    news: mpsc::Receiver<News>,
    keeper: JoinHandle<()>,
    current: Arc<Mutex<String>>,
}

impl Newspaper {
    /// The session that is kept now.
    pub fn session_id(&self) -> String {
        self.current.lock().clone()
    }

    /// The next news; none are left once the session has ended.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Newspaper {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The session's end.
enum Over {
    /// Nothing is left to keep, and the supervisor knows.
    Told,
    /// It missed something, and another may go on in its place.
    Missed,
}

/// Keeps one session.
pub struct Keeper {
    operator: Client,
    /// Speaks for the session, until its handle is rotated away.
    own: Option<Client>,
    bind: Option<BindEpisodeRequest>,
    session_id: String,
    every: Duration,
    is_stop_known: bool,
    /// What to do about a miss; none: it is an end like any other.
    on_miss: Option<OnMiss>,
    current: Arc<Mutex<String>>,
}

impl Keeper {
    /// For the session of the handle, to be bound by that request.
    pub fn new(
        operator: Client,
        handle: Handle,
        bind: BindEpisodeRequest,
        every: Duration,
        on_miss: Option<OnMiss>,
    ) -> Self {
        Self {
            current: Arc::new(Mutex::new(bind.session_id.clone())),
            on_miss,
            own: Some(operator.clone().with_handle(handle)),
            operator,
            session_id: bind.session_id.clone(),
            bind: Some(bind),
            every,
            is_stop_known: false,
        }
    }

    /// Starts keeping.
    pub fn start(mut self, follow: Follow) -> Newspaper {
        let (sender, news) = mpsc::channel(QUEUE);
        let current = Arc::clone(&self.current);
        let keeper = tokio::spawn(async move { self.keep_on(follow, &sender).await });
        Newspaper {
            news,
            keeper,
            current,
        }
    }

    /// Keeps one session after the other.
    async fn keep_on(&mut self, mut follow: Follow, news: &mpsc::Sender<News>) {
        self.bind().await;
        let _ = news.send(News::Bound).await;
        while let Over::Missed = self.keep(follow, news).await {
            let Some(next) = self.go_on().await else {
                let _ = news.send(News::Ended).await;
                return;
            };
            follow = next;
        }
    }

    async fn keep(&mut self, mut follow: Follow, news: &mpsc::Sender<News>) -> Over {
        let mut beat = interval(self.every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_watching = true;
        loop {
            let kept = tokio::select! {
                update = follow.next(), if is_watching => match update {
                    Ok(update) => self.updated(update, news).await,
                    Err(error) => {
                        note(format_args!("cannot watch the session: {error}"));
                        is_watching = false;
                        None
                    }
                },
                _ = beat.tick() => self.beat(news).await,
            };
            if let Some(over) = kept {
                return over;
            }
        }
    }

    async fn updated(&mut self, update: Update, news: &mpsc::Sender<News>) -> Option<Over> {
        match update {
            Update::Events(events) => {
                for event in &events {
                    if let Some(over) = self.happened(event, news).await {
                        return Some(over);
                    }
                }
                None
            }
            Update::Lost(error) => {
                note(format_args!("{error}; the command runs on"));
                None
            }
            Update::Resumed => {
                note("the daemon is back");
                self.bind().await;
                self.beat(news).await
            }
            Update::Reset(_) => self.look(news).await,
            Update::Snapshot { .. } => None,
        }
    }

    async fn happened(&mut self, event: &Event, news: &mpsc::Sender<News>) -> Option<Over> {
        match event.kind() {
            EventKind::StopRequested => {
                self.stop(news).await;
                None
            }
            EventKind::Terminated | EventKind::Evicted | EventKind::Removed => {
                Some(self.ended(event.session.as_ref(), news).await)
            }
            _ => None,
        }
    }

    async fn stop(&mut self, news: &mpsc::Sender<News>) {
        if !std::mem::replace(&mut self.is_stop_known, true) {
            let _ = news.send(News::StopRequested).await;
        }
    }

    /// Binds the child, unless that was done. A child that has ended already is
    /// bound without its process.
    async fn bind(&mut self) {
        let Some(mut request) = self.bind.take() else {
            return;
        };
        let mut bound = self.operator.bind_episode(request.clone()).await;
        if reason(&bound) == Some(Reason::ProcessNotFound) {
            request.pid = None;
            bound = self.operator.bind_episode(request.clone()).await;
        }
        match bound {
            Err(error) if error.is_transient() => self.bind = Some(request),
            Err(error) if !is_over(&error) => {
                note(format_args!("cannot bind the episode: {error}"));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// One heartbeat, with the session's handle, or for it once the handle is
    /// rotated.
    async fn beat(&mut self, news: &mpsc::Sender<News>) -> Option<Over> {
        let own = self.own.clone();
        let mut request = HeartbeatSessionRequest::default();
        if own.is_none() {
            request.session_id.clone_from(&self.session_id);
        }
        let client = own.as_ref().unwrap_or(&self.operator);
        match client.heartbeat_session(request).await {
            Ok(answer) => {
                if answer.stop_requested {
                    self.stop(news).await;
                }
                None
            }
            Err(error) if error.reason == Some(Reason::HandleNotAccepted) => {
                self.own = None;
                self.look(news).await
            }
            Err(error) if is_over(&error) => self.look(news).await,
            Err(_) => None,
        }
    }

    /// Looks whether the session has ended, and how.
    async fn look(&mut self, news: &mpsc::Sender<News>) -> Option<Over> {
        let request = GetSessionRequest {
            session_id: self.session_id.clone(),
        };
        match self.operator.get_session(request).await {
            Ok(answer) => {
                let session = answer.session.unwrap_or_default();
                if session.status() != SessionStatus::Active {
                    return Some(self.ended(Some(&session), news).await);
                }
                if session.stop_requested {
                    self.stop(news).await;
                }
                None
            }
            Err(error) if is_over(&error) => Some(self.ended(None, news).await),
            Err(_) => None,
        }
    }
}

impl Keeper {
    async fn ended(&self, session: Option<&Session>, news: &mpsc::Sender<News>) -> Over {
        let record = session.and_then(|session| session.termination.as_ref());
        let missed = record.is_some_and(|r| r.reason() == TerminationReason::ContextMiss);
        if missed && self.on_miss.is_some() {
            return Over::Missed;
        }
        let actor = record.and_then(|record| record.actor.as_ref());
        let by_handle = actor.is_some_and(|actor| actor.socket == "session");
        let said = if by_handle && !missed {
            News::EndedItself
        } else {
            News::Ended
        };
        let _ = news.send(said).await;
        Over::Told
    }
}

fn reason<T>(answer: &Result<T, ClientError>) -> Option<Reason> {
    answer.as_ref().err()?.reason
}

/// Whether the session can no longer be what this one was.
fn is_over(error: &ClientError) -> bool {
    matches!(
        error.reason,
        Some(Reason::SessionTerminated | Reason::SessionNotFound)
    )
}
