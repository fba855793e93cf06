//! What sessions of the bench look like: all alike, none the same.
//!
//! Ids have 36 bytes. The work id, the episode and the lease are a session's own;
//! the policy and four labels are shared; both deadlines are set, too far away to
//! be reached.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use episoded::proto::session::{
    ExitClassification, PcacPolicy, RegisterSessionRequest, RegisterSessionsRequest,
    RemoveSessionRequest, Role, TerminateSessionRequest, TerminationReason,
    register_session_request::Deadline,
};
use prost::Message as _;

/// `RegisterSession`.
pub const REGISTER: &str = "/episoded.session.v1.SessionService/RegisterSession";
/// `RegisterSessions`.
pub const REGISTER_MANY: &str = "/episoded.session.v1.SessionService/RegisterSessions";
/// `RemoveSession`.
pub const REMOVE: &str = "/episoded.session.v1.SessionService/RemoveSession";
/// `LookupSession`.
pub const LOOKUP: &str = "/episoded.session.v1.SessionService/LookupSession";
/// `RotateHandle`.
pub const ROTATE: &str = "/episoded.session.v1.SessionService/RotateHandle";
/// `TerminateSession`.
pub const TERMINATE: &str = "/episoded.session.v1.SessionService/TerminateSession";
/// `WatchSessions`.
pub const WATCH: &str = "/episoded.session.v1.SessionService/WatchSessions";

/// Numbers of sessions to be; every number is given out once.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// The first of `count` numbers.
    pub fn take(&self, count: u64) -> u64 {
        self.0.fetch_add(count, Ordering::Relaxed)
    }

    /// How many were given out.
    pub fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The session of that number.
pub fn registration(number: u64) -> RegisterSessionRequest {
    let labels = [
        ("project", "control-plane"),
        ("stage", "integration"),
        ("queue", "batch-default"),
        ("team", "orchestration"),
    ];
    RegisterSessionRequest {
        work_id: id(b'w', number),
        role: Role::Implementer.into(),
        lease_id: id(b'l', number),
        session_id: id(b's', number),
        lease_holder: "orchestrator-1".into(),
        policy_resolved_ref: "policy/default@v12".into(),
        episode_id: id(b'e', number),
        coordination_id: "coordination-1".into(),
        pcac_policy: Some(PcacPolicy {
            lifecycle_enforcement: Some(true),
            ..PcacPolicy::default()
        }),
        labels: BTreeMap::from(labels.map(|(key, value)| (key.into(), value.into()))),
        deadline: Some(Deadline::Ttl(seconds(86_400))),
        idle_timeout: Some(seconds(43_200)),
        ..RegisterSessionRequest::default()
    }
}

/// The body of a call that registers it.
pub fn register(number: u64) -> Bytes {
    registration(number).encode_to_vec().into()
}

/// The same without an episode: it can be removed again.
pub fn register_unbound(number: u64) -> Bytes {
    let mut request = registration(number);
    request.episode_id.clear();
    request.encode_to_vec().into()
}

/// The body of a call that registers `count` sessions from `first` on.
pub fn register_many(first: u64, count: u64) -> Bytes {
    let requests = (first..first + count).map(registration).collect();
    let request = RegisterSessionsRequest { requests };
    request.encode_to_vec().into()
}

/// The body of a call that takes the registration back.
pub fn remove(number: u64) -> Bytes {
    let session_id = id(b's', number);
    let etag = String::new();
    RemoveSessionRequest { session_id, etag }
        .encode_to_vec()
        .into()
}

/// The body of a call that ends the caller's own session, normally.
pub fn end_own() -> Bytes {
    let request = TerminateSessionRequest {
        reason: TerminationReason::Normal.into(),
        exit_classification: ExitClassification::Success.into(),
        ..TerminateSessionRequest::default()
    };
    request.encode_to_vec().into()
}

/// 36 bytes in the form of a UUID, different for every kind and number.
fn id(kind: u8, number: u64) -> String {
    let (a, b) = (mix(number, kind), mix(number, kind ^ 0x80));
    let tail = b & 0xffff_ffff_ffff;
    let (a1, a2, a3) = (a >> 32, a >> 16 & 0xffff, a & 0xfff);
    format!("{a1:08x}-{a2:04x}-4{a3:03x}-8{:03x}-{tail:012x}", b >> 52)
}

/// Spreads a number over all bits, one to one for each kind.
fn mix(number: u64, kind: u8) -> u64 {
    let mut bits = number.wrapping_add(u64::from(kind) << 56);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}
