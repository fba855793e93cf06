//! The reading of a text as commands.
//!
//! The language is the part of the shell's that bash and dash read alike and
//! expand nothing in: plain words, quoted words, separators, redirections. There
//! is no mode in which an odd character passes: what is not known is refused, at
//! its byte.

mod error;
mod reader;

pub use error::{Misread, Unreadable};

/// Longest text, in bytes: more than any command typed by hand or written by an
/// agent, less than what costs time to read.
pub const MAX_TEXT_BYTES: usize = 8192;
/// Most simple commands in a text.
pub const MAX_COMMANDS: usize = 64;
/// Most words of a command given as argv, and of all commands of a text together,
/// targets of redirections among them.
pub const MAX_WORDS: usize = 1024;

/// What stands before a simple command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// Nothing: it is the first.
    Start,
    /// `;` or a newline: it runs after the one before.
    Then,
    /// `&&`: it runs if the one before succeeds.
    And,
    /// `||`: it runs if the one before fails.
    Or,
    /// `|`: it reads what the one before writes.
    Pipe,
}

/// How a redirection opens its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectionAccess {
    /// `<`.
    Read,
    /// `>`, `>>`, `2>`, `2>>`.
    Write,
}

/// A redirection to or from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// How it opens the target.
    pub access: RedirectionAccess,
    /// The target as the shell opens it: not empty; below `/dev` only `/dev/null`.
    pub target: String,
}

/// A command without separators, its quotes taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleCommand {
    /// What stands before it.
    pub before: Separator,
    /// Its words: at least one, the first of them not empty.
    pub words: Vec<String>,
    /// Its redirections, in order. `2>&1` opens nothing and is none.
    pub redirections: Vec<Redirection>,
}

/// Reads a text as simple commands: at least one.
pub fn read(text: &str) -> Result<Vec<SimpleCommand>, Unreadable> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Misread::TooLong.at(MAX_TEXT_BYTES));
    }
    reader::Reader::new(text).commands()
}

/// Words as a text that [`read`] takes for one command of these very words: quoted
/// where they must be. Of words that no text can say it makes one that is refused.
pub fn write<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(reader::is_plain) {
        return word.to_owned();
    }
    // Nothing but the quote itself has a meaning between single quotes.
    format!("'{}'", word.replace('\'', r#"'"'"'"#))
}

#[cfg(test)]
mod tests;
