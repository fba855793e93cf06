//! What a word, or the two words of an option, must be.

use crate::firewall::path::{AbsolutePath, RelativePath};

/// Where a command is judged.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The root of the workspace.
    pub root: &'a AbsolutePath,
    /// The directory the command runs in.
    pub cwd: &'a AbsolutePath,
}

/// What arguments a rule allows.
///
/// [`Rule::check`](super::Rule::check) says which may hold which. A matcher that
/// may not stand where it stands matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// This word.
    Literal(Box<str>),
    /// One of these words.
    OneOf(Box<[Box<str>]>),
    /// A path that is this directory below the root, or below it.
    ///
    /// A word is no path if it begins with `-` (an option) or `@` (to many
    /// programs a file of more arguments), or if its first component has a colon
    /// (to many programs another host, a URL, a revision). With `./` in front
    /// each of them is the name of a file.
    PathUnder(RelativePath),
    /// A decimal integer: no `+`, no zeros in front.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Any word that does not begin with `-` and has no control character.
    Text,
    /// An option and its value: `--name=v` and `--name v`; of a name of one dash
    /// and one character `-n v` and `-nv`, where `-n=v` has the value `=v`, as
    /// getopt reads it; of other names with one dash `-name v` and `-name=v`.
    Option {
        /// Its names, with their dashes.
        names: Box<[Box<str>]>,
        /// What the value must be.
        value: Box<Matcher>,
    },
    /// What one of these matches.
    AnyOf(Box<[Matcher]>),
    /// What this matches, any number of times; the last argument only.
    AnyNumberOf(Box<Matcher>),
}

impl Matcher {
    /// Whether it takes this one word.
    pub(super) fn takes(&self, word: &str, ground: &Ground) -> bool {
        match self {
            Self::Literal(text) => **text == *word,
            Self::OneOf(texts) => texts.iter().any(|text| **text == *word),
            Self::PathUnder(directory) => is_under(directory, word, ground),
            Self::Integer { min, max } => {
                integer(word).is_some_and(|number| (*min..=*max).contains(&number))
            }
            Self::Text => !word.starts_with('-') && !word.contains(char::is_control),
            Self::AnyOf(matchers) => matchers.iter().any(|one| one.takes(word, ground)),
            Self::Option { .. } | Self::AnyNumberOf(_) => false,
        }
    }
}

fn is_under(directory: &RelativePath, word: &str, ground: &Ground) -> bool {
    let first = word.split('/').next().unwrap_or_default();
    if word.starts_with(['-', '@']) || first.contains(':') {
        return false;
    }
    let Ok(path) = ground.cwd.join(word) else {
        return false;
    };
    let below = path.below(ground.root);
    below.is_some_and(|below| directory.covers(below))
}

/// A decimal integer in the one way it can be written.
fn integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let canonical = match digits.as_bytes() {
        [b'0'] => digits.len() == word.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { word.parse().ok() } else { None }
}

/// How a word gives an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// Its value is in the word.
    Here(&'a str),
    /// Its value is the next word.
    Next,
}

/// How `word` gives the option `name`, if it does.
pub(super) fn given<'a>(name: &str, word: &'a str) -> Option<Given<'a>> {
    let rest = word.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(Given::Next);
    }
    if is_short(name) {
        return Some(Given::Here(rest));
    }
    rest.strip_prefix('=').map(Given::Here)
}

/// Whether it is one dash and one character.
fn is_short(name: &str) -> bool {
    let mut characters = name.chars().skip(1);
    characters.next().is_some_and(|c| c != '-') && characters.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(directory: &str, cwd: &str, word: &str) -> bool {
        let root = AbsolutePath::parse("/project").unwrap();
        let cwd = AbsolutePath::parse(cwd).unwrap();
        let ground = Ground {
            root: &root,
            cwd: &cwd,
        };
        Matcher::PathUnder(RelativePath::parse(directory).unwrap()).takes(word, &ground)
    }

    fn takes(matcher: &Matcher, word: &str) -> bool {
        let root = AbsolutePath::parse("/project").unwrap();
        let ground = Ground {
            root: &root,
            cwd: &root,
        };
        matcher.takes(word, &ground)
    }

    #[test]
    fn a_path_is_made_normal_and_compared_by_components() {
        for word in [".", "a", "/project", "/project/a/../b", "a//b/", "..a"] {
            assert!(under(".", "/project", word), "{word}");
        }
        for word in ["..", "/", "/projects", "a/../../etc", "../../..", "/etc"] {
            assert!(!under(".", "/project", word), "{word}");
        }
        assert!(under("docs", "/project", "docs/a.md") && under("docs", "/project", "docs"));
        assert!(!under("docs", "/project", "docsy") && !under("docs", "/project", "."));
        assert!(under("docs", "/project/docs/de", "../a.md"));
        assert!(!under("docs", "/project/docs/de", "../../a.md"));
    }

    #[test]
    fn a_word_that_programs_read_as_more_than_a_path_is_none() {
        for word in ["", "-", "-a", "--", "@/etc/passwd", "host:a", "file:///etc"] {
            assert!(!under(".", "/project", word), "{word}");
        }
        for word in ["./-a", "./@a", "./host:a", "tests/a.py::test", "a@b"] {
            assert!(under(".", "/project", word), "{word}");
        }
        assert!(!under(".", "/project", "a\nb") && !under(".", "/project", "a\0"));
    }

    #[test]
    fn an_integer_is_written_in_one_way() {
        let digit = Matcher::Integer { min: -9, max: 100 };
        for word in ["0", "1", "100", "-9"] {
            assert!(takes(&digit, word), "{word}");
        }
        for word in [
            "", "-", "101", "-10", "+1", "01", "-0", "00", " 1", "1 ", "1.0", "0x1", "1e1", "١",
        ] {
            assert!(!takes(&digit, word), "{word}");
        }
        let all = Matcher::Integer {
            min: i64::MIN,
            max: i64::MAX,
        };
        assert!(takes(&all, "-9223372036854775808") && takes(&all, "9223372036854775807"));
        assert!(!takes(&all, "9223372036854775808"));
    }

    #[test]
    fn a_text_has_no_dash_in_front_and_no_control_character() {
        for word in ["", "a", "a b", "a-b", "über", "$HOME", "a;b", "−"] {
            assert!(takes(&Matcher::Text, word), "{word}");
        }
        for word in ["-", "-a", "--", "a\tb", "a\n", "\u{7f}", "\u{85}", "\0"] {
            assert!(!takes(&Matcher::Text, word), "{word:?}");
        }
    }

    #[test]
    fn an_option_is_given_in_its_forms_only() {
        for (name, word, how) in [
            ("--name", "--name", Some(Given::Next)),
            ("--name", "--name=v", Some(Given::Here("v"))),
            ("--name", "--name=", Some(Given::Here(""))),
            ("--name", "--namev", None),
            ("--name", "--names=v", None),
            ("--name", "--nam", None),
            ("-n", "-n", Some(Given::Next)),
            ("-n", "-nv", Some(Given::Here("v"))),
            ("-n", "-n=v", Some(Given::Here("=v"))),
            ("-n", "--n", None),
            ("-ü", "-üv", Some(Given::Here("v"))),
            ("-run", "-run", Some(Given::Next)),
            ("-run", "-run=v", Some(Given::Here("v"))),
            ("-run", "-runv", None),
        ] {
            assert_eq!(given(name, word), how, "{name} {word}");
        }
    }
}
