//! Limits of sessions: constants with their unit and reason, and the settings.

use std::time::Duration;

use crate::firewall::manifest::MAX_ENTRIES;

/// Labels a session can carry.
pub const MAX_LABELS: usize = 32;
/// Bytes of a label's key; the limit of a DNS label, as in other label systems.
pub const MAX_LABEL_KEY_BYTES: usize = 63;
/// Bytes of a label's value.
pub const MAX_LABEL_VALUE_BYTES: usize = 255;
/// Bytes of all keys and values of a session: a session stays small.
pub const MAX_LABELS_BYTES: usize = 4 * 1024;
/// Bytes of the free text in a termination record.
pub const MAX_DETAIL_BYTES: usize = 256;
/// Shortest time to live and idle timeout.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time to live: ten years, far below where milliseconds overflow.
pub const MAX_TTL: Duration = Duration::from_hours(10 * 365 * 24);
/// Longest idle timeout; kept in 32 bits of milliseconds.
pub const MAX_IDLE: Duration = Duration::from_hours(30 * 24);
/// No idle deadline is nearer than this after a start or a resume, in
/// milliseconds: episodes get a chance to be heard again.
pub const IDLE_GRACE_MS: u64 = 60_000;
/// For so long an old handle may repeat its own rotation, in milliseconds.
pub const ROTATE_RETRY_MS: u64 = 60_000;
/// Items in one batch call, and sessions ended by one filter call.
pub const MAX_ITEMS: usize = 1_000;
/// Sessions that one call may end to make room: its answer names them all.
pub const MAX_EVICTIONS: usize = 1_000;
/// Sessions or events in one page.
pub const MAX_PAGE: usize = 1_000;
/// Page size when none is asked for.
pub const DEFAULT_PAGE: usize = 100;
/// Sessions or events that a filtered page looks at.
pub const MAX_SCAN: usize = 50_000;
/// Request ids remembered.
pub const MAX_REQUEST_IDS: usize = 1_000_000;
/// For so long a request id is remembered, in milliseconds.
pub const REQUEST_ID_MS: u64 = 3_600_000;

/// What an operator can set, and change while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live sessions at most.
    pub max_sessions: usize,
    /// Ended sessions remembered at most; the oldest go first.
    pub max_terminated: usize,
    /// Time to live of a session registered without a deadline; zero: none.
    pub default_ttl: Duration,
    /// For so long an ended session is answered.
    pub terminated_ttl: Duration,
    /// Events older than this are deleted.
    pub event_retention: Duration,
    /// Events kept at most.
    pub max_events: u64,
    /// Entries of a manifest at most.
    pub max_manifest_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 1_000_000,
            max_terminated: 1_000_000,
            default_ttl: Duration::from_hours(7 * 24),
            terminated_ttl: Duration::from_mins(5),
            event_retention: Duration::from_hours(7 * 24),
            max_events: 5_000_000,
            max_manifest_entries: MAX_ENTRIES,
        }
    }
}
