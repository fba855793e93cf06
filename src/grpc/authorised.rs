//! Streams that end with the handle they were asked for with.
//!
//! Every message is authorised anew, and without messages the handle is looked at
//! often enough that its end is told within a second. To look is no activity.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tonic::Status;

use crate::session::{index::HandleMatch, service::Sessions};

use super::{caller::Caller, status::handle_not_accepted};

/// How often a handle is looked at while nothing is sent.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module. A stream of a caller without a handle passes as it is.
pub(super) struct Authorised<S> {
    answers: S,
    handle: Option<(Sessions, Caller, Interval)>,
    over: bool,
}

impl<S> Authorised<S> {
    /// What `answers` holds, as long as the caller's handle is accepted.
    pub(super) fn new(sessions: &Sessions, caller: &Caller, answers: S) -> Self {
        let handle = caller.own.is_some().then(|| {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (sessions.clone(), caller.clone(), look)
        });
        Self {
            answers,
            handle,
            over: false,
        }
    }
}

impl<T, S> Stream for Authorised<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some((sessions, caller, look)) = &mut self.handle {
            // Also asks to be woken at the next look.
            while look.poll_tick(cx).is_ready() {}
            if !is_accepted(sessions, caller) {
                self.over = true;
                return Poll::Ready(Some(Err(handle_not_accepted().into())));
            }
        }
        let answer = ready!(Pin::new(&mut self.answers).poll_next(cx));
        Poll::Ready(answer)
    }
}

/// Whether the caller's handle is still good; true for a caller without one. Is no
/// activity.
pub(super) fn is_accepted(sessions: &Sessions, caller: &Caller) -> bool {
    caller.own.as_ref().is_none_or(|own| {
        let found = sessions.by_handle(&own.digest);
        matches!(found, Some(HandleMatch::Current(_)))
    })
}
