//! Which files of a directory a manifest is made of.
//!
//! Owns the choice: all that git does not ignore, or what git tracks, or what the
//! patterns name. Hidden files are files as any other, but for `.git`. A symlink,
//! a special file and a name that no manifest can hold are left out and told.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ignore::{DirEntry, WalkBuilder};

use super::left::{LeftOut, Why};
use super::pattern::Patterns;
use crate::cli::error::{CliError, exit};
use crate::cli::output::note;
use crate::cli::output::text::clean;
use crate::firewall::manifest::TreeAccess;
use crate::firewall::path::RelativePath;

const GIT: &str = ".git";

/// What to look for, and where.
pub struct Search<'a> {
    /// The directory, absolute.
    pub root: &'a Path,
    /// Only what git tracks.
    pub tracked: bool,
    /// Only what these or `others` match; if there are none, all.
    pub wanted: &'a Patterns,
    /// Patterns that want a file for another reason.
    pub others: [&'a Patterns; 2],
    /// Directories whose files are not listed each.
    pub trees: &'a [(RelativePath, TreeAccess)],
}

impl Search<'_> {
    /// The paths of the files below the root, sorted.
    pub fn files(&self, left: &mut LeftOut) -> Result<Vec<String>, CliError> {
        let mut found = if self.tracked {
            self.tracked_files(left)?
        } else {
            self.walked_files(left)
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn walked_files(&self, left: &mut LeftOut) -> Vec<String> {
        let trees: HashSet<PathBuf> = self.tree_paths().collect();
        // Outside of a repository the root's own `.gitignore` files count, and none
        // of what lies above; inside, those up to its top. The user's own are not
        // asked: they would make another manifest for every user.
        let has_git = |directory: &Path| directory.join(GIT).exists();
        let in_repository = self.root.ancestors().any(has_git);
        let walk = WalkBuilder::new(self.root)
            .hidden(false)
            .ignore(false)
            .git_global(false)
            .require_git(in_repository)
            .parents(in_repository)
            .filter_entry(move |entry| !is_git(entry) && !trees.contains(entry.path()))
            .build();
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut directories = Vec::new();
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.note_unreadable(&error, left);
                    continue;
                }
            };
            if let Some(error) = entry.error() {
                note(clean(&error.to_string()));
            }
            if entry.file_type().is_some_and(|kind| kind.is_dir()) {
                directories.push(entry.path().to_owned());
            } else {
                found.extend(self.file(&entry, left));
            }
            seen.insert(entry.into_path());
        }
        for directory in directories {
            self.note_ignored(&directory, &seen, left);
        }
        found
    }

    fn note_unreadable(&self, error: &ignore::Error, left: &mut LeftOut) {
        let below = |path: &Path| path.strip_prefix(self.root).map(Path::to_owned);
        match path_of(error).and_then(|path| below(path).ok()) {
            Some(path) => left.add(&path, Why::Unreadable),
            None => note(clean(&format!("left out: {error}"))),
        }
    }

    fn tree_paths(&self) -> impl Iterator<Item = PathBuf> {
        let paths = self.trees.iter().filter(|(path, _)| !path.is_root());
        paths.map(|(path, _)| self.root.join(path.as_str()))
    }

    fn file(&self, entry: &DirEntry, left: &mut LeftOut) -> Option<String> {
        let path = entry.path().strip_prefix(self.root).ok()?;
        let why = match entry.file_type() {
            Some(kind) if kind.is_file() => match self.name(path) {
                Ok(path) => return Some(path),
                Err(why) => why,
            },
            Some(kind) if kind.is_symlink() => Why::Symlink,
            _ => Why::Special,
        };
        left.add(path, why);
        None
    }

    /// A path as a manifest holds it, if it is wanted.
    fn name(&self, path: &Path) -> Result<String, Why> {
        let text = path.to_str().ok_or(Why::Name)?;
        let normal = RelativePath::parse(text).map_err(|_| Why::Name)?;
        if normal.as_str() != text {
            return Err(Why::Name);
        }
        // Every one is asked, so that one that matches nothing is known.
        let wanted = self.wanted.matches(text);
        let others = self.others.map(|patterns| patterns.matches(text));
        if self.wanted.is_empty() || wanted || others.contains(&true) {
            return Ok(text.to_owned());
        }
        Err(Why::NotMatched)
    }

    /// What lies in a directory and the walk did not show.
    fn note_ignored(&self, directory: &Path, seen: &HashSet<PathBuf>, left: &mut LeftOut) {
        let trees: HashSet<PathBuf> = self.tree_paths().collect();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let known = seen.contains(&path) || trees.contains(&path);
            if !known && entry.file_name() != GIT {
                let below = path.strip_prefix(self.root).unwrap_or(&path);
                left.add(below, Why::Ignored);
            }
        }
    }

    fn tracked_files(&self, left: &mut LeftOut) -> Result<Vec<String>, CliError> {
        let mut found = Vec::new();
        for path in git_ls_files(self.root)? {
            let path = Path::new(OsStr::from_bytes(&path)).to_owned();
            if self.is_below_a_tree(&path) {
                continue;
            }
            let why = match fs::symlink_metadata(self.root.join(&path)) {
                Ok(about) if about.is_file() => match self.name(&path) {
                    Ok(path) => {
                        found.push(path);
                        continue;
                    }
                    Err(why) => why,
                },
                Ok(about) if about.is_symlink() => Why::Symlink,
                Ok(about) if about.is_dir() => Why::Submodule,
                Ok(_) => Why::Special,
                Err(_) => Why::Missing,
            };
            left.add(&path, why);
        }
        Ok(found)
    }

    fn is_below_a_tree(&self, path: &Path) -> bool {
        let mut trees = self.trees.iter().filter(|(tree, _)| !tree.is_root());
        trees.any(|(tree, _)| path.starts_with(tree.as_str()))
    }
}

/// What an error of the walk is about.
fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            path_of(err)
        }
        _ => None,
    }
}

fn is_git(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name() == GIT
}

fn git_ls_files(root: &Path) -> Result<Vec<Vec<u8>>, CliError> {
    let failed = |message: String| {
        let error = CliError::local(exit::NO_INPUT, "FAILED_PRECONDITION", message);
        error.with_hint("leave out --tracked to take all that is not ignored")
    };
    let mut git = Command::new("git");
    // No program that the repository's own configuration names is run.
    git.args(["-c", "core.fsmonitor=false", "-C"]).arg(root);
    let output = git.args(["ls-files", "-z"]).output();
    let output = output.map_err(|error| failed(format!("cannot run git: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("git ls-files: {}", said.trim())));
    }
    let paths = output.stdout.split(|byte| *byte == 0);
    Ok(paths
        .filter(|path| !path.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}
