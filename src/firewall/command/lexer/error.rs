//! Why a text cannot be read.

use std::fmt;

/// A text that cannot be read as commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, in bytes from the start.
    pub at: usize,
    /// Why.
    pub why: Misread,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.why, self.at)
    }
}

impl std::error::Error for Unreadable {}

/// Why a text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Misread {
    /// It has more than [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES).
    TooLong,
    /// It has more than [`MAX_COMMANDS`](super::MAX_COMMANDS).
    TooManyCommands,
    /// It has more than [`MAX_WORDS`](super::MAX_WORDS).
    TooManyWords,
    /// A character outside quotes that may mean something to a shell.
    Character,
    /// A control character.
    Control,
    /// A character in double quotes that a shell expands.
    Quoted,
    /// A quote that does not end.
    Unclosed,
    /// An operator other than `;`, `&&`, `||`, `|`, `>`, `>>`, `2>`, `2>>`, `<`
    /// and `2>&1`.
    Operator,
    /// A number before a redirection, other than the 2 of `2>`.
    Descriptor,
    /// A redirection without a target.
    NoTarget,
    /// No command where one must be.
    NoCommand,
    /// A first word with `=`.
    Assignment,
    /// A first word that is empty or the name of a job.
    Program,
    /// A reserved word, or a built-in that changes the shell.
    Shell,
    /// `printf` or `test` used on variables of the shell.
    Variable,
    /// A redirection below `/dev`, other than `/dev/null`.
    Device,
}

impl Misread {
    pub(super) fn at(self, at: usize) -> Unreadable {
        Unreadable { at, why: self }
    }

    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::TooLong => "more than 8,192 bytes",
            Self::TooManyCommands => "more than 64 commands",
            Self::TooManyWords => "more than 1,024 words",
            Self::Character => "a character that must be in quotes",
            Self::Control => "a control character",
            Self::Quoted => "`$`, a backquote, `\\` or `!` in double quotes",
            Self::Unclosed => "a quote that does not end",
            Self::Operator => "an operator that is not allowed",
            Self::Descriptor => "a number before a redirection, other than the 2 of `2>`",
            Self::NoTarget => "a redirection without a target",
            Self::NoCommand => "no command where one must be",
            Self::Assignment => "a first word with `=`",
            Self::Program => "a first word that is empty or begins with `%`",
            Self::Shell => "a reserved word, or a built-in that changes the shell",
            Self::Variable => "a built-in that sets or evaluates a variable",
            Self::Device => "a redirection below `/dev`, other than `/dev/null`",
        }
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
