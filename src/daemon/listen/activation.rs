//! Sockets that the supervisor made: the protocol of sd_listen_fds(3).
//!
//! Owns the file descriptors that the process was started with. They are taken
//! once, before the process opens anything of its own. Refuses names other
//! than `operator` and `session`, a name given twice, more than one socket for
//! the key cache, and a descriptor that is no listening Unix stream socket.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use super::Socket;
use crate::paths::Env;

/// `SD_LISTEN_FDS_START`.
const FIRST_FD: RawFd = 3;

/// Both of our sockets.
const MAX_FDS: usize = 2;

/// Whether the descriptors have an owner in this process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The sockets that were handed over; none without a supervisor that does so.
#[derive(Debug, Default)]
pub struct Activated {
    /// operator.sock.
    pub operator: Option<UnixListener>,
    /// session.sock.
    pub session: Option<UnixListener>,
}

impl Activated {
    /// Takes the sockets named in `env`. To be called before the process opens files.
    pub fn take(env: &Env) -> Result<Self, ActivationError> {
        let names = announced(env, std::process::id())?;
        if !names.is_empty() && TAKEN.swap(true, Ordering::SeqCst) {
            return Err(ActivationError::TakenBefore);
        }
        let mut activated = Self::default();
        for (fd, socket) in (FIRST_FD..).zip(names) {
            let listener = adopt(fd)?;
            match socket {
                Socket::Operator => activated.operator = Some(listener),
                Socket::Session => activated.session = Some(listener),
                Socket::Agent => return Err(ActivationError::Name(socket.name().to_owned())),
            }
        }
        Ok(activated)
    }
}

/// Takes agent.sock, if it was handed over, and closes all else that the process was
/// started with, but for the standard streams. To be called before the process opens
/// anything of its own.
pub fn take_agent(env: &Env) -> Result<Option<UnixListener>, ActivationError> {
    let taken = match count(env, std::process::id()) {
        Ok(0) => Ok(None),
        Ok(1) if TAKEN.swap(true, Ordering::SeqCst) => return Err(ActivationError::TakenBefore),
        Ok(1) => adopt(FIRST_FD).map(Some),
        Ok(count) => Err(ActivationError::Count { count }),
        Err(error) => Err(error),
    };
    close_from(match taken {
        Ok(Some(_)) => FIRST_FD + 1,
        _ => FIRST_FD,
    });
    taken
}

/// That a socket that was handed over is the one at `path`.
pub fn verify_path(listener: &UnixListener, path: &Path) -> Result<(), ActivationError> {
    let address = listener.local_addr();
    let found = address.as_ref().ok().and_then(|found| found.as_pathname());
    if found == Some(path) {
        return Ok(());
    }
    Err(ActivationError::Elsewhere {
        found: found.map(Path::to_owned),
        wanted: path.to_owned(),
    })
}

fn text<'a>(env: &'a Env, variable: &'static str) -> Result<Option<&'a str>, ActivationError> {
    match env.var(variable).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => Err(ActivationError::Malformed { variable }),
    }
}

fn number(env: &Env, variable: &'static str) -> Result<Option<u32>, ActivationError> {
    text(env, variable)?
        .map(str::parse::<u32>)
        .transpose()
        .map_err(|_| ActivationError::Malformed { variable })
}

/// How many descriptors from [`FIRST_FD`] on are meant for process `pid`.
fn count(env: &Env, pid: u32) -> Result<usize, ActivationError> {
    if number(env, "LISTEN_PID")? != Some(pid) {
        return Ok(0);
    }
    Ok(number(env, "LISTEN_FDS")?.unwrap_or(0) as usize)
}

/// The names of the descriptors from [`FIRST_FD`] on, if they are meant for process `pid`.
fn announced(env: &Env, pid: u32) -> Result<Vec<Socket>, ActivationError> {
    let count = count(env, pid)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let names = text(env, "LISTEN_FDNAMES")?.unwrap_or("");
    let names: Vec<&str> = names.split(':').collect();
    if count > MAX_FDS || names.len() != count {
        return Err(ActivationError::Malformed {
            variable: "LISTEN_FDNAMES",
        });
    }
    let mut sockets = Vec::with_capacity(count);
    for name in names {
        let socket = [Socket::Operator, Socket::Session]
            .into_iter()
            .find(|socket| socket.name() == name && !sockets.contains(socket))
            .ok_or_else(|| ActivationError::Name(name.to_owned()))?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Closes the descriptors from `first` on.
#[expect(
    unsafe_code,
    reason = "std has no safe way to close what the process was started with"
)]
fn close_from(first: RawFd) {
    // SAFETY: nothing in the process owns one of them yet, so none is closed behind its owner.
    // A kernel that cannot (before 5.9) leaves them open.
    let _ = unsafe { libc::close_range(first.cast_unsigned(), libc::c_uint::MAX, 0) };
}

/// Makes an inherited descriptor ours, once it proved to be what we were promised.
#[expect(
    unsafe_code,
    reason = "std has no safe way to own a descriptor that the process was started with"
)]
fn adopt(fd: RawFd) -> Result<UnixListener, ActivationError> {
    if std::fs::symlink_metadata(Path::new("/proc/self/fd").join(fd.to_string())).is_err() {
        return Err(ActivationError::NotOpen { fd });
    }
    // SAFETY: the descriptor is open, as just seen, and stays so for this call: nothing in the
    // process owns it, since it was open before the process ran.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    match is_listening_stream(borrowed) {
        Ok(true) => {}
        Ok(false) | Err(Errno::NOTSOCK) => return Err(ActivationError::NotListening { fd }),
        Err(errno) => return Err(ActivationError::io(fd, errno)),
    }
    // A child of ours must not inherit it as we did.
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|errno| ActivationError::io(fd, errno))?;
    // SAFETY: open, and owned by nobody else: the supervisor gave it to this process (LISTEN_PID),
    // it is the listening socket it was announced as, and TAKEN lets nobody come here twice.
    let listener = UnixListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
    match listener.set_nonblocking(true) {
        Ok(()) => Ok(listener),
        Err(source) => Err(ActivationError::Io { fd, source }),
    }
}

fn is_listening_stream(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(socket_domain(fd)? == AddressFamily::UNIX
        && socket_type(fd)? == SocketType::STREAM
        && socket_acceptconn(fd)?)
}

/// Why what was handed over is not taken.
#[derive(Debug)]
pub enum ActivationError {
    /// A variable does not follow the protocol.
    Malformed {
        /// The variable.
        variable: &'static str,
    },
    /// A descriptor has a name that is not ours, or that another has.
    Name(String),
    /// The key cache was given more than its one socket.
    Count {
        /// How many.
        count: usize,
    },
    /// A socket lies where nobody looks for it.
    Elsewhere {
        /// Its path, if it has one.
        found: Option<PathBuf>,
        /// Where it would be looked for.
        wanted: PathBuf,
    },
    /// A descriptor that was announced is not open.
    NotOpen {
        /// Its number.
        fd: RawFd,
    },
    /// A descriptor is no listening Unix stream socket.
    NotListening {
        /// Its number.
        fd: RawFd,
    },
    /// The process has taken them before.
    TakenBefore,
    /// A descriptor cannot be used.
    Io {
        /// Its number.
        fd: RawFd,
        /// The cause.
        source: io::Error,
    },
}

impl ActivationError {
    fn io(fd: RawFd, errno: Errno) -> Self {
        Self::Io {
            fd,
            source: errno.into(),
        }
    }
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { variable } => {
                write!(f, "{variable} does not follow sd_listen_fds(3)")
            }
            Self::Name(name) => write!(
                f,
                "socket named {name:?}: FileDescriptorName must be operator or session, once each"
            ),
            Self::Count { count } => write!(
                f,
                "{count} sockets were handed over: the unit must have one ListenStream"
            ),
            Self::Elsewhere { found, wanted } => {
                let found = found.as_deref().unwrap_or("no path".as_ref());
                let (found, wanted) = (found.display(), wanted.display());
                write!(
                    f,
                    "the socket that was handed over is at {found}: ListenStream must be {wanted}"
                )
            }
            Self::NotOpen { fd } => write!(f, "descriptor {fd} was announced but is not open"),
            Self::NotListening { fd } => {
                write!(f, "descriptor {fd} is no listening Unix stream socket")
            }
            Self::TakenBefore => f.write_str("the sockets were taken before"),
            Self::Io { fd, .. } => write!(f, "cannot use descriptor {fd}"),
        }
    }
}

impl std::error::Error for ActivationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
