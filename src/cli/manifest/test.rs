//! `manifest test`: example requests, and how they must be decided.
//!
//! Owns the format of a case. No daemon and no file of the workspace is asked:
//! each case is decided by itself, as of a session that has written nothing.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::file;
use super::request::Asked;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::text::clean;
use crate::cli::output::{Format, note};
use crate::firewall::decide::{Decision, Scope, decide};
use crate::firewall::manifest::Manifest;
use crate::firewall::path::AbsolutePath;

/// What it does, at length; given where the command is listed, whose one line would
/// else take its place.
pub const LONG: &str = "Decide example requests; exit 1 if one is not decided as it says.

A case is a line of JSON: name, request, verdict (ALLOW or DENY), and if it matters reason and \
judged, the path in its normal form. Requests: read {path, hash}, stat, list, write, edit, delete, \
mkdir {path}, search {scope, recursive}, rename {from, to}, command {argv | string, cwd, env}, \
git {arguments}, network {host, port}, tool {server, name}, inference {model}, artifact {name}. \
A case with a manifest is for the one of that id, and passed over for another; with a mode \
(hard_fail, soft_fail, audit) and ends_session it says whether the denial ends the session.";

/// Decide example requests; exit 1 if one is not decided as it says.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl manifest test m.json cases.jsonl
where cases.jsonl has lines such as
  {\"name\": \"tests run\", \"request\": {\"command\": {\"argv\": [\"cargo\", \"test\"]}}, \"verdict\": \"ALLOW\"}
  {\"name\": \"no keys\", \"request\": {\"read\": {\"path\": \"/etc/shadow\"}}, \"verdict\": \"DENY\",
   \"reason\": \"CONTEXT_MISS\"}
each on one line")]
pub struct Test {
    /// The manifest; - for stdin
    file: PathBuf,

    /// The cases, one JSON object a line
    cases: PathBuf,

    /// What the workspace root is called in the cases
    #[arg(long, value_name = "DIR", default_value = "/workspace", value_parser = absolute)]
    root: AbsolutePath,
}

fn absolute(text: &str) -> Result<AbsolutePath, String> {
    AbsolutePath::parse(text).map_err(|error| format!("the root {error}"))
}

impl Test {
    pub(super) fn run(self, context: &Context) -> Result<u8, CliError> {
        let manifest = file::load(&self.file)?;
        let (cases, others): (Vec<Case>, Vec<Case>) = self
            .cases()?
            .into_iter()
            .partition(|case| case.is_for(&manifest));
        if cases.is_empty() {
            let (name, id) = (file::named(&self.cases), manifest.manifest_id());
            let message = format!("{name} has no case for the manifest {id}");
            let hint = "`manifest test --help` shows cases";
            return Err(file::malformed(message).with_hint(hint));
        }
        if !others.is_empty() {
            note(format_args!(
                "{} cases are for other manifests",
                others.len()
            ));
        }
        let (mut passed, mut failures) = (0, Vec::new());
        for case in cases {
            match case.failure(&manifest, &self.root) {
                Some(failure) => failures.push((case.name, failure)),
                None => passed += 1,
            }
        }
        print(context, passed, &failures)?;
        Ok((!failures.is_empty()).into())
    }

    fn cases(&self) -> Result<Vec<Case>, CliError> {
        let text = file::contents(&self.cases)?;
        let lines = text.lines().enumerate();
        let is_case = |line: &str| !line.trim().is_empty() && !is_head(line);
        let lines = lines.filter(|(_, line)| is_case(line));
        let cases = lines.map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| {
                let name = file::named(&self.cases);
                let message = format!("{name}, line {}: no case: {error}", at + 1);
                file::malformed(message).with_hint("`manifest test --help` shows cases")
            })
        });
        cases.collect()
    }
}

fn print(context: &Context, passed: usize, failures: &[(String, String)]) -> Result<(), CliError> {
    let total = passed + failures.len();
    let mut printer = context.printer();
    match context.format {
        Format::Table => {
            for (name, what) in failures {
                printer.text(&format!("{}\n", clean(&format!("{name}: {what}"))))?;
            }
            printer.text(&format!(
                "{passed} of {total} cases are decided as they say\n"
            ))?;
        }
        Format::Json | Format::Jsonl => {
            let failed = failures.iter();
            let failed = failed.map(|(name, what)| json!({"name": name, "what": what}));
            let failed: Vec<_> = failed.collect();
            printer.value(&json!({"passed": passed, "failed": failed}))?;
        }
    }
    printer.flush()
}

/// Whether the line says what the manifests of the cases are, which is said here by
/// the manifest itself.
fn is_head(line: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Head {
        #[serde(rename = "manifests")]
        _manifests: Map<String, Value>,
    }
    serde_json::from_str::<Head>(line).is_ok()
}

/// What a request must become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Wanted {
    Allow,
    Deny,
    WouldDeny,
}

/// What a session does with denials; it decides only what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    HardFail,
    SoftFail,
    Audit,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Asked,
    verdict: Wanted,
    reason: Option<String>,
    judged: Option<String>,
    mode: Option<Mode>,
    ends_session: Option<bool>,
    /// The id of the manifest it is about; absent: any.
    manifest: Option<String>,
}

impl Case {
    fn is_for(&self, manifest: &Manifest) -> bool {
        let id = self.manifest.as_deref();
        id.is_none_or(|id| id == manifest.manifest_id())
    }

    /// What came out otherwise than it says.
    fn failure(&self, manifest: &Manifest, root: &AbsolutePath) -> Option<String> {
        let scope = Scope {
            manifest,
            root,
            lifted: &[],
        };
        let request = self.request.request();
        let decision = decide(&scope, &request);
        let got = match &decision.outcome {
            Ok(_) => "ALLOW".to_owned(),
            Err(denied) => format!("DENY {}", denied.reason.code()),
        };
        let fits = match (&decision.outcome, self.verdict, &self.reason) {
            (Ok(_), wanted, _) => wanted == Wanted::Allow,
            (Err(_), Wanted::Allow, _) => false,
            (Err(denied), _, Some(reason)) => denied.reason.code() == reason,
            (Err(_), _, None) => true,
        };
        if !fits {
            let wanted = match self.verdict {
                Wanted::Allow => "ALLOW",
                Wanted::Deny | Wanted::WouldDeny => "DENY",
            };
            let reason = self.reason.as_deref().unwrap_or_default();
            let wanted = format!("{wanted} {reason}");
            return Some(format!(
                "must be {}, is {got} by {}",
                wanted.trim(),
                why(&decision)
            ));
        }
        let judged = decision.judged.shown();
        if self.judged.as_ref().is_some_and(|wanted| *wanted != judged) {
            return Some(format!(
                "must judge {}, judges {judged}",
                self.judged.as_deref()?
            ));
        }
        let denied = decision.outcome.err();
        let ends = denied.is_some_and(|d| d.ends) && self.mode == Some(Mode::HardFail);
        match (self.mode, self.ends_session) {
            (Some(_), Some(wanted)) if wanted != ends => {
                let what = if wanted {
                    "must end the session, and does not"
                } else {
                    "must not end the session, and does"
                };
                Some(what.to_owned())
            }
            _ => None,
        }
    }
}

fn why(decision: &Decision<'_>) -> String {
    match &decision.outcome {
        Err(denied) if !denied.detail.is_empty() => {
            format!("{}: {}", decision.basis, denied.detail)
        }
        _ => decision.basis.to_string(),
    }
}
