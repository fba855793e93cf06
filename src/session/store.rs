//! What the domain asks of a journal.
//!
//! One implementation is in `storage`. The writer thread owns it and is the only
//! caller. An append is all or nothing.

use std::{fmt, path::Path, sync::Arc};

use crate::{
    clock::{BootId, Now},
    firewall::manifest::{Manifest, ManifestHash},
    ids::{RegistryId, RequestId},
    session::{
        event::Event,
        index::Interner,
        refinement::{Count, Refinement, RefinementId},
        state::{Live, Revision, Seq, Session},
    },
};

/// One line of a batch.
#[derive(Debug)]
pub enum Change {
    /// The session as it is now, and what had moved without a revision. With an
    /// event, or without when only the latter changed.
    Put {
        /// The new version.
        session: Arc<Session>,
        /// What moved.
        live: Live,
        /// What watchers see.
        event: Option<Arc<Event>>,
        /// The call that asked for it, if it was named.
        request: Option<Request>,
    },
    /// The session is gone: removed (with an event) or purged (without).
    Delete {
        /// Which.
        seq: Seq,
        /// What watchers see.
        event: Option<Arc<Event>>,
    },
    /// An event about no session.
    Note(Arc<Event>),
    /// A manifest that is not stored yet.
    PutManifest(Arc<Manifest>),
    /// A manifest that nobody needs.
    DropManifest(ManifestHash),
    /// The refinements of a work id count from 0 again.
    ResetRefinements(Box<str>),
    /// A refinement is remembered no longer.
    ForgetRefinement(RefinementId),
}

/// What the journal keeps for the context firewall.
#[derive(Debug, Default)]
pub struct StoredFirewall {
    /// Manifests, oldest first.
    pub manifests: Vec<Arc<Manifest>>,
    /// Refinements, oldest first.
    pub refinements: Vec<Arc<Refinement>>,
    /// How many refinements work ids have had.
    pub counts: Vec<(Box<str>, Count)>,
}

/// A named call and what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Digest of its body.
    pub body: [u8; 16],
}

/// A change found in the journal whose call had a request id.
#[derive(Debug)]
pub struct PastRequest {
    /// The named call.
    pub request: Request,
    /// A session it was about.
    pub seq: Seq,
    /// What it changed there.
    pub revision: Revision,
    /// When, since the epoch.
    pub at: u64,
}

/// Why an append failed.
#[derive(Debug)]
pub enum AppendError {
    /// The disk is full; nothing was written.
    Full(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing was written, for another reason.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The commit itself failed: what is on disk is unknown. The process must
    /// end; the next start will find out.
    Unknown(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the disk is full",
            Self::Failed(_) => "the journal refused the batch",
            Self::Unknown(_) => "the commit failed and its outcome is unknown",
        })
    }
}

impl std::error::Error for AppendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(cause) | Self::Failed(cause) | Self::Unknown(cause) => Some(&**cause),
        }
    }
}

/// Reading the journal failed.
#[derive(Debug)]
pub enum ReadError {
    /// For a reason of the moment.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// What is in it cannot be understood.
    Damaged(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "reading the journal failed",
            Self::Damaged(_) => {
                "registry.db is damaged: restore a backup with `episoded --restore FILE`, or move \
                 it away to start with an empty registry"
            }
        })
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(cause) | Self::Damaged(cause) => Some(&**cause),
        }
    }
}

/// What the journal knows about itself.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The identity of the registry.
    pub registry_id: RegistryId,
    /// Starts so far, before this one.
    pub incarnation: u64,
    /// The boot of the last start, if there was one.
    pub boot_id: Option<BootId>,
    /// The newest revision.
    pub revision: Revision,
    /// The last registration.
    pub seq: Seq,
    /// About how many sessions there are.
    pub sessions: usize,
    /// Events up to this revision are no longer kept.
    pub compacted: Revision,
    /// The latest time the registry has seen.
    pub alive: Now,
    /// Version of the schema.
    pub schema: u32,
}

/// A session as the journal has it.
#[derive(Debug)]
pub struct Stored {
    /// Its last version.
    pub session: Session,
    /// What had moved without a revision.
    pub live: Live,
    /// When it was written, on the boot clock of its boot.
    pub written: u64,
    /// Whether that boot is this one.
    pub same_boot: bool,
}

/// What a start writes into the journal before it serves.
#[derive(Debug)]
pub struct Start {
    /// Starts so far, this one included.
    pub incarnation: u64,
    /// This boot.
    pub boot_id: BootId,
    /// The time of the start.
    pub now: Now,
}

/// Which past events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// After the revision, oldest first.
    Forward,
    /// Before the revision, newest first.
    Backward,
}

/// Whether a copy of the journal is whole.
pub type CopyCheck = fn(&Path) -> Result<(), ReadError>;

/// A step of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Pages copied so far.
    pub copied: u64,
    /// Pages in all.
    pub total: u64,
}

/// A durable journal of sessions and events.
pub trait Store: Send {
    /// What the journal knows about itself.
    fn meta(&mut self) -> Result<Meta, ReadError>;

    /// Visits every session it holds, in order of registration.
    fn load(
        &mut self,
        boot: &BootId,
        interner: &mut Interner,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<(), ReadError>;

    /// What it keeps for the context firewall.
    fn firewall(&mut self, interner: &mut Interner) -> Result<StoredFirewall, ReadError>;

    /// Visits the last named calls that are younger than `since` (milliseconds
    /// since the epoch), newest first, at most `limit`.
    fn requests(
        &mut self,
        since: u64,
        limit: usize,
        visit: &mut dyn FnMut(PastRequest),
    ) -> Result<(), ReadError>;

    /// Writes the start into the journal.
    fn start(&mut self, start: &Start, changes: &[Change]) -> Result<(), AppendError>;

    /// Writes a batch, all or nothing; durable when it returns.
    fn append(&mut self, changes: &[Change], now: Now) -> Result<(), AppendError>;

    /// At most `limit` events from `from` on, exclusive, in `order`.
    fn events(
        &mut self,
        from: Revision,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, ReadError>;

    /// Deletes at most `limit` events from the front that are older than
    /// `before` (milliseconds since the epoch) or beyond `keep` in number.
    /// Answers the newest revision deleted, if any.
    fn compact(
        &mut self,
        before: u64,
        keep: u64,
        limit: usize,
    ) -> Result<Option<Revision>, AppendError>;

    /// Notes that the registry is alive at this time.
    fn alive(&mut self, now: Now) -> Result<(), AppendError>;

    /// Gives the reserved disk space free, so that a revocation fits.
    fn release_ballast(&mut self);

    /// Takes as much of the reserve again as there is room for; whether it is
    /// whole.
    fn restore_ballast(&mut self) -> bool;

    /// Begins a copy of the journal into a new file.
    fn backup_begin(&mut self, to: &Path) -> Result<(), ReadError>;

    /// Copies at most `pages` more; none left: the copy is complete.
    fn backup_step(&mut self, pages: u32) -> Result<BackupProgress, ReadError>;

    /// Ends a copy, complete or not.
    fn backup_end(&mut self);

    /// What tells whether a copy is whole. It reads all of it, and needs no store.
    fn copy_check(&self) -> CopyCheck;

    /// Writes what can be written ahead of time, between calls. Whether that took as
    /// long as a large commit.
    fn idle(&mut self) -> bool;

    /// Writes all that can be written ahead of time, for a fast start.
    fn rest(&mut self);
}
