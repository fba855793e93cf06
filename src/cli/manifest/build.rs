//! `manifest build`: a manifest of what lies in a directory.
//!
//! Owns how the parts come together. The same files and options give the same
//! bytes, wherever the directory lies: nothing of its path, of a time or of the
//! machine is in a manifest.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use prost::Message as _;

use super::file;
use super::hash::{self, Content};
use super::left::{LeftOut, Why};
use super::lint::warnings;
use super::options::{self, ToolChoice};
use super::pattern::Patterns;
use super::presets::Preset;
use super::tree::Search;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::note;
use crate::cli::output::protojson::hex;
use crate::cli::output::text::clean;
use crate::firewall::manifest::{Manifest, TreeAccess, Warning};
use crate::firewall::path::RelativePath;
use crate::proto::firewall::PutManifestResponse;
use crate::proto::manifest as pb;
use crate::proto::manifests::shown_tree;

/// What it does, at length; given where the command is listed, whose one line would
/// else take its place.
pub const LONG: &str = "Make a manifest of a directory's files.

Without patterns every file is listed that no .gitignore ignores; hidden ones too, but for .git. \
Symlinks, special files and files over 64 MiB are left out, and what is left out is told on \
stderr. Patterns are written as in .gitignore: `src` is all below every src, `/src/*.rs` begins \
at the root. The manifest goes to stdout as JSON; with --out or --put its hash does.";

/// Make a manifest of a directory's files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl manifest build --root . --edit src --edit Cargo.toml --tree target=rw \\
      --preset rust --preset git-read --out m.json
  episodectl manifest build --root . --tracked --edit src --put
  episodectl manifest build --root . 'docs/**/*.md' --zoom README.md > m.json")]
pub struct Build {
    /// The directory
    #[arg(long, value_name = "DIR")]
    root: PathBuf,

    /// List only what these patterns, --edit or --zoom match
    #[arg(value_name = "GLOB", conflicts_with = "tracked")]
    globs: Vec<String>,

    /// List what git tracks
    #[arg(long)]
    tracked: bool,

    /// Files that may be changed; may be repeated
    #[arg(long, value_name = "GLOB")]
    edit: Vec<String>,

    /// Files whose readers must show the hash; may be repeated
    #[arg(long, value_name = "GLOB")]
    zoom: Vec<String>,

    /// A directory to read (r), write (w) or both (rw) without pins; may be repeated
    #[arg(long, value_name = "DIR=r|w|rw", value_parser = options::tree)]
    tree: Vec<(RelativePath, TreeAccess)>,

    /// Exactly these classes of tools; absent: those that the rest needs
    #[arg(long, value_name = "CLASS", value_enum)]
    allow_tool: Vec<ToolChoice>,

    /// A host, at any port or at one; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", value_parser = options::host)]
    allow_host: Vec<pb::Host>,

    /// A model; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_model: Vec<String>,

    /// An artifact; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_artifact: Vec<String>,

    /// A tool of a server, as of MCP; may be repeated
    #[arg(long, value_name = "SERVER/TOOL", value_parser = options::named_tool)]
    mcp: Vec<pb::NamedTool>,

    /// A file with a JSON list of command rules; may be repeated
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,

    /// Command rules for common tools; may be repeated
    #[arg(long, value_enum)]
    preset: Vec<Preset>,

    /// The manifest's name
    #[arg(long, value_name = "ID", default_value = "workspace")]
    manifest_id: String,

    /// The name of the profile it is for
    #[arg(long, value_name = "ID", default_value = "default")]
    profile_id: String,

    /// Write the manifest to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Store the manifest with the daemon
    #[arg(long)]
    put: bool,
}

impl Build {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let commands = self.commands()?;
        let entries = self.entries()?;
        let (out, put) = (self.out.clone(), self.put);
        let manifest = self.manifest(entries, commands)?;
        tell(warnings(&manifest));
        let mut printer = context.printer();
        if out.is_none() && !put {
            file::print(&mut printer, &manifest)?;
            return printer.flush();
        }
        if let Some(path) = &out {
            file::write(path, &manifest)?;
        }
        let mut answer = PutManifestResponse {
            manifest_hash: manifest.hash().0.to_vec(),
            manifest_id: manifest.manifest_id().to_owned(),
            already_stored: false,
            entries: manifest.entries().len() as u32,
        };
        if put {
            answer = context
                .operator()
                .await?
                .put_manifest((&manifest).into())
                .await?;
        }
        printer.answer(&answer, |answer| {
            format!("{}\n", hex(&answer.manifest_hash))
        })?;
        printer.flush()
    }

    fn commands(&self) -> Result<Vec<pb::CommandRule>, CliError> {
        let mut rules = Vec::new();
        for path in &self.rules {
            rules.extend(file::rules(path)?);
        }
        rules.extend(self.preset.iter().flat_map(|preset| preset.rules()));
        let mut seen = std::collections::HashSet::new();
        rules.retain(|rule| seen.insert(rule.encode_to_vec()));
        Ok(rules)
    }

    /// The directory, absolute and without symlinks, and one that can be read:
    /// what cannot would look empty.
    fn root(&self) -> Result<PathBuf, CliError> {
        let failed = |error| CliError::reading(&self.root, &error);
        let root = fs::canonicalize(&self.root).map_err(failed)?;
        if !root.is_dir() {
            let message = format!("{} is no directory", self.root.display());
            return Err(CliError::usage(message, "name the root of the workspace"));
        }
        fs::read_dir(&root).map_err(failed)?;
        Ok(root)
    }

    fn entries(&self) -> Result<Vec<pb::Entry>, CliError> {
        let root = self.root()?;
        let wanted = Patterns::new(&self.globs)?;
        let (edit, zoom) = (Patterns::new(&self.edit)?, Patterns::new(&self.zoom)?);
        let search = Search {
            root: &root,
            tracked: self.tracked,
            wanted: &wanted,
            others: [&edit, &zoom],
            trees: &self.tree,
        };
        let mut left = LeftOut::default();
        let mut paths = search.files(&mut left)?;
        let outputs = outputs(self.out.as_deref());
        paths.retain(|path| {
            if outputs.is_empty() {
                return true;
            }
            let place = fs::symlink_metadata(root.join(path)).map(|about| place(&about));
            let is_output = place.is_ok_and(|place| outputs.contains(&place));
            if is_output {
                left.add(Path::new(path), Why::Output);
            }
            !is_output
        });
        let contents = hash::all(&root, &paths);
        let mut entries = Vec::with_capacity(paths.len());
        for (path, content) in paths.into_iter().zip(contents) {
            let access = match (edit.matches(&path), zoom.matches(&path)) {
                (true, _) => pb::Access::ReadWrite,
                (false, true) => pb::Access::ReadWithZoom,
                (false, false) => pb::Access::Read,
            };
            match content {
                Ok(content) => entries.push(entry(path, content, access)),
                Err(why) => left.add(Path::new(&path), why),
            }
        }
        left.tell();
        for pattern in [wanted, edit, zoom].iter().flat_map(Patterns::unused) {
            note(format_args!("no file matches {pattern}"));
        }
        Ok(entries)
    }

    fn manifest(
        self,
        entries: Vec<pb::Entry>,
        commands: Vec<pb::CommandRule>,
    ) -> Result<Manifest, CliError> {
        let tree = |(path, access): (RelativePath, TreeAccess)| pb::Tree {
            path: path.shown().to_owned(),
            access: shown_tree(access).into(),
        };
        let mut wire = pb::Manifest {
            manifest_id: self.manifest_id,
            profile_id: self.profile_id,
            entries,
            trees: self.tree.into_iter().map(tree).collect(),
            tools: Vec::new(),
            commands,
            named_tools: self.mcp,
            network: self.allow_host,
            models: self.allow_model,
            artifacts: self.allow_artifact,
        };
        wire.tools = if self.allow_tool.is_empty() {
            options::needed_tools(&wire)
        } else {
            self.allow_tool
                .into_iter()
                .map(|class| class.0.into())
                .collect()
        };
        let paths: Vec<String> = wire.entries.iter().map(|it| it.path.clone()).collect();
        file::valid(wire).map_err(|mut faults| {
            for fault in &mut faults {
                name_paths(&mut fault.field, &paths);
                name_paths(&mut fault.rule, &paths);
            }
            file::invalid("what is asked for", "no manifest", &faults)
        })
    }
}

/// Tells the warnings, those that say the same on one line.
fn tell(warnings: Vec<Warning>) {
    let mut lines: Vec<(Warning, Vec<String>)> = Vec::new();
    for warning in warnings {
        match lines.iter_mut().find(|(it, _)| it.what == warning.what) {
            Some((_, others)) => others.push(warning.field),
            None => lines.push((warning, Vec::new())),
        }
    }
    for (warning, others) in lines {
        let others = match others.len() {
            0 => String::new(),
            _ => format!("; so do {}", others.join(", ")),
        };
        note(clean(&format!("warning: {warning}{others}")));
    }
}

/// The files that the manifest is written to, if they are there: no manifest can
/// hold its own hash.
fn outputs(out: Option<&Path>) -> Vec<(u64, u64)> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let stdout = stdout.and_then(|file| file.metadata()).ok();
    let named = out.and_then(|path| fs::metadata(path).ok());
    let files = [stdout, named].into_iter().flatten();
    let files = files.filter(Metadata::is_file);
    files.map(|about| place(&about)).collect()
}

fn place(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

/// Adds the path behind every `entries[3]`: who builds from files knows no numbers.
fn name_paths(text: &mut String, paths: &[String]) {
    let Some((before, rest)) = text.split_once("entries[") else {
        return;
    };
    let Some((number, behind)) = rest.split_once(']') else {
        return;
    };
    let path = number.parse().ok().and_then(|at: usize| paths.get(at));
    if let Some(path) = path {
        *text = format!("{before}entries[{number}] ({path}){behind}");
    }
}

/// An entry of what a file holds.
pub fn entry(path: String, content: Content, access: pb::Access) -> pb::Entry {
    pb::Entry {
        path,
        hash: content.hash.to_vec(),
        access: access.into(),
        stable_id: String::new(),
        size: Some(content.size),
    }
}
