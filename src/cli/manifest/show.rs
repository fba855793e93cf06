//! `manifest show`: a manifest in short, or all of it.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;

use super::{file, words};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::protojson::hex;
use crate::cli::output::text::{Columns, fields};
use crate::client::Client;
use crate::firewall::manifest::{Access, Manifest, ToolClass};
use crate::proto::firewall::get_manifest_request::Of;
use crate::proto::firewall::{GetManifestRequest, GetManifestResponse};

/// Show a manifest of a file, of the daemon or of a session.
#[derive(Debug, Args)]
#[command(
    after_help = "As JSON it is {\"manifest\": …, \"manifestHash\": …}; --out writes the manifest alone.

Examples:
  episodectl manifest show m.json
  episodectl manifest show --session s-17 --entries
  episodectl manifest show --session s-17 --out m.json"
)]
pub struct Show {
    #[command(flatten)]
    source: Source,

    /// List every file
    #[arg(long)]
    entries: bool,

    /// Write the manifest to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A file; - for stdin
    file: Option<PathBuf>,

    /// A manifest that the daemon has, by its hash
    #[arg(long, value_name = "HASH", value_parser = args::hash)]
    hash: Option<Bytes>,

    /// The manifest that applies to this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let manifest = self.source.manifest(context).await?;
        let mut printer = context.printer();
        if let Some(path) = &self.out {
            file::write(path, &manifest)?;
            printer.text(&format!("{}\n", manifest.hash()))?;
            return printer.flush();
        }
        let answer = GetManifestResponse {
            manifest: Some((&manifest).into()),
            manifest_hash: manifest.hash().0.to_vec(),
            next_page_token: String::new(),
        };
        printer.answer(&answer, |_| summary(&manifest, self.entries))?;
        printer.flush()
    }
}

impl Source {
    async fn manifest(self, context: &Context) -> Result<Manifest, CliError> {
        let of = match self {
            Self {
                file: Some(path), ..
            } => return file::load(&path),
            Self {
                hash: Some(hash), ..
            } => Of::ManifestHash(hash.to_vec()),
            Self { session, .. } => Of::SessionId(session.unwrap_or_default()),
        };
        stored(&context.operator().await?, of).await
    }
}

/// A manifest that the daemon has.
pub async fn stored(client: &Client, of: Of) -> Result<Manifest, CliError> {
    let request = GetManifestRequest {
        of: Some(of),
        ..GetManifestRequest::default()
    };
    file::valid(client.whole_manifest(request).await?).map_err(|faults| {
        let error = file::invalid("what the daemon sent", "no manifest", &faults);
        error.with_exit(exit::SOFTWARE)
    })
}

fn summary(manifest: &Manifest, list: bool) -> String {
    let tools = manifest.tools();
    let tools: Vec<&str> = tools.iter().map(ToolClass::name).collect();
    let commands = manifest.commands();
    let mut text = fields(&[
        ("MANIFEST", manifest.manifest_id().to_owned()),
        ("PROFILE", manifest.profile_id().to_owned()),
        ("HASH", manifest.hash().to_string()),
        ("FILES", files(manifest)),
        ("TREES", manifest.trees().len().to_string()),
        ("TOOLS", tools.join(" ")),
        ("COMMANDS", commands.len().to_string()),
    ]);
    let hosts = manifest.network().into_iter().map(words::host).collect();
    let named = manifest.named_tools().into_iter();
    let named = named.map(|tool| format!("{}/{}", tool.server, tool.name));
    let texts = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let trees = manifest.trees().iter();
    let trees = trees.map(|t| format!("{}  {}", words::tree_access(t.access), t.path.shown()));
    for (heading, lines) in [
        ("TREES", trees.collect()),
        ("COMMANDS", commands.iter().map(words::rule).collect()),
        ("NAMED TOOLS", named.collect()),
        ("HOSTS", hosts),
        ("MODELS", texts(manifest.models())),
        ("ARTIFACTS", texts(manifest.artifacts())),
    ] {
        text += &section(heading, lines);
    }
    if list {
        text += "\n";
        text += &entries(manifest);
    }
    text
}

/// How many files, of each access, and how large they are together.
fn files(manifest: &Manifest) -> String {
    let entries = manifest.entries();
    let mut parts = Vec::new();
    for access in [Access::Read, Access::ReadWithZoom, Access::ReadWrite] {
        let count = entries.iter().filter(|e| e.access == access).count();
        if count > 0 {
            parts.push(format!("{count} {}", words::access(access)));
        }
    }
    let bytes: u64 = entries.iter().filter_map(|entry| entry.size).sum();
    if entries.is_empty() {
        return "0".to_owned();
    }
    format!("{} ({}; {bytes} bytes)", entries.len(), parts.join(", "))
}

fn section(heading: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new(&[heading]);
    for line in lines {
        columns.row(vec![line]);
    }
    format!("\n{}", columns.take())
}

fn entries(manifest: &Manifest) -> String {
    let mut columns = Columns::new(&["PATH", "ACCESS", "SIZE", "BLAKE3"]);
    for entry in manifest.entries() {
        columns.row(vec![
            entry.path.as_str().to_owned(),
            words::access(entry.access).to_owned(),
            entry.size.map(|size| size.to_string()).unwrap_or_default(),
            hex(&entry.hash[..8]),
        ]);
    }
    columns.take()
}
