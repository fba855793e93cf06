//! Replacing a handle.

use crate::{
    secret::{Handle, HandleDigest},
    session::{
        batch::{Batch, Call, Target},
        error::{RotateError, TargetError},
        event::EventKind,
        index::{HandleMatch, View},
        limits::ROTATE_RETRY_MS,
        operation::Operation,
        state::{Revision, Rotated, Session},
    },
};

/// Gives a session another handle.
#[derive(Debug)]
pub struct Rotate {
    /// Which session.
    pub target: Target,
    /// The new credential, made by the caller of the writer.
    pub handle: Handle,
    /// What is kept of it.
    pub digest: HandleDigest,
    /// What the caller saw.
    pub etag: Option<Revision>,
    /// Who rotates it.
    pub call: Call,
}

/// A rotation that succeeded.
#[derive(Debug)]
pub struct NewHandle {
    /// The session.
    pub view: View,
    /// Its new credential.
    pub handle: Handle,
}

impl Operation for Rotate {
    type Answer = NewHandle;
    type Error = RotateError;

    const REVOKES: bool = true;

    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<NewHandle, RotateError> {
        let view = self.find(batch)?;
        let known = batch.repeated(self.call.request.as_ref());
        let repeats = known.map_err(|_| RotateError::RequestReused)? == Some(view.session.seq);
        if !repeats {
            batch.check_etag(&view.session, self.etag)?;
        }
        let mut session = (*view.session).clone();
        let old = if repeats {
            first_replaced(&session)
        } else {
            session.handle
        };
        session.handle = Some(self.digest);
        session.extra_mut().rotated = None;
        if let (Some(old), Some(request)) = (old, &self.call.request) {
            session.extra_mut().rotated = Some(Rotated {
                old,
                request_id: request.id.clone(),
                until: batch.now.boot + ROTATE_RETRY_MS,
            });
        }
        let mut live = view.live;
        live.handle_used = false;
        let view = batch.put(session, live, EventKind::HandleRotated, &self.call);
        Ok(NewHandle {
            view,
            handle: self.handle.clone(),
        })
    }
}

impl Rotate {
    /// A handle that was just replaced may repeat the call that replaced it.
    fn find(&self, batch: &Batch<'_>) -> Result<View, TargetError> {
        let refused = match batch.live_target(&self.target, None) {
            Err(TargetError::HandleNotAccepted) => TargetError::HandleNotAccepted,
            other => return other,
        };
        let (Target::Own(digest), Some(request)) = (&self.target, &self.call.request) else {
            return Err(refused);
        };
        let Some(HandleMatch::Replaced(view)) = batch.index.index().by_handle(digest, batch.now)
        else {
            return Err(refused);
        };
        let newest = batch
            .by_seq(view.session.seq)
            .filter(|view| view.session.is_active());
        newest
            .filter(|view| {
                view.session.rotated().is_some_and(|rotated| {
                    rotated.old == *digest && rotated.request_id == request.id
                })
            })
            .ok_or(refused)
    }
}

/// A repeated rotation keeps the handle that the caller knows.
fn first_replaced(session: &Session) -> Option<HandleDigest> {
    session.rotated().map(|rotated| rotated.old)
}
