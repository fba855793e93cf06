//! The key cache.

use std::process::ExitCode;

use clap::Parser;
use episoded::agent::{args::Args, run::run};

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(_) => run(),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(episoded::daemon::args::usage_exit_code(&error))
        }
    }
}
