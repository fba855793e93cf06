//! Rows, read.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;

use super::{
    BadRow, CountersRow, EventRow, LeaseRow, PeerRow, RecordRow, RotatedRow, SessionRow, exit_of,
    firewall::{decode_firewall, denial_of},
    reason_of, socket_of,
    spec::{decode_spec, labels_of},
};
use crate::{
    clock::BootId,
    ids::{PublicName, RequestId, SessionId},
    secret::{HandleDigest, LeaseDigest},
    session::{
        event::{About, Restart},
        firewall::Firewall,
        index::Interner,
        spec::Spec,
        state::{
            Actor, Counters, Deadline, Extra, LeaseHold, LeaseShown, Live, Names, Peer, Process,
            Record, Revision, Rotated, Seq, Session,
        },
    },
};

/// Decodes rows, each distinct shared part once.
#[derive(Default)]
pub(in crate::storage) struct Decoder {
    /// The running start of the registry; 0 before it.
    pub(in crate::storage) incarnation: u64,
    specs: HashMap<Vec<u8>, Arc<Spec>>,
    peers: HashMap<Vec<u8>, Arc<Peer>>,
    firewalls: HashMap<Bytes, Arc<Firewall>>,
}

/// Distinct shared parts remembered at most; beyond that they start afresh.
const MAX_DISTINCT: usize = 65_536;

impl Decoder {
    fn spec(&mut self, bytes: &[u8], interner: &mut Interner) -> Result<Arc<Spec>, BadRow> {
        if let Some(known) = self.specs.get(bytes) {
            return Ok(Arc::clone(known));
        }
        if self.specs.len() >= MAX_DISTINCT {
            self.specs.clear();
        }
        let spec = interner.spec(&decode_spec(bytes)?);
        self.specs.insert(bytes.to_vec(), Arc::clone(&spec));
        Ok(spec)
    }

    fn peer(&mut self, bytes: &[u8], interner: &mut Interner) -> Result<Arc<Peer>, BadRow> {
        if let Some(known) = self.peers.get(bytes) {
            return Ok(Arc::clone(known));
        }
        if self.peers.len() >= MAX_DISTINCT {
            self.peers.clear();
        }
        let row = PeerRow::decode(bytes)?;
        let peer = interner.peer(&Peer {
            uid: row.uid,
            pid: row.pid,
            program: row.program.into(),
            socket: socket_of(row.socket)?,
        });
        self.peers.insert(bytes.to_vec(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Decodes a session and what had moved without a revision.
    pub(in crate::storage) fn session(
        &mut self,
        seq: Seq,
        revision: Revision,
        spec: &[u8],
        body: &[u8],
        interner: &mut Interner,
    ) -> Result<(Session, Live), BadRow> {
        // Its parts share the copy.
        let row = SessionRow::decode(Bytes::copy_from_slice(body))?;
        let (id, rest) = cut(&row.names)?;
        let (work, episode) = cut(rest)?;
        let live = Live {
            last_wall: row.last_wall,
            last_awake: row.last_awake,
            handle_used: row.handle_used,
            counters: counters_of(row.counters),
        };
        let names = Names::new(id, work, episode).ok_or(BadRow("names"))?;
        let expires = row.expires_boot.zip(row.expires_wall);
        let lease = row
            .lease
            .as_ref()
            .map(|lease| self.lease(lease, interner))
            .transpose()?;
        let handle = row
            .handle
            .map(|bytes| HandleDigest::from_bytes(&bytes).ok_or(BadRow("a digest")));
        let record = row
            .record
            .map(|record| self.record(record, interner))
            .transpose()?;
        let extra = Extra {
            record,
            ending: false,
            stop_requested: row.stop_requested,
            process: row.process.map(|p| Process {
                pid: p.pid,
                start: p.start,
            }),
            labels: row.labels.map(|rows| labels_of(rows.labels)).transpose()?,
            rotated: row.rotated.as_ref().map(rotated_of).transpose()?,
            lifted: row.lifted,
            denials: row.denials,
            predecessor: session_id_of(row.predecessor)?,
            successor: session_id_of(row.successor)?,
        };
        let session = Session {
            seq,
            revision,
            created: row.created,
            names,
            spec: self.spec(spec, interner)?,
            registrant: self.peer(&row.registrant, interner)?,
            handle: handle.transpose()?,
            lease,
            expires: expires.map(|(boot, wall)| Deadline::new(boot, wall)),
            idle: NonZeroU32::new(row.idle),
            firewall: self.firewall(&row.firewall, interner)?,
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
        };
        Ok((session, live))
    }

    fn firewall(
        &mut self,
        bytes: &Bytes,
        interner: &mut Interner,
    ) -> Result<Option<Arc<Firewall>>, BadRow> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.firewalls.get(bytes) {
            return Ok(Some(Arc::clone(known)));
        }
        if self.firewalls.len() >= MAX_DISTINCT {
            self.firewalls.clear();
        }
        let firewall = decode_firewall(bytes, interner)?;
        let key = Bytes::copy_from_slice(bytes);
        self.firewalls.insert(key, Arc::clone(&firewall));
        Ok(Some(firewall))
    }

    fn lease(&mut self, row: &LeaseRow, interner: &mut Interner) -> Result<LeaseHold, BadRow> {
        let presenter = self.peer(&row.presenter, interner)?;
        let holder = PublicName::parse(&row.holder).map_err(|_| BadRow("a name"))?;
        Ok(LeaseHold {
            digest: LeaseDigest::from_bytes(&row.digest).ok_or(BadRow("a digest"))?,
            shown: interner.shown(&LeaseShown { holder, presenter }),
            since: row.since,
            is_current: row.incarnation != 0 && row.incarnation == self.incarnation,
        })
    }

    fn record(&mut self, row: RecordRow, interner: &mut Interner) -> Result<Record, BadRow> {
        let peer = self.peer(&row.peer, interner)?;
        Ok(Record {
            reason: reason_of(row.reason)?,
            detail: row.detail.into(),
            exit_classification: exit_of(row.exit_classification)?,
            exit_code: row.exit_code,
            tokens_consumed: row.tokens_consumed,
            counters: counters_of(row.counters),
            ended: row.ended,
            duration: row.duration,
            purge: Deadline::new(row.purge_boot, row.purge_wall),
            actor: Actor {
                peer,
                request_id: request_id_of(row.request_id)?,
            },
        })
    }

    /// Decodes the body of an event.
    pub(in crate::storage) fn event(
        &mut self,
        seq: Seq,
        revision: Revision,
        body: &[u8],
        interner: &mut Interner,
    ) -> Result<DecodedEvent, BadRow> {
        let row = EventRow::decode(body)?;
        let peer = self.peer(&row.peer, interner)?;
        let session = if row.session.is_empty() {
            None
        } else {
            Some(self.session(seq, revision, &row.spec, &row.session, interner)?)
        };
        let about = match (row.restart, row.denial, row.refinement) {
            (Some(restart), ..) => About::Restart(Restart {
                boot_id: BootId::new(&restart.boot_id),
                incarnation: restart.incarnation,
                live: restart.live,
                first_seq: Seq(restart.first_seq),
                base: Revision(restart.base),
            }),
            (None, Some(denial), _) => About::Denial(Arc::new(denial_of(denial)?)),
            (None, None, Some(refinement)) => {
                About::Refinement(Arc::new(self.refinement_of(refinement, interner)?))
            }
            (None, None, None) => About::Session,
        };
        Ok(DecodedEvent {
            actor: Actor {
                peer,
                request_id: request_id_of(row.request_id)?,
            },
            session,
            about,
        })
    }
}

/// What is before the first `/` and what is behind it.
fn cut(names: &str) -> Result<(&str, &str), BadRow> {
    let at = names.bytes().position(|byte| byte == b'/');
    let (before, after) = names.split_at(at.ok_or(BadRow("names"))?);
    Ok((before, &after[1..]))
}

/// What the body of an event holds.
pub(in crate::storage) struct DecodedEvent {
    pub(in crate::storage) actor: Actor,
    pub(in crate::storage) session: Option<(Session, Live)>,
    pub(in crate::storage) about: About,
}

fn rotated_of(row: &RotatedRow) -> Result<Rotated, BadRow> {
    Ok(Rotated {
        old: HandleDigest::from_bytes(&row.old).ok_or(BadRow("a digest"))?,
        request_id: RequestId::parse(&row.request_id).map_err(|_| BadRow("a request id"))?,
        until: row.until,
    })
}

fn request_id_of(text: Option<String>) -> Result<Option<RequestId>, BadRow> {
    text.map(|text| RequestId::parse(&text))
        .transpose()
        .map_err(|_| BadRow("a request id"))
}

fn session_id_of(text: Option<String>) -> Result<Option<SessionId>, BadRow> {
    text.map(|text| SessionId::parse(&text))
        .transpose()
        .map_err(|_| BadRow("a session id"))
}

fn counters_of(row: Option<CountersRow>) -> Counters {
    row.map(|row| Counters {
        tool_calls: row.tool_calls,
        events: row.events,
        tokens: row.tokens,
    })
    .unwrap_or_default()
}
