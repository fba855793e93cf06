//! The command line of episoded, and the key cache that it starts.

use std::process::ExitCode;

use episoded::{agent, cli};

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    // Before any other argument is looked at.
    match first.as_ref().and_then(|first| first.to_str()) {
        Some(cli::AGENT_ARGUMENT) => agent::run::run(),
        Some(cli::AGENT_CHECK_ARGUMENT) => agent::check::run(),
        _ => cli::main(std::env::args_os()),
    }
}
