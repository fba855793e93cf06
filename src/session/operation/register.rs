//! Registering sessions.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use crate::{
    firewall::path::AbsolutePath,
    ids::{EpisodeId, PublicName, SessionId, WorkId},
    secret::{Handle, HandleDigest, LeaseDigest},
    session::{
        batch::{Batch, Call, Ending},
        error::{ManifestError, RegisterError},
        event::EventKind,
        firewall::{Firewall, ManifestRef, Mode, OnDenial},
        index::View,
        limits::MAX_EVICTIONS,
        operation::{Operation, manifest::Context},
        spec::Spec,
        state::{
            Counters, Deadline, ExitClassification, LeaseHold, LeaseShown, Names, Peer, Revision,
            Seq, Session, Status, TerminationReason,
        },
    },
};

/// When a session is to end at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After the default time to live.
    Default,
    /// Never.
    Never,
    /// At a moment, since the epoch.
    Wall(u64),
    /// After a time.
    After(Duration),
}

impl Until {
    /// The deadline, counted from the batch's time.
    pub fn deadline(self, batch: &Batch<'_>) -> Option<Deadline> {
        let now = batch.now;
        match self {
            Self::Default if batch.limits.default_ttl.is_zero() => None,
            Self::Default => Some(Deadline::after(now, batch.limits.default_ttl)),
            Self::Never => None,
            Self::Wall(wall) => {
                let boot = now.boot + wall.saturating_sub(now.wall);
                Some(Deadline::new(boot, wall))
            }
            Self::After(ttl) => Some(Deadline::after(now, ttl)),
        }
    }
}

/// A lease as a caller shows it.
#[derive(Debug, Clone)]
pub struct ShownLease {
    /// What is kept of it.
    pub digest: LeaseDigest,
    /// Its public name; empty: none.
    pub holder: PublicName,
}

/// A firewall to be.
#[derive(Debug)]
pub struct Guard {
    /// Whether it is enforced.
    pub mode: Mode,
    /// What a denial does.
    pub on_denial: OnDenial,
    /// What is allowed.
    pub context: Context,
    /// What the manifest's paths are relative to, as the session names it.
    pub workspace_root: AbsolutePath,
    /// The same directory as the daemon opens it.
    pub host_root: Option<AbsolutePath>,
}

impl Guard {
    /// Stores the manifest if it comes along, and binds to it.
    fn firewall(&self, batch: &mut Batch<'_>) -> Result<Arc<Firewall>, ManifestError> {
        let manifest = super::manifest::take(batch, &self.context)?;
        let manifest = batch.intern().manifest(&ManifestRef {
            hash: manifest.hash(),
            id: manifest.manifest_id().into(),
        });
        Ok(batch.intern().firewall(&Firewall {
            mode: self.mode,
            on_denial: self.on_denial,
            manifest,
            workspace_root: self.workspace_root.clone(),
            host_root: self.host_root.clone(),
        }))
    }
}

/// A registration: one session to be.
#[derive(Debug)]
pub struct Register {
    /// Its name.
    pub id: SessionId,
    /// What it works on.
    pub work: WorkId,
    /// What it shares with others; taken by the decision.
    pub spec: Spec,
    /// Its lease.
    pub lease: Option<ShownLease>,
    /// Its episode, if it is known already.
    pub episode: Option<EpisodeId>,
    /// Its deadline.
    pub until: Until,
    /// Its idle timeout, in milliseconds.
    pub idle: Option<NonZeroU32>,
    /// End the oldest sessions rather than refuse.
    pub allow_eviction: bool,
    /// Refuse when the work id has a live session.
    pub exclusive_work: bool,
    /// What the context firewall does for it.
    pub firewall: Option<Guard>,
    /// Count the refinements of the work id from 0 again.
    pub reset_refinements: bool,
    /// Its credential, made by the caller of the writer.
    pub handle: Handle,
    /// What is kept of the credential.
    pub digest: HandleDigest,
    /// Who registers it.
    pub call: Call,
}

/// A registration that succeeded.
#[derive(Debug)]
pub struct Registered {
    /// The session.
    pub view: View,
    /// Its handle; none if it was withheld.
    pub handle: Option<Handle>,
    /// Sessions ended to make room, oldest first.
    pub evicted: Vec<View>,
    /// The revision that has all of this.
    pub revision: Revision,
}

impl Operation for Register {
    type Answer = Registered;
    type Error = RegisterError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Registered, RegisterError> {
        self.decide_within(batch, MAX_EVICTIONS)
    }
}

impl Register {
    /// Decides, and ends at most so many sessions to make room.
    fn decide_within(
        &mut self,
        batch: &mut Batch<'_>,
        evictions: usize,
    ) -> Result<Registered, RegisterError> {
        let request = self.call.request.as_ref();
        let known = batch
            .repeated(request)
            .map_err(|_| RegisterError::RequestReused)?;
        match known {
            Some(seq) => self.repeat(batch, seq),
            None => self.register(batch, evictions),
        }
    }

    fn repeat(&self, batch: &mut Batch<'_>, seq: Seq) -> Result<Registered, RegisterError> {
        let view = batch.by_seq(seq).ok_or(RegisterError::Forgotten)?;
        if !view.session.is_active() || view.live.handle_used {
            let revision = view.session.revision;
            return Ok(Registered {
                view,
                handle: None,
                evicted: Vec::new(),
                revision,
            });
        }
        let mut session = (*view.session).clone();
        session.handle = Some(self.digest);
        let view = batch.put(session, view.live, EventKind::HandleRotated, &self.call);
        Ok(self.answer(view, Vec::new()))
    }

    fn register(
        &mut self,
        batch: &mut Batch<'_>,
        evictions: usize,
    ) -> Result<Registered, RegisterError> {
        if batch.by_id(&self.id).is_some() {
            return Err(RegisterError::Exists);
        }
        if self.exclusive_work
            && let Some(session) = batch.live_of_work(&self.work)
        {
            return Err(RegisterError::WorkBusy(session));
        }
        let guard = self.firewall.as_ref();
        if let Some(guard) = guard {
            super::manifest::check(batch, &guard.context)?;
        }
        let evicted = self.make_room(batch, evictions)?;
        let firewall = guard.map(|guard| guard.firewall(batch)).transpose()?;
        if self.reset_refinements {
            batch.reset_refinements(self.work.as_str());
        }
        let session = self.session(batch, firewall);
        let view = batch.insert(session, self.work.clone(), self.id.clone(), &self.call);
        Ok(self.answer(view, evicted))
    }

    /// Ends the oldest sessions if there must be room, or refuses and ends none. A
    /// session that ends keeps its slot for its record.
    fn make_room(
        &self,
        batch: &mut Batch<'_>,
        evictions: usize,
    ) -> Result<Vec<View>, RegisterError> {
        let limit = batch.limits.max_sessions;
        let full = RegisterError::Quota { limit };
        let needed = (batch.live_count() + 1).saturating_sub(limit);
        if !batch.has_room() {
            return Err(full);
        }
        if needed == 0 {
            return Ok(Vec::new());
        }
        if !self.allow_eviction || limit == 0 {
            return Err(full);
        }
        if needed > evictions {
            return Err(RegisterError::Evictions { limit, needed });
        }
        let oldest = batch.oldest_live(needed).ok_or(full)?;
        let evict = |view| batch.end(&view, &eviction(), EventKind::Evicted, &self.call);
        Ok(oldest.into_iter().map(evict).collect())
    }

    fn session(&self, batch: &mut Batch<'_>, firewall: Option<Arc<Firewall>>) -> Session {
        let now = batch.now;
        let registrant: Arc<Peer> = Arc::clone(&self.call.actor.peer);
        let lease = self.lease.as_ref().map(|lease| LeaseHold {
            digest: lease.digest,
            shown: batch.intern().shown(&LeaseShown {
                holder: lease.holder.clone(),
                presenter: Arc::clone(&registrant),
            }),
            since: now.wall,
            is_current: true,
        });
        let episode = self.episode.as_ref().map_or("", EpisodeId::as_str);
        Session {
            seq: batch.next_seq(),
            revision: Revision::default(),
            created: now.wall,
            names: Names::new(self.id.as_str(), self.work.as_str(), episode)
                .expect("ids that were parsed fit"),
            spec: batch.intern().spec(&self.spec),
            registrant,
            handle: Some(self.digest),
            lease,
            expires: self.until.deadline(batch),
            idle: self.idle,
            firewall,
            extra: None,
        }
    }

    fn answer(&self, view: View, evicted: Vec<View>) -> Registered {
        debug_assert_eq!(view.session.status(), Status::Active);
        let revision = view.session.revision;
        Registered {
            view,
            handle: Some(self.handle.clone()),
            evicted,
            revision,
        }
    }
}

fn eviction() -> Ending {
    Ending {
        reason: TerminationReason::Evicted,
        detail: "".into(),
        exit_classification: ExitClassification::Cancelled,
        exit_code: None,
        tokens_consumed: None,
        counters: Counters::default(),
    }
}

/// Many registrations in one commit; each succeeds or fails alone.
pub struct RegisterMany(pub Vec<Register>);

impl Operation for RegisterMany {
    type Answer = Vec<Result<Registered, RegisterError>>;
    type Error = std::convert::Infallible;

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Self::Answer, Self::Error> {
        let mut left = MAX_EVICTIONS;
        let decide = |item: &mut Register| {
            let decided = item.decide_within(batch, left);
            left -= decided.as_ref().map_or(0, |done| done.evicted.len());
            decided
        };
        Ok(self.0.iter_mut().map(decide).collect())
    }
}
