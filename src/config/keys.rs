//! The table of keys: name, default, meaning, and how a value becomes a setting.
//!
//! Owns what keys there are and what each takes. A key that is not in the table
//! does not exist. Every key can be given in a file and as `EPISODED_<KEY>`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::uids::UidSet;
use super::value::{Allowed, Raw, format_duration, quote};
use super::{Live, Recovery};
use crate::telemetry::LogFormat;

/// A million sessions take half a gigabyte; a hundred times that is a typing error.
const COUNT: RangeInclusive<u64> = 1..=8_000_000;
/// Below 128 the 64 that operators are sure of would leave too little for sessions; more than
/// 16,384 are never accepted.
const CONNECTIONS: RangeInclusive<u64> = 128..=16_384;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// Ten years: longer than any host, and far from where sums of times overflow.
const FOR_EVER: Duration = Duration::from_hours(24 * 3_650);
/// A stopping daemon exits within this whatever clients do.
const DRAIN: Duration = Duration::from_secs(5);

/// One line of the configuration table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoc {
    /// In a file.
    pub key: &'static str,
    /// The variable that sets it.
    pub env: String,
    /// In TOML, or in words where it depends on the host.
    pub default: &'static str,
    /// In one sentence.
    pub meaning: &'static str,
    /// Whether SIGHUP changes it.
    pub live: bool,
}

/// What was configured; `None` where a default is found out at the start.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) session_dir: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) session_group: Option<String>,
    pub(super) node: Option<String>,
    pub(super) log_format: LogFormat,
    pub(super) recovery: Recovery,
    pub(super) reflection_on_session: bool,
    pub(super) default_ttl: Option<Duration>,
    pub(super) call_timeout: Duration,
    pub(super) max_connections: Option<u64>,
    pub(super) drain_timeout: Duration,
    pub(super) live: Live,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runtime_dir: None,
            session_dir: None,
            state_dir: None,
            session_group: None,
            node: None,
            log_format: LogFormat::Text,
            recovery: Recovery::Keep,
            reflection_on_session: false,
            default_ttl: Some(DAY * 7),
            call_timeout: SECOND * 30,
            max_connections: None,
            drain_timeout: DRAIN,
            live: Live::default(),
        }
    }
}

/// A key: its documentation, how it is set and how it is shown as TOML.
pub(super) struct Key {
    pub(super) name: &'static str,
    default: &'static str,
    meaning: &'static str,
    pub(super) live: bool,
    pub(super) assign: fn(&mut Settings, &Raw) -> Result<(), Allowed>,
    /// `None` where the default is found out at the start.
    pub(super) show: fn(&Settings) -> Option<String>,
}

impl Key {
    /// The key of that name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The variable that sets it.
    pub(super) fn env(&self) -> String {
        format!("EPISODED_{}", self.name.to_ascii_uppercase())
    }

    pub(super) fn doc(&self) -> KeyDoc {
        KeyDoc {
            key: self.name,
            env: self.env(),
            default: self.default,
            meaning: self.meaning,
            live: self.live,
        }
    }
}

/// Every key, in the order in which people want to read them.
pub(super) static KEYS: [Key; 21] = [
    Key {
        name: "runtime_dir",
        default: "$XDG_RUNTIME_DIR/episoded",
        meaning: "Directory of operator.sock; private to the daemon's user.",
        live: false,
        assign: |to, raw| raw.path().map(|path| to.runtime_dir = Some(path)),
        show: |of| of.runtime_dir.as_deref().map(show_path),
    },
    Key {
        name: "session_dir",
        default: "<runtime_dir>/session",
        meaning: "Directory of session.sock; the one to mount into a container.",
        live: false,
        assign: |to, raw| raw.path().map(|path| to.session_dir = Some(path)),
        show: |of| of.session_dir.as_deref().map(show_path),
    },
    Key {
        name: "state_dir",
        default: "$XDG_STATE_HOME/episoded",
        meaning: "Directory of the registry, its lock and its key; private to the daemon's user.",
        live: false,
        assign: |to, raw| raw.path().map(|path| to.state_dir = Some(path)),
        show: |of| of.state_dir.as_deref().map(show_path),
    },
    Key {
        name: "session_group",
        default: "none",
        meaning: "Group, by name or number, that may pass through session_dir (then 0710) to session.sock.",
        live: false,
        assign: |to, raw| group(raw).map(|group| to.session_group = Some(group)),
        show: |of| of.session_group.as_deref().map(quote),
    },
    Key {
        name: "session_uids",
        default: "[]",
        meaning: "Other users, by uid or range of uids, that may connect to session.sock.",
        live: true,
        assign: |to, raw| raw.uids().map(|uids| to.live.session_uids = uids),
        show: |of| Some(show_uids(&of.live.session_uids)),
    },
    Key {
        name: "operator_uids",
        default: "[]",
        meaning: "Other users, by uid or range of uids, that may connect to operator.sock.",
        live: true,
        assign: |to, raw| raw.uids().map(|uids| to.live.operator_uids = uids),
        show: |of| Some(show_uids(&of.live.operator_uids)),
    },
    Key {
        name: "node",
        default: "the host name",
        meaning: "Name of this host in sessions, events and answers.",
        live: false,
        assign: |to, raw| node(raw).map(|node| to.node = Some(node)),
        show: |of| of.node.as_deref().map(quote),
    },
    Key {
        name: "log",
        default: "\"info\"",
        meaning: "What is logged: off, error, warn, info, debug or trace, with module=LEVEL for exceptions.",
        live: true,
        assign: |to, raw| log(raw).map(|log| to.live.log = log),
        show: |of| Some(quote(&of.live.log.to_string())),
    },
    Key {
        name: "log_format",
        default: "\"text\"",
        meaning: "How it is logged: text, or json with one object a line.",
        live: false,
        assign: |to, raw| {
            raw.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
                .map(|format| to.log_format = format)
        },
        show: |of| {
            Some(match of.log_format {
                LogFormat::Text => quote("text"),
                LogFormat::Json => quote("json"),
            })
        },
    },
    Key {
        name: "recovery",
        default: "\"keep\"",
        meaning: "What a start does with sessions that were live: keep them, or terminate them all.",
        live: false,
        assign: |to, raw| {
            raw.choice(&[("keep", Recovery::Keep), ("terminate", Recovery::Terminate)])
                .map(|recovery| to.recovery = recovery)
        },
        show: |of| {
            Some(match of.recovery {
                Recovery::Keep => quote("keep"),
                Recovery::Terminate => quote("terminate"),
            })
        },
    },
    Key {
        name: "reflection_on_session",
        default: "false",
        meaning: "Whether session.sock answers server reflection; operator.sock always does.",
        live: false,
        assign: |to, raw| raw.flag().map(|flag| to.reflection_on_session = flag),
        show: |of| Some(of.reflection_on_session.to_string()),
    },
    Key {
        name: "max_sessions",
        default: "1000000",
        meaning: "Live sessions; one more is refused.",
        live: true,
        assign: |to, raw| raw.count(COUNT).map(|count| to.live.max_sessions = count),
        show: |of| Some(of.live.max_sessions.to_string()),
    },
    Key {
        name: "max_terminated",
        default: "1000000",
        meaning: "Termination records; the oldest make room.",
        live: true,
        assign: |to, raw| raw.count(COUNT).map(|count| to.live.max_terminated = count),
        show: |of| Some(of.live.max_terminated.to_string()),
    },
    Key {
        name: "default_ttl",
        default: "\"7d\"",
        meaning: "Life of a session registered without a deadline; 0 is for ever.",
        live: false,
        assign: |to, raw| default_ttl(raw).map(|ttl| to.default_ttl = ttl),
        show: |of| Some(show_duration(of.default_ttl.unwrap_or_default())),
    },
    Key {
        name: "terminated_ttl",
        default: "\"5m\"",
        meaning: "How long a termination record answers queries.",
        live: true,
        assign: |to, raw| {
            raw.duration(SECOND..=FOR_EVER)
                .map(|ttl| to.live.terminated_ttl = ttl)
        },
        show: |of| Some(show_duration(of.live.terminated_ttl)),
    },
    Key {
        name: "event_retention",
        default: "\"7d\"",
        meaning: "How long past events are kept, unless max_events is reached before.",
        live: true,
        assign: |to, raw| {
            raw.duration(SECOND..=FOR_EVER)
                .map(|retention| to.live.event_retention = retention)
        },
        show: |of| Some(show_duration(of.live.event_retention)),
    },
    Key {
        name: "max_events",
        default: "5000000",
        meaning: "Past events; the oldest make room.",
        live: true,
        assign: |to, raw| raw.count(COUNT).map(|count| to.live.max_events = count),
        show: |of| Some(of.live.max_events.to_string()),
    },
    Key {
        name: "max_manifest_entries",
        default: "10000",
        meaning: "Files that a manifest can list.",
        live: true,
        assign: |to, raw| {
            raw.count(COUNT)
                .map(|count| to.live.max_manifest_entries = count)
        },
        show: |of| Some(of.live.max_manifest_entries.to_string()),
    },
    Key {
        name: "call_timeout",
        default: "\"30s\"",
        meaning: "Deadline of a unary call that sets none, and the longest it may set.",
        live: false,
        assign: |to, raw| {
            raw.duration(Duration::from_millis(100)..=SECOND * 3_600)
                .map(|timeout| to.call_timeout = timeout)
        },
        show: |of| Some(show_duration(of.call_timeout)),
    },
    Key {
        name: "max_connections",
        default: "80 % of the file limit, at most 16384",
        meaning: "Connections on both sockets, 64 of them kept for operator.sock; one more is closed.",
        live: false,
        assign: |to, raw| {
            raw.count(CONNECTIONS)
                .map(|count| to.max_connections = Some(count))
        },
        show: |of| of.max_connections.map(|count| count.to_string()),
    },
    Key {
        name: "drain_timeout",
        default: "\"5s\"",
        meaning: "How long a stopping daemon waits for calls under way; 5s at most.",
        live: false,
        assign: |to, raw| {
            raw.duration(Duration::ZERO..=DRAIN)
                .map(|timeout| to.drain_timeout = timeout)
        },
        show: |of| Some(show_duration(of.drain_timeout)),
    },
];

fn show_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn show_duration(duration: Duration) -> String {
    quote(&format_duration(duration))
}

fn show_uids(uids: &UidSet) -> String {
    let items: Vec<_> = uids
        .ranges()
        .iter()
        .map(|range| quote(&range.to_string()))
        .collect();
    format!("[{}]", items.join(", "))
}

fn group(raw: &Raw) -> Result<String, Allowed> {
    raw.text()
        .filter(|text| (1..=256).contains(&text.len()) && !text.contains([':', '\n', '\0']))
        .map(str::to_owned)
        .ok_or("the name or number of a group, as a text".into())
}

fn node(raw: &Raw) -> Result<String, Allowed> {
    raw.text()
        .filter(|text| (1..=255).contains(&text.len()))
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(str::to_owned)
        .ok_or("1 to 255 printable ASCII characters without spaces".into())
}

fn log(raw: &Raw) -> Result<crate::telemetry::LogFilter, Allowed> {
    raw.text()
        .and_then(|text| text.parse().ok())
        .ok_or("off, error, warn, info, debug, trace, or a list of these and module=LEVEL".into())
}

fn default_ttl(raw: &Raw) -> Result<Option<Duration>, Allowed> {
    if raw.duration(Duration::ZERO..=Duration::ZERO).is_ok() || raw.count(0..=0).is_ok() {
        return Ok(None);
    }
    raw.duration(SECOND..=FOR_EVER)
        .map(Some)
        .map_err(|Allowed(text)| format!("0 or {text}").into())
}
