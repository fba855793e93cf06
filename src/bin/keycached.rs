//! The key cache.

use std::{alloc::System, process::ExitCode};

use clap::Parser;
use episoded::agent::{args::Args, run::run};
use zeroizing_alloc::ZeroAlloc;

/// What held a secret is zero once it is let go, whichever library let it go.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(_) => run(),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(episoded::daemon::args::usage_exit_code(&error))
        }
    }
}
