//! How what sessions share lies in the registry.

use prost::Message;

use super::{BadRow, mode_number, mode_of, role_number, role_of};
use crate::{
    ids::{PublicName, SessionId},
    session::spec::{IdentityEvidence, Labels, PcacPolicy, PointerOnlyWaiver, Spec},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelRow {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpecRow {
    #[prost(uint32, tag = "1")]
    role: u32,
    #[prost(string, tag = "2")]
    policy_resolved_ref: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    capability_manifest_hash: Option<Vec<u8>>,
    #[prost(string, tag = "4")]
    coordination_id: String,
    #[prost(string, optional, tag = "5")]
    parent_session_id: Option<String>,
    #[prost(message, optional, tag = "6")]
    pcac_policy: Option<PcacRow>,
    #[prost(message, optional, tag = "7")]
    waiver: Option<WaiverRow>,
    #[prost(message, repeated, tag = "8")]
    labels: Vec<LabelRow>,
}

#[derive(Clone, PartialEq, Message)]
struct PcacRow {
    #[prost(bool, tag = "1")]
    lifecycle_enforcement: bool,
    #[prost(bool, tag = "2")]
    pointer_only: bool,
    #[prost(uint64, tag = "3")]
    freshness_max_age_ticks: u64,
    #[prost(uint32, tag = "4")]
    sovereignty: u32,
}

#[derive(Clone, PartialEq, Message)]
struct WaiverRow {
    #[prost(string, tag = "1")]
    waiver_id: String,
    #[prost(uint64, tag = "2")]
    expires_at_tick: u64,
    #[prost(bytes = "vec", tag = "3")]
    scope_binding_hash: Vec<u8>,
}

pub(super) fn label_rows(labels: &Labels) -> Vec<LabelRow> {
    let row = |(key, value): (&str, &str)| LabelRow {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    labels.iter().map(row).collect()
}

pub(super) fn labels_of(rows: Vec<LabelRow>) -> Result<Labels, BadRow> {
    Labels::new(rows.into_iter().map(|row| (row.key, row.value))).map_err(|_| BadRow("labels"))
}

/// Encodes what sessions share.
pub(super) fn encode_spec(spec: &Spec) -> Vec<u8> {
    let row = SpecRow {
        role: role_number(spec.role),
        policy_resolved_ref: spec.policy_resolved_ref.as_str().to_owned(),
        capability_manifest_hash: spec.capability_manifest_hash.map(|hash| hash.to_vec()),
        coordination_id: spec.coordination_id.as_str().to_owned(),
        parent_session_id: spec
            .parent_session_id
            .as_ref()
            .map(|id| id.as_str().to_owned()),
        pcac_policy: spec.pcac_policy.map(|policy| PcacRow {
            lifecycle_enforcement: policy.lifecycle_enforcement,
            pointer_only: policy.min_tier2_identity_evidence == IdentityEvidence::PointerOnly,
            freshness_max_age_ticks: policy.freshness_max_age_ticks,
            sovereignty: mode_number(policy.tier2_sovereignty_mode),
        }),
        waiver: spec.pointer_only_waiver.as_ref().map(|waiver| WaiverRow {
            waiver_id: waiver.waiver_id.as_str().to_owned(),
            expires_at_tick: waiver.expires_at_tick,
            scope_binding_hash: waiver.scope_binding_hash.to_vec(),
        }),
        labels: label_rows(&spec.labels),
    };
    row.encode_to_vec()
}

pub(super) fn decode_spec(bytes: &[u8]) -> Result<Spec, BadRow> {
    let row = SpecRow::decode(bytes)?;
    let name = |text: &str| PublicName::parse(text).map_err(|_| BadRow("a name"));
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| BadRow("a hash"));
    let parent = row
        .parent_session_id
        .map(|id| SessionId::parse(&id))
        .transpose();
    Ok(Spec {
        role: role_of(row.role)?,
        policy_resolved_ref: name(&row.policy_resolved_ref)?,
        capability_manifest_hash: row.capability_manifest_hash.map(hash).transpose()?,
        coordination_id: name(&row.coordination_id)?,
        parent_session_id: parent.map_err(|_| BadRow("a session id"))?,
        pcac_policy: row.pcac_policy.as_ref().map(pcac_of).transpose()?,
        pointer_only_waiver: match row.waiver {
            Some(waiver) => Some(PointerOnlyWaiver {
                waiver_id: name(&waiver.waiver_id)?,
                expires_at_tick: waiver.expires_at_tick,
                scope_binding_hash: hash(waiver.scope_binding_hash)?,
            }),
            None => None,
        },
        labels: labels_of(row.labels)?,
    })
}

fn pcac_of(row: &PcacRow) -> Result<PcacPolicy, BadRow> {
    Ok(PcacPolicy {
        lifecycle_enforcement: row.lifecycle_enforcement,
        min_tier2_identity_evidence: if row.pointer_only {
            IdentityEvidence::PointerOnly
        } else {
            IdentityEvidence::Verified
        },
        freshness_max_age_ticks: row.freshness_max_age_ticks,
        tier2_sovereignty_mode: mode_of(row.sovereignty)?,
    })
}
