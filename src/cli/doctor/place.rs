//! Directories and sockets: what is there, whose it is, who is let in.
//!
//! Looks and opens nothing, so that what is planted there does no harm.

use std::error::Error as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::Check;
use crate::paths::{DirError, PathError};

/// What should be at a place.
pub(super) struct Wanted {
    /// Of the check.
    pub name: &'static str,
    pub kind: Kind,
    /// Its modes that are right; the first is the one to set.
    pub modes: &'static [u32],
    /// What names another place.
    pub variable: &'static str,
    /// The caller named the place: whoever owns it was chosen.
    pub named: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Socket,
}

/// What is there.
pub(super) struct Seen {
    pub check: Check,
    pub is_there: bool,
    /// It is what it should be, whatever its mode: there is a point in looking on.
    pub is_right: bool,
}

impl Wanted {
    /// Looks at it.
    pub(super) fn look(&self, path: &Path) -> Seen {
        // A final slash would have the kernel follow a symlink.
        let path: PathBuf = path.components().collect();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let check = Check::ok(self.name, format!("{} is not there yet", path.display()));
                return Seen {
                    check,
                    is_there: false,
                    is_right: false,
                };
            }
            Err(error) => {
                let what = format!("cannot look at {}: {error}", path.display());
                return wrong(Check::failed(self.name, what, self.elsewhere()));
            }
        };
        self.judge(&path, &found)
    }

    fn judge(&self, path: &Path, found: &Metadata) -> Seen {
        let (shown, word) = (path.display(), quoted(path));
        if !self.kind.is(found) {
            let what = format!("{shown} is {}, not {}", kind(found), self.kind.text());
            let mend = format!("mv {word} {}", quoted(&aside(path)));
            return wrong(Check::failed(self.name, what, mend));
        }
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let is_ours = owner == geteuid().as_raw() || self.named && owner == 0;
        if !is_ours && !self.named {
            let what = format!("{shown} belongs to uid {owner}");
            return wrong(Check::failed(self.name, what, self.elsewhere()));
        }
        let what = format!("{shown}, mode {mode:04o}, uid {owner}");
        let check = if !self.modes.contains(&mode) {
            let wanted = self.modes[0];
            let what = format!("{shown} has mode {mode:04o}, not {wanted:04o}");
            Check::failed(self.name, what, format!("chmod {wanted:o} {word}"))
        } else if is_ours {
            Check::ok(self.name, what)
        } else {
            let mend = "without --socket and EPISODED_SOCKET your own is looked at";
            Check::warning(self.name, format!("{what}: not yours"), mend)
        };
        Seen {
            check,
            is_there: true,
            is_right: true,
        }
    }

    fn elsewhere(&self) -> String {
        format!("set {} to a directory of your own", self.variable)
    }
}

fn wrong(check: Check) -> Seen {
    Seen {
        check,
        is_there: true,
        is_right: false,
    }
}

impl Kind {
    fn is(self, found: &Metadata) -> bool {
        match self {
            Self::Directory => found.is_dir(),
            Self::Socket => found.file_type().is_socket(),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::Socket => "a socket",
        }
    }
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_symlink() {
        "a symlink"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a special file"
    }
}

/// That nothing says where the place is, or what says so is of no use.
pub(super) fn nowhere(name: &'static str, variable: &str, error: &PathError) -> Check {
    let what = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let mend = match error {
        PathError::Relative { variable, .. } => format!("set {variable} to an absolute path"),
        PathError::NoHome => format!("set {variable}"),
        PathError::TooLong { .. } => format!("set {variable} to a shorter path"),
        PathError::Untrusted {
            source: DirError::Mode { path, .. },
            ..
        } => format!("chmod 700 {}", quoted(path)),
        PathError::Untrusted { .. } => format!("set {variable} to a directory of your own"),
    };
    Check::failed(name, what, mend)
}

/// The same name with something behind it.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{nowhere, quoted};
    use crate::paths::Env;

    #[test]
    fn a_path_in_a_mend_is_one_word() {
        assert_eq!(quoted(Path::new("/run/user/7/x-1")), "/run/user/7/x-1");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_place_that_is_nowhere_says_which_variable_mends_it() {
        let env = Env::new(1).with("LOCKBOX_SESSION_AGENT_DIR", "here");
        let error = env.agent_dir().unwrap_err();
        let check = nowhere("agent-directory", "LOCKBOX_SESSION_AGENT_DIR", &error);
        assert_eq!(
            check.mend,
            "set LOCKBOX_SESSION_AGENT_DIR to an absolute path"
        );
    }
}
