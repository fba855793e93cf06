//! `completions` and `man`: made from the commands themselves.

use std::fs::File;
use std::path::{Path, PathBuf};

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

/// The command lines of the daemons, which have manual pages too.
pub type Daemons = fn() -> Vec<clap::Command>;

/// Print the manual page, or write all pages to a directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl man | man -l -
  episodectl man target/man")]
pub struct Man {
    /// Where a page for every command and for each daemon goes
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self, context: &Context, daemons: Daemons) -> Result<(), CliError> {
        if let Some(directory) = &self.directory {
            return pages(directory, &daemons())
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

fn pages(directory: &Path, daemons: &[clap::Command]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    for daemon in daemons {
        let path = directory.join(daemon.get_name()).with_extension("8");
        let page = clap_mangen::Man::new(daemon.clone()).section("8");
        page.render(&mut File::create(path)?)?;
    }
    Ok(())
}
