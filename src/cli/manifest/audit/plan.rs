//! From denials to what would allow them.
//!
//! Pure but for the look at a path. Writes come first, because what may be written
//! decides how it is read; directories come last, because a file below one may be
//! all that it takes to list it. In the end every request is decided again under
//! the result: whatever is denied still is told.

use std::collections::BTreeSet;

use crate::cli::manifest::hash::Content;
use crate::cli::manifest::left::Why;
use crate::firewall::command::{self, Ground, Matcher, RedirectionAccess, Rule, find_rule};
use crate::firewall::decide::{CommandRequest, Request, Scope, decide};
use crate::firewall::manifest::{
    Access, Draft, DraftEntry, DraftTree, Fault, Host, Manifest, NamedTool, ToolClass, TreeAccess,
};
use crate::firewall::path::{AbsolutePath, covers};

/// A subject this long may have been cut, in bytes.
const CUT: usize = 1_021;

/// A denial, as the record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What kind of request.
    pub kind: String,
    /// What it was about.
    pub subject: String,
    /// Why it was denied, by the name of the reason.
    pub reason: &'static str,
    /// How many denials this one stands for.
    pub count: u64,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(Content),
    /// A directory.
    Directory,
    /// Nothing.
    Missing,
    /// Nothing that a manifest could list.
    Refused(Why),
}

/// What came out.
#[derive(Debug)]
pub struct Review {
    /// What would have allowed it.
    pub manifest: Manifest,
    /// What it would not have allowed, and why.
    pub open: Vec<String>,
}

/// The manifest that would have allowed what was denied under `base`.
pub fn plan(
    base: &Manifest,
    root: &AbsolutePath,
    asked: &[Asked],
    look: &impl Fn(&str) -> Found,
) -> Result<Review, Vec<Fault>> {
    let mut plan = Plan {
        draft: base.draft(),
        old_trees: base.trees().len(),
        root,
        look,
    };
    let mut open = Vec::new();
    let mut requests: Vec<(&Asked, Request)> = Vec::new();
    for one in asked {
        if one.count > 1 {
            open.push(format!(
                "{}: {} denials of which only the last is known",
                said(one),
                one.count
            ));
        }
        match request(one, base, root) {
            Some(request) if !requests.iter().any(|(_, known)| *known == request) => {
                requests.push((one, request));
            }
            Some(_) => {}
            None => open.push(format!("{}: the record does not say it whole", said(one))),
        }
    }
    for (_, request) in &requests {
        plan.allow_classes(request);
        plan.allow_names(request);
        plan.allow_commands(request);
    }
    for (_, request) in &requests {
        plan.allow_writes(request);
    }
    for (one, request) in &requests {
        plan.allow_read(request, one.reason);
    }
    for (_, request) in &requests {
        plan.allow_look(request)?;
    }
    let manifest = plan.draft.build(usize::MAX)?;
    for (one, request) in &requests {
        if let Err(why) = decided(&manifest, root, request) {
            let obstacle = obstacle(request, root, look).unwrap_or_default();
            open.push(format!("{}: {why}{obstacle}", said(one)));
        }
    }
    let mut seen = BTreeSet::new();
    open.retain(|line| seen.insert(line.clone()));
    Ok(Review { manifest, open })
}

fn said(asked: &Asked) -> String {
    format!("{} {}", asked.kind, asked.subject)
}

fn decided(manifest: &Manifest, root: &AbsolutePath, request: &Request) -> Result<(), String> {
    let scope = Scope {
        manifest,
        root,
        lifted: &[],
    };
    match decide(&scope, request).outcome {
        Ok(_) => Ok(()),
        Err(denied) if denied.detail.is_empty() => Err(denied.reason.code().to_owned()),
        Err(denied) => Err(format!("{}, {}", denied.reason.code(), denied.detail)),
    }
}

/// What there is about a path that no manifest can help with.
fn obstacle(
    request: &Request,
    root: &AbsolutePath,
    look: &impl Fn(&str) -> Found,
) -> Option<&'static str> {
    let (Request::Read { path, .. }
    | Request::Stat(path)
    | Request::List(path)
    | Request::Search { scope: path, .. }
    | Request::Write(path)
    | Request::Edit(path)
    | Request::Delete(path)
    | Request::MakeDirectory(path)) = request
    else {
        return None;
    };
    let path = root.join(path).ok()?;
    let Some(path) = path.below(root) else {
        return Some(" (outside of the root)");
    };
    match look(path) {
        _ if path.is_empty() => Some(" (the root itself)"),
        Found::Missing => Some(" (nothing is there now)"),
        Found::Refused(Why::Symlink) => Some(" (behind a symlink)"),
        Found::Refused(_) => Some(" (no file that can be listed)"),
        Found::File(_) | Found::Directory => None,
    }
}

/// The request again, as far as the record tells it: no hash, no directory of a
/// command, and words that are read from one line.
fn request(asked: &Asked, base: &Manifest, root: &AbsolutePath) -> Option<Request> {
    let subject = asked.subject.clone();
    if subject.len() >= CUT {
        return None;
    }
    Some(match asked.kind.as_str() {
        "read" => Request::Read {
            path: subject,
            hash: None,
        },
        "stat" => Request::Stat(subject),
        "list" => Request::List(subject),
        // Above listed files only a search that is not recursive is denied.
        "search" => Request::Search {
            recursive: !root
                .join(&subject)
                .is_ok_and(|path| path.below(root).is_some_and(|path| base.is_above(path))),
            scope: subject,
        },
        "write" => Request::Write(subject),
        "edit" => Request::Edit(subject),
        "delete" => Request::Delete(subject),
        "mkdir" => Request::MakeDirectory(subject),
        "rename" => match subject.split(" -> ").collect::<Vec<_>>()[..] {
            [from, to] => Request::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
            },
            _ => return None,
        },
        "command" => Request::Command(CommandRequest {
            line: Some(subject),
            ..CommandRequest::default()
        }),
        "git" => {
            let commands = command::read(&subject).ok()?;
            let [git] = &commands[..] else { return None };
            let words = git.words.get(1..)?.to_vec();
            Request::Git(CommandRequest {
                words,
                ..CommandRequest::default()
            })
        }
        "network" => {
            let (host, port) = subject.rsplit_once(':')?;
            Request::Network {
                host: host.to_owned(),
                port: port.parse().ok()?,
            }
        }
        "tool" => {
            let (server, name) = subject.split_once('/')?;
            Request::NamedTool {
                digest: Box::default(),
                tool: NamedTool {
                    server: server.into(),
                    name: name.into(),
                },
            }
        }
        "inference" => Request::Inference(subject),
        "artifact" => Request::Artifact(subject),
        _ => return None,
    })
}

/// A manifest that grows.
struct Plan<'a, L> {
    draft: Draft,
    /// How many of its trees were there before.
    old_trees: usize,
    root: &'a AbsolutePath,
    look: &'a L,
}

impl<L: Fn(&str) -> Found> Plan<'_, L> {
    fn allow_class(&mut self, class: ToolClass) {
        if !self.draft.tools.contains(&class) {
            self.draft.tools.push(class);
        }
    }

    fn allow_classes(&mut self, request: &Request) {
        let class = match request {
            Request::Read { .. } => ToolClass::Read,
            Request::Stat(_) | Request::List(_) => ToolClass::ListFiles,
            Request::Search { .. } => ToolClass::Search,
            Request::Write(_)
            | Request::Edit(_)
            | Request::Delete(_)
            | Request::MakeDirectory(_)
            | Request::Rename { .. } => ToolClass::Write,
            Request::Command(_) => ToolClass::Execute,
            Request::Git(_) => ToolClass::Git,
            Request::Network { .. } => ToolClass::Network,
            Request::Inference(_) => ToolClass::Inference,
            Request::Artifact(_) => ToolClass::Artifact,
            Request::NamedTool { .. } | Request::Unknown => return,
        };
        self.allow_class(class);
    }

    fn allow_names(&mut self, request: &Request) {
        let draft = &mut self.draft;
        match request {
            Request::Network { host, port } => {
                let name = host.trim_end_matches('.').to_ascii_lowercase().into();
                let port = Some(*port);
                push_new(&mut draft.network, Host { name, port });
            }
            Request::NamedTool { tool, .. } => push_new(&mut draft.named_tools, tool.clone()),
            Request::Inference(name) => push_new(&mut draft.models, name.clone()),
            Request::Artifact(name) => push_new(&mut draft.artifacts, name.clone()),
            _ => {}
        }
    }

    fn allow_commands(&mut self, request: &Request) {
        match request {
            Request::Command(CommandRequest {
                line: Some(line), ..
            }) => {
                let commands = command::read(line).unwrap_or_default();
                for one in commands {
                    self.allow_command(&one.words);
                    for redirection in one.redirections {
                        self.allow_redirection(redirection.access, &redirection.target);
                    }
                }
            }
            Request::Git(git) => {
                let mut words = vec!["git".to_owned()];
                words.extend(git.words.iter().cloned());
                self.allow_command(&words);
            }
            _ => {}
        }
    }

    /// A rule of these very words, unless there is one that takes them.
    fn allow_command(&mut self, words: &[String]) {
        let ground = Ground {
            root: self.root,
            cwd: self.root,
        };
        let fits = find_rule(&self.draft.commands, words, &[] as &[&str], &ground).is_ok();
        let [program, arguments @ ..] = words else {
            return;
        };
        let literal = |word: &String| Matcher::Literal(word.as_str().into());
        let rule = Rule {
            program: program.as_str().into(),
            arguments: arguments.iter().map(literal).collect(),
            working_directory: None,
            environment: Box::default(),
        };
        if !fits && rule.check().is_ok() {
            self.draft.commands.push(rule);
        }
    }

    fn allow_redirection(&mut self, access: RedirectionAccess, target: &str) {
        if target == "/dev/null" {
            return;
        }
        match access {
            RedirectionAccess::Read => {
                self.allow_class(ToolClass::Read);
                self.read(target, "");
            }
            RedirectionAccess::Write => {
                self.allow_class(ToolClass::Write);
                self.write(target, false);
            }
        }
    }

    fn allow_writes(&mut self, request: &Request) {
        match request {
            Request::Write(path) | Request::Edit(path) | Request::Delete(path) => {
                self.write(path, false);
            }
            Request::MakeDirectory(path) => self.write(path, true),
            Request::Rename { from, to } => {
                self.write(from, false);
                self.write(to, false);
            }
            _ => {}
        }
    }

    fn allow_read(&mut self, request: &Request, reason: &str) {
        match request {
            Request::Read { path, .. } => self.read(path, reason),
            Request::Stat(path) | Request::List(path) | Request::Search { scope: path, .. } => {
                let below = self.below(path);
                let is_file = |path: &String| matches!((self.look)(path), Found::File(_));
                if below.is_some_and(|path| is_file(&path)) {
                    self.read(path, reason);
                }
            }
            _ => {}
        }
    }

    /// A directory that is looked at: nothing, if what is below it suffices.
    fn allow_look(&mut self, request: &Request) -> Result<(), Vec<Fault>> {
        let (Request::Stat(path) | Request::List(path) | Request::Search { scope: path, .. }) =
            request
        else {
            return Ok(());
        };
        let Some(path) = self.below(path).filter(|path| !path.is_empty()) else {
            return Ok(());
        };
        let manifest = self.draft.clone().build(usize::MAX)?;
        let is_allowed = decided(&manifest, self.root, request).is_ok();
        if !is_allowed && (self.look)(&path) == Found::Directory {
            self.tree(path, TreeAccess::Read);
        }
        Ok(())
    }

    /// What is left of a path below the root.
    fn below(&self, path: &str) -> Option<String> {
        let path = self.root.join(path).ok()?;
        path.below(self.root).map(str::to_owned)
    }

    fn write(&mut self, path: &str, is_directory: bool) {
        let Some(path) = self.below(path).filter(|path| !path.is_empty()) else {
            return;
        };
        if let Some(entry) = self.entry(&path) {
            entry.access = Access::ReadWrite;
            return;
        }
        if self.covering(&path, TreeAccess::writes).is_some() {
            return;
        }
        match (self.look)(&path) {
            Found::File(content) => self.list(path, content, Access::ReadWrite),
            Found::Directory => self.tree(path, TreeAccess::Write),
            Found::Refused(_) => {}
            Found::Missing if is_directory => self.tree(path, TreeAccess::Write),
            // The root itself is never writable: then it is the file alone.
            Found::Missing => match path.rsplit_once('/') {
                Some((directory, _)) => self.tree(directory.to_owned(), TreeAccess::Write),
                None => self.tree(path, TreeAccess::Write),
            },
        }
    }

    fn read(&mut self, path: &str, reason: &str) {
        let Some(path) = self.below(path) else {
            return;
        };
        let found = (self.look)(&path);
        if let Some(entry) = self.entry(&path) {
            match (reason, found) {
                ("DENIAL_REASON_CONTENT_HASH_REQUIRED", _) => entry.access = Access::Read,
                ("DENIAL_REASON_CONTENT_HASH_MISMATCH", Found::File(content)) => {
                    entry.hash = content.hash.to_vec();
                    entry.size = Some(content.size);
                }
                _ => {}
            }
            return;
        }
        if self.covering(&path, TreeAccess::reads).is_some() {
            return;
        }
        // An entry would forbid the writing of what a tree lets be written.
        if let Some(at) = self.covering(&path, TreeAccess::writes) {
            self.draft.trees[at].access = TreeAccess::ReadWrite;
        } else if let Found::File(content) = found {
            self.list(path, content, Access::Read);
        }
    }

    fn entry(&mut self, path: &str) -> Option<&mut DraftEntry> {
        self.draft.entries.iter_mut().find(|it| it.path == path)
    }

    fn covering(&self, path: &str, wanted: fn(TreeAccess) -> bool) -> Option<usize> {
        let mut trees = self.draft.trees.iter();
        trees.position(|tree| {
            let directory = if tree.path == "." { "" } else { &tree.path };
            wanted(tree.access) && covers(directory, path)
        })
    }

    fn list(&mut self, path: String, content: Content, access: Access) {
        self.draft.entries.push(DraftEntry {
            path,
            hash: content.hash.to_vec(),
            access,
            stable_id: String::new(),
            size: Some(content.size),
        });
    }

    fn tree(&mut self, path: String, access: TreeAccess) {
        let mut trees = self.draft.trees.iter_mut();
        match trees.find(|tree| tree.path == path) {
            Some(tree) if tree.access == access => {}
            Some(tree) => tree.access = TreeAccess::ReadWrite,
            None => {
                self.drop_trees(&path, access);
                self.draft.trees.push(DraftTree { path, access });
            }
        }
    }

    /// Trees that were added here, and that one above makes idle.
    fn drop_trees(&mut self, above: &str, access: TreeAccess) {
        let does_all = |tree: &DraftTree| {
            (access.reads() || !tree.access.reads()) && (access.writes() || !tree.access.writes())
        };
        let mut added = self.draft.trees.split_off(self.old_trees);
        added.retain(|tree| !covers(above, &tree.path) || !does_all(tree));
        self.draft.trees.append(&mut added);
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests;
