//! What many sessions have in common, kept once and shared.

use crate::{
    ids::{PublicName, SessionId},
    session::limits::{MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_LABELS_BYTES},
};

/// What an episode is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes the change.
    Implementer,
    /// Runs a gate over the change.
    GateExecutor,
    /// Judges the change.
    Reviewer,
    /// Directs the others.
    Coordinator,
}

/// What evidence of identity a tier-2 action needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdentityEvidence {
    /// Verified evidence.
    Verified,
    /// A pointer to evidence is enough.
    PointerOnly,
}

/// How tier-2 sovereignty is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SovereigntyMode {
    /// Enforced.
    Strict,
    /// Watched.
    Monitor,
    /// Off.
    Disabled,
}

/// PCAC policy knobs: stored, validated, returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcacPolicy {
    /// Whether the lifecycle is enforced.
    pub lifecycle_enforcement: bool,
    /// The least evidence for tier 2.
    pub min_tier2_identity_evidence: IdentityEvidence,
    /// Ticks after which evidence is stale; never 0.
    pub freshness_max_age_ticks: u64,
    /// How sovereignty is kept.
    pub tier2_sovereignty_mode: SovereigntyMode,
}

impl Default for PcacPolicy {
    fn default() -> Self {
        Self {
            lifecycle_enforcement: true,
            min_tier2_identity_evidence: IdentityEvidence::Verified,
            freshness_max_age_ticks: 100,
            tier2_sovereignty_mode: SovereigntyMode::Strict,
        }
    }
}

/// Permission to act on pointers to evidence only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointerOnlyWaiver {
    /// Its name.
    pub waiver_id: PublicName,
    /// The tick it ends at; never 0.
    pub expires_at_tick: u64,
    /// What it is bound to; never all zero.
    pub scope_binding_hash: [u8; 32],
}

/// Keys and values, sorted by key, within the limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Takes pairs with distinct keys; refuses what breaks a limit, in words
    /// that complete "must".
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, &'static str>
    where
        K: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut labels: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        labels.sort_unstable();
        if labels.len() > MAX_LABELS {
            return Err("have at most 32 labels");
        }
        let key_fits = |k: &str| !k.is_empty() && k.len() <= MAX_LABEL_KEY_BYTES;
        if !labels.iter().all(|(k, _)| key_fits(k)) {
            return Err("have keys of 1 to 63 bytes");
        }
        if labels.iter().any(|(_, v)| v.len() > MAX_LABEL_VALUE_BYTES) {
            return Err("have values of at most 255 bytes");
        }
        let texts = || labels.iter().flat_map(|(k, v)| [k, v]);
        if texts().any(|text| text.chars().any(char::is_control)) {
            return Err("have no control characters");
        }
        if texts().map(|text| text.len()).sum::<usize>() > MAX_LABELS_BYTES {
            return Err("have at most 4 KiB of keys and values");
        }
        Ok(Self(labels.into()))
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every pair of `wanted` is here.
    pub fn contains(&self, wanted: &Self) -> bool {
        let here = |pair: &(Box<str>, Box<str>)| self.0.binary_search(pair).is_ok();
        wanted.0.iter().all(here)
    }
}

/// The part of a session that never changes and that siblings share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// What the episode is for.
    pub role: Role,
    /// The resolved policy; empty: none.
    pub policy_resolved_ref: PublicName,
    /// Hash of the capability manifest.
    pub capability_manifest_hash: Option<[u8; 32]>,
    /// The coordination it is part of; empty: none.
    pub coordination_id: PublicName,
    /// The session that spawned it.
    pub parent_session_id: Option<SessionId>,
    /// PCAC policy.
    pub pcac_policy: Option<PcacPolicy>,
    /// PCAC waiver.
    pub pointer_only_waiver: Option<PointerOnlyWaiver>,
    /// As registered.
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use super::Labels;

    fn many(count: usize, value: usize) -> Result<Labels, &'static str> {
        Labels::new((0..count).map(|n| (format!("k{n:02}"), "v".repeat(value))))
    }

    #[test]
    fn labels_stay_within_each_limit() {
        assert!(many(32, 100).is_ok());
        assert_eq!(many(33, 1).unwrap_err(), "have at most 32 labels");
        assert_eq!(
            many(1, 256).unwrap_err(),
            "have values of at most 255 bytes"
        );
        assert_eq!(
            many(32, 126).unwrap_err(),
            "have at most 4 KiB of keys and values"
        );
        assert!(Labels::new([("", "v")]).is_err());
        assert!(Labels::new([("k".repeat(64), "v")]).is_err());
        assert!(Labels::new([("k", "a\nb")]).is_err());
    }

    #[test]
    fn a_subset_is_contained() {
        let labels = Labels::new([("b", "2"), ("a", "1")]).unwrap();
        let wanted = |k, v| Labels::new([(k, v)]).unwrap();
        assert!(labels.contains(&wanted("a", "1")));
        assert!(labels.contains(&Labels::default()));
        assert!(!labels.contains(&wanted("a", "2")));
    }
}
