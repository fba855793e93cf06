//! Values of keys, wherever they come from.
//!
//! Owns the reading of one value as the type its key wants, from the text of a
//! flag or variable or from a TOML value, and the writing of one as TOML.
//! Refuses a value of another type: a number is not read out of a string in a
//! file.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::uids::{UidRange, UidSet};

/// Units of durations, the longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// Of a flag or a variable.
    Text(OsString),
    /// Of a file.
    Toml(toml::Value),
}

/// What a key takes, for the message about a value that it does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed(pub(super) Cow<'static, str>);

impl From<&'static str> for Allowed {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Allowed {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Raw {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("{:?}", text.to_string_lossy()),
            Self::Toml(value) => describe_toml(value),
        }
    }

    /// Any text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.to_str(),
            Self::Toml(value) => value.as_str(),
        }
    }

    /// One of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Allowed> {
        let found = self
            .text()
            .and_then(|text| choices.iter().find(|(name, _)| *name == text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            names.join(" or ").into()
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Result<bool, Allowed> {
        let value = match self {
            Self::Text(text) => text.to_str().and_then(|text| text.parse().ok()),
            Self::Toml(value) => value.as_bool(),
        };
        value.ok_or("true or false".into())
    }

    /// A whole number in `range`; a text may group its digits with `_`, as TOML does.
    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Result<u64, Allowed> {
        let value = match self {
            Self::Text(text) => text
                .to_str()
                .filter(|text| text.starts_with(|first: char| first.is_ascii_digit()))
                .and_then(|text| text.replace('_', "").parse().ok()),
            Self::Toml(value) => value.as_integer().and_then(|value| value.try_into().ok()),
        };
        value
            .filter(|value| range.contains(value))
            .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()).into())
    }

    /// A duration in `range`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, Allowed> {
        self.text()
            .and_then(parse_duration)
            .filter(|value| range.contains(value))
            .ok_or_else(|| {
                format!(
                    "a duration from {} to {}, such as 500ms, 30s, 5m, 1h or 7d",
                    format_duration(*range.start()),
                    format_duration(*range.end())
                )
                .into()
            })
    }

    /// An absolute path without NUL.
    pub(super) fn path(&self) -> Result<PathBuf, Allowed> {
        let text = match self {
            Self::Text(text) => Some(text.clone()),
            Self::Toml(value) => value.as_str().map(OsString::from),
        };
        text.filter(|text| !text.clone().into_vec().contains(&0))
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .ok_or("an absolute path".into())
    }

    /// User ids: a TOML list, or a text separated by commas.
    pub(super) fn uids(&self) -> Result<UidSet, Allowed> {
        let parsed: Option<UidSet> = match self {
            Self::Text(text) => text.to_str().and_then(|text| {
                text.split(',')
                    .map(str::trim)
                    .map(|part| part.parse::<UidRange>().ok())
                    .collect()
            }),
            Self::Toml(toml::Value::Array(items)) => items.iter().map(toml_uids).collect(),
            Self::Toml(_) => None,
        };
        parsed.ok_or("a list of user ids and ranges, such as [1000, \"2000-2999\"]".into())
    }
}

fn toml_uids(item: &toml::Value) -> Option<UidRange> {
    match item {
        toml::Value::Integer(uid) => uid.to_string().parse().ok(),
        toml::Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Reads `7d`, `5m`, `30s`, `500ms` or `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_millis(number.checked_mul(*millis)?))
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, unit)| millis.is_multiple_of(*unit))
        .map_or_else(String::new, |(name, unit)| {
            format!("{}{name}", millis / unit)
        })
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(control)).expect("a String takes any text");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn describe_toml(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quote(text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(datetime) => datetime.to_string(),
        toml::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(describe_toml).collect();
            format!("[{}]", items.join(", "))
        }
        toml::Value::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Raw, format_duration, parse_duration, quote};

    #[test]
    fn durations_read_back_as_they_are_written() {
        for (text, millis) in [
            ("0", 0),
            ("1ms", 1),
            ("1500ms", 1_500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("36h", 129_600_000),
            ("7d", 604_800_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(parse_duration("300s"), parse_duration("5m"));
    }

    #[test]
    fn odd_durations_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 m",
            "5M",
            "5m3s",
            "5w",
            "99999999999999999999s",
            "213503982335d",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_quoted_text_reads_back() {
        for text in ["plain", "a \"quoted\" \\ path", "tab\tnew\nline\u{7f}", "ü"] {
            let table: toml::Table = format!("key = {}", quote(text)).parse().unwrap();
            assert_eq!(table["key"].as_str(), Some(text));
        }
    }

    #[test]
    fn a_file_must_use_the_type_of_the_key() {
        let text = |text: &str| Raw::Text(text.into());
        let toml = |text: &str| Raw::Toml(toml::Value::String(text.into()));
        assert_eq!(text("1_000").count(1..=2_000), Ok(1_000));
        assert!(toml("1000").count(1..=2_000).is_err());
        assert!(text("_1").count(1..=2_000).is_err());
        assert!(text("+1").count(1..=2_000).is_err());
        assert_eq!(text("true").flag(), Ok(true));
        assert!(toml("true").flag().is_err());
        assert!(text("1").flag().is_err());
        assert!(text("a/b").path().is_err());
        assert!(toml("/a\0b").path().is_err());
        assert!(text("").uids().is_err());
        assert!(text("1, 5-7").uids().unwrap().contains(6));
    }
}
