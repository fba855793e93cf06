//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use episoded::daemon::{
    args::{Args, usage_exit_code},
    run::run,
};

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => run(&args),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(usage_exit_code(&error))
        }
    }
}
