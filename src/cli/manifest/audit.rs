//! `manifest from-audit`: what a session was denied, as a manifest that allows it.
//!
//! Owns the way from the daemon's record to a manifest, and what is told about it.
//! The result is for a person to review: the session may have done what it should
//! not have, and the files are hashed as they are now.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::plan::{Asked, Found, plan};
use super::left::Why;
use super::{diff, file, hash, show};
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::note;
use crate::cli::output::text::clean;
use crate::cli::session::EventPages;
use crate::client::Client;
use crate::firewall::path::AbsolutePath;
use crate::proto::firewall::get_manifest_request::Of;
use crate::proto::session::{EventFilter, EventKind, Firewall, FirewallMode, GetSessionRequest};

mod plan;

/// What it does, at length; given where the command is listed, whose one line would
/// else take its place.
pub const LONG: &str =
    "Make the smallest manifest that would have allowed what a session was denied: \
that of the session, with what it missed. It is meant for a session in mode AUDIT, which was \
refused nothing.

What was read is listed with the content it has now; what was written may be written, by its file \
if there is one, else by its directory; a command becomes a rule of the very same words. What was \
added, and what cannot be allowed by a manifest, is told on stderr: review it. A denial is in the \
record a second or two after it happened, and of a session the first 200.";

/// A denial is in the record by then.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// Make the manifest that would have allowed what a session was denied.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl manifest from-audit --session s-17 --out m.json && episodectl manifest lint m.json")]
pub struct FromAudit {
    /// The session, live or ended
    #[arg(long, value_name = "ID")]
    session: String,

    /// Where the files lie; absent: in the session's own root
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Write the manifest to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl FromAudit {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.operator().await?;
        let firewall = firewall(&client, &self.session).await?;
        if firewall.mode() != FirewallMode::Audit {
            let session = &self.session;
            note(format_args!(
                "session {session} is not in mode AUDIT: what it would have done after a denial \
                 is not in its record"
            ));
        }
        let base = show::stored(&client, Of::ManifestHash(firewall.manifest_hash.clone())).await?;
        tokio::time::sleep(WRITTEN_WITHIN).await;
        let asked = denials(client, self.session).await?;
        let root = self.root.unwrap_or_else(|| host_root(&firewall));
        let root = fs::canonicalize(&root).map_err(|error| CliError::reading(&root, &error))?;
        let named = AbsolutePath::parse(&firewall.workspace_root).map_err(|error| {
            let message = format!("the session's workspace root {error}");
            CliError::local(exit::SOFTWARE, "INTERNAL", message)
        })?;
        let review = plan(&base, &named, &asked, &|path| look(&root, path))
            .map_err(|faults| file::invalid("what the session did", "no manifest", &faults))?;
        for line in diff::lines(&base, &review.manifest) {
            note(clean(&line));
        }
        for line in &review.open {
            note(format_args!("not allowed by it: {}", clean(line)));
        }
        let mut printer = context.printer();
        match &self.out {
            Some(path) => {
                file::write(path, &review.manifest)?;
                printer.text(&format!("{}\n", review.manifest.hash()))?;
            }
            None => file::print(&mut printer, &review.manifest)?,
        }
        printer.flush()
    }
}

async fn firewall(client: &Client, session: &str) -> Result<Firewall, CliError> {
    let request = GetSessionRequest {
        session_id: session.to_owned(),
    };
    let answer = client.get_session(request).await?;
    answer.session.and_then(|it| it.firewall).ok_or_else(|| {
        let message = format!("session {session} has no firewall, so nothing was denied");
        CliError::usage(message, "register it with a manifest, in mode AUDIT")
    })
}

/// The denials of a session, oldest first.
async fn denials(client: Client, session: String) -> Result<Vec<Asked>, CliError> {
    let filter = EventFilter {
        session_id: session,
        kinds: vec![EventKind::Denied.into()],
        ..EventFilter::default()
    };
    let mut pages = EventPages::new(client, filter, u64::MAX);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await? {
        let denials = page.events.into_iter().filter_map(|event| event.denial);
        found.extend(denials.map(|denial| Asked {
            reason: denial.reason().as_str_name(),
            kind: denial.request,
            subject: denial.subject,
            count: denial.count,
        }));
    }
    found.reverse();
    Ok(found)
}

fn host_root(firewall: &Firewall) -> PathBuf {
    match firewall.host_root.as_str() {
        "" => firewall.workspace_root.clone().into(),
        path => path.into(),
    }
}

/// What lies at a path below the root, if no symlink leads there.
fn look(root: &Path, path: &str) -> Found {
    let whole = root.join(path);
    let parent = whole.parent().unwrap_or(root);
    match fs::canonicalize(parent) {
        Ok(real) if real != parent && !path.is_empty() => return Found::Refused(Why::Symlink),
        Ok(_) => {}
        Err(_) => return Found::Missing,
    }
    if fs::symlink_metadata(&whole).is_ok_and(|about| about.is_dir()) {
        return Found::Directory;
    }
    match hash::one(&whole) {
        Ok(content) => Found::File(content),
        Err(Why::Missing) => Found::Missing,
        Err(why) => Found::Refused(why),
    }
}
