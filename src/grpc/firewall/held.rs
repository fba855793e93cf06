//! The bytes of one file on their way to a client.
//!
//! Owns the room they take. A client that takes nothing for a while loses them:
//! room is shared by all sessions, and one that stalls must not keep the others
//! from reading.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

/// See the module.
pub(super) struct Held(Arc<Mutex<Inner>>);

struct Inner {
    /// None once they were taken away.
    kept: Option<Kept>,
    /// Something was taken since the last look.
    moved: bool,
}

struct Kept {
    left: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Nothing was taken for too long, and the bytes are gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stalled;

impl Held {
    /// Keeps bytes, and the room they take, until they are dropped or nothing was
    /// taken for twice that time at most.
    pub(super) fn new(left: Bytes, room: OwnedSemaphorePermit, stalled_after: Duration) -> Self {
        let kept = Kept { left, _room: room };
        let inner = Arc::new(Mutex::new(Inner {
            kept: Some(kept),
            moved: true,
        }));
        tokio::spawn(look_after(Arc::downgrade(&inner), stalled_after));
        Self(inner)
    }

    /// Takes up to so many bytes; empty: there were no more.
    pub(super) fn take(&self, most: usize) -> Result<Bytes, Stalled> {
        let mut inner = self.0.lock();
        inner.moved = true;
        let left = &mut inner.kept.as_mut().ok_or(Stalled)?.left;
        Ok(left.split_to(left.len().min(most)))
    }
}

async fn look_after(inner: Weak<Mutex<Inner>>, stalled_after: Duration) {
    loop {
        tokio::time::sleep(stalled_after).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock();
        if !std::mem::take(&mut inner.moved) {
            inner.kept = None;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::{Held, Stalled};

    const SHORT: Duration = Duration::from_millis(5);

    async fn held(room: &Arc<Semaphore>, stalled_after: Duration) -> Held {
        let permit = Arc::clone(room).acquire_owned().await.unwrap();
        Held::new(Bytes::from_static(b"abcdef"), permit, stalled_after)
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
    async fn a_client_that_takes_nothing_loses_its_room() {
        let room = Arc::new(Semaphore::new(1));
        let held = held(&room, SHORT).await;
        assert_eq!(held.take(1).unwrap(), "a");
        let _free = room.acquire().await.unwrap();
        assert_eq!(held.take(1), Err(Stalled));
    }
}
