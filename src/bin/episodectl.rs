//! The command line of episoded, and the key cache that it starts.

use std::process::ExitCode;

use episoded::cli::AGENT_ARGUMENT;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // Before any other argument is looked at.
    if args.nth(1).is_some_and(|first| first == AGENT_ARGUMENT) {
        return episoded::agent::run::run();
    }
    episoded::cli::main(std::env::args_os())
}
