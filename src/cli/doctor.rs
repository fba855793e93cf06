//! `doctor`: whether the agent, the daemon and the host are as they should be.
//!
//! Owns the report, a line for each check, and the exit code. Each look is in the
//! module of what it looks at. Starts no agent and changes nothing: a mend is named,
//! never made.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::output::Format;
use super::output::text::{Columns, fields};

mod agent;
mod ask;
mod daemon;
mod host;
mod place;
mod process;
mod wall;

/// Whoever does not answer by then is wedged.
const ANSWER: Duration = Duration::from_secs(2);

/// Something is not as it should be.
const FAILED: u8 = 1;

/// Check the agent, the daemon and this host.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts no agent and changes nothing. Ends with 1 when a check failed; a warning is no failure.\n
Examples:
  episodectl doctor
  episodectl doctor --format json"
)]
pub struct Doctor {}

impl Doctor {
    /// Runs it; the exit code.
    pub async fn run(self, context: &Context) -> Result<u8, CliError> {
        let (agent, daemon) = tokio::join!(agent::look(context), daemon::look(context));
        let host = host::look(&context.env, agent.sleep.as_ref());
        let mut checks = [agent.checks, host, daemon.checks].concat();
        let state = worst(&checks);
        checks.extend(wall::look(daemon.session_dir.as_deref(), &checks).await);
        let report = Report { state, checks };
        print(context, &report)?;
        Ok(if state == State::Failed { FAILED } else { 0 })
    }
}

/// How it is with what was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum State {
    Ok,
    Warning,
    Failed,
}

impl State {
    /// For people.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    what: String,
    /// What to do about it; empty when all is well.
    mend: String,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, State::Ok, what, "")
    }

    fn warning(name: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(name, State::Warning, what, mend)
    }

    fn failed(name: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(name, State::Failed, what, mend)
    }

    fn new(
        name: &'static str,
        state: State,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all.
    state: State,
    checks: Vec<Check>,
}

fn worst(checks: &[Check]) -> State {
    let states = checks.iter().map(|check| check.state);
    states.max().unwrap_or(State::Ok)
}

/// Whether a program that answers is of this version.
fn version(name: &'static str, theirs: &str, mend: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if theirs == ours {
        return Check::ok(name, format!("{theirs}, as episodectl"));
    }
    Check::warning(name, format!("{theirs}, but episodectl is {ours}"), mend)
}

fn print(context: &Context, report: &Report) -> Result<(), CliError> {
    let mut printer = context.printer();
    match context.format {
        Format::Table => printer.text(&table(&report.checks))?,
        Format::Json => printer.value(report)?,
        Format::Jsonl => {
            for check in &report.checks {
                printer.value(check)?;
            }
        }
    }
    printer.flush()
}

/// The checks with their mends, then the walls, whose lines are long and need none.
fn table(checks: &[Check]) -> String {
    let (walls, checks): (Vec<&Check>, Vec<&Check>) =
        checks.iter().partition(|check| wall::is_one(check));
    let mut columns = Columns::new(&["CHECK", "STATE", "FOUND", "MEND"]);
    for check in checks {
        let state = check.state.word().to_owned();
        let (what, mend) = (check.what.clone(), check.mend.clone());
        columns.row(vec![check.name.to_owned(), state, what, mend]);
    }
    let walls: Vec<_> = walls
        .iter()
        .map(|wall| (wall.name, wall.what.clone()))
        .collect();
    format!("{}\n{}", columns.take(), fields(&walls))
}

#[cfg(test)]
mod tests {
    use super::{Check, State, version, worst};

    #[test]
    fn another_version_is_a_warning() {
        assert_eq!(
            version("v", env!("CARGO_PKG_VERSION"), "mend").state,
            State::Ok
        );
        let old = version("v", "0.0.1", "mend");
        assert_eq!((old.state, &*old.mend), (State::Warning, "mend"));
        assert!(old.what.contains("0.0.1"), "{old:?}");
    }

    #[test]
    fn the_worst_check_is_the_state_of_all() {
        let ok = Check::ok("a", "");
        let warning = Check::warning("b", "", "");
        let failed = Check::failed("c", "", "");
        assert_eq!(worst(&[]), State::Ok);
        assert_eq!(worst(&[warning.clone(), ok.clone()]), State::Warning);
        assert_eq!(worst(&[failed, warning, ok]), State::Failed);
    }
}
