//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use episoded::daemon::{
    args::{Args, usage_exit_code},
    run::run,
};

/// Sessions are made on one thread and let go on another all the time, which the
/// system's allocator serves with a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => run(&args),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(usage_exit_code(&error))
        }
    }
}
