//! The context pack manifest: what one session, or two hundred of them, may do.
//!
//! A [`Manifest`] that exists is valid: [`Draft::build`] is the only door, and it
//! names every fault at once. It never changes. Its paths are relative to a root
//! that is not part of it, so that worktrees and containers share one manifest
//! and one [`ManifestHash`].

mod check;
mod codec;
mod lint;
#[cfg(test)]
mod tests;

use std::{fmt, hash::BuildHasher as _};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

use super::{
    command::Rule,
    path::{RelativePath, covers},
};

pub use check::Fault;
pub use codec::BadEncoding;
pub use lint::{Warning, lint};

/// Entries a manifest has at most, unless the daemon is configured otherwise.
pub const MAX_ENTRIES: usize = 10_000;
/// Trees a manifest has at most.
pub const MAX_TREES: usize = 1_000;
/// Command rules a manifest has at most.
pub const MAX_RULES: usize = 500;
/// Named tools, hosts, models or artifacts a manifest has at most, each.
pub const MAX_NAMES: usize = 1_000;
/// Longest id or name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// What identifies a manifest: BLAKE3, in its key derivation mode, over the
/// manifest's one encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ManifestHash(pub [u8; 32]);

impl fmt::Display for ManifestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ManifestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestHash({self})")
    }
}

/// What an entry may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read, with this very content.
    Read,
    /// The same, and every reader shows the hash of what it read.
    ReadWithZoom,
    /// Read with this content until the session writes it, then read and written.
    ReadWrite,
}

/// What a tree may be used for; its content is never pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeAccess {
    /// Read, list and search.
    Read,
    /// Write only.
    Write,
    /// Both.
    ReadWrite,
}

impl TreeAccess {
    /// Whether it may be read.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether it may be written.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// A class of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolClass {
    /// Reading files.
    Read,
    /// Changing files.
    Write,
    /// Running commands.
    Execute,
    /// Talking to hosts.
    Network,
    /// Running git.
    Git,
    /// Asking models.
    Inference,
    /// Fetching or publishing artifacts.
    Artifact,
    /// Listing directories.
    ListFiles,
    /// Searching in files.
    Search,
}

impl ToolClass {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Write,
        Self::Execute,
        Self::Network,
        Self::Git,
        Self::Inference,
        Self::Artifact,
        Self::ListFiles,
        Self::Search,
    ];

    /// Its name in rules and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Execute => "EXECUTE",
            Self::Network => "NETWORK",
            Self::Git => "GIT",
            Self::Inference => "INFERENCE",
            Self::Artifact => "ARTIFACT",
            Self::ListFiles => "LIST_FILES",
            Self::Search => "SEARCH",
        }
    }
}

/// Classes of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolClasses(u16);

impl ToolClasses {
    /// Whether the class is among them.
    pub fn has(self, class: ToolClass) -> bool {
        self.0 & 1 << class as u16 != 0
    }

    /// All of them, in the order of [`ToolClass::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ToolClass> {
        ToolClass::ALL.into_iter().filter(move |c| self.has(*c))
    }
}

impl FromIterator<ToolClass> for ToolClasses {
    fn from_iter<I: IntoIterator<Item = ToolClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |set, c| set | 1 << c as u16))
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where, relative to the root.
    pub path: RelativePath,
    /// BLAKE3 of its content.
    pub hash: [u8; 32],
    /// What it may be used for.
    pub access: Access,
    /// A name that outlives renames; empty: none.
    pub stable_id: Box<str>,
    /// Its size in bytes, if the maker of the manifest noted it.
    pub size: Option<u64>,
}

/// A directory and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where, relative to the root; never the root itself if it is written.
    pub path: RelativePath,
    /// What it may be used for.
    pub access: TreeAccess,
}

/// A tool that has a server and a name, as those of MCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedTool {
    /// Who serves it.
    pub server: Box<str>,
    /// What it is called there.
    pub name: Box<str>,
}

/// A host on the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Its name or address, in lower case.
    pub name: Box<str>,
    /// Its port; none: any.
    pub port: Option<u16>,
}

/// A manifest in the making: nothing of it is checked.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Its name.
    pub manifest_id: String,
    /// The name of the profile it was made for.
    pub profile_id: String,
    /// Files.
    pub entries: Vec<DraftEntry>,
    /// Directories.
    pub trees: Vec<DraftTree>,
    /// Classes of tools.
    pub tools: Vec<ToolClass>,
    /// Commands.
    pub commands: Vec<Rule>,
    /// Tools by server and name.
    pub named_tools: Vec<NamedTool>,
    /// Hosts.
    pub network: Vec<Host>,
    /// Models.
    pub models: Vec<String>,
    /// Artifacts.
    pub artifacts: Vec<String>,
}

/// A file in a draft.
#[derive(Debug, Clone)]
pub struct DraftEntry {
    /// Relative to the root.
    pub path: String,
    /// BLAKE3 of its content, 32 bytes.
    pub hash: Vec<u8>,
    /// What it may be used for.
    pub access: Access,
    /// A name that outlives renames.
    pub stable_id: String,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// A directory in a draft.
#[derive(Debug, Clone)]
pub struct DraftTree {
    /// Relative to the root.
    pub path: String,
    /// What it may be used for.
    pub access: TreeAccess,
}

/// See the module.
#[expect(clippy::struct_field_names, reason = "its id is called so everywhere")]
pub struct Manifest {
    hash: ManifestHash,
    manifest_id: Box<str>,
    profile_id: Box<str>,
    /// Sorted by path.
    entries: Box<[Entry]>,
    /// Places in `entries`, by path.
    by_path: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Sorted by path.
    trees: Box<[Tree]>,
    tree_of: HashMap<Box<str>, TreeAccess>,
    tools: ToolClasses,
    commands: Box<[Rule]>,
    named_tools: HashSet<NamedTool>,
    network: HashSet<Host>,
    models: HashSet<Box<str>>,
    artifacts: HashSet<Box<str>>,
}

impl Manifest {
    /// What identifies it.
    pub fn hash(&self) -> ManifestHash {
        self.hash
    }

    /// Its name.
    pub fn manifest_id(&self) -> &str {
        &self.manifest_id
    }

    /// The name of its profile.
    pub fn profile_id(&self) -> &str {
        &self.profile_id
    }

    /// Its files, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Its directories, sorted by path.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Its classes of tools.
    pub fn tools(&self) -> ToolClasses {
        self.tools
    }

    /// Its command rules, in the order given.
    pub fn commands(&self) -> &[Rule] {
        &self.commands
    }

    /// The file at that path, and its place among the entries.
    pub fn entry(&self, path: &str) -> Option<(u32, &Entry)> {
        let is_it = |at: &u32| self.entries[*at as usize].path.as_str() == path;
        let at = *self.by_path.find(self.hasher.hash_one(path), is_it)?;
        Some((at, &self.entries[at as usize]))
    }

    /// The nearest tree at or above the path that lets `wanted` happen.
    pub fn tree(&self, path: &str, wanted: fn(TreeAccess) -> bool) -> Option<&str> {
        if self.trees.is_empty() {
            return None;
        }
        let mut directory = path;
        loop {
            let found = self.tree_of.get_key_value(directory);
            if let Some((tree, _)) = found.filter(|(_, access)| wanted(**access)) {
                return Some(tree);
            }
            if directory.is_empty() {
                return None;
            }
            directory = directory.rfind('/').map_or("", |at| &directory[..at]);
        }
    }

    /// The entries below a directory, not the one at its own path.
    pub fn entries_below(&self, directory: &str) -> &[Entry] {
        if directory.is_empty() {
            return &self.entries;
        }
        let edge = directory.len();
        let from = self.entries.partition_point(|entry| {
            let path = entry.path.as_str().as_bytes();
            let head = &path[..path.len().min(edge)];
            (head, path.get(edge).copied()) < (directory.as_bytes(), Some(b'/'))
        });
        let inside = |entry: &Entry| {
            let path = entry.path.as_str();
            path.len() > edge && covers(directory, path)
        };
        let count = self.entries[from..].partition_point(inside);
        &self.entries[from..from + count]
    }

    /// Whether the directory lies above something that may be listed.
    pub fn is_above(&self, directory: &str) -> bool {
        let is_below = |tree: &Tree| tree.access.reads() && covers(directory, tree.path.as_str());
        !self.entries_below(directory).is_empty() || self.trees.iter().any(is_below)
    }

    /// Whether a tool with that server and name may be called.
    pub fn has_named_tool(&self, tool: &NamedTool) -> bool {
        self.named_tools.contains(tool)
    }

    /// Whether a host may be reached at a port.
    pub fn has_host(&self, host: &str, port: u16) -> bool {
        let name: Box<str> = host
            .strip_suffix('.')
            .unwrap_or(host)
            .to_ascii_lowercase()
            .into();
        let any = Host { name, port: None };
        if self.network.contains(&any) {
            return true;
        }
        let port = Some(port);
        self.network.contains(&Host { port, ..any })
    }

    /// Whether a model may be asked.
    pub fn has_model(&self, name: &str) -> bool {
        self.models.contains(name)
    }

    /// Whether an artifact may be used.
    pub fn has_artifact(&self, name: &str) -> bool {
        self.artifacts.contains(name)
    }

    /// Named tools, sorted.
    pub fn named_tools(&self) -> Vec<&NamedTool> {
        sorted(&self.named_tools)
    }

    /// Hosts, sorted.
    pub fn network(&self) -> Vec<&Host> {
        sorted(&self.network)
    }

    /// Models, sorted.
    pub fn models(&self) -> Vec<&str> {
        texts(&self.models)
    }

    /// Artifacts, sorted.
    pub fn artifacts(&self) -> Vec<&str> {
        texts(&self.artifacts)
    }
}

impl Manifest {
    /// A draft of the same manifest, to make another of.
    pub fn draft(&self) -> Draft {
        let entry = |entry: &Entry| DraftEntry {
            path: entry.path.as_str().to_owned(),
            hash: entry.hash.to_vec(),
            access: entry.access,
            stable_id: entry.stable_id.to_string(),
            size: entry.size,
        };
        let tree = |tree: &Tree| DraftTree {
            path: tree.path.shown().to_owned(),
            access: tree.access,
        };
        let texts = |names: &HashSet<Box<str>>| {
            names.iter().map(std::string::ToString::to_string).collect()
        };
        Draft {
            manifest_id: self.manifest_id.to_string(),
            profile_id: self.profile_id.to_string(),
            entries: self.entries.iter().map(entry).collect(),
            trees: self.trees.iter().map(tree).collect(),
            tools: self.tools.iter().collect(),
            commands: self.commands.to_vec(),
            named_tools: self.named_tools.iter().cloned().collect(),
            network: self.network.iter().cloned().collect(),
            models: texts(&self.models),
            artifacts: texts(&self.artifacts),
        }
    }
}

impl Draft {
    /// Adds entries and trees; one of the same path takes the place of the old.
    #[must_use]
    pub fn with(mut self, entries: Vec<DraftEntry>, trees: Vec<DraftTree>) -> Self {
        {
            let paths: HashSet<&str> = entries.iter().map(|entry| &*entry.path).collect();
            self.entries.retain(|entry| !paths.contains(&*entry.path));
            let paths: HashSet<&str> = trees.iter().map(|tree| &*tree.path).collect();
            self.trees.retain(|tree| !paths.contains(&*tree.path));
        }
        self.entries.extend(entries);
        self.trees.extend(trees);
        self
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("hash", &self.hash)
            .field("manifest_id", &self.manifest_id)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Manifest {}

fn texts(set: &HashSet<Box<str>>) -> Vec<&str> {
    sorted(set).into_iter().map(|text| &**text).collect()
}

fn sorted<T: Ord>(set: &HashSet<T>) -> Vec<&T> {
    let mut all: Vec<&T> = set.iter().collect();
    all.sort_unstable();
    all
}
