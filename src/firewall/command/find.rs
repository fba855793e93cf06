//! The search for the rule that allows a command.
//!
//! A walk over the words holds the set of all places it can be at, so an option
//! of one word or two and a choice of matchers cost no backtracking.

use super::{
    MAX_WORDS, Rule,
    matcher::{Given, Ground, Matcher, given},
};

/// No rule allows the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMatch {
    /// The rule for this program that got furthest, by its index.
    pub nearest: Option<usize>,
    /// The first word that did not fit it; the number of words if all did.
    pub word: usize,
    /// What did not fit.
    pub what: Misfit,
}

/// What of a command did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// No rule is for the program, or there is none.
    Program,
    /// A word.
    Argument,
    /// The rule wants more words.
    TooFew,
    /// There are more than [`MAX_WORDS`].
    TooMany,
    /// The rule is for another directory, or the directory is not below the root.
    WorkingDirectory,
    /// The request sets this name and the rule does not allow it.
    Environment(Box<str>),
}

/// The first rule that allows the command, by its index. `words` begin with the
/// program; `environment` has the names that the request sets.
pub fn find_rule(
    rules: &[Rule],
    words: &[impl AsRef<str>],
    environment: &[impl AsRef<str>],
    ground: &Ground,
) -> Result<usize, NoMatch> {
    let mut refused = NoMatch {
        nearest: None,
        word: 0,
        what: Misfit::Program,
    };
    let Some(program) = words.first() else {
        return Err(refused);
    };
    if words.len() > MAX_WORDS {
        refused.word = MAX_WORDS;
        refused.what = Misfit::TooMany;
        return Err(refused);
    }
    let mut progress = None;
    for (index, rule) in rules.iter().enumerate() {
        if *rule.program != *program.as_ref() {
            continue;
        }
        let Err(Short { word, names, what }) = fits(rule, words, environment, ground) else {
            return Ok(index);
        };
        let got = Some((word, stage(&what), names));
        if got > progress {
            progress = got;
            refused = NoMatch {
                nearest: Some(index),
                word,
                what,
            };
        }
    }
    Err(refused)
}

/// How far a rule got.
struct Short {
    /// The words it took.
    word: usize,
    /// The environment names it took.
    names: usize,
    what: Misfit,
}

/// The order in which the parts of a command are judged.
fn stage(what: &Misfit) -> u8 {
    match what {
        Misfit::Program | Misfit::TooMany => 0,
        Misfit::Argument | Misfit::TooFew => 1,
        Misfit::WorkingDirectory => 2,
        Misfit::Environment(_) => 3,
    }
}

fn fits(
    rule: &Rule,
    words: &[impl AsRef<str>],
    environment: &[impl AsRef<str>],
    ground: &Ground,
) -> Result<(), Short> {
    let short = |word, names, what| Err(Short { word, names, what });
    let mut walk = Walk {
        words,
        ground,
        furthest: 1,
    };
    if !walk.all(&rule.arguments) {
        let some_left = walk.furthest < words.len();
        let what = if some_left {
            Misfit::Argument
        } else {
            Misfit::TooFew
        };
        return short(walk.furthest, 0, what);
    }
    if !in_its_directory(rule, ground) {
        return short(words.len(), 0, Misfit::WorkingDirectory);
    }
    let allowed = |name: &str| rule.environment.iter().any(|one| **one == *name);
    for (names, name) in environment.iter().map(AsRef::as_ref).enumerate() {
        if !allowed(name) {
            return short(words.len(), names, Misfit::Environment(name.into()));
        }
    }
    Ok(())
}

fn in_its_directory(rule: &Rule, ground: &Ground) -> bool {
    let Some(below) = ground.cwd.below(ground.root) else {
        return false;
    };
    let directory = rule.working_directory.as_ref();
    directory.is_none_or(|directory| directory.covers(below))
}

/// A walk over the words behind the program.
struct Walk<'a, W> {
    words: &'a [W],
    ground: &'a Ground<'a>,
    /// The first word that nothing has taken.
    furthest: usize,
}

impl<W: AsRef<str>> Walk<'_, W> {
    /// Whether the matchers take all words, in order.
    fn all(&mut self, matchers: &[Matcher]) -> bool {
        // Ascending, each place once.
        let mut places = vec![1];
        for matcher in matchers {
            places = match matcher {
                Matcher::AnyNumberOf(repeated) => self.repeat(repeated, &places),
                once => self.once(once, &places),
            };
            if places.is_empty() {
                return false;
            }
        }
        places.last() == Some(&self.words.len())
    }

    fn once(&mut self, matcher: &Matcher, places: &[usize]) -> Vec<usize> {
        let mut next = Vec::with_capacity(places.len());
        for place in places {
            self.step(matcher, *place, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    fn repeat(&mut self, matcher: &Matcher, places: &[usize]) -> Vec<usize> {
        let mut reached = vec![false; self.words.len() + 1];
        for place in places {
            reached[*place] = true;
        }
        let mut next = Vec::with_capacity(2);
        // A step goes forward only, so one pass reaches all there is to reach.
        for place in 0..self.words.len() {
            if reached[place] {
                self.step(matcher, place, &mut next);
                for place in next.drain(..) {
                    reached[place] = true;
                }
            }
        }
        let places = reached.iter().enumerate();
        places
            .filter_map(|(place, is)| is.then_some(place))
            .collect()
    }

    /// Adds every place that `matcher` can get to from `place`.
    fn step(&mut self, matcher: &Matcher, place: usize, next: &mut Vec<usize>) {
        match matcher {
            Matcher::AnyOf(matchers) => {
                for one in matchers {
                    self.step(one, place, next);
                }
            }
            Matcher::Option { names, value } => {
                for name in names {
                    self.option(name, value, place, next);
                }
            }
            one => self.word(one, place, next),
        }
    }

    fn option(&mut self, name: &str, value: &Matcher, place: usize, next: &mut Vec<usize>) {
        let Some(word) = self.words.get(place) else {
            return;
        };
        match given(name, word.as_ref()) {
            Some(Given::Here(text)) if value.takes(text, self.ground) => {
                self.take(place + 1, next);
            }
            Some(Given::Next) => {
                self.furthest = self.furthest.max(place + 1);
                self.word(value, place + 1, next);
            }
            Some(Given::Here(_)) | None => {}
        }
    }

    fn word(&mut self, matcher: &Matcher, place: usize, next: &mut Vec<usize>) {
        if next.last() == Some(&(place + 1)) {
            // Another of `any_of` has taken it: once is enough.
            return;
        }
        let word = self.words.get(place);
        if word.is_some_and(|word| matcher.takes(word.as_ref(), self.ground)) {
            self.take(place + 1, next);
        }
    }

    fn take(&mut self, place: usize, next: &mut Vec<usize>) {
        self.furthest = self.furthest.max(place);
        next.push(place);
    }
}

#[cfg(test)]
mod tests;
