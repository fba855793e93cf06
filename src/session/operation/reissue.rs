//! Answers to refinements.

use std::sync::Arc;

use crate::{
    firewall::manifest::{Access, Manifest},
    ids::SessionId,
    secret::{Handle, HandleDigest},
    session::{
        batch::{Batch, Call},
        error::{RefinementError, ReissueError},
        event::EventKind,
        firewall::{Firewall, ManifestRef},
        index::View,
        operation::{Operation, manifest::Context},
        refinement::{Refinement, RefinementId, RefinementState},
        state::{Names, Revision, Seq, Session},
    },
};

/// Answers a refinement with a session that goes on.
#[derive(Debug)]
pub struct Reissue {
    /// Which refinement.
    pub id: RefinementId,
    /// Under which manifest.
    pub context: Context,
    /// The name of the new session.
    pub session_id: SessionId,
    /// Its credential.
    pub handle: Handle,
    /// What is kept of it.
    pub digest: HandleDigest,
    /// Who answers.
    pub call: Call,
}

/// A session that goes on.
#[derive(Debug)]
pub struct Reissued {
    /// The successor.
    pub view: View,
    /// Its handle; none if it was withheld.
    pub handle: Option<Handle>,
    /// The refinement, answered.
    pub refinement: Arc<Refinement>,
}

impl Operation for Reissue {
    type Answer = Reissued;
    type Error = ReissueError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Reissued, ReissueError> {
        let known = batch.repeated(self.call.request.as_ref());
        let refinement = batch.refinement(self.id).ok_or(RefinementError::NotFound)?;
        if let Some(seq) = known.map_err(|_| ReissueError::RequestReused)? {
            return self.repeat(batch, seq, refinement);
        }
        check_open(batch, &refinement)?;
        if batch.by_id(&self.session_id).is_some() {
            return Err(ReissueError::Exists);
        }
        let limit = batch.limits.max_sessions;
        if batch.live_count() >= limit || !batch.has_room() {
            return Err(ReissueError::Quota { limit });
        }
        let manifest = super::manifest::take(batch, &self.context)?;
        let session = self.successor(batch, &refinement, &manifest);
        let work = crate::ids::WorkId::parse(session.work_id()).expect("it was parsed before");
        let view = batch.insert(session, work, self.session_id.clone(), &self.call);
        let answered = Refinement {
            state: RefinementState::Answered(self.session_id.clone()),
            changed: batch.now.wall,
            ..(*refinement).clone()
        };
        let unnamed = unnamed(&self.call);
        let missed = batch.by_seq(refinement.session.seq);
        let kind = EventKind::RefinementAnswered;
        let refinement = batch.put_refinement(missed.as_ref(), answered, kind, &unnamed);
        Ok(Reissued {
            view,
            handle: Some(self.handle.clone()),
            refinement,
        })
    }
}

impl Reissue {
    fn repeat(
        &self,
        batch: &mut Batch<'_>,
        seq: Seq,
        refinement: Arc<Refinement>,
    ) -> Result<Reissued, ReissueError> {
        let view = batch.by_seq(seq).ok_or(ReissueError::Forgotten)?;
        if !view.session.is_active() || view.live.handle_used {
            return Ok(Reissued {
                view,
                handle: None,
                refinement,
            });
        }
        let mut session = (*view.session).clone();
        session.handle = Some(self.digest);
        let view = batch.put(session, view.live, EventKind::HandleRotated, &self.call);
        Ok(Reissued {
            view,
            handle: Some(self.handle.clone()),
            refinement,
        })
    }

    /// All that goes on: work, role, labels, policy, lease, roots, idle timeout,
    /// what is left of the deadline, and which files were written already.
    fn successor(
        &self,
        batch: &mut Batch<'_>,
        refinement: &Refinement,
        manifest: &Manifest,
    ) -> Session {
        let before = &refinement.session;
        let lifted = carried(batch, refinement, manifest);
        let names = Names::new(self.session_id.as_str(), before.work_id(), "");
        let manifest = batch.intern().manifest(&ManifestRef {
            hash: manifest.hash(),
            id: manifest.manifest_id().into(),
        });
        let firewall = before.firewall.as_ref().map(|firewall| Firewall {
            manifest,
            ..(**firewall).clone()
        });
        let mut session = Session {
            seq: batch.next_seq(),
            revision: Revision::default(),
            created: batch.now.wall,
            names: names.expect("ids that were parsed fit"),
            spec: Arc::clone(&before.spec),
            registrant: Arc::clone(&self.call.actor.peer),
            handle: Some(self.digest),
            lease: before.lease.clone(),
            expires: before.expires,
            idle: before.idle,
            firewall: firewall.map(|firewall| batch.intern().firewall(&firewall)),
            extra: None,
        };
        let extra = session.extra_mut();
        extra.predecessor = SessionId::parse(before.id()).ok();
        let labels = before.extra.as_ref().and_then(|extra| extra.labels.clone());
        extra.labels = labels;
        extra.lifted = lifted;
        session
    }
}

/// The entries whose pin stays lifted: the same file, still to be written, and not
/// pinned to other content since.
fn carried(batch: &Batch<'_>, refinement: &Refinement, manifest: &Manifest) -> Vec<u32> {
    let Some(before) = batch.manifest(&refinement.manifest.hash) else {
        return Vec::new();
    };
    let lifted = refinement.session.lifted().iter();
    let entries = lifted.filter_map(|at| before.entries().get(*at as usize));
    let same = entries.filter_map(|old| {
        let (at, new) = manifest.entry(old.path.as_str())?;
        (new.access == Access::ReadWrite && new.hash == old.hash).then_some(at)
    });
    let mut carried: Vec<u32> = same.collect();
    carried.sort_unstable();
    carried
}

/// Refuses a refinement.
#[derive(Debug)]
pub struct Decline {
    /// Which refinement.
    pub id: RefinementId,
    /// Why.
    pub reason: Box<str>,
    /// Who refuses.
    pub call: Call,
}

impl Operation for Decline {
    type Answer = Arc<Refinement>;
    type Error = RefinementError;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Arc<Refinement>, RefinementError> {
        let refinement = batch.refinement(self.id).ok_or(RefinementError::NotFound)?;
        check_open(batch, &refinement)?;
        let declined = Refinement {
            state: RefinementState::Declined(self.reason.clone()),
            changed: batch.now.wall,
            ..(*refinement).clone()
        };
        let missed = batch.by_seq(refinement.session.seq);
        let kind = EventKind::RefinementDeclined;
        Ok(batch.put_refinement(missed.as_ref(), declined, kind, &self.call))
    }
}

fn check_open(batch: &Batch<'_>, refinement: &Arc<Refinement>) -> Result<(), RefinementError> {
    match &refinement.state {
        RefinementState::Answered(successor) => Err(RefinementError::Answered(successor.clone())),
        RefinementState::Pending if refinement.is_open(batch.now) => Ok(()),
        _ => Err(RefinementError::Closed(Arc::clone(refinement))),
    }
}

/// One named call is remembered once, with the session it made.
fn unnamed(call: &Call) -> Call {
    Call {
        actor: call.actor.clone(),
        request: None,
    }
}
