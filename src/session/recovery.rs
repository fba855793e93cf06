//! From a journal to a serving registry.
//!
//! Reads every session into the index, rebases deadlines onto this boot, revokes
//! leases with one `restarted` event, ends what cannot have survived, and hands
//! over to the writer. Nothing is served before it is done.

use std::{num::NonZeroU32, path::Path, sync::Arc};

use parking_lot::RwLock;

use crate::{
    clock::{BootId, Clock, Now},
    ids::RegistryId,
    session::{
        batch::{Batch, Call, Ending, Numbers, Overlay},
        event::{About, Event, EventKind, Restart},
        expiry::{self, Agenda},
        feed::Feed,
        index::{Index, IndexWriter, Interner, View},
        limits::{Limits, MAX_REQUEST_IDS, REQUEST_ID_MS},
        manifests::Manifests,
        requests::Requests,
        state::{
            Actor, Counters, Deadline, ExitClassification, Live, Peer, Process, Revision, Seq,
            Session, Socket, TerminationReason,
        },
        store::{AppendError, Change, Meta, ReadError, Start, Store, Stored},
        writer::{Firewalls, Parts, Tally, Writer},
    },
};

/// Slots the index has at most; a slot takes memory when its chunk is first used.
const SLOTS: usize = 1 << 24;

/// Sessions looked at together.
const SLICE: usize = 4096;

/// What to do with sessions that were live when the daemon went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Their episodes may well be alive.
    #[default]
    Keep,
    /// End them all, with reason `daemon_restart`.
    Terminate,
}

/// What a recovery needs to know.
pub struct Setup {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The limits, shared with whoever changes them.
    pub limits: Arc<RwLock<Limits>>,
    /// What to do with live sessions.
    pub policy: Policy,
    /// The daemon as an actor.
    pub daemon: Arc<Peer>,
}

/// A registry that can be served.
pub struct Recovered {
    /// What readers read.
    pub index: Arc<Index>,
    /// The newest events.
    pub feed: Arc<Feed>,
    /// The identity of the registry.
    pub registry_id: RegistryId,
    /// Starts of this registry, this one included.
    pub incarnation: u64,
    /// Version of the journal's schema.
    pub schema: u32,
    /// Counts that the writer keeps.
    pub tally: Arc<RwLock<Tally>>,
    /// The thread to be.
    pub writer: Writer,
    pub(super) firewalls: Firewalls,
    /// Live sessions that came back, and live ones that were ended.
    pub came_back: (u64, u64),
}

/// A recovery failed; nothing was served.
#[derive(Debug)]
pub enum RecoveryError {
    /// The journal cannot be read.
    Read(ReadError),
    /// The start cannot be written.
    Append(AppendError),
}

impl std::fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "the registry cannot be read",
            Self::Append(_) => "the start cannot be written to the registry",
        })
    }
}

impl std::error::Error for RecoveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Append(error) => Some(error),
        }
    }
}

impl RecoveryError {
    /// Whether the journal itself is at fault, not the moment.
    pub fn is_bad_data(&self) -> bool {
        matches!(self, Self::Read(ReadError::Damaged(_)))
    }
}

impl From<ReadError> for RecoveryError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Brings a registry back.
pub fn recover(mut store: Box<dyn Store>, setup: Setup) -> Result<Recovered, RecoveryError> {
    let now = setup.clock.now();
    let boot_id = setup.clock.boot_id();
    let meta = store.meta()?;
    let (index, mut index_writer) = Index::new(SLOTS);
    index_writer.set_heard_since(now.awake);
    let most = {
        let limits = setup.limits.read();
        limits.max_sessions.saturating_add(limits.max_terminated)
    };
    index_writer.reserve(meta.sessions.min(most));
    let mut interner = Interner::default();
    let firewalls = recall_firewalls(&mut *store, &mut interner, now)?;
    let seen = Seen {
        meta: &meta,
        manifests: &firewalls.manifests,
        now,
    };
    let mut loaded = load(
        &mut *store,
        &mut index_writer,
        &mut interner,
        &seen,
        &boot_id,
    )?;
    let requests = recall(&mut *store, now)?;
    let request_ids_since = requests.since(now);
    let restart = restart_event(&meta, &loaded, &boot_id, &setup.daemon, now);
    if let Some(restart) = restart.restart() {
        index_writer.set_restart(restart.clone());
    }
    let mut numbers = Numbers {
        seq: meta.seq,
        revision: restart.revision,
    };
    let mut overlay = Overlay::default();
    let limits = *setup.limits.read();
    let mut batch = Batch {
        overlay: &mut overlay,
        index: &index_writer,
        interner: &mut interner,
        requests: &requests,
        manifests: &firewalls.manifests,
        refinements: &firewalls.refinements,
        numbers: &mut numbers,
        now,
        limits,
        daemon: &setup.daemon,
        evict_from: &mut Seq::default(),
    };
    let same_boot = meta.boot_id.as_ref() == Some(&boot_id);
    let ended = end_the_gone(&mut batch, setup.policy, &loaded.bound, same_boot);
    let mut changes = overlay.into_changes();
    let live = index_writer.index().counts().0;
    changes.insert(0, Change::Note(Arc::clone(&restart)));
    let incarnation = meta.incarnation + 1;
    let start = Start {
        incarnation,
        boot_id,
        now,
    };
    let mut started = store.start(&start, &changes);
    if matches!(started, Err(AppendError::Full(_))) {
        store.release_ballast();
        started = store.start(&start, &changes);
        store.restore_ballast();
    }
    started.map_err(RecoveryError::Append)?;
    let feed = Arc::new(Feed::new(restart.revision));
    let tally = Arc::new(RwLock::new(Tally {
        compacted: meta.compacted,
        request_ids_since,
        ..Tally::default()
    }));
    let mut writer = Writer::new(Parts {
        store,
        index: index_writer,
        interner,
        requests,
        firewalls: firewalls.clone(),
        limits: setup.limits,
        clock: setup.clock,
        agenda: std::mem::take(&mut loaded.agenda),
        feed: Arc::clone(&feed),
        numbers,
        daemon: setup.daemon,
        tally: Arc::clone(&tally),
    });
    writer.apply(&changes[1..], now);
    Ok(Recovered {
        index,
        feed,
        registry_id: meta.registry_id,
        incarnation,
        schema: meta.schema,
        tally,
        writer,
        firewalls,
        came_back: (live - ended, ended),
    })
}

/// What a recovery knows before it reads the sessions.
struct Seen<'a> {
    meta: &'a Meta,
    manifests: &'a Manifests,
    now: Now,
}

fn recall_firewalls(
    store: &mut dyn Store,
    interner: &mut Interner,
    now: Now,
) -> Result<Firewalls, ReadError> {
    let stored = store.firewall(interner)?;
    let firewalls = Firewalls::default();
    for manifest in stored.manifests {
        firewalls.manifests.add(manifest, now);
    }
    for refinement in &stored.refinements {
        firewalls.refinements.put(refinement);
    }
    for (work, count) in stored.counts {
        firewalls.refinements.set_count(&work, count);
    }
    Ok(firewalls)
}

/// What was read.
#[derive(Default)]
struct Loaded {
    live: u64,
    first_live: Option<Seq>,
    last_live: Seq,
    /// Live sessions with a process.
    bound: Vec<Seq>,
    agenda: Agenda,
}

/// Sessions handed from the thread that reads to the one that indexes, at once.
const CHUNK: usize = 512;

/// Reads every session into the index. One thread decodes what the other puts in
/// its place.
fn load(
    store: &mut dyn Store,
    index: &mut IndexWriter,
    interner: &mut Interner,
    seen: &Seen<'_>,
    boot_id: &BootId,
) -> Result<Loaded, ReadError> {
    let (hand_over, chunks) = std::sync::mpsc::sync_channel::<Vec<Stored>>(4);
    std::thread::scope(|scope| {
        let indexing = scope.spawn(move || index_all(index, chunks, seen));
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = store.load(boot_id, interner, &mut |stored| {
            chunk.push(stored);
            if chunk.len() == CHUNK {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                // It only goes away by a panic, which the join below passes on.
                let _ = hand_over.send(full);
            }
        });
        let _ = hand_over.send(chunk);
        drop(hand_over);
        let loaded = match indexing.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        read.map(|()| loaded)
    })
}

fn index_all(
    index: &mut IndexWriter,
    chunks: impl IntoIterator<Item = Vec<Stored>>,
    seen: &Seen<'_>,
) -> Loaded {
    let Seen {
        meta,
        manifests,
        now,
    } = *seen;
    let mut loaded = Loaded::default();
    let mut ended: Vec<(u64, Session, Live)> = Vec::new();
    for stored in chunks.into_iter().flatten() {
        let (session, live) = rebase(stored, meta, now);
        if let Some(firewall) = &session.firewall {
            manifests.bind(&firewall.manifest.hash);
        }
        if let Some(record) = session.record() {
            ended.push((record.ended, session, live));
            continue;
        }
        loaded.live += 1;
        loaded.first_live.get_or_insert(session.seq);
        loaded.last_live = session.seq;
        if session.process().is_some() {
            loaded.bound.push(session.seq);
        }
        loaded.put(index, session, live, now);
    }
    ended.sort_by_key(|(at, session, _)| (*at, session.seq));
    for (_, session, live) in ended {
        loaded.put(index, session, live, now);
    }
    loaded
}

impl Loaded {
    /// Puts a session into the index, and promises to look at it when it is due.
    fn put(&mut self, index: &mut IndexWriter, session: Session, live: Live, now: Now) {
        let heard_since = index.index().heard_since();
        if let Some(at) = expiry::look_at(&session, &live, heard_since, now) {
            self.agenda.add(at, session.seq);
        }
        index.insert(&Arc::new(session), live);
    }
}

/// Puts the deadlines of a stored session onto this boot's clocks.
fn rebase(stored: Stored, meta: &Meta, now: Now) -> (Session, Live) {
    let Stored {
        mut session,
        mut live,
        written,
        same_boot,
    } = stored;
    if !same_boot {
        let wall = now.wall.max(meta.alive.wall);
        let rebase = |deadline: &mut Deadline| {
            let left_then = deadline.boot.saturating_sub(written);
            let left_now = deadline.wall.get().saturating_sub(wall);
            deadline.boot = now.boot + left_then.min(left_now);
        };
        session.expires.as_mut().map(rebase);
        if let Some(extra) = session.extra.as_mut() {
            extra
                .record
                .as_mut()
                .map(|record| &mut record.purge)
                .map(rebase);
            extra.rotated = None;
        }
    }
    live.last_awake = now.awake.saturating_sub(silence(&live, meta, same_boot));
    (session, live)
}

/// How long the daemon heard nothing of a session before it went away itself, in
/// milliseconds; time that the daemon was away does not count.
fn silence(live: &Live, meta: &Meta, same_boot: bool) -> u64 {
    if same_boot {
        meta.alive.awake.saturating_sub(live.last_awake)
    } else {
        meta.alive.wall.saturating_sub(live.last_wall)
    }
}

fn recall(store: &mut dyn Store, now: Now) -> Result<Requests, ReadError> {
    let mut requests = Requests::default();
    let since = now.wall.saturating_sub(REQUEST_ID_MS);
    store.requests(since, MAX_REQUEST_IDS, &mut |past| requests.recall(&past))?;
    Ok(requests)
}

/// One durable event for all sessions that came back. It reserves one revision
/// for each, by sequence number, so that watchers can resume in the middle.
fn restart_event(
    meta: &Meta,
    loaded: &Loaded,
    boot_id: &BootId,
    daemon: &Arc<Peer>,
    now: Now,
) -> Arc<Event> {
    let first_seq = loaded.first_live.unwrap_or_default();
    let span = loaded
        .first_live
        .map_or(0, |first| loaded.last_live.0 - first.0 + 1);
    Arc::new(Event {
        revision: Revision(meta.revision.0 + span + 1),
        previous: Revision::default(),
        kind: EventKind::Restarted,
        at: now.wall,
        actor: Actor {
            peer: Arc::clone(daemon),
            request_id: None,
        },
        session: None,
        live: Live::default(),
        about: About::Restart(Restart {
            boot_id: boot_id.clone(),
            incarnation: meta.incarnation + 1,
            live: loaded.live,
            first_seq,
            base: meta.revision,
        }),
        encoded: std::sync::OnceLock::new(),
    })
}

/// Ends sessions whose process is gone, or all of them.
fn end_the_gone(batch: &mut Batch<'_>, policy: Policy, bound: &[Seq], same_boot: bool) -> u64 {
    let mut ended = 0;
    let mut end = |batch: &mut Batch<'_>, view: &View| {
        if let Some(ending) = fate(&view.session, policy, same_boot) {
            let call: Call = batch.daemon_call();
            batch.end(view, &ending, EventKind::Terminated, &call);
            ended += 1;
        }
    };
    if policy == Policy::Keep {
        for seq in bound {
            if let Some(view) = batch.by_seq(*seq) {
                end(batch, &view);
            }
        }
        return ended;
    }
    let mut cursor = Seq::default();
    loop {
        let slice = batch.index.index().after(cursor, SLICE);
        let Some(last) = slice.last() else {
            return ended;
        };
        cursor = last.session.seq;
        for view in slice.iter().filter(|view| view.session.is_active()) {
            end(batch, view);
        }
    }
}

/// How a live session ends at a start, if it does.
fn fate(session: &Session, policy: Policy, same_boot: bool) -> Option<Ending> {
    let (reason, detail) = match (policy, session.process()) {
        (Policy::Terminate, _) => (TerminationReason::DaemonRestart, ""),
        (Policy::Keep, Some(_)) if !same_boot => (TerminationReason::HostReboot, ""),
        (Policy::Keep, Some(process)) if !is_running(process) => {
            (TerminationReason::Crash, "process_gone")
        }
        (Policy::Keep, _) => return None,
    };
    Some(Ending {
        reason,
        detail: detail.into(),
        exit_classification: ExitClassification::Failure,
        exit_code: None,
        tokens_consumed: None,
        counters: Counters::default(),
    })
}

/// Looks up a process by its id. One that has ended and was not yet reaped
/// counts: its parent has still to be told, and is about to tell how it ended.
pub fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // The name may hold anything, parentheses and spaces included.
    let stat = stat.ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    (state != "X").then_some(Process { pid, start: ticks })
}

fn is_running(bound: Process) -> bool {
    process(bound.pid) == Some(bound)
}

/// The daemon as an actor.
pub fn daemon_peer(uid: u32, pid: i32) -> Arc<Peer> {
    Arc::new(Peer {
        uid,
        pid,
        program: "episoded".into(),
        socket: Socket::Daemon,
    })
}

/// An idle timeout in whole milliseconds.
pub fn idle_millis(idle: std::time::Duration) -> Option<NonZeroU32> {
    u32::try_from(idle.as_millis())
        .ok()
        .and_then(NonZeroU32::new)
}
