//! The context firewall of a new session, as it is asked for on a command line.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::args;
use crate::cli::error::CliError;
use crate::cli::manifest::file;
use crate::client::Client;
use crate::proto::session::register_session_request::Manifest;
use crate::proto::session::{FirewallMode, OnDenial, RegisterSessionRequest};

/// What the firewall does.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Context firewall")]
pub struct FirewallArgs {
    /// Deny what the manifest does not allow
    #[arg(long, conflicts_with = "audit", requires = "manifest")]
    consume: bool,

    /// Record what the manifest would deny, and refuse nothing
    #[arg(long, requires = "manifest")]
    audit: bool,

    /// The manifest: a file, or the hash it is stored under
    #[arg(long, value_name = "FILE|HASH")]
    manifest: Option<PathBuf>,

    /// The directory that the manifest's paths are relative to, as the agent names it; default: the
    /// current one
    #[arg(long, value_name = "DIR", requires = "manifest")]
    workspace_root: Option<PathBuf>,

    /// The same directory as the daemon opens it; default: the same path
    #[arg(long, value_name = "DIR", requires = "manifest")]
    host_root: Option<PathBuf>,

    /// What a denial does: end the session, or let it continue
    #[arg(long, value_enum, value_name = "WHAT", requires = "manifest")]
    on_denial: Option<Denial>,

    /// With --on-denial continue: how many denials the session survives
    #[arg(long, value_name = "N", requires = "on_denial")]
    max_denials: Option<u32>,

    /// Count the refinements of the work id from 0 again
    #[arg(long)]
    reset_refinements: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Denial {
    End,
    Continue,
}

impl FirewallArgs {
    /// Whether a denial leaves the session alive.
    pub fn survives_denials(&self) -> bool {
        matches!(self.on_denial, Some(Denial::Continue))
    }

    /// Whether one is asked for.
    pub fn is_asked_for(&self) -> bool {
        self.consume || self.audit
    }

    /// Stores the manifest, and asks for the firewall.
    pub async fn apply(
        self,
        client: &Client,
        request: &mut RegisterSessionRequest,
    ) -> Result<(), CliError> {
        request.reset_refinements = self.reset_refinements;
        let Some(manifest) = &self.manifest else {
            return Ok(());
        };
        if !self.is_asked_for() {
            let hint = "add --consume to enforce it, or --audit to record only";
            return Err(CliError::usage("--manifest alone does nothing", hint));
        }
        let mode = if self.consume {
            FirewallMode::Consume
        } else {
            FirewallMode::Audit
        };
        request.mode = mode.into();
        let hash = match manifest.to_str().and_then(|text| args::hash(text).ok()) {
            Some(hash) => hash.to_vec(),
            None => {
                client
                    .put_manifest(file::read(manifest)?)
                    .await?
                    .manifest_hash
            }
        };
        request.manifest = Some(Manifest::ManifestHash(hash));
        let root = self.workspace_root.unwrap_or_else(|| PathBuf::from("."));
        request.workspace_root = absolute(&root)?;
        if let Some(root) = &self.host_root {
            request.host_root = absolute(root)?;
        }
        request.on_denial = match self.on_denial {
            None | Some(Denial::End) => OnDenial::End,
            Some(Denial::Continue) => OnDenial::Continue,
        }
        .into();
        request.max_denials = self.max_denials;
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<String, CliError> {
    let whole = std::path::absolute(path).map_err(|error| CliError::reading(path, &error))?;
    whole.into_os_string().into_string().map_err(|path| {
        let message = format!("{} is not UTF-8", path.display());
        CliError::usage(message, "the daemon knows paths in UTF-8 only")
    })
}
