//! `manifest diff`: what one manifest allows and another does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{file, words};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::Format;
use crate::cli::output::protojson::hex;
use crate::cli::output::text::clean;
use crate::firewall::manifest::Manifest;

/// Compare two manifests; exit 1 if they differ.
#[derive(Debug, Args)]
#[command(
    after_help = "Lines begin with + for what only B has, - for what only A has,
and ~ for what both have differently. Exit 0 if they are the same, else 1.

Example:
  episodectl manifest diff old.json new.json"
)]
pub struct Diff {
    /// The one; - for stdin
    a: PathBuf,
    /// The other; - for stdin
    b: PathBuf,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> Result<u8, CliError> {
        if self.a == self.b && self.a.as_os_str() == "-" {
            let message = "both manifests cannot come from stdin";
            return Err(CliError::usage(message, "name a file for one of them"));
        }
        let (a, b) = (file::load(&self.a)?, file::load(&self.b)?);
        let changes = changes(&a, &b);
        let mut printer = context.printer();
        match context.format {
            Format::Table => {
                for change in &changes {
                    printer.text(&format!("{}\n", clean(&change.line())))?;
                }
            }
            Format::Json | Format::Jsonl => {
                let all: Vec<Value> = changes.iter().map(Change::json).collect();
                printer.value(&json!({"same": a == b, "changes": all}))?;
            }
        }
        printer.flush()?;
        Ok((a != b).into())
    }
}

/// The differences, a line each.
pub fn lines(a: &Manifest, b: &Manifest) -> Vec<String> {
    changes(a, b).iter().map(Change::line).collect()
}

/// One difference.
struct Change {
    kind: &'static str,
    name: String,
    old: Option<String>,
    new: Option<String>,
}

impl Change {
    fn line(&self) -> String {
        let (kind, name) = (self.kind, &self.name);
        let (sign, what) = match (&self.old, &self.new) {
            (Some(old), Some(new)) => ('~', format!("{old} -> {new}")),
            (None, new) => ('+', new.clone().unwrap_or_default()),
            (old, None) => ('-', old.clone().unwrap_or_default()),
        };
        format!("{sign} {kind} {name}  {what}")
            .trim_end()
            .to_owned()
    }

    fn json(&self) -> Value {
        let change = match (&self.old, &self.new) {
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (_, None) => "removed",
        };
        json!({
            "change": change, "kind": self.kind, "name": self.name,
            "old": self.old, "new": self.new,
        })
    }
}

fn changes(a: &Manifest, b: &Manifest) -> Vec<Change> {
    let (old, new) = (facts(a), facts(b));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differing = keys.into_iter().filter(|key| old.get(key) != new.get(key));
    let change = |key: &(&'static str, String)| Change {
        kind: key.0,
        name: key.1.clone(),
        old: old.get(key).cloned(),
        new: new.get(key).cloned(),
    };
    let mut changes: Vec<Change> = differing.map(change).collect();
    if changes.is_empty() && a != b {
        changes.push(Change {
            kind: "commands",
            name: "(their order or form)".to_owned(),
            old: Some(a.hash().to_string()),
            new: Some(b.hash().to_string()),
        });
    }
    changes
}

/// All that a manifest says, each by a name of its own.
fn facts(manifest: &Manifest) -> BTreeMap<(&'static str, String), String> {
    let mut facts = BTreeMap::new();
    let mut add = |kind, name: String, what: String| {
        facts.insert((kind, name), what);
    };
    add("manifest", "id".into(), manifest.manifest_id().into());
    add("manifest", "profile".into(), manifest.profile_id().into());
    for entry in manifest.entries() {
        let mut what = format!("{} {}", words::access(entry.access), hex(&entry.hash));
        if let Some(size) = entry.size {
            let _ = write!(what, " {size}");
        }
        if !entry.stable_id.is_empty() {
            let _ = write!(what, " {}", entry.stable_id);
        }
        add("entry", entry.path.as_str().into(), what);
    }
    for tree in manifest.trees() {
        let what = words::tree_access(tree.access);
        add("tree", tree.path.shown().into(), what.into());
    }
    for class in manifest.tools().iter() {
        add("tool", class.name().into(), String::new());
    }
    for rule in manifest.commands() {
        add("command", words::rule(rule), String::new());
    }
    for tool in manifest.named_tools() {
        add(
            "named tool",
            format!("{}/{}", tool.server, tool.name),
            String::new(),
        );
    }
    for host in manifest.network() {
        add("host", words::host(host), String::new());
    }
    for model in manifest.models() {
        add("model", model.into(), String::new());
    }
    for artifact in manifest.artifacts() {
        add("artifact", artifact.into(), String::new());
    }
    facts
}
