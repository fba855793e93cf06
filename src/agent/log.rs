//! Where the agent's log goes: the file that is named, else the journal or the terminal
//! that it was started on, else syslog, else a file of its own.
//!
//! Owns standard error from the start on. Until the agent serves, whoever started it is
//! told there what went wrong, wherever the log is. Refuses a named file that cannot be
//! written. With nowhere to log to it goes on, and says so.

use std::{
    error::Error,
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::fstat,
    io::fcntl_dupfd_cloexec,
    stdio::{dup2_stderr, stderr},
};
use tracing::{error, warn};

use crate::{
    paths::{AGENT_LOG_VAR, Env, SYSLOG_VAR, ensure_private_dir},
    telemetry::{
        LogFilter, LogFormat, Telemetry,
        syslog::{self, Syslog},
    },
};

/// What the supervisor says that the journal is: device and inode.
const JOURNAL_VAR: &str = "JOURNAL_STREAM";

/// What lines in the system's log begin with.
const PROGRAM: &str = "keycached";

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    /// Standard error as it was, while the agent starts and logs elsewhere.
    starter: Option<File>,
}

/// A place for lines.
enum Place {
    /// Standard error as it is.
    Here,
    File(File),
    Syslog(Syslog),
    /// Standard error for want of another.
    Nowhere(Box<dyn Error + Send + Sync>),
}

impl Log {
    /// Finds the place and begins.
    pub(super) fn open(env: &Env) -> Result<Self, LogError> {
        let filter = LogFilter::default();
        let here = || Telemetry::install(&filter, LogFormat::default());
        let starter = match find(env)? {
            Place::Here => {
                here();
                None
            }
            Place::File(file) => {
                let starter = replace_stderr(&file).map_err(LogError::Stderr)?;
                here();
                Some(starter)
            }
            Place::Syslog(syslog) => {
                let nobody = File::options().write(true).open("/dev/null");
                let starter = nobody.and_then(|nobody| replace_stderr(&nobody));
                let starter = starter.map_err(LogError::Stderr)?;
                Telemetry::install_syslog(&filter, syslog);
                Some(starter)
            }
            Place::Nowhere(error) => {
                here();
                let error = &*error as &dyn Error;
                warn!(error, "neither syslog nor a file can be had for the log");
                None
            }
        };
        Ok(Self { starter })
    }

    /// Whoever started it is told no more, and need not wait for an end.
    pub(super) fn serving(&mut self) {
        self.starter = None;
    }

    /// Why it cannot serve.
    pub(super) fn failed(self, failure: &(dyn Error + 'static)) {
        error!(error = failure, "cannot serve");
        let Some(mut starter) = self.starter else {
            return;
        };
        // Nobody may be left to hear it.
        let _ = writeln!(starter, "{PROGRAM}: cannot serve: {}", chain(failure));
    }
}

/// An error with its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn find(env: &Env) -> Result<Place, LogError> {
    if let Some(path) = env.var(AGENT_LOG_VAR) {
        return Ok(Place::File(open_file(path.as_ref())?));
    }
    if is_journal(env) || io::stderr().is_terminal() {
        return Ok(Place::Here);
    }
    let socket = env.var(SYSLOG_VAR).unwrap_or(syslog::SOCKET.as_ref());
    Ok(match Syslog::open(socket, PROGRAM) {
        Ok(syslog) => Place::Syslog(syslog),
        Err(_) => own_file(env).map_or_else(Place::Nowhere, Place::File),
    })
}

fn is_journal(env: &Env) -> bool {
    let journal = env.var(JOURNAL_VAR).and_then(|value| value.to_str());
    let here = fstat(stderr()).map(|here| format!("{}:{}", here.st_dev, here.st_ino));
    here.is_ok_and(|here| journal == Some(&here))
}

fn own_file(env: &Env) -> Result<File, Box<dyn Error + Send + Sync>> {
    let path = env.agent_log()?;
    ensure_private_dir(path.parent().unwrap_or(&path))?;
    Ok(open_file(&path)?)
}

/// A file that only we can read, from now on at least.
fn open_file(path: &Path) -> Result<File, LogError> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let closed = opened.and_then(|file| {
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    closed.map_err(|source| LogError::File {
        path: path.to_owned(),
        source,
    })
}

/// The standard error that was.
fn replace_stderr(file: &File) -> io::Result<File> {
    const FIRST: i32 = 3;
    let before = fcntl_dupfd_cloexec(stderr(), FIRST)?;
    dup2_stderr(file)?;
    Ok(before.into())
}

/// There is no log where one is wanted.
#[derive(Debug)]
pub(super) enum LogError {
    /// The file cannot be written.
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Standard error cannot be put elsewhere.
    Stderr(io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => {
                let path = path.display();
                write!(f, "cannot write {path}: {AGENT_LOG_VAR} can name another")
            }
            Self::Stderr(_) => f.write_str("cannot replace standard error"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Stderr(source) => Some(source),
        }
    }
}
