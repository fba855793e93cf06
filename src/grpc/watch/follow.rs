//! What every kind of watcher does: tell where it begins, then what happens at each
//! beat, and at the end that it was the last.

use std::future::Future;

use tonic::Status;

use crate::{
    grpc::{
        authorised::Authorised,
        caller::Caller,
        outbox::{Outbox, Sent},
        session::SessionApi,
        watch::beat::Beat,
    },
    session::state::Revision,
};

/// What a watcher receives.
pub(in crate::grpc) type Answers<T> = Authorised<Sent<Result<T, Status>>>;

/// The watcher was told why it ends.
pub(in crate::grpc) struct Over;

/// A watcher. Has a cursor, and sends what is after it.
pub(in crate::grpc) trait Follower: Send + 'static {
    /// Tells where the watch begins.
    fn begin(&mut self) -> impl Future<Output = ()> + Send;

    /// Sends everything up to that revision, and no more: who stays in step shares
    /// what is sent.
    fn catch_up(&mut self, to: Revision) -> impl Future<Output = Result<(), Over>> + Send;

    /// Sends what happened up to a beat.
    fn follow(&mut self, beat: &Beat) -> impl Future<Output = Result<(), Over>> + Send {
        self.catch_up(beat.through)
    }

    /// Tells that the daemon stops.
    fn last(&mut self) -> impl Future<Output = ()> + Send;
}

/// The answers of the watcher that `make` makes.
pub(in crate::grpc) fn answers<T, F>(
    api: &SessionApi,
    caller: &Caller,
    make: impl FnOnce(Outbox<Result<T, Status>>) -> F,
) -> Answers<T>
where
    T: Send + 'static,
    F: Follower,
{
    let sent = Sent::by(|outbox| run(api.clone(), make(outbox)));
    Authorised::new(&api.sessions, caller, sent)
}

async fn run(api: SessionApi, mut follower: impl Follower) {
    let mut beats = api.beats.listen(&api.sessions);
    let mut draining = api.draining.clone();
    follower.begin().await;
    let mut told = follower.catch_up(api.sessions.revision()).await;
    while told.is_ok() {
        told = tokio::select! {
            biased;
            () = async { let _ = draining.wait_for(|draining| *draining).await; } => {
                if follower.catch_up(api.sessions.revision()).await.is_ok() {
                    follower.last().await;
                }
                return;
            }
            beat = beats.next() => match beat {
                Some(beat) => follower.follow(&beat).await,
                None => return,
            },
        };
    }
}
