//! The walk through a text, byte by byte.

use super::{
    MAX_COMMANDS, MAX_WORDS, Misread, Redirection, RedirectionAccess, Separator, SimpleCommand,
    Unreadable,
};
use crate::firewall::{
    command::builtin,
    path::{AbsolutePath, covers},
};

/// A simple command that is being read.
struct Open {
    at: usize,
    words: Vec<String>,
    redirections: Vec<Redirection>,
}

struct Word {
    text: String,
    quoted: bool,
}

/// A walk through a text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    commands: Vec<SimpleCommand>,
    before: Separator,
    open: Option<Open>,
    words: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            commands: Vec::new(),
            before: Separator::Start,
            open: None,
            words: 0,
        }
    }

    /// Reads it all.
    pub(super) fn commands(mut self) -> Result<Vec<SimpleCommand>, Unreadable> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\n' | b';' | b'|' | b'&' => self.separator()?,
                b'<' | b'>' => self.redirection(self.at)?,
                _ => self.argument()?,
            }
        }
        self.end()
    }

    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn skip(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected.as_bytes());
        if found {
            self.at += expected.len();
        }
        found
    }

    fn separator(&mut self) -> Result<(), Unreadable> {
        let at = self.at;
        if self.skip("\n") {
            // A blank line separates nothing, and a line may end behind `&&`.
            return if self.open.is_some() {
                self.close(at, Separator::Then)
            } else {
                Ok(())
            };
        }
        let separator = if self.skip("&&") {
            Separator::And
        } else if self.skip("||") {
            Separator::Or
        } else if self.skip("|") {
            Separator::Pipe
        } else if self.skip(";") {
            Separator::Then
        } else {
            return Err(Misread::Operator.at(at));
        };
        // `|&`, `;;`, `;&`, and three of a kind.
        if matches!(self.peek(), Some(b'&' | b'|' | b';')) {
            return Err(Misread::Operator.at(at));
        }
        self.close(at, separator)
    }

    fn end(mut self) -> Result<Vec<SimpleCommand>, Unreadable> {
        let joined = matches!(
            self.before,
            Separator::And | Separator::Or | Separator::Pipe
        );
        if self.open.is_some() || joined || self.commands.is_empty() {
            self.close(self.at, Separator::Then)?;
        }
        Ok(self.commands)
    }

    /// Ends the command that is open, before the separator at `at`.
    fn close(&mut self, at: usize, next: Separator) -> Result<(), Unreadable> {
        let Some(open) = self.open.take() else {
            return Err(Misread::NoCommand.at(at));
        };
        let Some(program) = open.words.first() else {
            return Err(Misread::NoCommand.at(open.at));
        };
        let refused = if program.is_empty() || program.starts_with('%') {
            Some(Misread::Program)
        } else if program.contains('=') {
            Some(Misread::Assignment)
        } else if builtin::is_of_the_shell(program) {
            Some(Misread::Shell)
        } else if builtin::touches_variables(&open.words) {
            Some(Misread::Variable)
        } else if self.commands.len() == MAX_COMMANDS {
            Some(Misread::TooManyCommands)
        } else {
            None
        };
        if let Some(why) = refused {
            return Err(why.at(open.at));
        }
        self.commands.push(SimpleCommand {
            before: self.before,
            words: open.words,
            redirections: open.redirections,
        });
        self.before = next;
        Ok(())
    }

    fn open(&mut self, at: usize) -> &mut Open {
        self.open.get_or_insert_with(|| Open {
            at,
            words: Vec::new(),
            redirections: Vec::new(),
        })
    }

    fn argument(&mut self) -> Result<(), Unreadable> {
        let at = self.at;
        let Some(word) = self.word()? else {
            return Err(self.odd());
        };
        if self.is_descriptor(&word) {
            let errors = word.text == "2" && !word.quoted && self.peek() == Some(b'>');
            return if !errors {
                Err(Misread::Descriptor.at(at))
            } else if self.skip(">&1") {
                self.open(at);
                self.after_duplication(at)
            } else {
                self.redirection(at)
            };
        }
        self.open(at).words.push(word.text);
        Ok(())
    }

    /// Whether a shell may read the word as the number of a descriptor: digits
    /// right before a redirection. Quoted ones are none, but are not worth the
    /// doubt.
    fn is_descriptor(&self, word: &Word) -> bool {
        let glued = matches!(self.peek(), Some(b'<' | b'>'));
        glued && !word.text.is_empty() && word.text.bytes().all(|b| b.is_ascii_digit())
    }

    fn after_duplication(&self, at: usize) -> Result<(), Unreadable> {
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\n' | b';' | b'|' | b'&') => Ok(()),
            Some(_) => Err(Misread::Operator.at(at)),
        }
    }

    /// Reads the redirection that begins at `at`, its number behind it.
    fn redirection(&mut self, at: usize) -> Result<(), Unreadable> {
        let access = if self.skip("<") {
            RedirectionAccess::Read
        } else {
            self.at += 1;
            self.skip(">");
            RedirectionAccess::Write
        };
        if matches!(self.peek(), Some(b'<' | b'>' | b'&' | b'|' | b'(')) {
            return Err(Misread::Operator.at(at));
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let target_at = self.at;
        let word = match self.word()? {
            Some(word) if !word.text.is_empty() => word,
            None if self.peek().is_some_and(|b| !b"\n;|&<>".contains(&b)) => return Err(self.odd()),
            _ => return Err(Misread::NoTarget.at(at)),
        };
        if self.is_descriptor(&word) {
            return Err(Misread::Descriptor.at(target_at));
        }
        if is_device(&word.text) {
            return Err(Misread::Device.at(target_at));
        }
        self.open(at).redirections.push(Redirection {
            access,
            target: word.text,
        });
        Ok(())
    }

    /// Reads one word: plain and quoted parts without a gap. None if none begins
    /// here.
    fn word(&mut self) -> Result<Option<Word>, Unreadable> {
        let begin = self.at;
        let mut word = Word {
            text: String::new(),
            quoted: false,
        };
        loop {
            match self.peek() {
                Some(quote @ (b'\'' | b'"')) => {
                    word.quoted = true;
                    self.quoted(quote, &mut word.text)?;
                }
                Some(byte) if is_plain(byte) => {
                    word.text.push(char::from(byte));
                    self.at += 1;
                }
                _ => break,
            }
        }
        if self.at == begin {
            return Ok(None);
        }
        self.words += 1;
        if self.words > MAX_WORDS {
            return Err(Misread::TooManyWords.at(begin));
        }
        Ok(Some(word))
    }

    fn quoted(&mut self, quote: u8, text: &mut String) -> Result<(), Unreadable> {
        let begin = self.at;
        let inner = &self.text[begin + 1..];
        for (offset, character) in inner.char_indices() {
            let at = begin + 1 + offset;
            match character {
                _ if character == char::from(quote) => {
                    self.at = at + 1;
                    return Ok(());
                }
                _ if character.is_control() => return Err(Misread::Control.at(at)),
                '$' | '`' | '\\' | '!' if quote == b'"' => return Err(Misread::Quoted.at(at)),
                _ => text.push(character),
            }
        }
        Err(Misread::Unclosed.at(begin))
    }

    /// What is wrong with the character that begins no word.
    fn odd(&self) -> Unreadable {
        let character = self.text[self.at..].chars().next();
        if character.is_some_and(char::is_control) {
            Misread::Control.at(self.at)
        } else {
            Misread::Character.at(self.at)
        }
    }
}

/// What stands for itself, outside quotes, in every shell.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte)
}

/// Whether the target is at or below `/dev`, other than `/dev/null`: bash gives
/// some of those names, `/dev/tcp` first of all, a meaning of its own.
fn is_device(target: &str) -> bool {
    let path = AbsolutePath::parse(target);
    target != "/dev/null" && path.is_ok_and(|path| covers("/dev", path.as_str()))
}
