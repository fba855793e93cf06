//! The command line of episoded.

use std::process::ExitCode;

fn main() -> ExitCode {
    episoded::cli::main(std::env::args_os())
}
