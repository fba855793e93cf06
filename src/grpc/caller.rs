//! Who is calling.

use std::sync::Arc;

use tonic::{Extensions, Status};

use crate::{
    ids::{RequestId, SessionId},
    reason::Reason,
    secret::HandleDigest,
    session::{
        batch::{Call, Target},
        index::View,
        service::Wait,
        state::{Actor, Peer},
        store::Request,
    },
};

use super::status::{Refusal, Violations, handle_not_accepted};

/// The session whose handle came with a call.
#[derive(Debug, Clone)]
pub struct Own {
    /// What is kept of the handle.
    pub digest: HandleDigest,
    /// The session; none for a handle that may only repeat its rotation.
    pub view: Option<View>,
}

/// Put into every call by the dispatcher.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The process at the other end.
    pub peer: Arc<Peer>,
    /// Present when a handle came with the call, and was accepted.
    pub own: Option<Own>,
    /// When nobody waits any more, on the awake clock.
    pub deadline: Option<u64>,
}

impl Caller {
    /// The caller of a request.
    pub fn of(extensions: &Extensions) -> Result<&Self, Status> {
        extensions
            .get()
            .ok_or_else(|| super::status::internal().into())
    }

    /// Which session a call is about: the one it names, or the caller's own. On
    /// session.sock only the caller's own.
    pub fn target(&self, session_id: &str) -> Result<Target, Refusal> {
        let Some(own) = &self.own else {
            return named(session_id);
        };
        let is_own = own
            .view
            .as_ref()
            .is_some_and(|view| view.session.id() == session_id);
        if session_id.is_empty() || is_own {
            return Ok(Target::Own(own.digest));
        }
        let message = "a handle reaches its own session only";
        Err(Refusal::new(Reason::OperatorOnly, message))
    }

    /// The view of the caller's own session.
    pub fn own_view(&self) -> Result<&View, Refusal> {
        let view = self.own.as_ref().and_then(|own| own.view.as_ref());
        view.ok_or_else(handle_not_accepted)
    }

    /// This call as an actor. `body` digests what a repetition must repeat.
    pub fn call(&self, request_id: Option<RequestId>, body: impl FnOnce() -> [u8; 16]) -> Call {
        let request = request_id.clone().map(|id| Request { id, body: body() });
        Call {
            actor: Actor {
                peer: Arc::clone(&self.peer),
                request_id,
            },
            request,
        }
    }

    /// This call as an actor, with no name.
    pub fn unnamed(&self) -> Call {
        self.call(None, || [0; 16])
    }

    /// How this call waits for the writer.
    pub fn wait(&self) -> Wait {
        Wait {
            deadline: self.deadline,
            socket: self.peer.socket,
        }
    }
}

fn named(session_id: &str) -> Result<Target, Refusal> {
    SessionId::parse(session_id)
        .map(Target::Named)
        .map_err(|error| {
            let mut violations = Violations::default();
            violations.add(Reason::InvalidSessionId, "session_id", error.to_string());
            violations.into_refusal()
        })
}
