//! What comments may not hold, and which must be there.

use std::collections::BTreeSet;

use super::tree::Tree;

/// Comments with a ticket, a requirement number, a date or an intention in them.
pub fn comments(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        for (line, comment) in split(text).comments {
            if let Some(word) = banned(&comment) {
                found.push(format!("{path}:{line}: {word} in a comment"));
            }
        }
    }
    for (path, text) in tree.with_ending(".proto") {
        for (number, line) in text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if let Some(word) = banned(comment) {
                found.push(format!("{path}:{}: {word} in a comment", number + 1));
            }
        }
    }
    found
}

/// Methods without a comment right above them.
pub fn bare_methods(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.with_ending(".proto") {
        let mut before = "";
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if let Some(method) = line.strip_prefix("rpc ")
                && !before.starts_with("//")
            {
                let name = method.split('(').next().unwrap_or(method);
                found.push(format!("{path}:{}: {name} has no comment", number + 1));
            }
            before = line;
        }
    }
    found
}

/// The numbers of the lines that hold code.
pub fn code_lines(text: &str) -> BTreeSet<usize> {
    split(text).code
}

fn banned(comment: &str) -> Option<String> {
    let words: Vec<&str> = comment
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '#'))
        .collect();
    let number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or("");
        let shouted = ["TODO", "FIXME", "XXX", "HACK"].contains(word);
        let ticket = word.starts_with("TCK-") || requirement(word) || date(word);
        let issue = ["issue", "issues"].contains(&word.to_lowercase().as_str())
            && number(next.trim_start_matches('#'));
        let hash = word.strip_prefix('#').is_some_and(number);
        if shouted || ticket || issue || hash {
            return Some((*word).to_owned());
        }
    }
    None
}

/// A row of the requirements.
fn requirement(word: &str) -> bool {
    shape(word).starts_with("R-000-00")
}

/// Year, month, day.
fn date(word: &str) -> bool {
    shape(word) == "0000-00-00"
}

fn shape(word: &str) -> String {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    word.chars().map(digit).collect()
}

/// A source text taken apart.
#[derive(Default)]
struct Split {
    /// Each comment with the line it starts on; a block comment line by line.
    comments: Vec<(usize, String)>,
    code: BTreeSet<usize>,
}

/// Tells comments from code: just enough of Rust's lexer for that.
fn split(text: &str) -> Split {
    let bytes = text.as_bytes();
    let mut split = Split::default();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => {
                let end = text[at..].find('\n').map_or(bytes.len(), |n| at + n);
                split.comments.push((line, text[at..end].to_owned()));
                end
            }
            [b'/', b'*', ..] => {
                let end = block_end(bytes, at);
                for (number, part) in text[at..end].split('\n').enumerate() {
                    split.comments.push((line + number, part.to_owned()));
                }
                end
            }
            [first, ..] if first.is_ascii_whitespace() => at + 1,
            _ => {
                let end = code_end(bytes, at);
                let last = line + newlines(&bytes[at..end]);
                split.code.extend(line..=last);
                end
            }
        };
        line += newlines(&bytes[at..end]);
        at = end;
    }
    split
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

fn block_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// The end of the piece of code at `at`: a literal, a word, or one byte.
fn code_end(bytes: &[u8], at: usize) -> usize {
    match &bytes[at..] {
        [b'"', ..] => quoted_end(bytes, at + 1, b'"'),
        [b'\'', b'\\', ..] => quoted_end(bytes, at + 1, b'\''),
        [b'\'', rest @ ..] => char_end(rest).map_or(at + 1, |length| at + 1 + length),
        [first, ..] if first.is_ascii_alphanumeric() || *first == b'_' => word_end(bytes, at),
        _ => at + 1,
    }
}

/// The length of `x'` after an opening quote, unless the quote is a lifetime's.
fn char_end(rest: &[u8]) -> Option<usize> {
    let first = *rest.first()?;
    let width = match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    (rest.get(width) == Some(&b'\'')).then_some(width + 1)
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a word; of the whole literal if the word is a raw string's prefix.
fn word_end(bytes: &[u8], start: usize) -> usize {
    let length = bytes[start..]
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
        .count();
    let end = start + length;
    let hashes = bytes[end..].iter().take_while(|b| **b == b'#').count();
    let raw = matches!(&bytes[start..end], b"r" | b"br" | b"cr");
    if !raw || bytes.get(end + hashes) != Some(&b'"') {
        return end;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let body = end + hashes + 1;
    bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing)
        .map_or(bytes.len(), |found| body + found + closing.len())
}
