//! The decision: what a request may do under a manifest.
//!
//! Pure: it looks at the manifest, the root, and what the session has lifted, and
//! at nothing else. A denial says whether it ends a session that was registered to
//! end on denials; whether it does is for the session to say.

mod command;
#[cfg(test)]
mod tests;

use std::fmt;

use super::{
    manifest::{Access, Entry, Manifest, NamedTool, ToolClass, TreeAccess},
    path::{AbsolutePath, PathError},
};

pub use command::CommandRequest;

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// Its class of tools is not allowed, or it has none that is known.
    ToolNotAllowed,
    /// A read outside the manifest.
    ContextMiss,
    /// The content is not the pinned one.
    ContentHashMismatch,
    /// A reader of this entry must show the hash.
    ContentHashRequired,
    /// The path is not one.
    InvalidPath,
    /// A write outside what is writable.
    WritePathNotAllowed,
    /// No rule fits the command.
    CommandNotAllowed,
    /// Not in its exact list.
    ToolArgsNotAllowed,
    /// A read outside the manifest, after too many of them for this work.
    MaxRefinementsExceeded,
}

impl DenialReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::ToolNotAllowed,
        Self::ContextMiss,
        Self::ContentHashMismatch,
        Self::ContentHashRequired,
        Self::InvalidPath,
        Self::WritePathNotAllowed,
        Self::CommandNotAllowed,
        Self::ToolArgsNotAllowed,
        Self::MaxRefinementsExceeded,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::ToolNotAllowed => "TOOL_NOT_ALLOWED",
            Self::ContextMiss => "CONTEXT_MISS",
            Self::ContentHashMismatch => "CONTENT_HASH_MISMATCH",
            Self::ContentHashRequired => "CONTENT_HASH_REQUIRED",
            Self::InvalidPath => "INVALID_PATH",
            Self::WritePathNotAllowed => "WRITE_PATH_NOT_ALLOWED",
            Self::CommandNotAllowed => "COMMAND_NOT_ALLOWED",
            Self::ToolArgsNotAllowed => "TOOL_ARGS_NOT_ALLOWED",
            Self::MaxRefinementsExceeded => "MAX_REFINEMENTS_EXCEEDED",
        }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read a file.
    Read {
        /// Which; relative to the root unless absolute, as every path here.
        path: String,
        /// BLAKE3 of the content the caller has.
        hash: Option<[u8; 32]>,
    },
    /// Look at a file or directory without its content.
    Stat(String),
    /// List a directory.
    List(String),
    /// Search in a file or directory.
    Search {
        /// Where.
        scope: String,
        /// In all below it.
        recursive: bool,
    },
    /// Create or overwrite a file.
    Write(String),
    /// Change a file.
    Edit(String),
    /// Delete a file or directory.
    Delete(String),
    /// Make a directory.
    MakeDirectory(String),
    /// Rename a file or directory.
    Rename {
        /// What it is called.
        from: String,
        /// What it is to be called.
        to: String,
    },
    /// Run a command.
    Command(CommandRequest),
    /// Run git; the words are its arguments.
    Git(CommandRequest),
    /// Talk to a host.
    Network {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Call a tool that has a server and a name.
    NamedTool {
        /// Which.
        tool: NamedTool,
        /// Of its arguments; kept in a denial, not judged. May be empty.
        digest: Box<[u8]>,
    },
    /// Ask a model.
    Inference(String),
    /// Use an artifact.
    Artifact(String),
    /// Something this version does not know.
    Unknown,
}

/// What applies to one session.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// What may be done.
    pub manifest: &'a Manifest,
    /// What the manifest's paths are relative to, as the session names it.
    pub root: &'a AbsolutePath,
    /// Entries whose pin the session lifted by writing them, sorted.
    pub lifted: &'a [u32],
}

/// What a decision was based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis<'a> {
    /// Nothing allows it.
    Default,
    /// The classes of tools.
    Tools(ToolClass),
    /// An entry.
    Entry(&'a Entry),
    /// A tree, by its path.
    Tree(&'a str),
    /// What is listed below a directory.
    Listed,
    /// The command rule of that number.
    Command(usize),
    /// The exact list of that name.
    Names(&'static str),
}

impl fmt::Display for Basis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Tools(class) => write!(f, "tools: {}", class.name()),
            Self::Entry(entry) => write!(f, "entry {}", entry.path.as_str()),
            Self::Tree("") => f.write_str("tree ."),
            Self::Tree(path) => write!(f, "tree {path}"),
            Self::Listed => f.write_str("entries below"),
            Self::Command(at) => write!(f, "commands[{at}]"),
            Self::Names(list) => f.write_str(list),
        }
    }
}

/// What was judged, in its normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// What could not be made normal, as it came.
    Raw(String),
    /// A path.
    Path(AbsolutePath),
    /// A path and another.
    Paths(AbsolutePath, AbsolutePath),
    /// Commands, each as its words.
    Commands(Vec<Vec<String>>),
    /// A name.
    Name(String),
}

impl Judged {
    /// The text, for a record.
    pub fn shown(&self) -> String {
        match self {
            Self::Raw(text) | Self::Name(text) => text.clone(),
            Self::Path(path) => path.as_str().to_owned(),
            Self::Paths(from, to) => format!("{from} -> {to}"),
            Self::Commands(commands) => {
                let lines: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
                lines.join("; ")
            }
        }
    }
}

/// A request that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The content is that of the manifest.
    pub pinned: bool,
    /// Of a directory only what the manifest lists may be shown.
    pub narrowed: bool,
}

/// A request that may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: DenialReason,
    /// Whether it ends a session that ends on denials.
    pub ends: bool,
    /// More on why, for people; may be empty.
    pub detail: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Allowed, or denied.
    pub outcome: Result<Allowed, Denied>,
    /// What it was based on.
    pub basis: Basis<'a>,
    /// What was judged.
    pub judged: Judged,
    /// Entries whose pin it lifts, once it is allowed.
    pub lifts: Vec<u32>,
}

/// Decides.
pub fn decide<'a>(scope: &Scope<'a>, request: &Request) -> Decision<'a> {
    if let Some(denied) = scope.check_class(request) {
        return denied;
    }
    match request {
        Request::Read { path, hash } => scope.read(path, hash.as_ref()),
        Request::Stat(path) | Request::List(path) => scope.look(path, true),
        Request::Search {
            scope: path,
            recursive,
        } => scope.look(path, *recursive),
        Request::Write(path) | Request::Edit(path) | Request::MakeDirectory(path) => {
            scope.write(path, false)
        }
        Request::Delete(path) => scope.write(path, true),
        Request::Rename { from, to } => scope.rename(from, to),
        Request::Command(command) => command::decide(scope, command),
        Request::Git(command) => command::decide_git(scope, command),
        Request::Network { host, port } => Scope::exact(
            "network",
            format!("{host}:{port}"),
            scope.manifest.has_host(host, *port),
        ),
        Request::NamedTool { tool, digest } => scope.named_tool(tool, digest),
        Request::Inference(model) => {
            Scope::exact("models", model.clone(), scope.manifest.has_model(model))
        }
        Request::Artifact(name) => {
            Scope::exact("artifacts", name.clone(), scope.manifest.has_artifact(name))
        }
        Request::Unknown => deny(
            DenialReason::ToolNotAllowed,
            true,
            Basis::Default,
            Judged::Raw(String::new()),
        ),
    }
}

/// The classes that let a request on, any of them; none for a named tool, whose
/// list is exact.
fn classes(request: &Request) -> &'static [ToolClass] {
    match request {
        Request::Read { .. } => &[ToolClass::Read],
        Request::Stat(_) => &[ToolClass::ListFiles, ToolClass::Read],
        Request::List(_) => &[ToolClass::ListFiles],
        Request::Search { .. } => &[ToolClass::Search],
        Request::Write(_)
        | Request::Edit(_)
        | Request::Delete(_)
        | Request::MakeDirectory(_)
        | Request::Rename { .. } => &[ToolClass::Write],
        Request::Command(_) => &[ToolClass::Execute],
        Request::Git(_) => &[ToolClass::Git],
        Request::Network { .. } => &[ToolClass::Network],
        Request::Inference(_) => &[ToolClass::Inference],
        Request::Artifact(_) => &[ToolClass::Artifact],
        Request::NamedTool { .. } | Request::Unknown => &[],
    }
}

impl<'a> Scope<'a> {
    fn check_class(&self, request: &Request) -> Option<Decision<'a>> {
        let (first, _) = classes(request).split_first()?;
        let tools = self.manifest.tools();
        if classes(request).iter().any(|class| tools.has(*class)) {
            return None;
        }
        let judged = Judged::Raw(request.subject());
        let basis = Basis::Tools(*first);
        Some(deny(DenialReason::ToolNotAllowed, true, basis, judged))
    }

    /// The path a request names, and what is left of it below the root.
    fn path(&self, text: &str) -> Result<AbsolutePath, Decision<'a>> {
        self.root.join(text).map_err(|error| invalid(text, error))
    }

    fn is_pinned(&self, at: u32, entry: &Entry) -> bool {
        entry.access != Access::ReadWrite || self.lifted.binary_search(&at).is_err()
    }

    fn read(&self, text: &str, hash: Option<&[u8; 32]>) -> Decision<'a> {
        let path = match self.path(text) {
            Ok(path) => path,
            Err(denied) => return denied,
        };
        let Some(relative) = path.below(self.root) else {
            return miss(path);
        };
        let Some((at, entry)) = self.manifest.entry(relative) else {
            return match self.manifest.tree(relative, TreeAccess::reads) {
                Some(tree) => allow(false, Basis::Tree(tree), Judged::Path(path)),
                None => miss(path),
            };
        };
        let basis = Basis::Entry(entry);
        let judged = Judged::Path(path);
        if !self.is_pinned(at, entry) {
            return allow(false, basis, judged);
        }
        match (hash, entry.access) {
            (Some(hash), _) if *hash != entry.hash => {
                deny(DenialReason::ContentHashMismatch, true, basis, judged)
            }
            (None, Access::ReadWithZoom) => {
                deny(DenialReason::ContentHashRequired, false, basis, judged)
            }
            _ => allow(true, basis, judged),
        }
    }

    /// Stat, list and search. `directories`: whether one above what is listed may
    /// be looked at, narrowed.
    fn look(&self, text: &str, directories: bool) -> Decision<'a> {
        let path = match self.path(text) {
            Ok(path) => path,
            Err(denied) => return denied,
        };
        let Some(relative) = path.below(self.root) else {
            return miss(path);
        };
        if let Some((at, entry)) = self.manifest.entry(relative) {
            let pinned = self.is_pinned(at, entry);
            return allow(pinned, Basis::Entry(entry), Judged::Path(path));
        }
        if let Some(tree) = self.manifest.tree(relative, TreeAccess::reads) {
            return allow(false, Basis::Tree(tree), Judged::Path(path));
        }
        if !directories || !self.manifest.is_above(relative) {
            return miss(path);
        }
        let mut decision = allow(false, Basis::Listed, Judged::Path(path));
        decision.outcome = Ok(Allowed {
            pinned: false,
            narrowed: true,
        });
        decision
    }

    fn write(&self, text: &str, removes: bool) -> Decision<'a> {
        let path = match self.path(text) {
            Ok(path) => path,
            Err(denied) => return denied,
        };
        match self.judge_write(&path, removes) {
            Ok((basis, lifts)) => Decision {
                lifts,
                ..allow(false, basis, Judged::Path(path))
            },
            Err(basis) => {
                let reason = DenialReason::WritePathNotAllowed;
                deny(reason, true, basis, Judged::Path(path))
            }
        }
    }

    /// Whether a path may be written, and which pins that lifts. What `removes`
    /// takes all below the path with it, which must hold nothing pinned.
    fn judge_write(
        &self,
        path: &AbsolutePath,
        removes: bool,
    ) -> Result<(Basis<'a>, Vec<u32>), Basis<'a>> {
        let relative = path.below(self.root).ok_or(Basis::Default)?;
        if let Some((at, entry)) = self.manifest.entry(relative) {
            return match entry.access {
                Access::ReadWrite if self.is_pinned(at, entry) => {
                    Ok((Basis::Entry(entry), vec![at]))
                }
                Access::ReadWrite => Ok((Basis::Entry(entry), Vec::new())),
                Access::Read | Access::ReadWithZoom => Err(Basis::Entry(entry)),
            };
        }
        let tree = self.manifest.tree(relative, TreeAccess::writes);
        let tree = tree.ok_or(Basis::Default)?;
        let pinned = |entry: &&Entry| entry.access != Access::ReadWrite;
        match self.manifest.entries_below(relative).iter().find(pinned) {
            Some(entry) if removes => Err(Basis::Entry(entry)),
            _ => Ok((Basis::Tree(tree), Vec::new())),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Decision<'a> {
        let (from, to) = match (self.path(from), self.path(to)) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(denied), _) | (_, Err(denied)) => return denied,
        };
        let judged = (self.judge_write(&from, true), self.judge_write(&to, true));
        let paths = Judged::Paths(from, to);
        match judged {
            (Ok((basis, mut lifts)), Ok((_, more))) => {
                lifts.extend(more);
                Decision {
                    lifts,
                    ..allow(false, basis, paths)
                }
            }
            (Err(basis), _) | (_, Err(basis)) => {
                deny(DenialReason::WritePathNotAllowed, true, basis, paths)
            }
        }
    }

    fn named_tool(&self, tool: &NamedTool, digest: &[u8]) -> Decision<'a> {
        let name = format!("{}/{}", tool.server, tool.name);
        let mut decision = Self::exact("named_tools", name, self.manifest.has_named_tool(tool));
        if let Err(denied) = &mut decision.outcome
            && !digest.is_empty()
        {
            let digits = digest.iter().map(|byte| format!("{byte:02x}"));
            denied.detail = format!("arguments {}", digits.collect::<String>());
        }
        decision
    }

    fn exact(list: &'static str, name: String, is_listed: bool) -> Decision<'a> {
        let basis = Basis::Names(list);
        if is_listed {
            allow(false, basis, Judged::Name(name))
        } else {
            deny(
                DenialReason::ToolArgsNotAllowed,
                true,
                basis,
                Judged::Name(name),
            )
        }
    }
}

impl Request {
    /// What it is about, as it came.
    pub fn subject(&self) -> String {
        match self {
            Self::Read { path, .. }
            | Self::Stat(path)
            | Self::List(path)
            | Self::Search { scope: path, .. }
            | Self::Write(path)
            | Self::Edit(path)
            | Self::Delete(path)
            | Self::MakeDirectory(path) => path.clone(),
            Self::Rename { from, to } => format!("{from} -> {to}"),
            Self::Command(command) => command.subject(),
            Self::Git(command) => format!("git {}", command.subject()),
            Self::Network { host, port } => format!("{host}:{port}"),
            Self::NamedTool { tool, .. } => format!("{}/{}", tool.server, tool.name),
            Self::Inference(name) | Self::Artifact(name) => name.clone(),
            Self::Unknown => String::new(),
        }
    }

    /// What kind it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Stat(_) => "stat",
            Self::List(_) => "list",
            Self::Search { .. } => "search",
            Self::Write(_) => "write",
            Self::Edit(_) => "edit",
            Self::Delete(_) => "delete",
            Self::MakeDirectory(_) => "mkdir",
            Self::Rename { .. } => "rename",
            Self::Command(_) => "command",
            Self::Git(_) => "git",
            Self::Network { .. } => "network",
            Self::NamedTool { .. } => "tool",
            Self::Inference(_) => "inference",
            Self::Artifact(_) => "artifact",
            Self::Unknown => "unknown",
        }
    }
}

fn allow(pinned: bool, basis: Basis<'_>, judged: Judged) -> Decision<'_> {
    Decision {
        outcome: Ok(Allowed {
            pinned,
            narrowed: false,
        }),
        basis,
        judged,
        lifts: Vec::new(),
    }
}

fn deny(reason: DenialReason, ends: bool, basis: Basis<'_>, judged: Judged) -> Decision<'_> {
    Decision {
        outcome: Err(Denied {
            reason,
            ends,
            detail: String::new(),
        }),
        basis,
        judged,
        lifts: Vec::new(),
    }
}

fn miss<'a>(path: AbsolutePath) -> Decision<'a> {
    let judged = Judged::Path(path);
    deny(DenialReason::ContextMiss, true, Basis::Default, judged)
}

/// A path that climbs above `/` is an attempt; any other bad one is a mistake.
fn invalid<'a>(text: &str, error: PathError) -> Decision<'a> {
    let ends = error == PathError::Climbs;
    let judged = Judged::Raw(text.to_owned());
    let mut decision = deny(DenialReason::InvalidPath, ends, Basis::Default, judged);
    if let Err(denied) = &mut decision.outcome {
        denied.detail = format!("the path {error}");
    }
    decision
}
