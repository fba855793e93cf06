//! How values are written on the command line.
//!
//! Owns the syntax of labels, durations, times, hashes and enums. What a value
//! may be is the daemon's to say; here it must only be one.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use prost_types::Timestamp;

use super::error::CliError;
use super::output::text::short;
use crate::proto::session as pb;

/// `--label k=v`, any number of times.
#[derive(Debug, Clone, Default, Args)]
pub struct Labels {
    /// A label; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl Labels {
    /// All of them; the same key twice is refused.
    pub fn into_map(self) -> Result<BTreeMap<String, String>, CliError> {
        let mut map = BTreeMap::new();
        for (key, value) in self.labels {
            if map.insert(key.clone(), value).is_some() {
                let message = format!("label {key} is given twice");
                return Err(CliError::usage(message, "give each key one value"));
            }
        }
        Ok(map)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// `--expire-at` or `--ttl`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Deadline {
    /// When the session ends at the latest (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "ttl")]
    pub expire_at: Option<Timestamp>,

    /// How long the session lives at most (90s, 5m, 7d)
    #[arg(long, value_name = "DURATION", value_parser = wire_duration)]
    pub ttl: Option<prost_types::Duration>,
}

/// Writes a [`Deadline`] into the `deadline` oneof of a request.
macro_rules! wire_deadline {
    ($deadline:expr, $oneof:path) => {{
        use $oneof as Wire;
        let deadline: $crate::cli::args::Deadline = $deadline;
        deadline
            .expire_at
            .map(Wire::ExpireTime)
            .or(deadline.ttl.map(Wire::Ttl))
    }};
}
pub(super) use wire_deadline;

/// `k=v`.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

const UNITS: [(&str, u128); 6] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// `90s`, `1h30m`, `1.5s`: numbers, each with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let form = || "a duration is a number with a unit: 500ms, 90s, 5m, 2h, 7d".to_owned();
    let mut nanos = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
        let (number, tail) = rest.split_at(digits.ok_or_else(form)?);
        let letters = tail.find(|c: char| !c.is_ascii_lowercase());
        let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
        let (_, size) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(form)?;
        nanos += scaled(number, *size).ok_or_else(form)?;
        rest = tail;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| form())?;
    if text.is_empty() || i64::try_from(seconds).is_err() {
        return Err(form());
    }
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// A decimal number times a unit.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > 15 || fraction.len() > 9 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let parts: u128 = fraction.parse().ok()?;
    Some(whole * unit + parts * unit / 10_u128.pow(fraction.len() as u32))
}

/// A duration as requests carry it.
pub fn wire_duration(text: &str) -> Result<prost_types::Duration, String> {
    let duration = duration(text)?;
    prost_types::Duration::try_from(duration).map_err(|error| error.to_string())
}

/// RFC 3339.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let form = || "a time is RFC 3339: 2030-01-31T12:00:00Z".to_owned();
    let zoned = text.contains('T')
        && (text.ends_with('Z') || text.rfind(['+', '-']).is_some_and(|at| at > 10));
    if !zoned {
        return Err(form());
    }
    text.parse().map_err(|_| form())
}

/// 32 bytes in hex.
pub fn hash(text: &str) -> Result<bytes::Bytes, String> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() == 64 => Ok(digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()),
        _ => Err("a hash is 64 hexadecimal digits".to_owned()),
    }
}

/// The values of a proto enum by their short names, as a value parser.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $prefix:literal, $text:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $name() -> impl TypedValueParser<Value = pb::$kind> {
                let names = (1..).map_while(|n| pb::$kind::try_from(n).ok());
                let values = names.map(|value| possible(value.as_str_name(), $prefix));
                PossibleValuesParser::new(values).map($text)
            }

            fn $text(text: String) -> pb::$kind {
                (1..)
                    .map_while(|n| pb::$kind::try_from(n).ok())
                    .find(|value| possible(value.as_str_name(), $prefix).matches(&text, false))
                    .expect("clap took only possible values")
            }
        )*
    };
}

/// `gate-executor`, and as the record has it, `gate_executor`; the proto's own name too.
fn possible(name: &'static str, prefix: &str) -> PossibleValue {
    let short = short(name, prefix);
    let snake = short.replace('-', "_");
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    PossibleValue::new(short).aliases([snake, bare.to_owned(), name.to_owned()])
}

choices! {
    /// `--role`.
    role: Role, "ROLE_", role_of;
    /// `--reason`.
    reason: TerminationReason, "TERMINATION_REASON_", reason_of;
    /// `--classification`.
    classification: ExitClassification, "EXIT_CLASSIFICATION_", classification_of;
    /// `--status`.
    status: SessionStatus, "SESSION_STATUS_", status_of;
    /// `--lease-state`.
    lease_state: LeaseState, "LEASE_STATE_", lease_state_of;
    /// `--kind`.
    event_kind: EventKind, "EVENT_KIND_", event_kind_of;
    /// `--state` of refinements.
    refinement_state: RefinementState, "REFINEMENT_STATE_", refinement_state_of;
    /// `--min-evidence`.
    evidence: IdentityEvidence, "IDENTITY_EVIDENCE_", evidence_of;
    /// `--sovereignty`.
    sovereignty: SovereigntyMode, "SOVEREIGNTY_MODE_", sovereignty_of;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, hash, label, role, role_of, time};
    use crate::proto::session::Role;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "90",
            "s",
            "-5s",
            "5x",
            "1..5s",
            "5 s",
            "9999999999999999s",
            "5S",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_with_a_zone() {
        assert_eq!(time("1970-01-01T00:01:00Z").unwrap().seconds, 60);
        assert_eq!(
            time("1970-01-01T01:00:00.5+01:00").unwrap().nanos,
            500_000_000
        );
        for text in [
            "",
            "now",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hashes_are_32_bytes_of_hex() {
        assert_eq!(hash(&"aB".repeat(32)).unwrap(), vec![0xab; 32]);
        for text in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(hash(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_keep_what_follows_the_first_equals_sign() {
        assert_eq!(label("k=v=w"), Ok(("k".into(), "v=w".into())));
        assert_eq!(label("k="), Ok(("k".into(), String::new())));
        assert!(label("=v").is_err() && label("k").is_err());
    }

    #[test]
    fn enums_go_by_short_and_by_proto_names() {
        let _ = role();
        for text in [
            "gate-executor",
            "gate_executor",
            "GATE_EXECUTOR",
            "ROLE_GATE_EXECUTOR",
        ] {
            assert_eq!(role_of(text.to_owned()), Role::GateExecutor);
        }
    }
}
