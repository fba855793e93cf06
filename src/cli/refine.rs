//! `refine`: reads outside a manifest that were asked back.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};

use super::args;
use super::context::Context;
use super::error::{CliError, exit};
use super::manifest::hash;
use super::output::protojson::to_json;
use super::output::refinement::{columns, line, row};
use super::output::session::detail;
use super::output::{Format, note};
use super::secrets::HandleOut;
use super::session::register::withheld;
use crate::client::{Client, Handle};
use crate::proto::firewall::reissue_context_request::Context as WireContext;
use crate::proto::firewall::{
    Additions, DeclineRefinementRequest, ListRefinementsRequest, RefinementFilter,
    ReissueContextRequest, WatchRefinementsRequest,
};
use crate::proto::manifest::{Access, Entry, Tree, TreeAccess};
use crate::proto::session::RefinementState;

/// The most a page may have.
const PAGE: i32 = 1_000;

/// Answer sessions that missed something
#[derive(Debug, Subcommand)]
pub enum RefineCommand {
    /// List refinements, oldest first
    List(List),
    /// Print refinements as they come, the pending ones first
    Watch(Watch),
    /// Answer a refinement with a session that goes on under a better manifest
    Reissue(Box<Reissue>),
    /// Refuse a refinement
    Decline(Decline),
}

impl RefineCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Watch(watch) => watch.run(context).await,
            Self::Reissue(reissue) => reissue.run(context).await,
            Self::Decline(decline) => decline.run(context).await,
        }
    }
}

#[derive(Debug, Args)]
struct Filter {
    /// Only in this state: pending, answered, declined or expired
    #[arg(long, value_parser = args::refinement_state())]
    state: Option<RefinementState>,

    /// Only of this work id
    #[arg(long, value_name = "ID")]
    work_id: Option<String>,

    /// Only of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

impl Filter {
    fn into_wire(self) -> RefinementFilter {
        RefinementFilter {
            state: self.state.unwrap_or_default().into(),
            work_id: self.work_id.unwrap_or_default(),
            session_id: self.session.unwrap_or_default(),
        }
    }
}

/// List refinements, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl refine list --state pending")]
pub struct List {
    #[command(flatten)]
    filter: Filter,
}

impl List {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.operator().await?;
        let mut request = ListRefinementsRequest {
            page_size: PAGE,
            page_token: String::new(),
            filter: Some(self.filter.into_wire()),
        };
        let mut printer = context.printer();
        let mut whole = client.list_refinements(request.clone()).await?;
        while !whole.next_page_token.is_empty() {
            request.page_token = std::mem::take(&mut whole.next_page_token);
            let page = client.list_refinements(request.clone()).await?;
            whole.refinements.extend(page.refinements);
            whole.next_page_token = page.next_page_token;
        }
        match context.format {
            Format::Json => printer.json(&to_json(&whole))?,
            Format::Jsonl => {
                for refinement in &whole.refinements {
                    printer.json(&to_json(refinement))?;
                }
            }
            Format::Table => {
                let mut table = columns();
                whole.refinements.iter().for_each(|it| table.row(row(it)));
                printer.text(&table.take())?;
            }
        }
        printer.flush()
    }
}

/// Print refinements as they come, the pending ones first.
#[derive(Debug, Args)]
#[command(
    after_help = "After a restart of the daemon the watch goes on where it was.\n
Example:\n  episodectl refine watch --format jsonl"
)]
pub struct Watch {
    #[command(flatten)]
    filter: Filter,
}

impl Watch {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.operator().await?;
        let mut request = WatchRefinementsRequest {
            filter: Some(self.filter.into_wire()),
            ..WatchRefinementsRequest::default()
        };
        loop {
            let ended = follow(context, &client, &mut request).await;
            match ended {
                Ok(()) => {}
                Err(error) if error.is_transient() && request.after_revision.is_some() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    }
}

/// Prints until the stream ends; the request resumes where it ended.
async fn follow(
    context: &Context,
    client: &Client,
    request: &mut WatchRefinementsRequest,
) -> Result<(), CliError> {
    let mut answers = client.watch_refinements(request.clone()).await?;
    let mut printer = context.printer();
    while let Some(answer) = answers.next().await? {
        for change in &answer.changes {
            let Some(refinement) = &change.refinement else {
                continue;
            };
            match context.format {
                Format::Table => printer.text(&line(refinement))?,
                Format::Json | Format::Jsonl => printer.json(&to_json(change))?,
            }
        }
        printer.flush()?;
        request.after_revision = Some(answer.through);
        request.registry_id = answer.registry_id;
    }
    Ok(())
}

/// Answer a refinement with a session that goes on under a better manifest.
#[derive(Debug, Args)]
#[command(
    after_help = "The new session inherits work id, role, labels, lease, policy, roots, idle timeout and what is left
of the deadline. The first answer wins.

Examples:
  episodectl refine reissue R-17 --add src/lib.rs --root . --handle-out handle
  episodectl refine reissue R-17 --add-tree vendor=r --handle-out handle
  episodectl refine reissue R-17 --manifest better.json --handle-out handle"
)]
pub struct Reissue {
    /// Which refinement
    refinement_id: String,

    #[command(flatten)]
    context: ContextArgs,

    /// Where the files of --add and --edit are
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,

    /// Makes a repeated answer give the same session
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    /// Name of the new session; a random one is made if absent
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new())]
    session_id: Option<String>,

    #[command(flatten)]
    out: HandleOut,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ContextArgs {
    /// The whole new manifest, from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest_hash", "add", "edit", "add_tree"])]
    manifest: Option<PathBuf>,

    /// The whole new manifest, by the hash it is stored under (64 hexadecimal digits)
    #[arg(long, value_name = "HASH", value_parser = args::hash, conflicts_with_all = ["add", "edit", "add_tree"])]
    manifest_hash: Option<Bytes>,

    /// A file to be read, relative to --root and hashed there; may be repeated
    #[arg(long, value_name = "PATH")]
    add: Vec<String>,

    /// A file to be read and written, relative to --root and hashed there; may be repeated
    #[arg(long, value_name = "PATH")]
    edit: Vec<String>,

    /// A directory and all below it: DIR=r, DIR=w or DIR=rw; may be repeated
    #[arg(long, value_name = "DIR=ACCESS", value_parser = tree)]
    add_tree: Vec<Tree>,
}

/// `DIR=rw`.
pub(super) fn tree(text: &str) -> Result<Tree, String> {
    let (path, access) = text
        .rsplit_once('=')
        .ok_or("a tree is DIR=r, DIR=w or DIR=rw")?;
    let access = match access {
        "r" => TreeAccess::Read,
        "w" => TreeAccess::Write,
        "rw" => TreeAccess::ReadWrite,
        _ => return Err("a tree is DIR=r, DIR=w or DIR=rw".to_owned()),
    };
    Ok(Tree {
        path: path.to_owned(),
        access: access.into(),
    })
}

impl ContextArgs {
    async fn into_wire(self, root: &Path, client: &Client) -> Result<WireContext, CliError> {
        if let Some(path) = &self.manifest {
            let manifest = super::manifest::file::read(path)?;
            let stored = client.put_manifest(manifest).await?;
            return Ok(WireContext::ManifestHash(stored.manifest_hash));
        }
        if let Some(hash) = self.manifest_hash {
            return Ok(WireContext::ManifestHash(hash.to_vec()));
        }
        let mut entries = Vec::new();
        for (paths, access) in [(&self.add, Access::Read), (&self.edit, Access::ReadWrite)] {
            for path in paths {
                entries.push(entry(root, path, access)?);
            }
        }
        Ok(WireContext::Additions(Additions {
            entries,
            trees: self.add_tree,
        }))
    }
}

/// A file as it is now. Its path may be that of a refinement, which is absolute.
fn entry(root: &Path, path: &str, access: Access) -> Result<Entry, CliError> {
    let place = root.join(path);
    let whole = std::path::absolute(root).map_err(|error| CliError::reading(root, &error))?;
    let path = match Path::new(path).strip_prefix(&whole) {
        Ok(below) => below.to_str().unwrap_or(path),
        Err(_) => path.trim_start_matches("./"),
    };
    let content = hash::one(&place).map_err(|why| {
        let message = format!("{} cannot be listed: {}", place.display(), why.text());
        CliError::local(exit::NO_INPUT, "NOT_FOUND", message)
    })?;
    Ok(Entry {
        path: path.to_owned(),
        hash: content.hash.to_vec(),
        access: access.into(),
        stable_id: String::new(),
        size: Some(content.size),
    })
}

impl Reissue {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let destination = self.out.open()?;
        let client = context.operator().await?;
        let request = ReissueContextRequest {
            refinement_id: self.refinement_id,
            context: Some(self.context.into_wire(&self.root, &client).await?),
            request_id: self.request_id.unwrap_or_default(),
            session_id: self.session_id.unwrap_or_default(),
        };
        let mut answer = client.reissue_context(request).await?;
        let handle = answer.session.as_mut().and_then(Handle::take);
        let session = answer.session.clone().unwrap_or_default();
        if destination.leaves_stdout() {
            let mut printer = context.printer();
            printer.answer(&answer, |answer| detail(answer.session.as_ref()))?;
            printer.flush()?;
        } else {
            note(format_args!("session {} goes on", session.session_id));
        }
        match handle {
            Some(handle) => destination.write(&handle),
            None => Err(withheld(&session.session_id)),
        }
    }
}

/// Refuse a refinement.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl refine decline R-17 --reason 'not for this work'")]
pub struct Decline {
    /// Which refinement
    refinement_id: String,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Decline {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = DeclineRefinementRequest {
            refinement_id: self.refinement_id,
            reason: self.reason.unwrap_or_default(),
        };
        let answer = context
            .operator()
            .await?
            .decline_refinement(request)
            .await?;
        let refinement = answer
            .refinement
            .as_ref()
            .ok_or_else(|| CliError::local(exit::SOFTWARE, "INTERNAL", "the answer is empty"))?;
        let mut printer = context.printer();
        printer.answer(refinement, line)?;
        printer.flush()
    }
}
