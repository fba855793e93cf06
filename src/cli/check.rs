//! `check`: what the context firewall says to one request, or to many.
//!
//! Owns the exit codes a script branches on: 0 it may go on, 77 it is denied. In an
//! AUDIT session everything may go on, and the line says what would have been
//! denied. [`hook`] answers an agent's hook in the agent's own terms.

mod hook;
mod lines;
mod tool;

use clap::{Args, Subcommand};

pub use hook::BLOCKED;

use super::context::Context;
use super::error::{CliError, exit};
use super::output::Printer;
use super::output::text::clean as cell;
use super::secrets::HandleArgs;
use crate::client::Client;
use crate::proto::firewall as pb;

/// Ask the context firewall whether a request is allowed.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = false,
    after_help = "The session is that of the handle in EPISODE_HANDLE_FILE; an operator names one with --session.
A denial counts, and may end the session; --explain only asks.

Exit: 0 allowed (or an AUDIT session, which refuses nothing); 77 denied.

Examples:
  episodectl check read src/main.rs
  episodectl check exec -- cargo test --release
  episodectl check exec --line 'cargo build && cargo test > target/log 2>&1'
  episodectl check --explain write /etc/passwd
  echo '{\"read\":{\"path\":\"src/main.rs\"}}' | episodectl check --jsonl
  episodectl check hook --for claude-code < event.json"
)]
pub struct Check {
    #[command(subcommand)]
    ask: Option<Ask>,

    /// Decide requests from stdin, one JSON object a line, and print verdicts, on one connection
    #[arg(long, conflicts_with = "explain")]
    jsonl: bool,

    /// As the operator, about this session
    #[arg(long, global = true, value_name = "ID")]
    session: Option<String>,

    /// Say how it would be decided; counts as no attempt and ends nothing
    #[arg(long, global = true)]
    explain: bool,

    #[command(flatten)]
    handle: HandleArgs,
}

#[derive(Debug, Subcommand)]
enum Ask {
    #[command(flatten)]
    Tool(tool::Tool),
    /// Answer a hook of an agent: its event on stdin, exit 2 and the reason on stderr when denied
    Hook(hook::Hook),
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<u8, CliError> {
        if let Some(Ask::Hook(hook)) = self.ask {
            let session = self.session.as_deref().unwrap_or_default();
            return Ok(hook.run(context, &self.handle, session, self.explain).await);
        }
        let client = if self.session.is_some() {
            context.operator().await?
        } else {
            let handle = self.handle.require(&context.env)?;
            context.session(handle).await?
        };
        let session_id = self.session.unwrap_or_default();
        match (self.ask, self.jsonl) {
            (Some(Ask::Tool(tool)), false) => {
                let tool = tool.into_wire();
                let verdict = ask(&client, session_id, tool, self.explain).await?;
                let mut printer = context.printer();
                print(&mut printer, &verdict)?;
                printer.flush()?;
                Ok(code(&verdict))
            }
            (None, true) => lines::run(context, &client, &session_id).await,
            _ => {
                let hint = "see `episodectl check --help`";
                Err(CliError::usage("one request, or --jsonl", hint))
            }
        }
    }
}

async fn ask(
    client: &Client,
    session_id: String,
    tool: pb::ToolRequest,
    explain: bool,
) -> Result<pb::Verdict, CliError> {
    let tool = Some(tool);
    let verdict = if explain {
        let request = pb::ExplainRequestRequest { session_id, tool };
        client.explain_request(request).await?.verdict
    } else {
        let request = pb::CheckToolRequestRequest { session_id, tool };
        client.check_tool_request(request).await?.verdict
    };
    Ok(verdict.unwrap_or_default())
}

fn print(printer: &mut Printer, verdict: &pb::Verdict) -> Result<(), CliError> {
    printer.answer(verdict, |verdict| format!("{}\n", line(verdict)))
}

/// What a script branches on.
fn code(verdict: &pb::Verdict) -> u8 {
    match verdict.decision() {
        pb::Decision::Allow | pb::Decision::WouldDeny => 0,
        pb::Decision::Deny | pb::Decision::Unspecified => exit::NO_PERMISSION,
    }
}

/// A verdict in one line.
pub(super) fn line(verdict: &pb::Verdict) -> String {
    let decision = match verdict.decision() {
        pb::Decision::Allow => "ALLOW",
        pb::Decision::WouldDeny => "WOULD_DENY",
        pb::Decision::Deny | pb::Decision::Unspecified => "DENY",
    };
    let mut words = vec![decision.to_owned()];
    if verdict.decision() != pb::Decision::Allow {
        words.push(reason(verdict).to_owned());
    }
    words.extend(judged(verdict));
    words.push(format!("({})", cell(&verdict.rule)));
    if verdict.pinned {
        words.push("pinned".to_owned());
    }
    if verdict.narrowed {
        words.push("narrowed to what is listed".to_owned());
    }
    if !verdict.detail.is_empty() {
        words.push(format!("- {}", cell(&verdict.detail)));
    }
    if verdict.session_ended {
        words.push("- the session has ended".to_owned());
    }
    if !verdict.refinement_id.is_empty() {
        words.push(format!("- asked back as {}", verdict.refinement_id));
    }
    if verdict.decision() != pb::Decision::Allow && !verdict.decision_id.is_empty() {
        words.push(format!("[{}]", verdict.decision_id));
    }
    words.join(" ")
}

/// The reason's code without its prefix.
pub(super) fn reason(verdict: &pb::Verdict) -> &'static str {
    let name = verdict.reason().as_str_name();
    name.strip_prefix("DENIAL_REASON_").unwrap_or(name)
}

fn judged(verdict: &pb::Verdict) -> Option<String> {
    if !verdict.to_path.is_empty() {
        return Some(format!(
            "{} -> {}",
            cell(&verdict.path),
            cell(&verdict.to_path)
        ));
    }
    if !verdict.path.is_empty() {
        return Some(cell(&verdict.path));
    }
    if !verdict.name.is_empty() {
        return Some(cell(&verdict.name));
    }
    let commands = verdict.commands.iter().map(|words| words.words.join(" "));
    let commands: Vec<String> = commands.collect();
    (!commands.is_empty()).then(|| cell(&commands.join("; ")))
}
