//! How what the context firewall keeps lies in the registry.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{BadRow, Decoder, Encoder};
use crate::{
    firewall::{decide::DenialReason, manifest::ManifestHash, path::AbsolutePath},
    ids::SessionId,
    session::{
        firewall::{DecisionId, Denial, Firewall, ManifestRef, Mode, OnDenial},
        index::Interner,
        refinement::{Refinement, RefinementId, RefinementState},
        state::{Live, Revision, Seq},
    },
};

#[derive(Clone, PartialEq, Message)]
struct FirewallRow {
    #[prost(uint32, tag = "1")]
    mode: u32,
    /// Absent: a denial ends the session.
    #[prost(uint32, optional, tag = "2")]
    max_denials: Option<u32>,
    #[prost(bytes = "vec", tag = "3")]
    manifest_hash: Vec<u8>,
    #[prost(string, tag = "4")]
    manifest_id: String,
    #[prost(string, tag = "5")]
    workspace_root: String,
    #[prost(string, tag = "6")]
    host_root: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DenialRow {
    #[prost(string, tag = "1")]
    decision: String,
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(string, tag = "3")]
    request: String,
    #[prost(string, tag = "4")]
    subject: String,
    #[prost(string, tag = "5")]
    rule: String,
    #[prost(string, tag = "6")]
    detail: String,
    #[prost(bool, tag = "7")]
    enforced: bool,
    #[prost(uint64, tag = "8")]
    count: u64,
}

/// Stands by itself: it outlives its session.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RefinementRow {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(bytes = "bytes", tag = "4")]
    spec: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    session: Bytes,
    #[prost(bytes = "vec", tag = "6")]
    manifest_hash: Vec<u8>,
    #[prost(string, tag = "7")]
    manifest_id: String,
    #[prost(string, tag = "8")]
    path: String,
    #[prost(uint32, tag = "9")]
    count: u32,
    #[prost(uint64, tag = "10")]
    created: u64,
    #[prost(uint64, tag = "11")]
    expires: u64,
    #[prost(uint32, tag = "12")]
    state: u32,
    /// The successor, or why it was declined.
    #[prost(string, tag = "13")]
    answer: String,
    #[prost(uint64, tag = "14")]
    changed: u64,
}

const AUDIT: u32 = 1;
const CONSUME: u32 = 2;

/// Encodes what a firewall does.
pub(super) fn encode_firewall(firewall: &Firewall) -> Vec<u8> {
    let row = FirewallRow {
        mode: match firewall.mode {
            Mode::Audit => AUDIT,
            Mode::Consume => CONSUME,
        },
        max_denials: match firewall.on_denial {
            OnDenial::End => None,
            OnDenial::Continue { max_denials } => Some(max_denials),
        },
        manifest_hash: firewall.manifest.hash.0.to_vec(),
        manifest_id: firewall.manifest.id.to_string(),
        workspace_root: firewall.workspace_root.as_str().to_owned(),
        host_root: firewall
            .host_root
            .as_ref()
            .map_or_else(String::new, |root| root.as_str().to_owned()),
    };
    row.encode_to_vec()
}

pub(super) fn decode_firewall(
    bytes: &[u8],
    interner: &mut Interner,
) -> Result<Arc<Firewall>, BadRow> {
    let row = FirewallRow::decode(bytes)?;
    let root = |text: &str| AbsolutePath::parse(text).map_err(|_| BadRow("a root"));
    let host_root = match row.host_root.as_str() {
        "" => None,
        text => Some(root(text)?),
    };
    let manifest = manifest_ref(&row.manifest_hash, &row.manifest_id)?;
    let firewall = Firewall {
        mode: match row.mode {
            AUDIT => Mode::Audit,
            CONSUME => Mode::Consume,
            _ => return Err(BadRow("a firewall mode")),
        },
        on_denial: match row.max_denials {
            None => OnDenial::End,
            Some(max_denials) => OnDenial::Continue { max_denials },
        },
        manifest: interner.manifest(&manifest),
        workspace_root: root(&row.workspace_root)?,
        host_root,
    };
    Ok(interner.firewall(&firewall))
}

fn manifest_ref(hash: &[u8], id: &str) -> Result<ManifestRef, BadRow> {
    let hash = hash.try_into().map_err(|_| BadRow("a hash"))?;
    Ok(ManifestRef {
        hash: ManifestHash(hash),
        id: id.into(),
    })
}

pub(super) fn denial_row(denial: &Denial) -> DenialRow {
    DenialRow {
        decision: denial.decision.as_str().to_owned(),
        reason: reason_number(denial.reason),
        request: denial.request.to_string(),
        subject: denial.subject.to_string(),
        rule: denial.rule.to_string(),
        detail: denial.detail.to_string(),
        enforced: denial.enforced,
        count: denial.count,
    }
}

pub(super) fn denial_of(row: DenialRow) -> Result<Denial, BadRow> {
    Ok(Denial {
        decision: DecisionId::kept(&row.decision),
        reason: reason_of(row.reason)?,
        request: row.request.into(),
        subject: row.subject.into(),
        rule: row.rule.into(),
        detail: row.detail.into(),
        enforced: row.enforced,
        count: row.count,
    })
}

super::numbered!(reason_number, reason_of, DenialReason {
    ToolNotAllowed = 1, ContextMiss = 2, ContentHashMismatch = 3, ContentHashRequired = 4,
    InvalidPath = 5, WritePathNotAllowed = 6, CommandNotAllowed = 7, ToolArgsNotAllowed = 8,
    MaxRefinementsExceeded = 9,
});

impl Encoder {
    pub(super) fn refinement_row(&mut self, refinement: &Refinement) -> RefinementRow {
        let session = &refinement.session;
        let (state, answer) = match &refinement.state {
            RefinementState::Pending => (1, ""),
            RefinementState::Answered(successor) => (2, successor.as_str()),
            RefinementState::Declined(reason) => (3, &**reason),
            RefinementState::Expired => (4, ""),
        };
        RefinementRow {
            id: refinement.id.0,
            seq: session.seq.0,
            revision: session.revision.0,
            spec: self.spec(&session.spec),
            session: self.session(session, &Live::default()),
            manifest_hash: refinement.manifest.hash.0.to_vec(),
            manifest_id: refinement.manifest.id.to_string(),
            path: refinement.path.to_string(),
            count: refinement.count,
            created: refinement.created,
            expires: refinement.expires,
            state,
            answer: answer.to_owned(),
            changed: refinement.changed,
        }
    }

    /// Encodes a refinement.
    pub(in crate::storage) fn refinement(&mut self, refinement: &Refinement) -> Vec<u8> {
        self.refinement_row(refinement).encode_to_vec()
    }
}

impl Decoder {
    /// Decodes a refinement.
    pub(in crate::storage) fn refinement(
        &mut self,
        bytes: &[u8],
        interner: &mut Interner,
    ) -> Result<Refinement, BadRow> {
        let row = RefinementRow::decode(bytes)?;
        self.refinement_of(row, interner)
    }

    pub(super) fn refinement_of(
        &mut self,
        row: RefinementRow,
        interner: &mut Interner,
    ) -> Result<Refinement, BadRow> {
        let (seq, revision) = (Seq(row.seq), Revision(row.revision));
        let (session, _) = self.session(seq, revision, &row.spec, &row.session, interner)?;
        let manifest = manifest_ref(&row.manifest_hash, &row.manifest_id)?;
        let successor = |text: &str| SessionId::parse(text).map_err(|_| BadRow("a session id"));
        Ok(Refinement {
            id: RefinementId(row.id),
            session: Arc::new(session),
            manifest: interner.manifest(&manifest),
            path: row.path.into(),
            count: row.count,
            created: row.created,
            expires: row.expires,
            state: match row.state {
                1 => RefinementState::Pending,
                2 => RefinementState::Answered(successor(&row.answer)?),
                3 => RefinementState::Declined(row.answer.into()),
                4 => RefinementState::Expired,
                _ => return Err(BadRow("a refinement's state")),
            },
            changed: row.changed,
        })
    }
}
