//! Where everything lies: sockets, state and configuration files.
//!
//! Owns the rules that turn an environment into paths, and the names of the
//! files. [`Env`] is a snapshot of the environment, so every rule is a function
//! of values; only the last resort under the temp directory looks at the disk,
//! because a directory that anybody can make must be checked before it is used.
//! [`dir`] makes and verifies directories.
//!
//! Refuses relative overrides, socket paths that the kernel would cut off, and
//! a private directory that somebody else made.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

pub mod dir;

pub use dir::{DirError, ensure_own_dir, ensure_private_dir, verify_private_dir};

/// The socket of operators, in the runtime directory.
pub const OPERATOR_SOCKET: &str = "operator.sock";
/// The socket of episodes, in the session directory.
pub const SESSION_SOCKET: &str = "session.sock";
/// The registry, in the state directory.
pub const REGISTRY_DB: &str = "registry.db";
/// The flock'ed file that says which daemon serves the registry.
pub const REGISTRY_LOCK: &str = "registry.lock";
/// The key of all credential digests.
pub const REGISTRY_KEY: &str = "registry.key";
/// Space kept back for the writes that must not fail.
pub const REGISTRY_BALLAST: &str = "registry.ballast";

/// Overrides the runtime directory.
pub const RUNTIME_DIR_VAR: &str = "EPISODED_RUNTIME_DIR";
/// Overrides the session directory.
pub const SESSION_DIR_VAR: &str = "EPISODED_SESSION_DIR";
/// Overrides the state directory.
pub const STATE_DIR_VAR: &str = "EPISODED_STATE_DIR";

/// The socket of the key cache, in its own directory.
pub const AGENT_SOCKET: &str = "agent.sock";
/// The flock'ed file that says which agent serves it.
pub const AGENT_LOCK: &str = "agent.lock";
/// The log of an agent that has no other.
pub const AGENT_LOG: &str = "agent.log";
/// Which lockboxes are unlocked by themselves, beside the configuration of the key
/// cache.
const AUTO_UNLOCK: &str = "auto-unlock.json";

/// Overrides the directory of the key cache.
pub const AGENT_DIR_VAR: &str = "LOCKBOX_SESSION_AGENT_DIR";
/// Names the configuration of the key cache.
pub const AGENT_CONFIG_VAR: &str = "LOCKBOX_AGENT_CONFIG";
/// Names the log of the key cache.
pub const AGENT_LOG_VAR: &str = "LOCKBOX_SESSION_AGENT_LOG";
/// Names the socket of the system's log for the key cache.
pub const SYSLOG_VAR: &str = "LOCKBOX_SYSLOG_SOCKET";
/// Names the configuration of everything that handles lockboxes.
pub const LOCKBOX_CONFIG_VAR: &str = "LOCKBOX_CONFIG";
/// Overrides the agent's `prevent_sleep`.
pub const AGENT_PREVENT_SLEEP_VAR: &str = "LOCKBOX_AGENT_PREVENT_SLEEP";
/// Overrides the agent's `terminate_on_suspend`.
pub const AGENT_TERMINATE_VAR: &str = "LOCKBOX_AGENT_TERMINATE_ON_SUSPEND";

/// `sun_path` holds 108 bytes, one of them the final NUL: unix(7).
pub const MAX_SOCKET_PATH: usize = 107;

/// Our own subdirectory wherever others have theirs too.
const NAME: &str = "episoded";
/// The same of the key cache, which keeps the names that scripts know.
const AGENT_NAME: &str = "lockbox";
/// The session directory of the shipped system unit.
const SESSION_UNIT_NAME: &str = "episoded-session";

/// A snapshot of what paths depend on: variables, uid and the fixed directories.
#[derive(Clone)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
    uid: u32,
    root: PathBuf,
}

impl std::fmt::Debug for Env {
    /// Names only: a value may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            vars: std::env::vars_os().collect(),
            uid: geteuid().as_raw(),
            root: PathBuf::from("/"),
        }
    }

    /// No variables, the given uid.
    pub fn new(uid: u32) -> Self {
        Self {
            vars: BTreeMap::new(),
            uid,
            root: PathBuf::from("/"),
        }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// The same with `/run/user`, `/tmp` and `/etc` looked for under `root`.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// A variable; an empty one counts as unset.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// Effective uid.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// `<run>`: where operator.sock lies.
    pub fn runtime_dir(&self) -> Result<PathBuf, PathError> {
        if let Some(path) = self.override_dir(RUNTIME_DIR_VAR)? {
            return Ok(path);
        }
        if let Some(path) = self.unit_dir("RUNTIME_DIRECTORY", NAME) {
            return Ok(path);
        }
        if let Some(path) = self.xdg_dir("XDG_RUNTIME_DIR") {
            return Ok(path.join(NAME));
        }
        let user = self.root.join("run/user").join(self.uid.to_string());
        if user.is_dir() {
            return Ok(user.join(NAME));
        }
        self.temp_dir(NAME)
    }

    /// Where agent.sock lies.
    pub fn agent_dir(&self) -> Result<PathBuf, PathError> {
        if let Some(path) = self.override_dir(AGENT_DIR_VAR)? {
            return Ok(path);
        }
        match self.xdg_dir("XDG_RUNTIME_DIR") {
            Some(path) => Ok(path.join(AGENT_NAME)),
            None => self.temp_dir(AGENT_NAME),
        }
    }

    /// Where the log of the key cache goes that has no other place.
    pub fn agent_log(&self) -> Result<PathBuf, PathError> {
        let state = self.xdg_dir("XDG_STATE_HOME");
        let home = || self.xdg_dir("HOME").map(|home| home.join(".local/state"));
        let state = state.or_else(home).ok_or(PathError::NoHome)?;
        Ok(state.join(AGENT_NAME).join(AGENT_LOG))
    }

    /// The configuration of the key cache, and whether it must exist.
    pub fn agent_config(&self) -> Option<(PathBuf, bool)> {
        let named = [AGENT_CONFIG_VAR, LOCKBOX_CONFIG_VAR];
        if let Some(path) = named.into_iter().find_map(|name| self.var(name)) {
            return Some((path.into(), true));
        }
        let config = self.config_home()?;
        Some((config.join(AGENT_NAME).join("config.toml"), false))
    }

    /// The list of lockboxes whose key may come out of the secret store; none where
    /// nothing says where it lies.
    pub fn auto_unlock(&self) -> Option<PathBuf> {
        let config = self.config_home()?;
        Some(config.join(AGENT_NAME).join(AUTO_UNLOCK))
    }

    /// Where session.sock lies, if `<run>` is as [`Env::runtime_dir`] says.
    pub fn session_dir(&self) -> Result<PathBuf, PathError> {
        if let Some(path) = self.session_dir_override()? {
            return Ok(path);
        }
        Ok(default_session_dir(&self.runtime_dir()?))
    }

    /// The session directory that the environment names, whatever `<run>` is.
    pub fn session_dir_override(&self) -> Result<Option<PathBuf>, PathError> {
        let named = self.override_dir(SESSION_DIR_VAR)?;
        Ok(named.or_else(|| self.unit_dir("RUNTIME_DIRECTORY", SESSION_UNIT_NAME)))
    }

    /// Where the registry lies.
    pub fn state_dir(&self) -> Result<PathBuf, PathError> {
        if let Some(path) = self.override_dir(STATE_DIR_VAR)? {
            return Ok(path);
        }
        if let Some(path) = self.unit_dir("STATE_DIRECTORY", NAME) {
            return Ok(path);
        }
        if let Some(path) = self.xdg_dir("XDG_STATE_HOME") {
            return Ok(path.join(NAME));
        }
        match self.xdg_dir("HOME") {
            Some(home) => Ok(home.join(".local/state").join(NAME)),
            None => Err(PathError::NoHome),
        }
    }

    /// The socket an operator connects to.
    pub fn operator_socket(&self) -> Result<PathBuf, PathError> {
        socket_path(&self.runtime_dir()?, OPERATOR_SOCKET)
    }

    /// The socket an episode connects to.
    pub fn session_socket(&self) -> Result<PathBuf, PathError> {
        socket_path(&self.session_dir()?, SESSION_SOCKET)
    }

    /// The configuration files, the one that wins first. They need not exist.
    pub fn config_files(&self) -> Vec<PathBuf> {
        self.config_home()
            .into_iter()
            .chain([self.root.join("etc")])
            .map(|dir| dir.join(NAME).join("config.toml"))
            .collect()
    }

    /// Where the user's own configuration lies.
    fn config_home(&self) -> Option<PathBuf> {
        self.xdg_dir("XDG_CONFIG_HOME")
            .or_else(|| self.xdg_dir("HOME").map(|home| home.join(".config")))
    }

    /// An override of ours: what the user typed is used or refused, never skipped.
    fn override_dir(&self, variable: &'static str) -> Result<Option<PathBuf>, PathError> {
        match self.var(variable).map(PathBuf::from) {
            Some(path) if path.is_relative() => Err(PathError::Relative { variable, path }),
            path => Ok(path),
        }
    }

    /// A directory variable of others; the XDG specification has relative ones ignored.
    fn xdg_dir(&self, variable: &str) -> Option<PathBuf> {
        self.var(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }

    /// The entry of a systemd directory list that is ours by its last component.
    ///
    /// The list is inherited by every child of any unit, so an entry with
    /// another name belongs to another service.
    fn unit_dir(&self, variable: &str, name: &str) -> Option<PathBuf> {
        self.var(variable)?
            .as_bytes()
            .split(|byte| *byte == b':')
            .map(|entry| PathBuf::from(OsStr::from_bytes(entry)))
            .find(|path| path.is_absolute() && path.file_name() == Some(OsStr::new(name)))
    }

    /// The last resort: a directory of our own where everybody may make one.
    fn temp_dir(&self, name: &str) -> Result<PathBuf, PathError> {
        let temp = self
            .xdg_dir("TMPDIR")
            .unwrap_or_else(|| self.root.join("tmp"));
        let path = temp.join(format!("{name}-{}", self.uid));
        match dir::verify_shared_parent(&temp).and_then(|()| verify_private_dir(&path)) {
            Err(source) if !source.is_missing() => Err(PathError::Untrusted { path, source }),
            _ => Ok(path),
        }
    }
}

/// The session directory inside a runtime directory.
pub fn default_session_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("session")
}

/// `dir/name`, if the kernel takes it as a socket address.
pub fn socket_path(dir: &Path, name: &str) -> Result<PathBuf, PathError> {
    let path = dir.join(name);
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(PathError::TooLong { path, length });
    }
    Ok(path)
}

/// Why a path cannot be used.
#[derive(Debug)]
pub enum PathError {
    /// An override is not absolute.
    Relative {
        /// The variable that holds it.
        variable: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// Nothing says where state may be kept.
    NoHome,
    /// The path does not fit a socket address.
    TooLong {
        /// The whole path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The private directory under the temp directory cannot be trusted.
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: DirError,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative { variable, path } => {
                write!(f, "{variable} is not absolute: {}", path.display())
            }
            Self::NoHome => write!(
                f,
                "no state directory: set {STATE_DIR_VAR}, XDG_STATE_HOME or HOME"
            ),
            Self::TooLong { path, length } => write!(
                f,
                "socket path has {length} bytes, at most {MAX_SOCKET_PATH} fit: {}",
                path.display()
            ),
            Self::Untrusted { path, .. } => write!(
                f,
                "cannot use {}; set XDG_RUNTIME_DIR or {RUNTIME_DIR_VAR}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Untrusted { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
