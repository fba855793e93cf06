//! The command line of episoded, and the key cache that it starts.

use std::{alloc::System, process::ExitCode};

use clap::CommandFactory as _;
use episoded::{agent, cli, daemon};
use zeroizing_alloc::ZeroAlloc;

/// What held a secret is zero once it is let go, whichever library let it go.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    // Before any other argument is looked at.
    match first.as_ref().and_then(|first| first.to_str()) {
        Some(cli::AGENT_ARGUMENT) => agent::run::run(),
        Some(cli::AGENT_CHECK_ARGUMENT) => agent::check::run(),
        _ => cli::main(std::env::args_os(), daemons),
    }
}

fn daemons() -> Vec<clap::Command> {
    vec![daemon::args::Args::command(), agent::args::Args::command()]
}
