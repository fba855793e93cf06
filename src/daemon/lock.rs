//! The lock on a state directory: one daemon serves it.
//!
//! Owns `registry.lock`, a file that is never removed, held by flock(2) for the
//! life of the process, so that a crash frees it. A [`Lock`] is the proof that
//! what depends on being the only daemon may be done.
//!
//! Refuses a lock file that is a symlink, belongs to somebody else, or that
//! others could open, because whoever can open it can hold it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, lstat, open};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::paths::REGISTRY_LOCK;

/// A pid and a newline; the rest of a longer file is not ours.
const PID_BYTES: u64 = 16;

/// The state directory is ours until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `state_dir`, which must exist, without waiting.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        Self::take_file(state_dir.join(REGISTRY_LOCK))
    }

    /// The same for a lock file of any name.
    pub fn take_file(path: PathBuf) -> Result<Self, LockError> {
        let mut file = open_own(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = holder(&mut file);
                return Err(LockError::Held { path, pid });
            }
            Err(errno) => return Err(LockError::io(&path, errno)),
        }
        still_there(&path, &file)?;
        let lock = Self { file };
        lock.write_pid(std::process::id())
            .map_err(|source| LockError::Io { path, source })?;
        Ok(lock)
    }

    fn write_pid(&self, pid: u32) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{pid}")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A pid that stays behind would only make the next error name a stranger.
        let _ = self.file.set_len(0);
    }
}

fn open_own(path: &Path) -> Result<File, LockError> {
    // NONBLOCK: opening a FIFO that somebody put there must not wait.
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Err(LockError::NotAFile {
                path: path.to_owned(),
            });
        }
        Err(errno) => return Err(LockError::io(path, errno)),
    };
    let stat = fstat(&fd).map_err(|errno| LockError::io(path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(LockError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = stat.st_mode & 0o7777;
    if stat.st_uid != geteuid().as_raw() || mode & 0o077 != 0 {
        return Err(LockError::Exposed {
            path: path.to_owned(),
            owner: stat.st_uid,
            mode,
        });
    }
    Ok(File::from(fd))
}

/// A lock on a file that was removed meanwhile excludes nobody.
fn still_there(path: &Path, file: &File) -> Result<(), LockError> {
    let ours = fstat(file).map_err(|errno| LockError::io(path, errno))?;
    match lstat(path) {
        Ok(stat) if (stat.st_dev, stat.st_ino) == (ours.st_dev, ours.st_ino) => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(LockError::Replaced {
            path: path.to_owned(),
        }),
        Err(errno) => Err(LockError::io(path, errno)),
    }
}

/// The pid in the file, if there is such a process: the holder may not have written yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES).read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim_end().parse().ok()?;
    Path::new("/proc")
        .join(pid.to_string())
        .exists()
        .then_some(pid)
}

/// Why the state is not ours.
#[derive(Debug)]
pub enum LockError {
    /// Another daemon holds it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// Its process, where known.
        pid: Option<u32>,
    },
    /// Something else has the name of the lock file.
    NotAFile {
        /// The lock file.
        path: PathBuf,
    },
    /// Others could hold the lock.
    Exposed {
        /// The lock file.
        path: PathBuf,
        /// Uid of its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The file was removed while it was being locked.
    Replaced {
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be opened, locked or written.
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl LockError {
    fn io(path: &Path, errno: Errno) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: errno.into(),
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid } => {
                write!(f, "another daemon holds {}", path.display())?;
                pid.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
            }
            Self::NotAFile { path } => write!(f, "not a regular file: {}", path.display()),
            Self::Exposed { path, owner, mode } => write!(
                f,
                "{} has owner {owner} and mode {mode:04o}, it must be ours and 0600",
                path.display()
            ),
            Self::Replaced { path } => {
                write!(
                    f,
                    "{} was removed while it was being locked",
                    path.display()
                )
            }
            Self::Io { path, .. } => write!(f, "cannot lock {}", path.display()),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
