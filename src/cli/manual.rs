//! `completions` and `man`: made from the commands themselves.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;
use super::error::CliError;

/// Print a shell's completions.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl completions bash > ~/.local/share/bash-completion/completions/episodectl")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, context: &Context) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "episodectl", &mut script);
        let mut printer = context.printer();
        printer.bytes(&script)?;
        printer.flush()
    }
}

/// Print the manual page, or write all pages to a directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl man | man -l -
  episodectl man target/man")]
pub struct Man {
    /// Where a page for every command goes
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self, context: &Context) -> Result<(), CliError> {
        if let Some(directory) = &self.directory {
            return std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
                .map_err(|error| CliError::writing(directory, &error));
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| CliError::stdout(&error))?;
        let mut printer = context.printer();
        printer.bytes(&page)?;
        printer.flush()
    }
}
