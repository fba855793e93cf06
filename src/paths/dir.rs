//! Directories that nobody else can write to, list or replace.
//!
//! Owns the making and the check of private directories. A directory is opened
//! first and judged by its descriptor, so that what is checked is what is there.
//! Refuses a symlink, another owner, and any permission for group or others:
//! what lies in such a directory may have been planted.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fchown, fstat, mkdir, open};
use rustix::io::Errno;
use rustix::process::{Gid, geteuid};

/// Only the owner.
const PRIVATE: Mode = Mode::RWXU;
/// The owner, and a group that may pass through to a name it knows.
const GROUP_PASSES: Mode = Mode::RWXU.union(Mode::XGRP);

/// Makes `path` with mode 0700, its missing parents too, or verifies the one that is there.
pub fn ensure_private_dir(path: &Path) -> Result<(), DirError> {
    make(path)?;
    verify_private_dir(path)
}

/// Makes `path` with mode 0700, its missing parents too, or checks that only we can
/// change what is in the one that is there, whoever may look.
pub fn ensure_own_dir(path: &Path) -> Result<(), DirError> {
    make(path)?;
    let (_, stat) = open_own(path)?;
    match permissions(&stat) & 0o022 {
        0 => Ok(()),
        _ => Err(DirError::Mode {
            path: path.to_owned(),
            mode: permissions(&stat),
        }),
    }
}

/// Checks that `path` is a directory, not a symlink, ours, and closed to all others.
pub fn verify_private_dir(path: &Path) -> Result<(), DirError> {
    let (_, stat) = open_own(path)?;
    match permissions(&stat) & 0o077 {
        0 => Ok(()),
        _ => Err(DirError::Mode {
            path: path.to_owned(),
            mode: permissions(&stat),
        }),
    }
}

/// Makes or adjusts a directory that `group` may pass through: 0710, or 0700 without a group.
///
/// Its mode follows the configuration, so one of ours is adjusted; one that
/// group or others could write to is refused like a private directory.
pub fn ensure_passable_dir(path: &Path, group: Option<Gid>) -> Result<(), DirError> {
    make(path)?;
    let (fd, stat) = open_own(path)?;
    let mode = permissions(&stat);
    if mode & 0o022 != 0 {
        return Err(DirError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let adjust = |wanted: Mode| {
        if permissions(&stat) == wanted.bits() {
            return Ok(());
        }
        fchmod(&fd, wanted)
    };
    let result = match group {
        None => adjust(PRIVATE),
        Some(gid) if stat.st_gid == gid.as_raw() => adjust(GROUP_PASSES),
        // Closed before it changes hands: the old group loses it before the new one has it.
        Some(gid) => fchmod(&fd, PRIVATE)
            .and_then(|()| fchown(&fd, None, Some(gid)))
            .and_then(|()| fchmod(&fd, GROUP_PASSES)),
    };
    result.map_err(|errno| DirError::Adjust {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// Checks that nobody can rename what we make in a directory shared with others.
pub(super) fn verify_shared_parent(path: &Path) -> Result<(), DirError> {
    let stat = rustix::fs::stat(path).map_err(|errno| DirError::open(path, errno))?;
    let trusted = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let mode = permissions(&stat);
    if trusted && (mode & 0o022 == 0 || mode & 0o1000 != 0) {
        return Ok(());
    }
    Err(DirError::Shared {
        path: path.to_owned(),
        owner: stat.st_uid,
        mode,
    })
}

/// The umask can only narrow the mode that mkdir is given, so there is no wider instant.
fn make(path: &Path) -> Result<(), DirError> {
    match mkdir(path, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            match parent {
                Some(parent) => make(parent)?,
                None => return Err(DirError::create(path, Errno::NOENT)),
            }
            match mkdir(path, PRIVATE) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(DirError::create(path, errno)),
            }
        }
        Err(errno) => Err(DirError::create(path, errno)),
    }
}

fn open_own(path: &Path) -> Result<(OwnedFd, Stat), DirError> {
    // A final slash would have the kernel follow a symlink in spite of NOFOLLOW.
    let path: PathBuf = path.components().collect();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let fd = match open(&path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(DirError::NotADirectory { path }),
        Err(errno) => return Err(refused_or_foreign(&path, errno)),
    };
    let stat = fstat(&fd).map_err(|errno| DirError::open(&path, errno))?;
    if stat.st_uid != geteuid().as_raw() {
        return Err(DirError::Owner {
            path,
            owner: stat.st_uid,
        });
    }
    Ok((fd, stat))
}

/// A directory of somebody else often cannot even be opened; its owner is the better answer.
fn refused_or_foreign(path: &Path, errno: Errno) -> DirError {
    match rustix::fs::lstat(path) {
        Ok(stat)
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && stat.st_uid != geteuid().as_raw() =>
        {
            DirError::Owner {
                path: path.to_owned(),
                owner: stat.st_uid,
            }
        }
        _ => DirError::open(path, errno),
    }
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// Why a directory cannot be used as a private one.
#[derive(Debug)]
pub enum DirError {
    /// It could not be made.
    Create {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It could not be opened.
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its mode or group could not be set.
    Adjust {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A symlink, or another kind of file.
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
    /// Another user owns it.
    Owner {
        /// The directory.
        path: PathBuf,
        /// Uid of the owner.
        owner: u32,
    },
    /// Group or others have permissions in it.
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory around it lets others rename what is ours.
    Shared {
        /// The directory around it.
        path: PathBuf,
        /// Uid of its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl DirError {
    /// Whether there is simply no such directory yet.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    fn create(path: &Path, errno: Errno) -> Self {
        Self::Create {
            path: path.to_owned(),
            source: errno.into(),
        }
    }

    fn open(path: &Path, errno: Errno) -> Self {
        Self::Open {
            path: path.to_owned(),
            source: errno.into(),
        }
    }
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, .. } => write!(f, "cannot make directory {}", path.display()),
            Self::Open { path, .. } => write!(f, "cannot open directory {}", path.display()),
            Self::Adjust { path, .. } => {
                write!(f, "cannot set mode and group of {}", path.display())
            }
            Self::NotADirectory { path } => {
                write!(f, "not a directory, or a symlink: {}", path.display())
            }
            Self::Owner { path, owner } => {
                write!(f, "{} belongs to uid {owner}", path.display())
            }
            Self::Mode { path, mode } => write!(
                f,
                "{} has mode {mode:04o}, others must have no access: chmod 0700",
                path.display()
            ),
            Self::Shared { path, owner, mode } => write!(
                f,
                "{} (uid {owner}, mode {mode:04o}) lets others rename what is in it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create { source, .. }
            | Self::Open { source, .. }
            | Self::Adjust { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
