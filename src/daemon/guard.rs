//! The accept guard: who may come in, and how many.
//!
//! Owns the acceptance of connections on both sockets. [`Guard`] is one door;
//! [`Connections`] counts what came in through either. The uid of a peer is
//! that of SO_PEERCRED, looked at before a byte is read; whoever may not come
//! in, or is one too many, is closed without an answer and counted.
//!
//! A change of the allowed uids holds for new connections. Session traffic can
//! never take the last connections, which are kept for operators. When the
//! process has no file descriptors left the guard waits; it never spins.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until};

use super::listen::Socket;
use crate::config::UidSet;

mod connections;
mod limits;

pub use connections::{Connections, Permit, Refused, Totals};
pub use limits::{connection_cap, raise_nofile};

/// The first wait when descriptors have run out; it doubles up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Long enough to cost nothing, short enough that a client with a deadline gets in.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// One line a period, however many connections are refused in it.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Effective uid at the time of connect(2). Whoever our user namespace does not map is 65534,
    /// all of them alike.
    pub uid: u32,
    /// Process; 0 where our pid namespace does not show it.
    pub pid: u32,
}

impl Peer {
    /// `/proc/<pid>/comm`: a label that the process chose itself, fit for a log line;
    /// empty if it is gone.
    pub fn program(&self) -> String {
        let path = Path::new("/proc").join(self.pid.to_string()).join("comm");
        let name = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&name)
            .trim_end_matches('\n')
            .trim()
            .replace(char::is_control, "?")
    }
}

/// The door of one socket.
#[derive(Debug)]
pub struct Guard {
    listener: UnixListener,
    socket: Socket,
    uids: RwLock<UidSet>,
    connections: Arc<Connections>,
    back_off: Mutex<BackOff>,
    refusals: Mutex<Periodic>,
}

impl Guard {
    /// Guards `listener`, which lets `uids` in besides our own uid.
    pub fn new(
        listener: UnixListener,
        socket: Socket,
        uids: UidSet,
        connections: Arc<Connections>,
    ) -> Self {
        Self {
            listener,
            socket,
            uids: RwLock::new(uids),
            connections,
            back_off: Mutex::new(BackOff::default()),
            refusals: Mutex::new(Periodic::default()),
        }
    }

    /// Which socket this is.
    pub fn socket(&self) -> Socket {
        self.socket
    }

    /// From now on lets `uids` in besides our own uid.
    pub fn set_uids(&self, uids: UidSet) {
        *self.uids.write() = uids;
    }

    /// The next connection that may come in. Cancel safe: nothing accepted is lost.
    pub async fn accept(&self) -> (UnixStream, Peer, Permit) {
        loop {
            // Kept in self, so that a caller that cancels and calls again waits all the same.
            let until = self.back_off.lock().until;
            if let Some(until) = until {
                sleep_until(until).await;
            }
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.back_off.lock().reset();
                    if let Some((peer, permit)) = self.admit(&stream) {
                        return (stream, peer, permit);
                    }
                }
                Err(error) => self.accept_failed(&error),
            }
        }
    }

    fn admit(&self, stream: &UnixStream) -> Option<(Peer, Permit)> {
        let Ok(credentials) = stream.peer_cred() else {
            return self.refuse(Refused::Peer, None);
        };
        let uid = credentials.uid();
        if uid != self.connections.own_uid() && !self.uids.read().contains(uid) {
            return self.refuse(Refused::Peer, Some(uid));
        }
        match self.connections.enter(self.socket, uid) {
            Ok(permit) => {
                let pid = credentials.pid().map_or(0, i32::unsigned_abs);
                Some((Peer { uid, pid }, permit))
            }
            Err(refused) => self.refuse(refused, Some(uid)),
        }
    }

    fn refuse<T>(&self, refused: Refused, uid: Option<u32>) -> Option<T> {
        self.connections.count(refused);
        if let Some(unlogged) = self.refusals.lock().tick(Instant::now()) {
            tracing::warn!(
                socket = self.socket.name(),
                reason = refused.as_str(),
                uid,
                unlogged,
                "connection refused"
            );
        }
        None
    }

    /// A connection that its client gave up is nothing to us; all else is worth a wait.
    fn accept_failed(&self, error: &io::Error) {
        let errno = Errno::from_io_error(error);
        if matches!(errno, Some(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN)) {
            return;
        }
        self.connections.count(Refused::Exhausted);
        let now = Instant::now();
        let mut back_off = self.back_off.lock();
        back_off.grow(now);
        if let Some(unlogged) = back_off.log.tick(now) {
            tracing::error!(
                socket = self.socket.name(),
                error = %error,
                unlogged,
                "cannot accept connections for now"
            );
        }
    }
}

/// How long to leave the listener alone.
#[derive(Debug, Default)]
struct BackOff {
    delay: Duration,
    until: Option<Instant>,
    log: Periodic,
}

impl BackOff {
    fn grow(&mut self, now: Instant) {
        self.delay = (self.delay * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX);
        self.until = Some(now + self.delay);
    }

    fn reset(&mut self) {
        self.delay = Duration::ZERO;
        self.until = None;
    }
}

/// Lets one log line through a period.
#[derive(Debug, Default)]
struct Periodic {
    last: Option<Instant>,
    unlogged: u64,
}

impl Periodic {
    /// Whether to log now; then how often it was not, since the last line.
    fn tick(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + LOG_PERIOD) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests;
