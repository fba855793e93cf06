//! Which lockboxes `key get` may unlock from the secret store.
//!
//! Owns a file of ours with their names and nothing else, so that a lockbox that is
//! not in it costs no word with the store. One change at a time, each whole or not at
//! all. Refuses a file that others can read or change, and one that it does not
//! understand: what cannot be read enables nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::keycache::entry::LockboxId;
use crate::paths::{DirError, Env, ensure_own_dir};

/// Lockboxes: `status` asks the store about each.
pub const MAX_LOCKBOXES: usize = 256;

/// That many of the longest names, each byte of them escaped.
const MAX_BYTES: u64 = 2 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct List {
    /// Whether each is enabled.
    lockboxes: BTreeMap<LockboxId, bool>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    lockboxes: BTreeMap<String, State>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Enabled,
    Disabled,
}

impl List {
    /// What the file says; nothing where there is none.
    pub fn read(env: &Env) -> Result<Self, ListError> {
        match env.auto_unlock() {
            Some(path) => read(&path),
            None => Ok(Self::default()),
        }
    }

    /// Reads it, changes it, and writes it if it has become another.
    pub fn change<T>(env: &Env, change: impl FnOnce(&mut Self) -> T) -> Result<T, ListError> {
        let path = env.auto_unlock().ok_or(ListError::NoHome)?;
        let directory = path.parent().unwrap_or(&path);
        ensure_own_dir(directory).map_err(ListError::Directory)?;
        let _lock = lock(&path)?;
        let mut list = read(&path)?;
        let before = list.lockboxes.clone();
        let answer = change(&mut list);
        if list.lockboxes.len() > MAX_LOCKBOXES {
            return Err(ListError::Full);
        }
        if list.lockboxes != before {
            list.write(&path)?;
        }
        Ok(answer)
    }

    /// Fails when that lockbox could not be enabled.
    pub fn check(env: &Env, id: &LockboxId) -> Result<(), ListError> {
        let is_full = |list: &mut Self| {
            list.lockboxes.len() >= MAX_LOCKBOXES && !list.lockboxes.contains_key(id)
        };
        if Self::change(env, is_full)? {
            return Err(ListError::Full);
        }
        Ok(())
    }

    /// Whether its key may come out of the store.
    pub fn is_enabled(&self, id: &LockboxId) -> bool {
        self.lockboxes.get(id).copied().unwrap_or_default()
    }

    /// Every lockbox of which it knows something, and whether it is enabled.
    pub fn lockboxes(&self) -> impl Iterator<Item = (&LockboxId, bool)> {
        self.lockboxes.iter().map(|(id, enabled)| (id, *enabled))
    }

    /// Lets its key come out of the store.
    pub fn enable(&mut self, id: LockboxId) {
        self.lockboxes.insert(id, true);
    }

    /// Ends that; whether it was so.
    pub fn disable(&mut self, id: &LockboxId) -> bool {
        let enabled = self.lockboxes.get_mut(id);
        enabled.is_some_and(std::mem::take)
    }

    /// Knows it no longer.
    pub fn remove(&mut self, id: &LockboxId) {
        self.lockboxes.remove(id);
    }

    fn write(&self, path: &Path) -> Result<(), ListError> {
        let failed = |error| ListError::Io(path.to_owned(), error);
        let state = |enabled| {
            if enabled {
                State::Enabled
            } else {
                State::Disabled
            }
        };
        let states = self.lockboxes.iter();
        let wire = Wire {
            lockboxes: states
                .map(|(id, enabled)| (id.as_str().to_owned(), state(*enabled)))
                .collect(),
        };
        let mut text = serde_json::to_vec_pretty(&wire).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let partial = path.with_extension("json.partial");
        let mut file = private(&partial, OpenOptions::new().write(true).truncate(true))
            .map_err(|error| ListError::Io(partial.clone(), error))?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&partial, path))
            .and_then(|()| File::open(path.parent().unwrap_or(path))?.sync_all())
            .map_err(failed)
    }
}

/// A file of ours alone, made where there is none.
fn private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let options = options.create(true).mode(0o600);
    options.custom_flags(no_follow).open(path)
}

/// Held while the list is changed. A file of its own: the list is replaced, and
/// anybody who can open the directory could hold it locked.
fn lock(path: &Path) -> Result<File, ListError> {
    let path = path.with_extension("lock");
    let failed = |error| ListError::Io(path.clone(), error);
    let file = private(&path, OpenOptions::new().write(true)).map_err(failed)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    Ok(file)
}

fn read(path: &Path) -> Result<List, ListError> {
    let failed = |error| ListError::Io(path.to_owned(), error);
    let no_follow = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = match options.read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(List::default()),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(ListError::Exposed(path.to_owned()));
    }
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    parse(&text).ok_or_else(|| ListError::Malformed(path.to_owned()))
}

fn parse(text: &str) -> Option<List> {
    let wire: Wire = serde_json::from_str(text).ok()?;
    let lockbox = |(id, state): (String, State)| {
        let id = LockboxId::parse(&id).ok()?;
        Some((id, matches!(state, State::Enabled)))
    };
    let lockboxes = wire
        .lockboxes
        .into_iter()
        .map(lockbox)
        .collect::<Option<_>>()?;
    Some(List { lockboxes })
}

/// The list cannot be read or changed.
#[derive(Debug)]
pub enum ListError {
    /// Nothing says where it lies.
    NoHome,
    /// Its directory is not ours alone to change.
    Directory(DirError),
    /// A file cannot be read or written.
    Io(PathBuf, io::Error),
    /// Others can read or change it.
    Exposed(PathBuf),
    /// It is something else.
    Malformed(PathBuf),
    /// It holds as many as it may.
    Full,
}

impl ListError {
    /// How to mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoHome => "set XDG_CONFIG_HOME or HOME",
            Self::Directory(_) => "chmod 0700 it, or set XDG_CONFIG_HOME",
            Self::Io(..) => "see that it is yours to read and write",
            Self::Exposed(_) => "chmod 0600 it once you know what is in it",
            Self::Malformed(_) => {
                "remove it, and enable lockboxes anew; the store keeps what it has"
            }
            Self::Full => "`episodectl key auto-unlock forget ID` makes room",
        }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => f.write_str("nothing says where the list of auto-unlock lies"),
            Self::Directory(_) => f.write_str("cannot use the directory of the list"),
            Self::Io(path, _) => write!(f, "cannot read or write {}", path.display()),
            Self::Exposed(path) => write!(
                f,
                "{} must be a plain file of ours with mode 0600",
                path.display()
            ),
            Self::Malformed(path) => {
                write!(f, "{} is no list of auto-unlock", path.display())
            }
            Self::Full => write!(
                f,
                "auto-unlock knows {MAX_LOCKBOXES} lockboxes, no more fit"
            ),
        }
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Directory(error) => Some(error),
            Self::Io(_, error) => Some(error),
            Self::NoHome | Self::Exposed(_) | Self::Malformed(_) | Self::Full => None,
        }
    }
}

#[cfg(test)]
mod tests;
