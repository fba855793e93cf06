//! The two sockets: made by us, or handed over by the supervisor.
//!
//! Owns the socket files from the first instant to the clean shutdown. A socket
//! has its final mode and group before it listens, so nobody can connect
//! earlier or with less. Nobody else changes the files; [`SocketFile::remove`]
//! takes away only what is still ours.
//!
//! Refuses to replace a socket on which somebody accepts, and anything that is
//! no socket. What is stale is replaced by the holder of the [`Lock`] only.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{chmodat, chownat, fchmod, flock, open, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{bind, connect, listen, socket_with};
use rustix::process::Gid;

use super::lock::Lock;
use crate::config::Config;
use crate::paths::dir::ensure_passable_dir;
use crate::paths::{
    AGENT_SOCKET, DirError, OPERATOR_SOCKET, PathError, SESSION_SOCKET, ensure_private_dir,
    socket_path,
};

pub mod activation;
pub mod group;

use activation::Activated;
use group::GroupError;

/// Connections that wait to be accepted; the kernel takes less if somaxconn is less.
const BACKLOG: i32 = 1_024;

/// One of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// Everything.
    Operator,
    /// What a session may do with its own handle.
    Session,
    /// Keys, by their own process.
    Agent,
}

impl Socket {
    /// Its name in logs, events and the supervisor's file descriptor names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Session => "session",
            Self::Agent => "agent",
        }
    }

    const fn file_name(self) -> &'static str {
        match self {
            Self::Operator => OPERATOR_SOCKET,
            Self::Session => SESSION_SOCKET,
            Self::Agent => AGENT_SOCKET,
        }
    }

    const fn mode(self) -> Mode {
        let owner = Mode::RUSR.union(Mode::WUSR);
        match self {
            Self::Operator | Self::Agent => owner,
            Self::Session => owner.union(Mode::RGRP).union(Mode::WGRP),
        }
    }
}

/// Both sockets, listening and non-blocking.
#[derive(Debug)]
pub struct Listeners {
    /// operator.sock.
    pub operator: UnixListener,
    /// session.sock.
    pub session: UnixListener,
    /// The files to remove at a clean shutdown; none of a socket that was handed over.
    pub files: Vec<SocketFile>,
}

impl Listeners {
    /// Takes what was handed over and makes the rest, with the directories.
    pub fn open(lock: &Lock, config: &Config, activated: Activated) -> Result<Self, ListenError> {
        let mut files = Vec::new();
        let mut keep = |(listener, file)| {
            files.push(file);
            listener
        };
        let operator = if let Some(listener) = activated.operator {
            listener
        } else {
            ensure_private_dir(&config.runtime_dir).map_err(ListenError::Directory)?;
            let bound = bind_socket(lock, Socket::Operator, &config.runtime_dir, None)?;
            keep(bound)
        };
        let session = if let Some(listener) = activated.session {
            listener
        } else {
            let group = config.session_group.as_deref().map(group::find);
            let group = group.transpose().map_err(ListenError::Group)?;
            ensure_passable_dir(&config.session_dir, group).map_err(ListenError::Directory)?;
            let bound = bind_socket(lock, Socket::Session, &config.session_dir, group)?;
            keep(bound)
        };
        Ok(Self {
            operator,
            session,
            files,
        })
    }
}

/// A socket file that we made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still the one we made.
    pub fn is_there(&self) -> bool {
        let found = rustix::fs::lstat(&self.path);
        found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode))
    }

    /// Removes the file if it is still the one we made; says whether it did.
    pub fn remove(self, _lock: &Lock) -> io::Result<bool> {
        let parent = self.path.parent().expect("a socket lies in a directory");
        let dir = hold_directory(parent)?;
        let name = self.path.file_name().expect("a socket has a name");
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (self.device, self.inode) => {
                unlinkat(&dir, name, AtFlags::empty())?;
                Ok(true)
            }
            Ok(_) | Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Makes the socket in `dir`, in place of a stale one if need be.
///
/// With a `group`, the file belongs to it. The lock says that no other daemon
/// serves this state; one of another state may still want the same directory,
/// hence the directory is locked from the look at the old file until we listen.
pub fn bind_socket(
    _lock: &Lock,
    socket: Socket,
    dir: &Path,
    group: Option<Gid>,
) -> Result<(UnixListener, SocketFile), ListenError> {
    let path = socket_path(dir, socket.file_name()).map_err(ListenError::Path)?;
    let step = |step| {
        let path = path.clone();
        move |errno: Errno| ListenError::Io {
            step,
            path,
            source: errno.into(),
        }
    };
    let held = hold_directory(dir).map_err(step("lock the directory of"))?;
    if is_stale(&held, &path)? {
        unlinkat(&held, socket.file_name(), AtFlags::empty()).map_err(step("replace"))?;
    }
    let fd = new_socket().map_err(step("make"))?;
    // bind(2) gives the file the mode of the socket without the bits of the umask.
    let first = match group {
        Some(_) => Mode::RUSR | Mode::WUSR,
        None => socket.mode(),
    };
    fchmod(&fd, first).map_err(step("set the mode of"))?;
    let address = SocketAddrUnix::new(&path).map_err(step("name"))?;
    bind(&fd, &address).map_err(step("bind"))?;
    let stat = finish_file(&held, socket, group).map_err(step("set mode and group of"))?;
    listen(&fd, BACKLOG).map_err(step("listen on"))?;
    let file = SocketFile {
        path,
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    Ok((UnixListener::from(fd), file))
}

/// Group first, then the bits that let it in. Nobody can connect before listen(2).
fn finish_file(dir: &OwnedFd, socket: Socket, group: Option<Gid>) -> rustix::io::Result<Stat> {
    let name = socket.file_name();
    if let Some(group) = group {
        chownat(dir, name, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mode & 0o7777 != socket.mode().bits() {
        chmodat(dir, name, socket.mode(), AtFlags::empty())?;
    }
    Ok(stat)
}

/// Opens and locks a directory; another daemon there has done its step when this returns.
fn hold_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = open(path, flags, Mode::empty())?;
    flock(&dir, FlockOperation::LockExclusive)?;
    Ok(dir)
}

/// Whether a socket is there that nobody accepts on; false if nothing is there.
fn is_stale(dir: &OwnedFd, path: &Path) -> Result<bool, ListenError> {
    let probe = |errno: Errno| ListenError::Io {
        step: "look at",
        path: path.to_owned(),
        source: errno.into(),
    };
    let name = path.file_name().expect("a socket has a name");
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(probe(errno)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
            return Err(ListenError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let fd = new_socket().map_err(probe)?;
    match connect(&fd, &SocketAddrUnix::new(path).map_err(probe)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // A full queue is somebody's too, and so is a socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(probe(errno)),
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Why there is no socket.
#[derive(Debug)]
pub enum ListenError {
    /// The path does not fit a socket address.
    Path(PathError),
    /// Its directory cannot be used.
    Directory(DirError),
    /// Its group cannot be found.
    Group(GroupError),
    /// Something that is no socket has its name.
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// Another process accepts on it.
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// A step failed.
    Io {
        /// What was tried, as in "cannot bind PATH".
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(_) => f.write_str("cannot name the socket"),
            Self::Directory(_) => f.write_str("cannot use the directory of the socket"),
            Self::Group(_) => f.write_str("cannot give the socket to session_group"),
            Self::NotASocket { path } => {
                write!(f, "not a socket, left alone: {}", path.display())
            }
            Self::InUse { path } => {
                write!(f, "another process serves {}", path.display())
            }
            Self::Io { step, path, .. } => write!(f, "cannot {step} {}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Path(source) => Some(source),
            Self::Directory(source) => Some(source),
            Self::Group(source) => Some(source),
            Self::Io { source, .. } => Some(source),
            Self::NotASocket { .. } | Self::InUse { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
