//! `episodectl`: the command line.
//!
//! Owns the global options and the way a command ends: results on stdout,
//! everything else on stderr, an exit code for each kind of failure. It talks
//! to the daemon through [`crate::client`] only, and never opens its files.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

mod args;
mod backup;
mod cat;
mod check;
mod context;
mod doctor;
mod error;
mod export;
mod key;
mod manifest;
mod manual;
mod output;
mod refine;
mod run;
mod secrets;
mod server;
mod session;
mod why;

use context::Context;
use error::{CliError, exit};
pub use key::{AGENT_ARGUMENT, AGENT_CHECK_ARGUMENT};
pub use manual::Daemons;
use output::Format;

use crate::paths::Env;

/// Where help lists the options of every command.
const GLOBAL: &str = "Global options";

/// Controls episoded, the local control plane for agent episodes
#[derive(Debug, Parser)]
#[command(
    name = "episodectl",
    version,
    max_term_width = 100,
    after_help = "Handles and leases never go on the command line: see `episodectl session register --help`.\n
Examples:
  episodectl server start
  episodectl run --work-id task-17 -- ./agent --fast
  episodectl session list"
)]
struct Cli {
    /// How results and errors are printed: table, json or jsonl
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Format::Table,
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    format: Format,

    /// The daemon's socket [env: EPISODED_SOCKET; with a handle first EPISODE_SOCKET]; of `key` the agent's
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    socket: Option<PathBuf>,

    /// How long a call may take
    #[arg(long, global = true, value_name = "DURATION", value_parser = args::duration, default_value = "30s", help_heading = GLOBAL)]
    timeout: Duration,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work with sessions
    #[command(subcommand)]
    Session(Box<session::SessionCommand>),
    /// Make, check and compare context manifests
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// Run a command as the episode of a new session
    Run(Box<run::Run>),
    /// Ask the context firewall whether a request is allowed
    Check(Box<check::Check>),
    /// Print files, verified against the session's manifest
    Cat(cat::Cat),
    /// Answer sessions that missed something
    #[command(subcommand)]
    Refine(refine::RefineCommand),
    /// Explain a denial by its decision id
    Why(why::Why),
    /// Keep keys in locked memory for a while, and forget them
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// The cache of keys, as scripts name it
    #[command(subcommand, hide = true)]
    Vault(key::VaultCommand),
    /// Start, inspect and stop the daemon
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// Check the agent, the daemon and this host
    Doctor(doctor::Doctor),
    /// Copy the registry of the running daemon
    Backup(backup::Backup),
    /// Print all sessions and events as JSON lines
    #[command(long_about = export::LONG)]
    Export(export::Export),
    /// Print a shell's completions
    Completions(manual::Completions),
    /// Print the manual page, or write all pages to a directory
    Man(manual::Man),
}

/// The whole program.
pub fn main(args: impl IntoIterator<Item = OsString>, daemons: Daemons) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let [_, name, group] = &args[..]
        && name == run::terminal::HELPER
    {
        return run::terminal::take_back(group);
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refused(&error, &args),
    };
    let context = Context::new(Env::of_process(), cli.format, cli.socket, cli.timeout);
    match execute(cli.command, &context, daemons) {
        Ok(code) => code.into(),
        Err(error) => {
            let _ = std::io::stderr().write_all(error.render(cli.format).as_bytes());
            error.exit().into()
        }
    }
}

fn execute(command: Command, context: &Context, daemons: Daemons) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::local(exit::SOFTWARE, "INTERNAL", error.to_string()))?;
    let done = |()| 0;
    runtime.block_on(async {
        match command {
            Command::Session(command) => command.run(context).await.map(done),
            Command::Manifest(command) => command.run(context).await,
            Command::Run(command) => command.run(context).await,
            Command::Check(command) => command.run(context).await,
            Command::Cat(command) => command.run(context).await.map(done),
            Command::Refine(command) => command.run(context).await.map(done),
            Command::Why(command) => command.run(context).await.map(done),
            Command::Key(command) => command.run(context).await.map(done),
            Command::Vault(command) => command.run(context).await.map(done),
            Command::Server(command) => command.run(context).await.map(done),
            Command::Doctor(command) => command.run(context).await,
            Command::Backup(command) => command.run(context).await.map(done),
            Command::Export(command) => command.run(context).await.map(done),
            Command::Completions(command) => command.run(context).map(done),
            Command::Man(command) => command.run(context, daemons).map(done),
        }
    })
}

/// Help and version go to stdout; anything else is a usage error.
fn refused(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if is_answer || !wants_json(args) {
        let _ = error.print();
    } else {
        let message = error.render().to_string();
        let error = CliError::usage(message.trim(), "");
        let _ = std::io::stderr().write_all(error.render(Format::Json).as_bytes());
    }
    if is_answer {
        return ExitCode::SUCCESS;
    }
    if is_hook(args) {
        return check::BLOCKED.into();
    }
    exit::USAGE.into()
}

/// Whether an agent asks, whom any other code than that for "no" lets go on.
fn is_hook(args: &[OsString]) -> bool {
    let mut words = args.iter().skip(1).skip_while(|word| *word != "check");
    words.any(|word| word == "hook")
}

/// The format asked for by a command line that cannot be parsed.
fn wants_json(args: &[OsString]) -> bool {
    let own = args.iter().take_while(|arg| *arg != "--");
    let words: Vec<_> = own.map(|arg| arg.to_string_lossy()).collect();
    let is_json = |value: &str| value == "json" || value == "jsonl";
    let joined = |word: &str| word.strip_prefix("--format=").is_some_and(is_json);
    words.iter().any(|word| joined(word))
        || words
            .windows(2)
            .any(|pair| pair[0] == "--format" && is_json(&pair[1]))
}

#[cfg(test)]
mod tests;
