//! The bytes of one file on their way to a client.
//!
//! Owns the room they take. A client that has not taken them all in time loses
//! them: room is shared by all sessions, and one that stalls must not keep the
//! others from reading.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

/// See the module.
pub(super) struct Held<R>(Arc<Mutex<Option<Kept<R>>>>);

/// None once it was taken away.
struct Kept<R> {
    left: Bytes,
    _room: R,
}

/// The time is over, and the bytes are gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stalled;

impl<R: Send + 'static> Held<R> {
    /// Keeps bytes, and the room they take, until they are dropped or the time is
    /// over.
    pub(super) fn new(left: Bytes, room: R, time: Duration) -> Self {
        let kept = Arc::new(Mutex::new(Some(Kept { left, _room: room })));
        tokio::spawn(end(Arc::downgrade(&kept), time));
        Self(kept)
    }

    /// Takes up to so many bytes; empty: there were no more.
    pub(super) fn take(&self, most: usize) -> Result<Bytes, Stalled> {
        let mut kept = self.0.lock();
        let left = &mut kept.as_mut().ok_or(Stalled)?.left;
        Ok(left.split_to(left.len().min(most)))
    }
}

async fn end<R>(kept: Weak<Mutex<Option<Kept<R>>>>, time: Duration) {
    tokio::time::sleep(time).await;
    if let Some(kept) = kept.upgrade() {
        *kept.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use tokio::sync::{OwnedSemaphorePermit, Semaphore};

    use super::{Held, Stalled};

    const SHORT: Duration = Duration::from_millis(5);

    async fn held(room: &Arc<Semaphore>, time: Duration) -> Held<OwnedSemaphorePermit> {
        let permit = Arc::clone(room).acquire_owned().await.unwrap();
        Held::new(Bytes::from_static(b"abcdef"), permit, time)
    }

    #[tokio::test]
    async fn what_is_taken_comes_in_parts_to_its_end() {
        let room = Arc::new(Semaphore::new(1));
        let held = held(&room, Duration::from_hours(1)).await;
        for part in ["abcd", "ef", ""] {
            assert_eq!(held.take(4).unwrap(), part);
        }
        assert_eq!(room.available_permits(), 0);
        drop(held);
        assert_eq!(room.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_all_in_time_loses_the_room() {
        let room = Arc::new(Semaphore::new(1));
        let held = held(&room, SHORT).await;
        assert_eq!(held.take(1).unwrap(), "a");
        let _free = room.acquire().await.unwrap();
        assert_eq!(held.take(1), Err(Stalled));
    }
}
