//! Verified reads.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::Status;

use super::{
    FirewallApi, actor, convert,
    held::{Held, Stalled},
};
use crate::{
    firewall::{
        decide::{DenialReason, Denied, Judged, Request},
        read::{Expected, ReadError, Root, Verified},
    },
    grpc::{
        caller::Caller,
        status::{IntoRefusal, Refusal, handle_not_accepted, internal},
    },
    proto::firewall as pb,
    reason::Reason,
    session::{
        index::View,
        refinement::MAX_REFINEMENTS,
        service::{Sessions, Verdict},
        state::Seq,
    },
};

/// Bytes of one file.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Bytes on their way in all.
const MAX_IN_FLIGHT: usize = 256 * 1024 * 1024;

/// Bytes on their way to one session.
const MAX_SHARE: usize = 128 * 1024 * 1024;

/// Bytes that one permit stands for.
const UNIT: usize = 4096;

/// How long a read waits for room.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may take for a file: for the largest, a hundredth of what a
/// socket on one host does.
const TAKEN_WITHIN: Duration = Duration::from_mins(1);

/// Bytes in one message.
const PART: usize = 1024 * 1024;

/// How long the root of an ended session stays open.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Roots kept open. One that was closed is opened again by its path.
const MAX_ROOTS: usize = 1024;

/// The room of one file, given back when it is dropped.
pub(super) struct Room {
    share: OwnedSemaphorePermit,
    room: OwnedSemaphorePermit,
}

/// What reads share.
pub(super) struct Reads {
    room: Arc<Semaphore>,
    /// What of it each session may have: half, so that one alone cannot keep the
    /// others from reading.
    shares: Mutex<HashMap<Seq, Arc<Semaphore>>>,
    roots: Mutex<HashMap<Seq, Arc<Root>>>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MAX_IN_FLIGHT / UNIT)),
            shares: Mutex::default(),
            roots: Mutex::default(),
        }
    }
}

impl Reads {
    /// The directory a session reads below, pinned when it was first needed.
    fn root(&self, seq: Seq, path: &str) -> Result<Arc<Root>, ReadError> {
        if let Some(known) = self.roots.lock().get(&seq) {
            return Ok(Arc::clone(known));
        }
        let root = Arc::new(Root::open(path)?);
        let mut roots = self.roots.lock();
        if roots.len() >= MAX_ROOTS {
            roots.clear();
        }
        roots.insert(seq, Arc::clone(&root));
        Ok(root)
    }

    fn share(&self, seq: Seq) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        let share = shares.entry(seq);
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(MAX_SHARE / UNIT))))
    }

    async fn make_room(&self, seq: Seq, bytes: u64) -> Result<Room, Refusal> {
        let units = usize::try_from(bytes)
            .unwrap_or(MAX_IN_FLIGHT)
            .div_ceil(UNIT);
        let units = u32::try_from(units.max(1)).unwrap_or(u32::MAX);
        let (share, room) = (self.share(seq), Arc::clone(&self.room));
        let both = async {
            let share = share.acquire_many_owned(units).await.ok()?;
            let room = room.acquire_many_owned(units).await.ok()?;
            Some(Room { share, room })
        };
        match tokio::time::timeout(ROOM_WITHIN, both).await {
            Ok(Some(room)) => Ok(room),
            Ok(None) => Err(internal()),
            Err(_) => Err(Refusal::new(
                Reason::RateLimited,
                "128 MiB of files are on their way to the session, or 256 MiB to all, already: \
                 try again",
            )),
        }
    }
}

/// An ended session keeps no directory open: somebody may want to unmount it.
pub(super) fn close_roots_of_ended(reads: &Arc<Reads>, sessions: &Sessions) {
    let (reads, sessions) = (Arc::downgrade(reads), sessions.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CLOSE_WITHIN).await;
            let Some(reads) = reads.upgrade() else { return };
            let is_live = |seq: &Seq| {
                let view = sessions.index().by_seq(*seq);
                view.is_some_and(|view| view.session.is_active())
            };
            reads.roots.lock().retain(|seq, _| is_live(seq));
            reads.shares.lock().retain(|seq, _| is_live(seq));
        }
    });
}

impl FirewallApi {
    /// Decides, opens, verifies, and hands out the bytes in parts.
    pub(super) async fn read(
        &self,
        mut caller: Caller,
        wire: pb::ReadFileRequest,
    ) -> Result<impl Stream<Item = Result<pb::ReadFileResponse, Status>> + use<>, Status> {
        let view = self.view(&caller, &wire.session_id)?;
        let given = convert::content_hash("hash", &wire.hash)?;
        let mut request = Request::Read {
            path: wire.path,
            hash: given,
        };
        let sessions = &self.api.sessions;
        let name = view.session.id();
        if given.is_none()
            && let Ok(verdict) = sessions.explain(&view, &request)
            && asks_for_hash(&verdict)
            && let (Request::Read { hash, .. }, Some(entry)) =
                (&mut request, Self::entry(&view, &verdict))
        {
            // What is served is checked against the entry anyway.
            *hash = Some(entry);
        }
        let verdict = sessions.check(&view, &request, actor(&caller), caller.wait());
        let verdict = verdict.await.map_err(|error| error.into_refusal(name))?;
        let mut verdict = verdict;
        let mut allowed = match &verdict.outcome {
            Ok(_) => self.open(&view, &verdict).await,
            Err(denied) => return Err(refusal(&view, &verdict, denied).into()),
        };
        if matches!(allowed, Err(Failed::Mismatch))
            && let Some(now) = self.without_pin(&view, &request)
        {
            // The session wrote the file itself while it was read.
            let id = verdict.id.take();
            verdict = Verdict { id, ..now };
            allowed = self.open(&view, &verdict).await;
        }
        let (verified, room) = match allowed {
            Ok(opened) => opened,
            Err(Failed::Mismatch) => {
                let refuted =
                    sessions.refute(&view, &request, verdict, actor(&caller), caller.wait());
                let verdict = refuted.await.map_err(|error| error.into_refusal(name))?;
                return Err(match &verdict.outcome {
                    Err(denied) => refusal(&view, &verdict, denied).into(),
                    Ok(_) => internal().into(),
                });
            }
            Err(Failed::Refused(refusal)) => return Err(refusal.into()),
        };
        self.reauthorise(&mut caller)?;
        let mut head = pb::ReadFileResponse {
            verdict: Some(convert::verdict(&verdict)),
            size: verified.bytes.len() as u64,
            hash: Bytes::copy_from_slice(&verified.hash),
            data: Bytes::new(),
        };
        let mut left = verified.bytes;
        head.data = left.split_to(left.len().min(PART));
        let parts = Parts {
            api: self.clone(),
            caller,
            head: Some(head),
            held: (!left.is_empty()).then(|| Held::new(left, room, TAKEN_WITHIN)),
        };
        Ok(futures_util::stream::unfold(parts, |mut parts| async {
            let part = parts.next()?;
            Some((part, parts))
        }))
    }

    /// How a request is decided by now, if it is allowed without a pin.
    fn without_pin(&self, view: &View, request: &Request) -> Option<Verdict> {
        let sessions = &self.api.sessions;
        let view = sessions.index().by_seq(view.session.seq)?;
        let verdict = sessions.explain(&view, request).ok()?;
        (verdict.outcome.is_ok() && verdict.expected.is_none()).then_some(verdict)
    }

    /// The hash of the entry that a verdict is about.
    fn entry(view: &View, verdict: &Verdict) -> Option<[u8; 32]> {
        let firewall = view.session.firewall.as_ref()?;
        let Judged::Path(path) = &verdict.judged else {
            return None;
        };
        let relative = path.below(&firewall.workspace_root)?;
        verdict
            .manifest
            .entry(relative)
            .map(|(_, entry)| entry.hash)
    }

    async fn open(&self, view: &View, verdict: &Verdict) -> Result<(Verified, Room), Failed> {
        let firewall = view.session.firewall.as_ref();
        let (Some(firewall), Judged::Path(path)) = (firewall, &verdict.judged) else {
            return Err(Failed::Refused(internal()));
        };
        let relative = path.below(&firewall.workspace_root).unwrap_or_default();
        let expected = match verdict.expected {
            Some(hash) => Expected::Pinned {
                hash,
                size: verdict.size,
            },
            None => Expected::Any,
        };
        let most = verdict.size.unwrap_or(MAX_FILE).min(MAX_FILE);
        let seq = view.session.seq;
        let room = self.reads.make_room(seq, most).await;
        let room = room.map_err(Failed::Refused)?;
        let reads = Arc::clone(&self.reads);
        let opened_at = firewall.opened_at().as_str().to_owned();
        let (relative, shown) = (relative.to_owned(), path.as_str().to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let below = reads.root(seq, &opened_at)?;
            below.read(&relative, &expected, MAX_FILE)
        });
        let verified = match read.await {
            Ok(Ok(verified)) => verified,
            Ok(Err(ReadError::Mismatch)) => return Err(Failed::Mismatch),
            Ok(Err(error)) => return Err(Failed::Refused(unreadable(&error, &shown))),
            Err(_) => return Err(Failed::Refused(internal())),
        };
        let room = room.shrink(verified.bytes.len().div_ceil(UNIT).max(1));
        Ok((verified, room))
    }
}

impl Room {
    /// Gives back what the file did not need.
    fn shrink(mut self, units: usize) -> Self {
        for permit in [&mut self.share, &mut self.room] {
            if let Some(surplus) = permit.num_permits().checked_sub(units) {
                drop(permit.split(surplus));
            }
        }
        self
    }
}

fn asks_for_hash(verdict: &Verdict) -> bool {
    matches!(
        &verdict.outcome,
        Err(denied) if denied.reason == DenialReason::ContentHashRequired
    )
}

/// Why a file that is allowed is not served.
enum Failed {
    Mismatch,
    Refused(Refusal),
}

fn unreadable(error: &ReadError, path: &str) -> Refusal {
    let reason = match error {
        ReadError::NotFound => Reason::FileNotFound,
        ReadError::NotAFile | ReadError::Symlink => Reason::NotAFile,
        ReadError::TooLarge { .. } => Reason::FileTooLarge,
        ReadError::NotNormal
        | ReadError::Mismatch
        | ReadError::Changing
        | ReadError::Denied
        | ReadError::Unsupported
        | ReadError::Io(_) => Reason::FileUnreadable,
    };
    Refusal::new(reason, format!("{path}: {error}")).about("file", path)
}

/// The error that a denied read is answered with.
fn refusal(view: &View, verdict: &Verdict, denied: &Denied) -> Refusal {
    let path = verdict.judged.shown();
    let reason = convert::error_reason(denied.reason);
    let decision = verdict.id.as_ref().map_or("", |id| id.as_str());
    let refusal = Refusal::new(reason, format!("{path}: {}", said(denied)))
        .with("decision_id", decision)
        .with("rule", &verdict.rule)
        .with("manifest_id", verdict.manifest.manifest_id())
        .with("path", crate::session::refinement::cut(&path))
        .with("session_ended", &verdict.ended);
    let refusal = match &verdict.refinement {
        Some(refinement) => refusal.with("refinement_id", &refinement.id),
        None => refusal,
    };
    match denied.reason {
        DenialReason::MaxRefinementsExceeded => refusal
            .with("work_id", view.session.work_id())
            .with("max", &MAX_REFINEMENTS),
        _ => refusal,
    }
}

fn said(denied: &Denied) -> &str {
    match denied.detail.as_str() {
        "" => denied.reason.code(),
        detail => detail,
    }
}

fn stalled() -> Refusal {
    let message = "the file was not taken within a minute";
    Refusal::new(Reason::DeadlineExceeded, message)
}

/// A file on its way. The caller's handle is looked at before each part.
struct Parts {
    api: FirewallApi,
    caller: Caller,
    head: Option<pb::ReadFileResponse>,
    /// What comes after the head; none: no more.
    held: Option<Held<Room>>,
}

impl Parts {
    fn next(&mut self) -> Option<Result<pb::ReadFileResponse, Status>> {
        if let Some(head) = self.head.take() {
            return Some(Ok(head));
        }
        let held = self.held.as_ref()?;
        let part = if self.api.still_accepted(&self.caller) {
            held.take(PART).map_err(|Stalled| stalled())
        } else {
            Err(handle_not_accepted())
        };
        match part {
            Ok(data) if data.is_empty() => None,
            Ok(data) => Some(Ok(pb::ReadFileResponse {
                data,
                ..Default::default()
            })),
            Err(refusal) => {
                self.held = None;
                Some(Err(refusal.into()))
            }
        }
    }
}
