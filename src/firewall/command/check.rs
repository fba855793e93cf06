//! What a rule must be before a manifest may hold it.
//!
//! No rule can match every command: a program is one name, and of the matchers
//! only a literal, `one_of` and an option take a word that begins with `-`, each
//! from a list. What it cannot see is a program that runs its arguments, or the
//! workspace, for that program's rule.

use std::{collections::HashSet, fmt};

use super::{Rule, matcher::Matcher};

/// Longest program, in bytes: longer than any name and most paths.
pub const MAX_PROGRAM_BYTES: usize = 256;
/// Largest rule: the bytes of all its texts, and one for each matcher. It bounds
/// what one decision costs.
pub const MAX_RULE_BYTES: usize = 1024;

const ONE_LINE: &str = "have no control character";
const NOT_EMPTY: &str = "not be empty";
const NO_TWINS: &str = "hold nothing twice";

/// A place in a rule that breaks a rule of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place, like `arguments[1].any_of[0]`; empty for the rule as a whole.
    pub place: String,
    /// What is wanted there, in words that complete "must".
    pub rule: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &*self.place {
            "" => "the rule",
            place => place,
        };
        write!(f, "{place} must {}", self.rule)
    }
}

impl Rule {
    /// Checks all of it, and reports every fault.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let mut check = Check::default();
        check.program(&self.program);
        for (index, matcher) in self.arguments.iter().enumerate() {
            let last = index + 1 == self.arguments.len();
            let within = if last { Within::Last } else { Within::Row };
            check.matcher(&format!("arguments[{index}]"), matcher, within);
        }
        if let Some(directory) = &self.working_directory {
            check.size += directory.as_str().len();
        }
        check.environment(&self.environment);
        if check.size > MAX_RULE_BYTES {
            check.fault("", "have at most 1,024 bytes of texts and matchers");
        }
        if check.faults.is_empty() {
            Ok(())
        } else {
            Err(check.faults)
        }
    }
}

/// Where a matcher stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Among the arguments, with others behind it.
    Row,
    /// The last argument.
    Last,
    /// In `any_number_of`.
    Repetition,
    /// In `any_of`.
    Choice,
    /// The value of an option.
    Value,
    /// In the `any_of` that is the value of an option.
    ChoiceOfValues,
}

#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
    size: usize,
}

impl Check {
    fn fault(&mut self, place: &str, rule: &'static str) {
        self.faults.push(Fault {
            place: place.to_owned(),
            rule,
        });
    }

    fn want(&mut self, held: bool, place: &str, rule: &'static str) {
        if !held {
            self.fault(place, rule);
        }
    }

    fn program(&mut self, program: &str) {
        self.size += program.len();
        let place = "program";
        let blank = program.trim().is_empty();
        self.want(!blank, place, "not be empty or blank");
        self.want(
            program.len() <= MAX_PROGRAM_BYTES,
            place,
            "be at most 256 bytes",
        );
        self.want(!program.contains(char::is_control), place, ONE_LINE);
        self.want(
            !program.contains(['*', '?', '[']),
            place,
            "be an exact name, without `*`, `?` or `[`: a pattern matches nothing",
        );
    }

    fn environment(&mut self, names: &[Box<str>]) {
        for (index, name) in names.iter().enumerate() {
            self.size += name.len();
            self.want(
                is_variable(name),
                &format!("environment[{index}]"),
                "be letters, digits and `_`, with no digit in front",
            );
        }
        self.want(all_distinct(names), "environment", NO_TWINS);
    }

    fn matcher(&mut self, place: &str, matcher: &Matcher, within: Within) {
        self.size += 1;
        match matcher {
            Matcher::Literal(text) => self.text(&format!("{place}.literal"), text),
            Matcher::OneOf(texts) => self.one_of(&format!("{place}.one_of"), texts),
            Matcher::PathUnder(directory) => self.size += directory.as_str().len(),
            Matcher::Integer { min, max } => {
                let place = format!("{place}.integer");
                self.want(min <= max, &place, "have a min that is at most its max");
            }
            Matcher::Text => {}
            Matcher::Option { names, value } => {
                self.option(&format!("{place}.option"), names, value, within);
            }
            Matcher::AnyOf(matchers) => {
                self.any_of(&format!("{place}.any_of"), matchers, within);
            }
            Matcher::AnyNumberOf(repeated) => {
                let place = format!("{place}.any_number_of");
                if within == Within::Last {
                    self.matcher(&place, repeated, Within::Repetition);
                } else {
                    self.fault(&place, "be the last argument, and not within another");
                }
            }
        }
    }

    fn text(&mut self, place: &str, text: &str) {
        self.size += text.len();
        self.want(!text.contains(char::is_control), place, ONE_LINE);
    }

    fn one_of(&mut self, place: &str, texts: &[Box<str>]) {
        self.want(!texts.is_empty(), place, NOT_EMPTY);
        for (index, text) in texts.iter().enumerate() {
            self.text(&format!("{place}[{index}]"), text);
        }
        self.want(all_distinct(texts), place, NO_TWINS);
    }

    fn option(&mut self, place: &str, names: &[Box<str>], value: &Matcher, within: Within) {
        if matches!(within, Within::Value | Within::ChoiceOfValues) {
            self.fault(place, "not be the value of an option");
            return;
        }
        let list = format!("{place}.names");
        self.want(!names.is_empty(), &list, NOT_EMPTY);
        for (index, name) in names.iter().enumerate() {
            self.size += name.len();
            self.want(
                is_option_name(name),
                &format!("{list}[{index}]"),
                "be dashes and a name, without `=`, blanks and control characters",
            );
        }
        self.want(all_distinct(names), &list, NO_TWINS);
        self.matcher(&format!("{place}.value"), value, Within::Value);
    }

    fn any_of(&mut self, place: &str, matchers: &[Matcher], within: Within) {
        let inner = match within {
            Within::Choice | Within::ChoiceOfValues => {
                self.fault(place, "not be within any_of");
                return;
            }
            Within::Value => Within::ChoiceOfValues,
            Within::Row | Within::Last | Within::Repetition => Within::Choice,
        };
        self.want(!matchers.is_empty(), place, NOT_EMPTY);
        for (index, matcher) in matchers.iter().enumerate() {
            self.matcher(&format!("{place}[{index}]"), matcher, inner);
        }
    }
}

/// A text twice in a list is a slip of whoever wrote it, and texts that differ
/// are what bounds the list by the size of the rule.
fn all_distinct(texts: &[Box<str>]) -> bool {
    let mut seen = HashSet::with_capacity(texts.len());
    texts.iter().all(|text| seen.insert(text))
}

fn is_option_name(name: &str) -> bool {
    let odd = |c: char| c == '=' || c.is_whitespace() || c.is_control();
    name.starts_with('-') && !name.trim_start_matches('-').is_empty() && !name.contains(odd)
}

fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
