//! Who may come in: our own uid, and so many connections.

use std::{sync::Arc, time::Duration};

use rustix::process::geteuid;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

/// Connections at once; more are closed. Each holds a descriptor and a few hundred
/// bytes.
const MAX_CONNECTIONS: usize = 4096;

/// How long nothing is accepted when there are no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The door.
pub(super) struct Door {
    listener: UnixListener,
    places: Arc<Semaphore>,
}

/// One connection that was let in.
pub(super) struct Guest {
    pub(super) stream: UnixStream,
    /// Its process, as the kernel says; 0 where our pid namespace does not show it.
    pub(super) pid: i32,
    pub(super) place: OwnedSemaphorePermit,
}

impl Door {
    /// Lets in through that listener as many as there may be descriptors.
    pub(super) fn new(listener: std::os::unix::net::UnixListener) -> std::io::Result<Self> {
        let descriptors = crate::daemon::guard::raise_nofile();
        let most = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            places: Arc::new(Semaphore::new(most.min(MAX_CONNECTIONS))),
        })
    }

    /// The next connection that may come in. Others are closed without an answer,
    /// before a byte of theirs is read.
    pub(super) async fn next(&self) -> Guest {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept connections for now");
                    sleep(BACK_OFF).await;
                    continue;
                }
            };
            let Ok(peer) = stream.peer_cred() else {
                continue;
            };
            if peer.uid() != geteuid().as_raw() {
                warn!(uid = peer.uid(), "connection of another user closed");
                continue;
            }
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                warn!("one connection too many closed");
                continue;
            };
            return Guest {
                stream,
                pid: peer.pid().unwrap_or(0),
                place,
            };
        }
    }
}
