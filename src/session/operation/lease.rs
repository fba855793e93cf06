//! Showing a lease.

use std::sync::Arc;

use crate::session::{
    batch::{Batch, Call, Target},
    error::LeaseError,
    event::EventKind,
    index::View,
    operation::{
        Operation,
        register::{ShownLease, Until},
    },
    state::{LeaseHold, LeaseShown, Revision},
};

/// Shows a lease to one session, or to all whose lease it is.
#[derive(Debug)]
pub struct RenewLease {
    /// Which session; none: all of this lease.
    pub target: Option<Target>,
    /// The lease.
    pub lease: ShownLease,
    /// A new deadline, if there is to be one.
    pub until: Option<Until>,
    /// Replace a lease that another holds.
    pub take_over: bool,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who shows it.
    pub call: Call,
}

/// A lease that was accepted.
#[derive(Debug)]
pub struct Renewed {
    /// How many sessions it was shown to.
    pub count: u64,
    /// The session, if one was named.
    pub view: Option<View>,
    /// The revision that has all of this.
    pub revision: Revision,
}

impl Operation for RenewLease {
    type Answer = Renewed;
    type Error = LeaseError;

    fn is_alone(&self) -> bool {
        self.target.is_none()
    }

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Renewed, LeaseError> {
        match self.target.clone() {
            Some(target) => self.renew_one(batch, &target),
            None => self.renew_all(batch),
        }
    }
}

impl RenewLease {
    fn renew_one(&self, batch: &mut Batch<'_>, target: &Target) -> Result<Renewed, LeaseError> {
        let known = batch.repeated(self.call.request.as_ref());
        let view = batch.live_target(target, None)?;
        let repeated = known.map_err(|_| LeaseError::RequestReused)?;
        if repeated == Some(view.session.seq) {
            return Ok(one(view));
        }
        batch.check_etag(&view.session, self.etag)?;
        let held_by_another = view
            .session
            .lease
            .as_ref()
            .is_some_and(|held| held.is_current && held.digest != self.lease.digest);
        if held_by_another && !self.take_over {
            return Err(LeaseError::Held(view.session));
        }
        Ok(one(self.show(batch, &view)))
    }

    fn renew_all(&self, batch: &mut Batch<'_>) -> Result<Renewed, LeaseError> {
        let known = batch.led(self.call.request.as_ref());
        if let Some(led) = known.map_err(|_| LeaseError::RequestReused)? {
            return Ok(Renewed {
                count: led.changes.into(),
                view: None,
                revision: led.revision,
            });
        }
        let mut views = batch.index.of_lease(&self.lease.digest, usize::MAX);
        views.retain(|view| batch.is_live(view));
        let mut revision = batch.index.index().revision();
        for view in &views {
            revision = self.show(batch, view).session.revision;
        }
        Ok(Renewed {
            count: views.len() as u64,
            view: None,
            revision,
        })
    }

    fn show(&self, batch: &mut Batch<'_>, view: &View) -> View {
        let mut session = (*view.session).clone();
        session.lease = Some(LeaseHold {
            digest: self.lease.digest,
            shown: batch.intern().shown(&LeaseShown {
                holder: self.lease.holder.clone(),
                presenter: Arc::clone(&self.call.actor.peer),
            }),
            since: batch.now.wall,
            is_current: true,
        });
        if let Some(until) = self.until {
            session.expires = until.deadline(batch);
        }
        batch.put(session, view.live, EventKind::LeaseRenewed, &self.call)
    }
}

fn one(view: View) -> Renewed {
    let revision = view.session.revision;
    Renewed {
        count: 1,
        view: Some(view),
        revision,
    }
}
