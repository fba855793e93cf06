//! What happens to entries, as a stream.

use std::{pin::Pin, sync::Arc};

use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tonic::Status;

use super::fields::show_wipe;
use crate::{
    agent::keeper::{Event, Keeper},
    grpc::status::not_serving,
    keycache::grant::GrantId,
    proto::keycache::{self as pb, watch_cache_response::Event as Told},
};

/// A stream of answers.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<pb::WatchCacheResponse, Status>> + Send>>;

/// Everything from now on, until the process is to end.
pub(super) fn events(keeper: &Arc<Keeper>) -> Events {
    let (events, stopping) = (keeper.events(), keeper.stopping());
    let begun = Some(Told::Begun(pb::Begun {}));
    let state = (begun, events, stopping, false);
    Box::pin(futures_util::stream::unfold(
        state,
        |(first, mut events, mut stopping, over)| async move {
            if over {
                return None;
            }
            let told = if first.is_some() {
                first
            } else {
                // The wipe before the end is told, too.
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Ok(event) => Some(show(event)),
                        Err(RecvError::Lagged(lost)) => Some(Told::Lost(lost)),
                        Err(RecvError::Closed) => None,
                    },
                    _ = stopping.wait_for(|stopping| *stopping) => None,
                }
            };
            let over = told.is_none();
            let answer = match told {
                Some(event) => Ok(pb::WatchCacheResponse { event: Some(event) }),
                None => Err(not_serving().into()),
            };
            Some((answer, (None, events, stopping, over)))
        },
    ))
}

fn show(event: Event) -> Told {
    match event {
        Event::Stored(id) => Told::Stored(id.as_str().to_owned()),
        Event::Expired(id) => Told::Expired(id.as_str().to_owned()),
        Event::Forgotten(id) => Told::Forgotten(id.as_str().to_owned()),
        Event::Wiped(wipe) => Told::Wiped(show_wipe(&wipe)),
        Event::Granted(id) => Told::Granted(show_owned(&id)),
        Event::GrantEnded(id, why) => Told::GrantEnded(pb::OwnedKeyEnd {
            key: Some(show_owned(&id)),
            why: why.as_str().to_owned(),
        }),
    }
}

fn show_owned(id: &GrantId) -> pb::OwnedKey {
    pb::OwnedKey {
        lockbox_id: id.lockbox.as_str().to_owned(),
        session_id: id.session.as_str().to_owned(),
    }
}
