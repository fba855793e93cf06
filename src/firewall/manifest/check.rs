//! From a draft to a manifest: every fault is named.

use std::{fmt, hash::BuildHasher as _};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use super::{
    Draft, DraftEntry, DraftTree, Entry, Host, MAX_NAME_BYTES, MAX_NAMES, MAX_RULES, MAX_TREES,
    Manifest, ManifestHash, NamedTool, Tree,
};
use crate::firewall::path::RelativePath;

/// What is wrong with one field of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as `entries[3].path`.
    pub field: String,
    /// The rule that is broken, in words that begin with "must" or the like.
    pub rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            rule: rule.into(),
        });
    }

    fn name(&mut self, field: impl FnOnce() -> String, text: &str) {
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len());
        if !fits || text.chars().any(char::is_control) {
            self.add(field(), "must be 1 to 256 bytes, no control characters");
        }
    }

    fn count(&mut self, field: &str, count: usize, limit: usize) {
        if count > limit {
            self.add(field, format!("must be at most {limit}, not {count}"));
        }
    }
}

impl Draft {
    /// The manifest, or every fault of the draft. `max_entries` is the limit of
    /// this daemon.
    pub fn build(self, max_entries: usize) -> Result<Manifest, Vec<Fault>> {
        let mut faults = Faults::default();
        faults.name(|| "manifest_id".into(), &self.manifest_id);
        faults.name(|| "profile_id".into(), &self.profile_id);
        faults.count("entries", self.entries.len(), max_entries);
        faults.count("trees", self.trees.len(), MAX_TREES);
        faults.count("commands", self.commands.len(), MAX_RULES);
        let entries = entries(self.entries, &mut faults);
        let trees = trees(self.trees, &mut faults);
        for (at, rule) in self.commands.iter().enumerate() {
            for fault in rule.check().err().unwrap_or_default() {
                let field = match fault.place.as_str() {
                    "" => format!("commands[{at}]"),
                    place => format!("commands[{at}].{place}"),
                };
                faults.add(field, format!("must {}", fault.rule));
            }
        }
        let named_tools = named_tools(self.named_tools, &mut faults);
        let network = hosts(self.network, &mut faults);
        let models = names("models", self.models, &mut faults);
        let artifacts = names("artifacts", self.artifacts, &mut faults);
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        let hasher = DefaultHashBuilder::default();
        let tree_of = trees.iter().map(|t| (t.path.as_str().into(), t.access));
        let tree_of: HashMap<_, _> = tree_of.collect();
        let mut manifest = Manifest {
            hash: ManifestHash([0; 32]),
            manifest_id: self.manifest_id.into(),
            profile_id: self.profile_id.into(),
            by_path: by_path(&entries, &hasher),
            entries: entries.into(),
            hasher,
            trees: trees.into(),
            tree_of,
            tools: self.tools.into_iter().collect(),
            commands: self.commands.into(),
            named_tools,
            network,
            models,
            artifacts,
        };
        manifest.hash = super::codec::hash_of(&manifest.encode());
        Ok(manifest)
    }
}

fn by_path(entries: &[Entry], hasher: &DefaultHashBuilder) -> HashTable<u32> {
    let hash = |at: &u32| hasher.hash_one(entries[*at as usize].path.as_str());
    let mut table = HashTable::with_capacity(entries.len());
    for at in 0..u32::try_from(entries.len()).unwrap_or(u32::MAX) {
        table.insert_unique(hash(&at), at, hash);
    }
    table
}

/// Paths seen so far: two that are equal, or equal once composed, are one file on
/// some systems and two on others.
#[derive(Default)]
struct Seen(HashMap<Box<str>, usize>);

impl Seen {
    /// Where the same path came before.
    fn before(&mut self, path: &str, at: usize) -> Option<usize> {
        let key: Box<str> = match is_nfc_quick(path.chars()) {
            IsNormalized::Yes => path.into(),
            _ => path.nfc().collect::<String>().into(),
        };
        match self.0.entry(key) {
            hashbrown::hash_map::Entry::Occupied(known) => Some(*known.get()),
            hashbrown::hash_map::Entry::Vacant(free) => {
                free.insert(at);
                None
            }
        }
    }
}

fn entries(drafts: Vec<DraftEntry>, faults: &mut Faults) -> Vec<Entry> {
    let mut seen = Seen::default();
    let mut entries = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let field = |name: &str| format!("entries[{at}].{name}");
        let path = match RelativePath::parse(&draft.path) {
            Ok(path) if path.is_root() => {
                faults.add(field("path"), "must not be the root itself");
                None
            }
            Ok(path) if path.as_str() != draft.path => {
                let rule = format!("must be in its normal form, {}", path.as_str());
                faults.add(field("path"), rule);
                None
            }
            Ok(path) => Some(path),
            Err(error) => {
                faults.add(field("path"), error.rule());
                None
            }
        };
        if let Some(path) = &path
            && let Some(first) = seen.before(path.as_str(), at)
        {
            faults.add(field("path"), format!("is that of entries[{first}] again"));
        }
        if !draft.stable_id.is_empty() {
            faults.name(|| field("stable_id"), &draft.stable_id);
        }
        let hash: Result<[u8; 32], _> = draft.hash.try_into();
        match (path, hash) {
            (Some(path), Ok(hash)) => entries.push(Entry {
                path,
                hash,
                access: draft.access,
                stable_id: draft.stable_id.into(),
                size: draft.size,
            }),
            (_, Err(_)) => faults.add(field("hash"), "must be 32 bytes of BLAKE3"),
            (None, Ok(_)) => {}
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    entries
}

fn trees(drafts: Vec<DraftTree>, faults: &mut Faults) -> Vec<Tree> {
    let mut seen = Seen::default();
    let mut trees = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let field = format!("trees[{at}].path");
        let path = match RelativePath::parse(&draft.path) {
            Ok(path) => path,
            Err(error) => {
                faults.add(field, error.rule());
                continue;
            }
        };
        if path.shown() != draft.path {
            faults.add(
                field,
                format!("must be in its normal form, {}", path.shown()),
            );
        } else if path.is_root() && draft.access.writes() {
            faults.add(field, "must not be the root itself, if it is written");
        } else if let Some(first) = seen.before(path.as_str(), at) {
            faults.add(field, format!("is that of trees[{first}] again"));
        } else {
            trees.push(Tree {
                path,
                access: draft.access,
            });
        }
    }
    trees.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    trees
}

fn named_tools(tools: Vec<NamedTool>, faults: &mut Faults) -> HashSet<NamedTool> {
    faults.count("named_tools", tools.len(), MAX_NAMES);
    let mut set = HashSet::new();
    for (at, tool) in tools.into_iter().enumerate() {
        faults.name(|| format!("named_tools[{at}].server"), &tool.server);
        faults.name(|| format!("named_tools[{at}].name"), &tool.name);
        if !set.insert(tool) {
            faults.add(format!("named_tools[{at}]"), "is there twice");
        }
    }
    set
}

fn hosts(hosts: Vec<Host>, faults: &mut Faults) -> HashSet<Host> {
    faults.count("network", hosts.len(), MAX_NAMES);
    let mut set = HashSet::new();
    for (at, host) in hosts.into_iter().enumerate() {
        if !is_host(&host.name) {
            let rule = "must be one exact host name or address in lower case";
            faults.add(format!("network[{at}].host"), rule);
        }
        if !set.insert(host) {
            faults.add(format!("network[{at}]"), "is there twice");
        }
    }
    set
}

/// No wildcard, no upper case, no dot at the end: it is compared exactly.
fn is_host(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:[]%".contains(&b);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) && !name.ends_with('.')
}

fn names(field: &str, names: Vec<String>, faults: &mut Faults) -> HashSet<Box<str>> {
    faults.count(field, names.len(), MAX_NAMES);
    let mut set = HashSet::new();
    for (at, name) in names.into_iter().enumerate() {
        faults.name(|| format!("{field}[{at}]"), &name);
        if !set.insert(name.into()) {
            faults.add(format!("{field}[{at}]"), "is there twice");
        }
    }
    set
}
