//! Commands: every one of a line must fit a rule, and every redirection is a read
//! or a write.

use super::{Basis, Decision, DenialReason, Denied, Judged, Scope, allow, deny};
use crate::firewall::{
    command::{self, Ground, MAX_WORDS, Misfit, NoMatch, Redirection, RedirectionAccess},
    manifest::{Access, ToolClass, TreeAccess},
    path::AbsolutePath,
};

/// Where every shell throws things away.
const NOWHERE: &str = "/dev/null";

/// A command that somebody wants to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandRequest {
    /// Its words, as they will be handed to the program.
    pub words: Vec<String>,
    /// Or a line for a shell; then there are no words.
    pub line: Option<String>,
    /// Where it is to run; empty: in the root.
    pub directory: String,
    /// Names of the variables that are set for it.
    pub environment: Vec<String>,
}

impl CommandRequest {
    /// What it is about, as a line: as it came, or the words, quoted so that they
    /// cannot pass for more than one command.
    pub(super) fn subject(&self) -> String {
        match &self.line {
            Some(line) => line.clone(),
            None => command::write(&self.words),
        }
    }
}

/// Decides a command.
pub(super) fn decide<'a>(scope: &Scope<'a>, request: &CommandRequest) -> Decision<'a> {
    let Some(line) = &request.line else {
        return judge(scope, request, vec![request.words.clone()], &[]);
    };
    let commands = match command::read(line) {
        Ok(commands) => commands,
        Err(unreadable) => {
            return refused(Judged::Raw(line.clone()), None, unreadable.to_string());
        }
    };
    let (redirections, words): (Vec<_>, Vec<_>) = commands
        .into_iter()
        .map(|command| (command.redirections, command.words))
        .unzip();
    judge(scope, request, words, &redirections.concat())
}

/// Decides the arguments of git.
pub(super) fn decide_git<'a>(scope: &Scope<'a>, request: &CommandRequest) -> Decision<'a> {
    if let Some(line) = &request.line {
        let detail = "git takes words, not a line".to_owned();
        return refused(Judged::Raw(line.clone()), None, detail);
    }
    let mut words = Vec::with_capacity(1 + request.words.len());
    words.push("git".to_owned());
    words.extend(request.words.iter().cloned());
    judge(scope, request, vec![words], &[])
}

fn judge<'a>(
    scope: &Scope<'a>,
    request: &CommandRequest,
    words: Vec<Vec<String>>,
    redirections: &[Redirection],
) -> Decision<'a> {
    let directory = match request.directory.as_str() {
        "" => Ok(scope.root.clone()),
        text => scope.root.join(text),
    };
    let count: usize = words.iter().map(Vec::len).sum();
    let judged = Judged::Commands(words);
    let Judged::Commands(words) = &judged else {
        unreachable!("it was just made")
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => {
            let detail = format!("the working directory {error}");
            return refused(judged, None, detail);
        }
    };
    if count > MAX_WORDS {
        return refused(judged, None, format!("more than {MAX_WORDS} words"));
    }
    let environment: Vec<&str> = request.environment.iter().map(String::as_str).collect();
    let ground = Ground {
        root: scope.root,
        cwd: &directory,
    };
    let mut basis = Basis::Default;
    for words in words {
        let rules = scope.manifest.commands();
        match command::find_rule(rules, words, &environment, &ground) {
            Ok(rule) => basis = Basis::Command(rule),
            Err(no_match) => {
                let detail = explain(&no_match, words);
                return refused(judged, no_match.nearest, detail);
            }
        }
    }
    let mut lifts = Vec::new();
    for redirection in redirections {
        let fits = scope.redirect(redirection, &directory, &mut lifts);
        if !fits {
            let detail = format!("the redirection to {} is not allowed", redirection.target);
            return refused(judged, None, detail);
        }
    }
    Decision {
        lifts,
        ..allow(false, basis, judged)
    }
}

impl Scope<'_> {
    fn redirect(
        &self,
        redirection: &Redirection,
        directory: &AbsolutePath,
        lifts: &mut Vec<u32>,
    ) -> bool {
        let Ok(path) = directory.join(&redirection.target) else {
            return false;
        };
        if path.as_str() == NOWHERE {
            return true;
        }
        match redirection.access {
            RedirectionAccess::Read => {
                self.manifest.tools().has(ToolClass::Read) && self.feeds(&path)
            }
            RedirectionAccess::Write => {
                let written = self.judge_write(&path, false);
                let allowed = self.manifest.tools().has(ToolClass::Write);
                match written {
                    Ok((_, more)) if allowed => {
                        lifts.extend(more);
                        true
                    }
                    _ => false,
                }
            }
        }
    }

    /// Whether a shell may read the file: as any reader that shows no hash.
    fn feeds(&self, path: &AbsolutePath) -> bool {
        let Some(relative) = path.below(self.root) else {
            return false;
        };
        match self.manifest.entry(relative) {
            Some((at, entry)) => entry.access != Access::ReadWithZoom || !self.is_pinned(at, entry),
            None => self.manifest.tree(relative, TreeAccess::reads).is_some(),
        }
    }
}

fn refused<'a>(judged: Judged, nearest: Option<usize>, detail: String) -> Decision<'a> {
    let basis = nearest.map_or(Basis::Default, Basis::Command);
    let mut decision = deny(DenialReason::CommandNotAllowed, true, basis, judged);
    decision.outcome = Err(Denied {
        reason: DenialReason::CommandNotAllowed,
        ends: true,
        detail,
    });
    decision
}

/// The nearest rule and the first word that did not fit.
fn explain(no_match: &NoMatch, words: &[String]) -> String {
    let program = words.first().map_or("", String::as_str);
    let word = words.get(no_match.word).map_or("", String::as_str);
    match (&no_match.what, no_match.nearest) {
        (Misfit::TooMany, _) => format!("more than {MAX_WORDS} words"),
        (Misfit::Program, _) | (_, None) if words.is_empty() => "there is no command".to_owned(),
        (Misfit::Program, _) | (_, None) => format!("no rule is for {program}"),
        (Misfit::Argument, Some(rule)) => format!(
            "word {}, `{word}`, does not fit commands[{rule}]",
            no_match.word + 1
        ),
        (Misfit::TooFew, Some(rule)) => format!("commands[{rule}] wants more words"),
        (Misfit::WorkingDirectory, Some(rule)) => {
            format!("commands[{rule}] may not run in this directory")
        }
        (Misfit::Environment(name), Some(rule)) => {
            format!("commands[{rule}] does not let {name} be set")
        }
    }
}
