//! Rows, written.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;

use super::{
    CountersRow, EventRow, LabelsRow, LeaseRow, PeerRow, ProcessRow, RecordRow, RestartRow,
    RotatedRow, SessionRow, exit_number,
    firewall::{denial_row, encode_firewall},
    reason_number, socket_number,
    spec::{encode_spec, label_rows},
};
use crate::{
    ids::SessionId,
    session::{
        event::About,
        firewall::Firewall,
        spec::Spec,
        state::{Actor, Counters, Live, Peer, Record, Session},
    },
};

/// Distinct shared parts remembered at most; beyond that they start afresh.
const MAX_DISTINCT: usize = 4096;

/// Encodes rows, each distinct shared part once.
#[derive(Default)]
pub(in crate::storage) struct Encoder {
    /// The start of the registry that leases are shown in; 0 before the first.
    pub(in crate::storage) incarnation: u64,
    specs: Remembered<Spec>,
    peers: Remembered<Peer>,
    firewalls: Remembered<Firewall>,
}

/// Encodings by the address of what they encode, which they keep alive: an
/// address means one thing while it is here.
struct Remembered<T>(HashMap<usize, (Arc<T>, Bytes)>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Remembered<T> {
    fn get(&mut self, value: &Arc<T>, encode: fn(&T) -> Vec<u8>) -> Bytes {
        let address = Arc::as_ptr(value).addr();
        if let Some((_, known)) = self.0.get(&address) {
            return known.clone();
        }
        if self.0.len() >= MAX_DISTINCT {
            self.0.clear();
        }
        let bytes = Bytes::from(encode(value));
        self.0.insert(address, (Arc::clone(value), bytes.clone()));
        bytes
    }
}

impl Encoder {
    /// Encodes what sessions share.
    pub(in crate::storage) fn spec(&mut self, spec: &Arc<Spec>) -> Bytes {
        self.specs.get(spec, encode_spec)
    }

    fn peer(&mut self, peer: &Arc<Peer>) -> Bytes {
        self.peers.get(peer, encode_peer)
    }

    /// Encodes a session and what had moved without a revision.
    pub(in crate::storage) fn session(&mut self, session: &Session, live: &Live) -> Bytes {
        let (id, work, episode) = session.names.split();
        let extra = session.extra.as_deref();
        let row = SessionRow {
            names: [id, work, episode].join("/"),
            created: session.created,
            registrant: self.peer(&session.registrant),
            handle: session
                .handle
                .map(|digest| Bytes::copy_from_slice(digest.as_bytes())),
            lease: session.lease.as_ref().map(|lease| LeaseRow {
                digest: Bytes::copy_from_slice(lease.digest.as_bytes()),
                holder: lease.shown.holder.as_str().to_owned(),
                presenter: self.peer(&lease.shown.presenter),
                since: lease.since,
                incarnation: if lease.is_current {
                    self.incarnation
                } else {
                    0
                },
            }),
            expires_boot: session.expires.map(|deadline| deadline.boot),
            expires_wall: session.expires.map(|deadline| deadline.wall.get()),
            idle: session.idle.map_or(0, NonZeroU32::get),
            record: session.record().map(|record| self.record(record)),
            stop_requested: session.stop_requested(),
            process: session.process().map(|process| ProcessRow {
                pid: process.pid,
                start: process.start,
            }),
            labels: extra
                .and_then(|extra| extra.labels.as_ref())
                .map(|labels| LabelsRow {
                    labels: label_rows(labels),
                }),
            rotated: session.rotated().map(|rotated| RotatedRow {
                old: rotated.old.as_bytes().to_vec(),
                request_id: rotated.request_id.as_str().to_owned(),
                until: rotated.until,
            }),
            last_wall: live.last_wall,
            last_awake: live.last_awake,
            handle_used: live.handle_used,
            counters: counters_row(live.counters),
            firewall: session
                .firewall
                .as_ref()
                .map_or_else(Bytes::new, |it| self.firewalls.get(it, encode_firewall)),
            lifted: session.lifted().to_vec(),
            denials: session.denials(),
            predecessor: name(extra.and_then(|extra| extra.predecessor.as_ref())),
            successor: name(extra.and_then(|extra| extra.successor.as_ref())),
        };
        row.encode_to_vec().into()
    }

    fn record(&mut self, record: &Record) -> RecordRow {
        RecordRow {
            reason: reason_number(record.reason),
            detail: record.detail.clone().into(),
            exit_classification: exit_number(record.exit_classification),
            exit_code: record.exit_code,
            tokens_consumed: record.tokens_consumed,
            counters: counters_row(record.counters),
            ended: record.ended,
            duration: record.duration,
            purge_boot: record.purge.boot,
            purge_wall: record.purge.wall.get(),
            peer: self.peer(&record.actor.peer),
            request_id: record
                .actor
                .request_id
                .as_ref()
                .map(|id| id.as_str().to_owned()),
        }
    }

    /// Encodes the body of an event, given the session's own encoding.
    pub(in crate::storage) fn event(
        &mut self,
        actor: &Actor,
        spec: Bytes,
        session: Bytes,
        about: &About,
    ) -> Vec<u8> {
        let restart = match about {
            About::Restart(restart) => Some(restart),
            _ => None,
        };
        let denial = match about {
            About::Denial(denial) => Some(denial_row(denial)),
            _ => None,
        };
        let refinement = match about {
            About::Refinement(refinement) => Some(self.refinement_row(refinement)),
            _ => None,
        };
        let row = EventRow {
            peer: self.peer(&actor.peer),
            request_id: actor.request_id.as_ref().map(|id| id.as_str().to_owned()),
            spec,
            session,
            restart: restart.map(|restart| RestartRow {
                boot_id: restart.boot_id.as_str().to_owned(),
                incarnation: restart.incarnation,
                live: restart.live,
                first_seq: restart.first_seq.0,
                base: restart.base.0,
            }),
            denial,
            refinement,
        };
        row.encode_to_vec()
    }
}

fn encode_peer(peer: &Peer) -> Vec<u8> {
    let row = PeerRow {
        uid: peer.uid,
        pid: peer.pid,
        program: peer.program.clone().into(),
        socket: socket_number(peer.socket),
    };
    row.encode_to_vec()
}

fn name(id: Option<&SessionId>) -> Option<String> {
    id.map(|id| id.as_str().to_owned())
}

fn counters_row(counters: Counters) -> Option<CountersRow> {
    (counters != Counters::default()).then_some(CountersRow {
        tool_calls: counters.tool_calls,
        events: counters.events,
        tokens: counters.tokens,
    })
}
