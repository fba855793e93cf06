//! The count of connections on both sockets.
//!
//! Owns who holds how many. Guards enter connections; a [`Permit`] leaves when
//! it is dropped. Refuses one too many: of all, of one other uid, and of
//! session traffic where only the connections kept for operators are left.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::daemon::listen::Socket;

/// Session traffic leaves this many free for operator.sock.
const KEPT_FOR_OPERATORS: u64 = 64;
/// Any one other uid gets at most one connection in this many.
const SHARE_OF_OTHER_UID: u64 = 4;

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its uid may not connect here.
    Peer,
    /// There are too many, or only those kept for operators are left.
    Full,
    /// Its uid has too many.
    UidShare,
    /// It could not be accepted: the process or the host has no descriptor left.
    Exhausted,
}

impl Refused {
    /// For logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "uid",
            Self::Full => "connections",
            Self::UidShare => "connections_of_uid",
            Self::Exhausted => "descriptors",
        }
    }
}

/// What the guards have seen since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections now.
    pub open: u64,
    /// Connections at most.
    pub cap: u64,
    /// Refused for their uid.
    pub peers_refused: u64,
    /// Refused because there were too many.
    pub shed: u64,
    /// Failed attempts to accept.
    pub exhausted: u64,
}

/// All connections of the daemon.
#[derive(Debug)]
pub struct Connections {
    own_uid: u32,
    cap: u64,
    held: Mutex<Held>,
    peers_refused: AtomicU64,
    shed: AtomicU64,
    exhausted: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Uids with a connection now, so at most as many entries as connections.
    by_uid: HashMap<u32, u64>,
}

impl Connections {
    /// None yet, and `cap` at most; `own_uid` is that of the daemon.
    pub fn new(cap: u64, own_uid: u32) -> Arc<Self> {
        Arc::new(Self {
            own_uid,
            cap,
            held: Mutex::default(),
            peers_refused: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
        })
    }

    /// The uid of the daemon.
    pub fn own_uid(&self) -> u32 {
        self.own_uid
    }

    /// What was counted.
    pub fn totals(&self) -> Totals {
        Totals {
            open: self.held.lock().all,
            cap: self.cap,
            peers_refused: self.peers_refused.load(Ordering::Relaxed),
            shed: self.shed.load(Ordering::Relaxed),
            exhausted: self.exhausted.load(Ordering::Relaxed),
        }
    }

    /// One more connection of `uid` on `socket`, if there may be one.
    pub fn enter(self: &Arc<Self>, socket: Socket, uid: u32) -> Result<Permit, Refused> {
        let room = match socket {
            Socket::Operator | Socket::Agent => self.cap,
            Socket::Session => self.cap.saturating_sub(KEPT_FOR_OPERATORS),
        };
        let mut held = self.held.lock();
        if held.all >= room {
            return Err(Refused::Full);
        }
        let of_uid = held.by_uid.get(&uid).copied().unwrap_or(0);
        if uid != self.own_uid && of_uid >= self.cap / SHARE_OF_OTHER_UID {
            return Err(Refused::UidShare);
        }
        held.all += 1;
        held.by_uid.insert(uid, of_uid + 1);
        drop(held);
        Ok(Permit {
            connections: Arc::clone(self),
            uid,
        })
    }

    pub(super) fn count(&self, refused: Refused) {
        let counter = match refused {
            Refused::Peer => &self.peers_refused,
            Refused::Full | Refused::UidShare => &self.shed,
            Refused::Exhausted => &self.exhausted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self, uid: u32) {
        let mut held = self.held.lock();
        held.all -= 1;
        if let Entry::Occupied(mut entry) = held.by_uid.entry(uid) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// The right to one connection, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    uid: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.leave(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::{Connections, Refused};
    use crate::daemon::listen::Socket::{Operator, Session};

    const OWN: u32 = 1000;

    #[test]
    fn all_connections_together_have_a_cap() {
        let connections = Connections::new(200, OWN);
        let mut permits: Vec<_> = (0..200)
            .map(|_| connections.enter(Operator, OWN).unwrap())
            .collect();
        assert_eq!(connections.enter(Operator, OWN).unwrap_err(), Refused::Full);
        permits.pop();
        permits.push(connections.enter(Operator, OWN).unwrap());
        assert_eq!(connections.totals().open, 200);
        permits.clear();
        assert_eq!(connections.totals().open, 0);
        assert!(connections.held.lock().by_uid.is_empty());
    }

    #[test]
    fn session_traffic_never_takes_what_is_kept_for_operators() {
        let connections = Connections::new(200, OWN);
        let _sessions: Vec<_> = (0..136)
            .map(|_| connections.enter(Session, OWN).unwrap())
            .collect();
        assert_eq!(connections.enter(Session, OWN).unwrap_err(), Refused::Full);
        let operators: Vec<_> = (0..64)
            .map(|_| connections.enter(Operator, OWN).unwrap())
            .collect();
        assert_eq!(connections.enter(Operator, OWN).unwrap_err(), Refused::Full);
        drop(operators);
        assert_eq!(connections.enter(Session, OWN).unwrap_err(), Refused::Full);
    }

    #[test]
    fn a_cap_below_what_is_kept_is_all_for_operators() {
        let connections = Connections::new(10, OWN);
        assert_eq!(connections.enter(Session, OWN).unwrap_err(), Refused::Full);
        connections.enter(Operator, OWN).unwrap();
    }

    #[test]
    fn any_other_uid_gets_a_quarter_over_both_sockets() {
        let connections = Connections::new(200, OWN);
        let mut permits: Vec<_> = (0..50)
            .map(|turn| {
                let socket = if turn % 2 == 0 { Session } else { Operator };
                connections.enter(socket, 7).unwrap()
            })
            .collect();
        for socket in [Session, Operator] {
            assert_eq!(connections.enter(socket, 7).unwrap_err(), Refused::UidShare);
        }
        let _third = connections.enter(Session, 8).unwrap();
        let _own: Vec<_> = (0..80)
            .map(|_| connections.enter(Session, OWN).unwrap())
            .collect();
        permits.pop();
        connections.enter(Session, 7).unwrap();
    }
}
