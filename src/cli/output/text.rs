//! Tables for people.
//!
//! Owns the alignment, and that nothing which came from outside can send
//! control characters to a terminal.

use std::fmt::Write as _;

use prost_types::Timestamp;

const GAP: usize = 2;

/// Names and values, one pair a line; pairs without a value are left out.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0) + GAP;
    shown().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}{}", clean(value));
        text
    })
}

/// A table that is printed piece by piece: columns widen, but never narrow.
pub struct Columns {
    widths: Vec<usize>,
    pending: Vec<Vec<String>>,
}

impl Columns {
    /// With its heading as the first row.
    pub fn new(heading: &[&str]) -> Self {
        Self {
            widths: vec![0; heading.len()],
            pending: vec![heading.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row of as many cells as the heading has.
    pub fn row(&mut self, cells: Vec<String>) {
        self.pending.push(cells);
    }

    /// The rows added since the last call.
    pub fn take(&mut self) -> String {
        let rows = std::mem::take(&mut self.pending);
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|cells| cells.iter().map(|cell| shown(cell)).collect())
            .collect();
        for cells in &rows {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for cells in &rows {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&self.widths) {
                let _ = write!(line, "{cell:width$}{:GAP$}", "");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

fn shown(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    clean(cell)
}

/// The end of a log, cut between characters.
pub fn last_words(said: &str, bytes: usize) -> &str {
    said[said.ceil_char_boundary(said.len().saturating_sub(bytes))..].trim()
}

/// What cannot be seen, and what turns the text around, as escapes: a label may hold
/// any text.
pub fn clean(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Characters without a width, and those that order text from right to left.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    )
}

/// RFC 3339, to the second.
pub fn second(time: Option<&Timestamp>) -> String {
    let whole = |time: &Timestamp| Timestamp {
        seconds: time.seconds,
        nanos: 0,
    };
    time.map(|time| whole(time).to_string()).unwrap_or_default()
}

/// RFC 3339, to the millisecond.
pub fn milli(time: Option<&Timestamp>) -> String {
    let whole = |time: &Timestamp| Timestamp {
        seconds: time.seconds,
        nanos: time.nanos / 1_000_000 * 1_000_000,
    };
    time.map(|time| whole(time).to_string()).unwrap_or_default()
}

/// `k=v` pairs in order.
pub fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// An enum's proto name without its prefix, in lower case: `gate-executor`.
pub fn short(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    if name == "UNSPECIFIED" {
        return String::new();
    }
    name.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::{Columns, clean, fields, short};

    #[test]
    fn columns_align_and_widen_from_piece_to_piece() {
        let mut columns = Columns::new(&["ID", "STATUS"]);
        columns.row(vec!["a".into(), "active".into()]);
        assert_eq!(columns.take(), "ID  STATUS\na   active\n");
        columns.row(vec!["long-id".into(), String::new()]);
        assert_eq!(columns.take(), "long-id  -\n");
    }

    #[test]
    fn empty_fields_are_left_out() {
        let pairs = [("ID", "a".to_owned()), ("LEASE", String::new())];
        assert_eq!(fields(&pairs), "ID  a\n");
    }

    #[test]
    fn nothing_reaches_the_terminal_as_an_escape() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn enums_lose_their_prefix() {
        assert_eq!(short("ROLE_GATE_EXECUTOR", "ROLE_"), "gate-executor");
        assert_eq!(short("ROLE_UNSPECIFIED", "ROLE_"), "");
    }
}
