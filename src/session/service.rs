//! The way in: what the rest of the daemon asks of sessions.
//!
//! A [`Sessions`] is a cheap handle. Reads are answered from the index; changes
//! go to the writer and wait for its answer. When a caller goes away its change
//! still completes.

mod events;
mod firewall;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
};

use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};

use crate::{
    clock::{Clock, Now},
    ids::{RegistryId, SessionId, WorkId},
    secret::{DigestKey, Handle, HandleDigest, Lease, LeaseDigest},
    session::{
        error::CallError,
        feed::Feed,
        filter::Filter,
        index::{HandleMatch, Index, View},
        limits::{Limits, MAX_SCAN},
        operation::{Operation, Pending, Settled},
        recovery::Recovered,
        state::{Counters, Revision, Seq, Socket},
        store::{BackupProgress, CopyCheck, ReadError, Store},
        writer::{Ended, Firewalls, Message, Tally},
    },
};

pub use events::{EventsError, History};
pub use firewall::Verdict;

/// Calls that can wait for the writer; more are refused.
const QUEUE: usize = 4096;

/// Of those, calls from session.sock: it can never take all of the queue.
const QUEUE_FOR_SESSIONS: usize = QUEUE / 2;

/// Who waits for the writer, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// On the awake clock; a call still waiting then is dropped unexecuted.
    pub deadline: Option<u64>,
    /// Where the call came in.
    pub socket: Socket,
}

/// A cheap handle on the registry.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    index: Arc<Index>,
    feed: Arc<Feed>,
    key: DigestKey,
    clock: Arc<dyn Clock>,
    limits: Arc<RwLock<Limits>>,
    tally: Arc<RwLock<Tally>>,
    registry_id: RegistryId,
    incarnation: u64,
    schema: u32,
    queue: SyncSender<Message>,
    firewalls: Firewalls,
    /// Decisions of firewalls so far.
    decisions: AtomicU64,
    /// Calls from session.sock that wait for the writer.
    from_sessions: AtomicUsize,
}

impl Wait {
    /// An operator who waits for as long as it takes.
    pub const PATIENT: Self = Self {
        deadline: None,
        socket: Socket::Operator,
    };
}

/// A change that the writer was asked for.
struct Asked<'a, O: Operation> {
    answer: oneshot::Receiver<Settled<O>>,
    _counted: Option<Waiting<'a>>,
}

/// Counts a call while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Also tells how many waited before.
    fn count(counter: &'a AtomicUsize) -> (Self, usize) {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        (Self(counter), before)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The writer thread; joined at the end.
pub struct WriterThread {
    thread: std::thread::JoinHandle<Ended>,
    ended: watch::Receiver<bool>,
}

impl WriterThread {
    /// Resolves when the thread has ended, for whatever reason.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Waits for the thread; a panic counts as a failed store.
    pub fn join(self) -> Ended {
        self.thread.join().unwrap_or(Ended::StoreFailed)
    }
}

/// A page of sessions.
#[derive(Debug)]
pub struct Page {
    /// What matched, in order of registration.
    pub views: Vec<View>,
    /// Where the next page begins; none: there is none.
    pub next: Option<Seq>,
}

/// What the registry is.
#[derive(Debug, Clone)]
pub struct Info {
    /// Its identity.
    pub registry_id: RegistryId,
    /// Its starts so far.
    pub incarnation: u64,
    /// Version of its schema.
    pub schema: u32,
    /// Live sessions.
    pub live: u64,
    /// Ended sessions that are remembered.
    pub terminated: u64,
    /// Its newest revision.
    pub revision: Revision,
    /// What the writer counts.
    pub tally: Tally,
    /// Its limits.
    pub limits: Limits,
}

/// Starts the writer of a recovered registry.
pub fn start(
    recovered: Recovered,
    key: DigestKey,
    clock: Arc<dyn Clock>,
    limits: Arc<RwLock<Limits>>,
) -> std::io::Result<(Sessions, WriterThread)> {
    let (queue, messages) = mpsc::sync_channel(QUEUE);
    let (tell_ended, ended) = watch::channel(false);
    let writer = recovered.writer;
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || {
            let _told = TellOnDrop(tell_ended);
            writer.run(&messages)
        })?;
    let shared = Shared {
        index: recovered.index,
        feed: recovered.feed,
        key,
        clock,
        limits,
        tally: recovered.tally,
        registry_id: recovered.registry_id,
        incarnation: recovered.incarnation,
        schema: recovered.schema,
        queue,
        firewalls: recovered.firewalls,
        decisions: AtomicU64::new(0),
        from_sessions: AtomicUsize::new(0),
    };
    Ok((
        Sessions {
            shared: Arc::new(shared),
        },
        WriterThread { thread, ended },
    ))
}

/// Tells that the thread ended even if it panicked.
struct TellOnDrop(watch::Sender<bool>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Sessions {
    /// Has a change decided and committed, from now on; what is returned waits for
    /// what became of it.
    pub fn call<O: Operation>(
        &self,
        operation: O,
        wait: Wait,
    ) -> impl Future<Output = Settled<O>> + use<'_, O> {
        let asked = self.ask(operation, wait);
        async move {
            let asked = asked?;
            asked.answer.await.unwrap_or(Err(CallError::Stopping))
        }
    }

    fn ask<O: Operation>(
        &self,
        operation: O,
        wait: Wait,
    ) -> Result<Asked<'_, O>, CallError<O::Error>> {
        let counted = match wait.socket {
            Socket::Session => Some(self.admit_session()?),
            Socket::Operator | Socket::Daemon => None,
        };
        let (job, answer) = Pending::new(operation, wait.deadline);
        self.send(Message::Job(job)).map_err(Refusal::into_call)?;
        Ok(Asked {
            answer,
            _counted: counted,
        })
    }

    fn admit_session<E>(&self) -> Result<Waiting<'_>, CallError<E>> {
        let (counted, before) = Waiting::count(&self.shared.from_sessions);
        if before < QUEUE_FOR_SESSIONS {
            Ok(counted)
        } else {
            Err(CallError::Busy)
        }
    }

    fn send(&self, message: Message) -> Result<(), Refusal> {
        self.shared
            .queue
            .try_send(message)
            .map_err(|error| match error {
                TrySendError::Full(_) => Refusal::Busy,
                TrySendError::Disconnected(_) => Refusal::Stopping,
            })
    }

    /// Reads the journal between two commits.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Store) -> T + Send + 'static,
    ) -> Result<T, CallError<ReadError>> {
        let (reply, answer) = oneshot::channel();
        let read = Box::new(move |store: &mut dyn Store| {
            let _ = reply.send(read(store));
        });
        self.send(Message::Read(read)).map_err(Refusal::into_call)?;
        answer.await.map_err(|_| CallError::Stopping)
    }

    /// Asks the writer to look at what is due, now.
    pub fn tick(&self) {
        let _ = self.send(Message::Tick);
    }

    /// Asks the writer to write what is left and end.
    pub fn stop(&self) {
        let queue = self.shared.queue.clone();
        // The queue may be full; the writer empties it.
        let _ = queue.send(Message::Stop);
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// The session of that id, live or remembered.
    pub fn by_id(&self, id: &SessionId) -> Option<View> {
        self.shared.index.by_id(id.as_str(), self.now())
    }

    /// The live session of a handle, which counts as heard.
    pub fn use_handle(&self, digest: &HandleDigest) -> Option<View> {
        self.shared.index.use_handle(digest, self.now())
    }

    /// What a presented handle is good for.
    pub fn by_handle(&self, digest: &HandleDigest) -> Option<HandleMatch> {
        self.shared.index.by_handle(digest, self.now())
    }

    /// The newest live session of a work id.
    pub fn by_work(&self, work: &WorkId) -> Option<View> {
        self.shared.index.by_work(work.as_str(), self.now())
    }

    /// The session of a work id that ended last.
    pub fn last_ended_of_work(&self, work: &WorkId) -> Option<View> {
        self.shared
            .index
            .last_ended_of_work(work.as_str(), self.now())
    }

    /// The newest live session of an episode.
    pub fn by_episode(&self, episode: &str) -> Option<View> {
        self.shared.index.by_episode(episode, self.now())
    }

    /// The session of an episode that ended last.
    pub fn last_ended_of_episode(&self, episode: &str) -> Option<View> {
        self.shared.index.last_ended_of_episode(episode, self.now())
    }

    /// Notes a heartbeat.
    pub fn heartbeat(&self, seq: Seq, counters: Counters) -> Option<View> {
        self.shared.index.heartbeat(seq, counters, self.now())
    }

    /// The next page of sessions registered after `after`.
    pub fn list(&self, filter: &Filter, after: Seq, limit: usize) -> Page {
        const SLICE: usize = 1024;
        let now = self.now();
        let mut views = Vec::new();
        let mut cursor = after;
        let mut looked_at = 0;
        loop {
            let slice = self.shared.index.after(cursor, SLICE.min(limit.max(1)));
            if slice.is_empty() {
                return Page { views, next: None };
            }
            for view in slice {
                cursor = view.session.seq;
                looked_at += 1;
                if !view.session.is_forgotten(now) && filter.matches(&view) {
                    views.push(view);
                }
                if views.len() >= limit || looked_at >= MAX_SCAN {
                    return Page {
                        views,
                        next: Some(cursor),
                    };
                }
            }
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.shared.index.revision()
    }

    /// The index, to ask how a session's lease stands.
    pub fn index(&self) -> &Index {
        &self.shared.index
    }

    /// What is kept of a handle.
    pub fn digest_handle(&self, handle: &Handle) -> HandleDigest {
        self.shared.key.handle(handle)
    }

    /// What would be kept of whatever was presented as a handle.
    pub fn digest_presented(&self, bytes: &[u8]) -> HandleDigest {
        self.shared.key.presented(bytes)
    }

    /// What is kept of the body of a named request.
    pub fn digest_body(&self, bytes: &[u8]) -> [u8; 16] {
        self.shared.key.body(bytes)
    }

    /// What is kept of a lease.
    pub fn digest_lease(&self, lease: &Lease) -> LeaseDigest {
        self.shared.key.lease(lease)
    }

    /// The identity of the registry.
    pub fn registry_id(&self) -> &RegistryId {
        &self.shared.registry_id
    }

    /// What the registry is.
    pub fn info(&self) -> Info {
        let (live, terminated) = self.shared.index.counts();
        Info {
            registry_id: self.shared.registry_id.clone(),
            incarnation: self.shared.incarnation,
            schema: self.shared.schema,
            live,
            terminated,
            revision: self.revision(),
            tally: *self.shared.tally.read(),
            limits: *self.shared.limits.read(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        *self.shared.limits.read()
    }

    /// Changes the limits from the next batch on.
    pub fn set_limits(&self, limits: Limits) {
        *self.shared.limits.write() = limits;
    }

    /// Begins a copy of the registry into a new file.
    pub async fn backup_begin(&self, to: PathBuf) -> Result<(), CallError<ReadError>> {
        let begun = self
            .read(move |store| store.backup_begin(Path::new(&to)))
            .await?;
        begun.map_err(CallError::Refused)
    }

    /// Copies at most `pages` more.
    pub async fn backup_step(&self, pages: u32) -> Result<BackupProgress, CallError<ReadError>> {
        let step = self.read(move |store| store.backup_step(pages)).await?;
        step.map_err(CallError::Refused)
    }

    /// Ends a copy, complete or not; it is closed when this returns.
    pub async fn backup_end(&self) {
        let _ = self.read(|store| store.backup_end()).await;
    }

    /// What tells whether a copy is whole; it takes long, and nobody waits for it but
    /// who asks.
    pub async fn copy_check(&self) -> Result<CopyCheck, CallError<ReadError>> {
        self.read(|store| store.copy_check()).await
    }
}

enum Refusal {
    Busy,
    Stopping,
}

impl Refusal {
    fn into_call<E>(self) -> CallError<E> {
        match self {
            Self::Busy => CallError::Busy,
            Self::Stopping => CallError::Stopping,
        }
    }
}
