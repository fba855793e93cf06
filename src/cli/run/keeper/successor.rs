//! A session that missed something, and the one that goes on in its place.
//!
//! Owns the wait for the coordinator's answer and the change of sessions: the
//! successor's handle is taken by rotating it, and takes the place of the old one
//! in the child's handle file in one step. The child runs on all the while.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use super::Keeper;
use crate::cli::output::note;
use crate::cli::secrets::{create_new, random_name, write_line};
use crate::client::{ClientError, Follow, Handle};
use crate::proto::firewall::{ListRefinementsRequest, RefinementFilter, WatchRefinementsRequest};
use crate::proto::session::{
    BindEpisodeRequest, Refinement, RefinementState, RotateHandleRequest, Session, WatchFilter,
};

/// Between two looks while the daemon is away or says nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do when the session missed something: wait for its successor.
#[derive(Debug, Clone)]
pub struct OnMiss {
    /// Where the child finds its handle.
    pub handle_file: PathBuf,
    /// The episode that the successor is bound to as well.
    pub episode: BindEpisodeRequest,
}

impl Keeper {
    /// Waits for the successor and takes its place over; none: nobody goes on.
    pub(super) async fn go_on(&mut self) -> Option<Follow> {
        let on_miss = self.on_miss.clone()?;
        let missed = self.answer().await?;
        note(format_args!(
            "the session missed {}: session {} goes on",
            missed.missed_path, missed.successor_session_id
        ));
        match self.take_over(&on_miss, missed.successor_session_id).await {
            Ok(follow) => Some(follow),
            Err(error) => {
                note(format_args!("cannot take over: {error}"));
                None
            }
        }
    }

    /// Waits until the refinement of the session is answered; none: it never will
    /// be.
    async fn answer(&self) -> Option<Refinement> {
        let filter = RefinementFilter {
            session_id: self.session_id.clone(),
            ..RefinementFilter::default()
        };
        let mut is_told = false;
        loop {
            // Open before the look, so that no answer falls between them.
            let watch = self.operator.watch_refinements(WatchRefinementsRequest {
                filter: Some(filter.clone()),
                ..WatchRefinementsRequest::default()
            });
            let watch = watch.await;
            let list = ListRefinementsRequest {
                page_size: 1,
                filter: Some(filter.clone()),
                ..ListRefinementsRequest::default()
            };
            if let Ok(page) = self.operator.list_refinements(list).await {
                let refinement = page.refinements.into_iter().next()?;
                match refinement.state() {
                    RefinementState::Answered => return Some(refinement),
                    RefinementState::Pending if !is_told => {
                        is_told = true;
                        note(format_args!(
                            "the session missed {} and has ended: waiting for an answer to {}",
                            refinement.missed_path, refinement.refinement_id
                        ));
                    }
                    RefinementState::Pending => {}
                    _ => return None,
                }
            }
            // Its first message is the snapshot; the second is news.
            if let Ok(mut watch) = watch {
                for _ in 0..2 {
                    if !matches!(watch.next().await, Ok(Some(_))) {
                        sleep(PAUSE).await;
                        break;
                    }
                }
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    async fn take_over(
        &mut self,
        on_miss: &OnMiss,
        session_id: String,
    ) -> Result<Follow, TakeOverError> {
        let request = RotateHandleRequest {
            session_id: session_id.clone(),
            request_id: format!("run-{}", random_name().map_err(|_| TakeOverError::Random)?),
            ..RotateHandleRequest::default()
        };
        let mut rotated = self.operator.rotate_handle(request.clone()).await;
        while rotated.as_ref().is_err_and(ClientError::is_transient) {
            sleep(PAUSE).await;
            rotated = self.operator.rotate_handle(request.clone()).await;
        }
        let mut session: Session = rotated?.session.unwrap_or_default();
        let handle = Handle::take(&mut session).ok_or(TakeOverError::NoHandle)?;
        replace(&on_miss.handle_file, &handle)?;
        self.own = Some(self.operator.clone().with_handle(handle));
        self.bind = Some(BindEpisodeRequest {
            session_id: session_id.clone(),
            ..on_miss.episode.clone()
        });
        self.session_id.clone_from(&session_id);
        self.current.lock().clone_from(&session_id);
        self.bind().await;
        let filter = WatchFilter {
            session_id,
            ..WatchFilter::default()
        };
        let operator = self.operator.clone();
        Ok(Follow::behind(
            operator,
            filter,
            session.revision,
            session.registry_id,
        ))
    }
}

/// A new file in the place of the old: a reader finds one handle or the other.
fn replace(path: &std::path::Path, handle: &Handle) -> Result<(), TakeOverError> {
    let next = path.with_extension("next");
    let _ = std::fs::remove_file(&next);
    let mut file = create_new(&next).map_err(|_| TakeOverError::File)?;
    write_line(&mut file, handle.expose()).map_err(|_| TakeOverError::File)?;
    std::fs::rename(&next, path).map_err(|_| TakeOverError::File)
}

/// Why a successor cannot be taken over.
#[derive(Debug)]
enum TakeOverError {
    Call(Box<ClientError>),
    NoHandle,
    File,
    Random,
}

impl From<ClientError> for TakeOverError {
    fn from(error: ClientError) -> Self {
        Self::Call(Box::new(error))
    }
}

impl std::fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::NoHandle => f.write_str("the daemon gave no handle"),
            Self::File => f.write_str("the handle file cannot be replaced"),
            Self::Random => f.write_str("no random number can be had"),
        }
    }
}
