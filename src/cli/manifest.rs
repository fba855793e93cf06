//! `episodectl manifest …`: one module per command.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;

mod audit;
mod build;
mod diff;
pub mod file;
pub mod hash;
mod left;
mod lint;
mod options;
mod pattern;
mod presets;
mod request;
mod show;
mod test;
mod tree;
mod words;

/// Commands on context manifests.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Make a manifest of a directory's files
    #[command(long_about = build::LONG)]
    Build(Box<build::Build>),
    /// Look for what is allowed and probably not meant
    Lint(lint::Lint),
    /// Show a manifest of a file, of the daemon or of a session
    Show(show::Show),
    /// Compare two manifests; exit 1 if they differ
    Diff(diff::Diff),
    /// Decide example requests; exit 1 if one is not decided as it says
    #[command(long_about = test::LONG)]
    Test(test::Test),
    /// List the presets of command rules, or print one
    Presets(presets::Presets),
    /// Make the manifest that would have allowed what a session was denied
    #[command(long_about = audit::LONG)]
    FromAudit(audit::FromAudit),
}

impl ManifestCommand {
    /// Runs it; the exit code.
    pub async fn run(self, context: &Context) -> Result<u8, CliError> {
        let done = |()| 0;
        match self {
            Self::Build(command) => command.run(context).await.map(done),
            Self::Lint(command) => command.run(context).map(done),
            Self::Show(command) => command.run(context).await.map(done),
            Self::Diff(command) => command.run(context),
            Self::Test(command) => command.run(context),
            Self::Presets(command) => command.run(context).map(done),
            Self::FromAudit(command) => command.run(context).await.map(done),
        }
    }
}
