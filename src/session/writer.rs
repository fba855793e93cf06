//! The one writer that changes sessions.
//!
//! Its thread takes whatever waits, decides each call in order, appends the batch,
//! commits once, and only then changes the index, publishes the events and
//! answers. Between batches it ends what is due, forgets what was remembered long
//! enough, and writes activity down.
//!
//! A commit that fails for certain leaves memory as it was, but for revocations:
//! their handles are refused from that instant and the write is tried again until
//! it lands. A commit whose outcome is unknown ends the thread, and with it the
//! process.

mod revoke;
mod upkeep;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tracing::{error, warn};

use crate::{
    clock::{Clock, Now},
    session::{
        batch::{Batch, Numbers, Overlay},
        denials::Denials,
        expiry::{self, Agenda},
        feed::Feed,
        index::{IndexWriter, Interner},
        limits::Limits,
        manifests::Manifests,
        operation::{Job, Outcome},
        refinement::{Count, Refinement, Refinements},
        requests::Requests,
        state::{Peer, Revision, Seq, Session},
        store::{AppendError, Change, Store},
    },
};

/// A commit takes no more small calls once they are about so many sessions. It takes
/// some 180 us, and 6 us more for each: with more of them there is little to gain,
/// and while all callers wait for one commit the processors have nothing to do.
const MAX_BATCH: usize = 64;

/// A call about more sessions than this waits for the small ones, and has a commit
/// of its own.
const LARGE: usize = 64;

/// Calls that are taken out of the queue at most to wait for the small ones.
const MAX_LATER: usize = 64;

/// How long the thread sleeps at most while a deadline is pending; timers stand
/// still while the machine sleeps, so it looks again after waking.
const PENDING_WAIT: Duration = Duration::from_millis(500);

/// How long it sleeps at most otherwise.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// A read of the journal between two commits.
pub type Read = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// What the thread is asked to do.
pub enum Message {
    /// Decide a call.
    Job(Box<dyn Job>),
    /// Read the journal.
    Read(Read),
    /// Look at what is due, now.
    Tick,
    /// Write what is left and end.
    Stop,
}

/// Counts that only the writer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records purged before their TTL, because there were too many.
    pub early_purges: u64,
    /// Request ids older than this, since the epoch, are not recognised.
    pub request_ids_since: u64,
    /// Events up to this revision are no longer kept.
    pub compacted: Revision,
}

/// Why the thread ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// The outcome of a commit is unknown.
    StoreFailed,
}

/// What the context firewall needs of the writer.
#[derive(Clone, Default)]
pub(super) struct Firewalls {
    pub manifests: Arc<Manifests>,
    pub refinements: Arc<Refinements>,
    pub denials: Arc<Denials>,
}

/// See the module.
pub struct Writer {
    pub(super) store: Box<dyn Store>,
    pub(super) index: IndexWriter,
    pub(super) interner: Interner,
    pub(super) requests: Requests,
    pub(super) firewalls: Firewalls,
    pub(super) limits: Arc<RwLock<Limits>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) agenda: Agenda,
    pub(super) feed: Arc<Feed>,
    pub(super) numbers: Numbers,
    pub(super) daemon: Arc<Peer>,
    pub(super) tally: Arc<RwLock<Tally>>,
    pub(super) evict_from: Seq,
    later: Later,
    unwritten: Vec<revoke::Unwritten>,
    upkeep: upkeep::Upkeep,
    /// The room of a commit's decisions, empty between commits.
    overlay: Overlay,
}

/// Calls that have a commit of their own each, once small calls had their turn.
#[derive(Default)]
struct Later {
    /// About whatever they find.
    alone: VecDeque<Box<dyn Job>>,
    /// About many sessions. They wait for those that may end sessions.
    large: VecDeque<Box<dyn Job>>,
}

impl Later {
    /// Takes a call that is for later; one that is not comes back.
    fn take(&mut self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let queue = if job.is_alone() {
            &mut self.alone
        } else if job.weight() > LARGE {
            &mut self.large
        } else {
            return Some(job);
        };
        queue.push_back(job);
        None
    }

    fn pop(&mut self) -> Option<Box<dyn Job>> {
        self.alone.pop_front().or_else(|| self.large.pop_front())
    }

    fn len(&self) -> usize {
        self.alone.len() + self.large.len()
    }
}

/// What a recovery hands over.
pub(super) struct Parts {
    pub store: Box<dyn Store>,
    pub index: IndexWriter,
    pub interner: Interner,
    pub requests: Requests,
    pub firewalls: Firewalls,
    pub limits: Arc<RwLock<Limits>>,
    pub clock: Arc<dyn Clock>,
    pub agenda: Agenda,
    pub feed: Arc<Feed>,
    pub numbers: Numbers,
    pub daemon: Arc<Peer>,
    pub tally: Arc<RwLock<Tally>>,
}

impl Writer {
    pub(super) fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        Self {
            store: parts.store,
            index: parts.index,
            interner: parts.interner,
            requests: parts.requests,
            firewalls: parts.firewalls,
            limits: parts.limits,
            clock: parts.clock,
            agenda: parts.agenda,
            feed: parts.feed,
            numbers: parts.numbers,
            daemon: parts.daemon,
            tally: parts.tally,
            evict_from: Seq::default(),
            later: Later::default(),
            unwritten: Vec::new(),
            upkeep: upkeep::Upkeep::new(now),
            overlay: Overlay::default(),
        }
    }

    /// The thread: works until it is stopped or must stop, and closes the journal.
    /// What still waits then is answered.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Ended {
        let ended = loop {
            let first = match messages.recv_timeout(self.wait()) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
            };
            match self.turn(first, messages) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Stop) => break self.finish(),
                Err(fatal) => {
                    let error = &fatal as &dyn std::error::Error;
                    error!(error, "commit failed, stopping");
                    break Ended::StoreFailed;
                }
            }
        };
        drop(self);
        let outcome = match ended {
            Ended::StoreFailed => Outcome::Unknown,
            Ended::Stopped => Outcome::Stopping,
        };
        while let Ok(message) = messages.try_recv() {
            if let Message::Job(job) = message {
                job.settle(outcome);
            }
        }
        ended
    }

    /// Takes what waits, up to a batch, and does what is due.
    fn turn(
        &mut self,
        first: Option<Message>,
        messages: &Receiver<Message>,
    ) -> Result<Flow, AppendError> {
        let mut jobs: Vec<Box<dyn Job>> = Vec::new();
        let mut flow = Flow::Continue;
        let mut weight = 0;
        let mut next = first;
        while let Some(message) = next {
            match message {
                Message::Job(job) => {
                    if let Some(small) = self.later.take(job) {
                        weight += small.weight();
                        jobs.push(small);
                    }
                }
                Message::Read(read) => {
                    self.commit(std::mem::take(&mut jobs))?;
                    read(&mut *self.store);
                }
                Message::Tick => self.upkeep.look_now(),
                Message::Stop => flow = Flow::Stop,
            }
            let full = weight >= MAX_BATCH || self.later.len() >= MAX_LATER;
            let over = full || flow == Flow::Stop;
            next = if over { None } else { messages.try_recv().ok() };
        }
        self.commit(jobs)?;
        // A checkpoint or one of the calls for later, not both: small calls have their
        // turn in between.
        if flow == Flow::Stop {
            while let Some(job) = self.later.pop() {
                self.commit(vec![job])?;
            }
        } else if !self.store.idle()
            && let Some(job) = self.later.pop()
        {
            self.commit(vec![job])?;
        }
        self.upkeep()?;
        Ok(flow)
    }

    /// How long the thread may sleep.
    fn wait(&self) -> Duration {
        if self.has_upkeep() || self.later.len() > 0 {
            return Duration::ZERO;
        }
        let now = self.clock.now().boot;
        match self.agenda.next() {
            Some(next) => Duration::from_millis(next.saturating_sub(now)).min(PENDING_WAIT),
            None => IDLE_WAIT,
        }
    }

    /// Decides calls, and commits them together.
    fn commit(&mut self, jobs: Vec<Box<dyn Job>>) -> Result<(), AppendError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let numbers = self.numbers;
        let mut overlay = std::mem::take(&mut self.overlay);
        overlay.reserve(jobs.iter().map(|job| job.weight()).sum());
        let mut decided = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            if job.is_late(now) {
                job.settle(Outcome::Late);
                continue;
            }
            job.decide(&mut self.batch(&mut overlay, now));
            decided.push(job);
        }
        match self.append(&overlay, now) {
            Ok(()) => settle(decided, Outcome::Committed),
            Err(unknown @ AppendError::Unknown(_)) => {
                settle(decided, Outcome::Unknown);
                return Err(unknown);
            }
            Err(refused) => {
                self.numbers = numbers;
                warn!(
                    error = &refused as &dyn std::error::Error,
                    "batch not written"
                );
                let outcome = outcome_of(&refused);
                let (revoking, others): (Vec<_>, Vec<_>) =
                    decided.into_iter().partition(|job| job.revokes());
                settle(others, outcome);
                self.revoke(revoking)?;
            }
        }
        overlay.clear();
        self.overlay = overlay;
        Ok(())
    }

    fn batch<'a>(&'a mut self, overlay: &'a mut Overlay, now: Now) -> Batch<'a> {
        let limits = *self.limits.read();
        Batch {
            overlay,
            index: &self.index,
            interner: &mut self.interner,
            requests: &self.requests,
            manifests: &self.firewalls.manifests,
            refinements: &self.firewalls.refinements,
            numbers: &mut self.numbers,
            now,
            limits,
            daemon: &self.daemon,
            evict_from: &mut self.evict_from,
        }
    }

    fn append(&mut self, overlay: &Overlay, now: Now) -> Result<(), AppendError> {
        if overlay.is_empty() {
            return Ok(());
        }
        self.store.append(overlay.changes(), now)?;
        self.apply(overlay.changes(), now);
        for (request, led) in overlay.requests() {
            self.requests.remember(request, *led, now);
        }
        Ok(())
    }

    /// Shows what is durable.
    pub(super) fn apply(&mut self, changes: &[Change], now: Now) {
        let mut events = Vec::with_capacity(changes.len());
        for change in changes {
            let event = match change {
                Change::Put {
                    session,
                    live,
                    event,
                    ..
                } => {
                    if event.is_some() {
                        self.show(session, *live, now);
                    }
                    event
                }
                Change::Delete { seq, event } => {
                    self.forget(*seq, now);
                    event
                }
                Change::Note(event) => &Some(Arc::clone(event)),
                other => {
                    self.apply_to_firewalls(other, now);
                    &None
                }
            };
            if let Some(refinement) = event.as_ref().and_then(|event| event.refinement()) {
                self.remember(refinement);
            }
            events.extend(event.clone());
        }
        let newest = self.numbers.revision;
        // In this order: who sees the revision finds its events.
        let is_heard = !events.is_empty();
        self.feed.add(events, newest);
        self.index.publish(newest);
        if is_heard {
            self.feed.tell(newest);
        }
    }

    fn forget(&mut self, seq: Seq, now: Now) {
        let gone = self.index.index().by_seq(seq);
        self.index.remove(seq);
        if let Some(firewall) = gone.and_then(|view| view.session.firewall.clone()) {
            self.firewalls
                .manifests
                .release(&firewall.manifest.hash, now);
        }
    }

    fn remember(&self, refinement: &Arc<Refinement>) {
        let refinements = &self.firewalls.refinements;
        refinements.put(refinement);
        let work = refinement.session.work_id();
        if refinement.count > refinements.count(work) && refinement.is_pending() {
            let count = Count {
                count: refinement.count,
                at: refinement.created,
            };
            refinements.set_count(work, count);
        }
    }

    fn apply_to_firewalls(&self, change: &Change, now: Now) {
        let Firewalls {
            manifests,
            refinements,
            ..
        } = &self.firewalls;
        match change {
            Change::PutManifest(manifest) => manifests.add(Arc::clone(manifest), now),
            Change::DropManifest(hash) => manifests.remove(hash),
            Change::ResetRefinements(work) => refinements.reset(work),
            Change::ForgetRefinement(id) => refinements.forget(*id),
            Change::Put { .. } | Change::Delete { .. } | Change::Note(_) => {}
        }
    }

    fn show(&mut self, session: &Arc<Session>, live: crate::session::state::Live, now: Now) {
        let heard_since = self.index.index().heard_since();
        let next = expiry::look_at(session, &live, heard_since, now);
        let before = self.index.index().by_seq(session.seq);
        let promised = before.as_ref().and_then(|old| {
            (old.session.record().is_none() || session.record().is_none())
                .then(|| expiry::look_at(&old.session, &old.live, heard_since, now))
                .flatten()
        });
        if before.is_some() {
            self.index.replace(session);
        } else {
            self.index.insert(session, live);
            if let Some(firewall) = &session.firewall {
                self.firewalls.manifests.bind(&firewall.manifest.hash);
            }
        }
        if let Some(at) = next
            && promised.is_none_or(|promised| at < promised)
        {
            self.agenda.add(at, session.seq);
        }
    }

    fn finish(&mut self) -> Ended {
        match self.flush_all() {
            Ok(()) => {
                self.store.rest();
                Ended::Stopped
            }
            Err(failed) => {
                error!(
                    error = &failed as &dyn std::error::Error,
                    "last write failed"
                );
                Ended::StoreFailed
            }
        }
    }
}

/// Whether the thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

fn settle(jobs: Vec<Box<dyn Job>>, outcome: Outcome) {
    for job in jobs {
        job.settle(outcome);
    }
}

fn outcome_of(error: &AppendError) -> Outcome {
    match error {
        AppendError::Full(_) => Outcome::DiskFull,
        AppendError::Failed(_) => Outcome::StoreFailed,
        AppendError::Unknown(_) => Outcome::Unknown,
    }
}
