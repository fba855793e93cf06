//! Commands are argv: what a rule allows, and how a text becomes argv.
//!
//! Owns the rules of a manifest, the search for the rule that allows a command,
//! and the small part of the shell's language in which a command may come as one
//! text. A text outside that part is refused, not guessed at: what is read here
//! must be what bash and dash would run, word by word. It knows no session and
//! looks at no file.

mod builtin;
mod check;
mod find;
mod lexer;
mod matcher;

pub use check::{Fault, MAX_PROGRAM_BYTES, MAX_RULE_BYTES};
pub use find::{Misfit, NoMatch, find_rule};
pub use lexer::{
    MAX_COMMANDS, MAX_TEXT_BYTES, MAX_WORDS, Misread, Redirection, RedirectionAccess, Separator,
    SimpleCommand, Unreadable, read, write,
};
pub use matcher::{Ground, Matcher};

use super::path::RelativePath;

/// One kind of command that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The first word, exactly.
    pub program: Box<str>,
    /// What the other words must be, in order. All words must be used up.
    pub arguments: Box<[Matcher]>,
    /// The directory the command must run in or below; anywhere below the root if
    /// there is none.
    pub working_directory: Option<RelativePath>,
    /// The environment names the request may set.
    pub environment: Box<[Box<str>]>,
}
