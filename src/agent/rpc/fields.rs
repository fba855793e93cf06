//! What calls carry, checked; and what they are answered.

use std::num::NonZeroU32;

use prost_types::{Duration, Timestamp};

use crate::{
    agent::{
        activity,
        config::SleepConfig,
        keeper::Wipe,
        sleep::{Seen, Watch},
    },
    clock::Now,
    grpc::{
        convert::{request::duration, show::timestamp},
        status::Violations,
    },
    ids::SessionId,
    keycache::{
        arena::MAX_KEY,
        channel::TAG,
        entry::{DEFAULT_TTL, Entry, Expiry, Keep, LockboxId},
        grant::{Grant, GrantId, MAX_GRANT, Terms},
    },
    proto::keycache as pb,
    reason::Reason,
};

/// Bytes of a path, as the kernel has it.
const MAX_PATH: usize = 4096;

pub(super) fn lockbox_id(text: &str, bad: &mut Violations) -> Option<LockboxId> {
    bad.take("lockbox_id", LockboxId::parse(text))
}

pub(super) fn path(text: &str, bad: &mut Violations) {
    if text.len() > MAX_PATH {
        bad.add(
            Reason::MalformedMessage,
            "path",
            "must be at most 4,096 bytes",
        );
    }
}

/// Bytes of the key that is sealed.
pub(super) fn sealed(bytes: &[u8], bad: &mut Violations) -> usize {
    let length = bytes.len().saturating_sub(TAG);
    if length == 0 || length > MAX_KEY {
        let rule = "must be a sealed key of 1 to 65,536 bytes";
        bad.add(Reason::MalformedMessage, "sealed_key", rule);
    }
    length
}

/// How long a key is kept.
pub(super) fn keep(request: &pb::PutKeyRequest, bad: &mut Violations) -> Keep {
    let ttl = match &request.ttl {
        None => DEFAULT_TTL,
        Some(asked) => millis(asked).filter(|ttl| *ttl > 0).unwrap_or_else(|| {
            bad.add(Reason::InvalidTtl, "ttl", "must be longer than nothing");
            DEFAULT_TTL
        }),
    };
    let max_lifetime = match &request.max_lifetime {
        None => Keep::for_ttl(ttl).max_lifetime,
        Some(asked) => {
            let asked = millis(asked);
            if asked.is_none() {
                let rule = "must be a duration, or zero for none";
                bad.add(Reason::InvalidTtl, "max_lifetime", rule);
            }
            asked.filter(|lifetime| *lifetime > 0)
        }
    };
    let expiry = match pb::Expiry::try_from(request.expiry) {
        Ok(pb::Expiry::Unspecified | pb::Expiry::Sliding) => Expiry::Sliding,
        Ok(pb::Expiry::Absolute) => Expiry::Absolute,
        Err(_) => {
            bad.add(Reason::MalformedMessage, "expiry", "is not known");
            Expiry::Sliding
        }
    };
    Keep {
        ttl,
        expiry,
        max_lifetime,
    }
}

/// None: negative, not normal, or too long for a number. Less than a millisecond
/// counts as one.
fn millis(duration: &Duration) -> Option<u64> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    if nanos > 999_999_999 {
        return None;
    }
    seconds
        .checked_mul(1000)?
        .checked_add(nanos.div_ceil(1_000_000))
}

/// Whose a key shall be, and for how long.
pub(super) fn owner(
    owner: &pb::Owner,
    now: Now,
    bad: &mut Violations,
) -> Option<(SessionId, Terms)> {
    let session = bad.take("owner.session_id", SessionId::parse(&owner.session_id));
    let ends = owner.expire_time.as_ref().and_then(epoch_millis);
    let time = ends
        .map(|ends| ends.saturating_sub(now.wall))
        .filter(|time| (1..=MAX_GRANT).contains(time));
    if time.is_none() {
        let rule = "must be a time within the next 24 hours";
        bad.add(Reason::InvalidTtl, "owner.expire_time", rule);
    }
    let uses = NonZeroU32::new(owner.max_uses);
    Some((session?, Terms { time: time?, uses }))
}

/// None: before the epoch, not normal, or too late for a number.
fn epoch_millis(time: &Timestamp) -> Option<u64> {
    millis(&Duration {
        seconds: time.seconds,
        nanos: time.nanos,
    })
}

/// What an owned key has no use for.
pub(super) fn nothing_but_owner(request: &pb::PutKeyRequest, bad: &mut Violations) {
    let rule = "must not be set for a key that a session owns";
    for (field, is_set, reason) in [
        ("path", !request.path.is_empty(), Reason::MalformedMessage),
        ("ttl", request.ttl.is_some(), Reason::InvalidTtl),
        ("expiry", request.expiry != 0, Reason::MalformedMessage),
        (
            "max_lifetime",
            request.max_lifetime.is_some(),
            Reason::InvalidTtl,
        ),
    ] {
        if is_set {
            bad.add(reason, field, rule);
        }
    }
}

pub(super) fn activity_kind(number: i32, bad: &mut Violations) -> Option<activity::Kind> {
    let kind = u8::try_from(number).ok().and_then(activity::Kind::parse);
    if kind.is_none() {
        bad.add(Reason::MalformedMessage, "kind", "is not known");
    }
    kind
}

pub(super) fn show_activity(activity: activity::Activity) -> pb::Activity {
    let kind = match activity.kind {
        activity::Kind::Unlock => pb::ActivityKind::Unlock,
        activity::Kind::Open => pb::ActivityKind::Open,
        activity::Kind::Env => pb::ActivityKind::Env,
        activity::Kind::Form => pb::ActivityKind::Form,
        activity::Kind::Recovery => pb::ActivityKind::Recovery,
        activity::Kind::Vault => pb::ActivityKind::Vault,
    };
    pb::Activity {
        pid: activity.pid,
        kind: kind.into(),
    }
}

pub(super) fn show_entry(id: &LockboxId, entry: &Entry, now: Now) -> pb::CachedKey {
    let expiry = match entry.expiry() {
        Expiry::Sliding => pb::Expiry::Sliding,
        Expiry::Absolute => pb::Expiry::Absolute,
    };
    pb::CachedKey {
        lockbox_id: id.as_str().to_owned(),
        path: entry.path().unwrap_or_default().to_owned(),
        create_time: Some(timestamp(entry.created())),
        remaining: Some(duration(entry.remaining(now))),
        hits: entry.hits().into(),
        expiry: expiry.into(),
        owner: None,
    }
}

pub(super) fn show_grant(id: &GrantId, grant: &Grant, now: Now) -> pb::CachedKey {
    let remaining = grant.remaining(now);
    pb::CachedKey {
        lockbox_id: id.lockbox.as_str().to_owned(),
        path: String::new(),
        create_time: Some(timestamp(grant.created())),
        remaining: Some(duration(remaining)),
        hits: grant.hits().into(),
        expiry: pb::Expiry::Absolute.into(),
        owner: Some(pb::Owner {
            session_id: id.session.as_str().to_owned(),
            expire_time: Some(timestamp(now.wall.saturating_add(remaining))),
            max_uses: grant.uses_left().map_or(0, NonZeroU32::get),
        }),
    }
}

pub(super) fn show_wipe(wipe: &Wipe) -> pb::Wipe {
    pb::Wipe {
        time: Some(timestamp(wipe.at)),
        why: wipe.why.to_owned(),
        forgotten: u32::try_from(wipe.keys).unwrap_or(u32::MAX),
    }
}

pub(super) fn show_sleep(seen: Seen, config: SleepConfig) -> pb::SleepStatus {
    let watch = match seen.watch {
        Watch::Absent => pb::SuspendWatch::Absent,
        Watch::Watching => pb::SuspendWatch::Watching,
        Watch::Asleep => pb::SuspendWatch::Asleep,
    };
    pb::SleepStatus {
        watch: watch.into(),
        why: seen.why,
        delays_sleep: seen.delays,
        holds_off_sleep: seen.blocks,
        prevent_sleep: config.prevent,
        terminate_on_suspend: config.terminate,
    }
}
