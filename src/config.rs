//! The configuration of the daemon.
//!
//! Owns the order in which sources win: flag, variable, the user's file, the
//! host's file, default. [`Config`] is made at the start and is not changed;
//! a reload makes a new one, which differs in its [`Live`] part only.
//!
//! Refuses unknown keys and values that a key does not take, wherever they
//! stand, also where another source would win; all of them are reported at
//! once. A reload that is refused changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths::{self, Env};
use crate::telemetry::{LogFilter, LogFormat};

mod error;
mod file;
mod keys;
mod uids;
mod value;

pub(crate) use file::read_text;

pub use error::{ConfigError, ConfigErrors, Origin, ReloadError};
pub use keys::KeyDoc;
pub use uids::{UidRange, UidRangeError, UidSet};
pub use value::{format_duration, parse_duration};

use keys::{KEYS, Key, Settings};
use value::Raw;

/// The variable that does what `--config` does.
const CONFIG_VAR: &str = "EPISODED_CONFIG";

/// What a start does with the sessions that were live before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recovery {
    /// They are live again, their leases revoked.
    #[default]
    Keep,
    /// They are terminated with reason `daemon_restart`.
    Terminate,
}

/// What SIGHUP can change.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Which lines are logged.
    pub log: LogFilter,
    /// Live sessions at most.
    pub max_sessions: u64,
    /// Termination records at most.
    pub max_terminated: u64,
    /// Life of a termination record.
    pub terminated_ttl: Duration,
    /// Life of a past event.
    pub event_retention: Duration,
    /// Past events at most.
    pub max_events: u64,
    /// Entries of a manifest at most.
    pub max_manifest_entries: u64,
    /// Other users of session.sock.
    pub session_uids: UidSet,
    /// Other users of operator.sock.
    pub operator_uids: UidSet,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            log: LogFilter::default(),
            max_sessions: 1_000_000,
            max_terminated: 1_000_000,
            terminated_ttl: Duration::from_mins(5),
            event_retention: Duration::from_hours(7 * 24),
            max_events: 5_000_000,
            max_manifest_entries: 10_000,
            session_uids: UidSet::default(),
            operator_uids: UidSet::default(),
        }
    }
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The only file to read, which then must exist.
    pub config_file: Option<PathBuf>,
    /// Values by key, as typed; a flag is its key with `-` for `_`.
    pub values: Vec<(&'static str, std::ffi::OsString)>,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of operator.sock.
    pub runtime_dir: PathBuf,
    /// Directory of session.sock.
    pub session_dir: PathBuf,
    /// Directory of the registry.
    pub state_dir: PathBuf,
    /// `runtime_dir/operator.sock`; fits a socket address.
    pub operator_socket: PathBuf,
    /// `session_dir/session.sock`; fits a socket address.
    pub session_socket: PathBuf,
    /// Group that may pass through `session_dir`: a name, or a number as text.
    pub session_group: Option<String>,
    /// Name of this host.
    pub node: String,
    /// How lines are logged.
    pub log_format: LogFormat,
    /// What this start does with sessions that were live.
    pub recovery: Recovery,
    /// Whether session.sock answers server reflection.
    pub reflection_on_session: bool,
    /// Life of a session registered without a deadline; `None` is for ever.
    pub default_ttl: Option<Duration>,
    /// Deadline of unary calls.
    pub call_timeout: Duration,
    /// Connections at most; `None`: what the file limit allows.
    pub max_connections: Option<u64>,
    /// How long a stopping daemon waits.
    pub drain_timeout: Duration,
    /// What SIGHUP can change.
    pub live: Live,
    settings: Settings,
    overrides: Overrides,
    env: Env,
}

/// A reload that was accepted.
#[derive(Debug)]
pub struct Reload {
    /// The configuration from now on.
    pub config: Config,
    /// The keys that differ.
    pub changed: Vec<&'static str>,
}

impl Config {
    /// Reads all sources.
    pub fn load(overrides: Overrides, env: Env) -> Result<Self, ConfigErrors> {
        let settings = collect(&overrides, &env)?;
        resolve(settings, overrides, env)
    }

    /// Reads the files again; flags and variables are those of the start.
    pub fn reload(&self) -> Result<Reload, ReloadError> {
        let settings = collect(&self.overrides, &self.env).map_err(ReloadError::Invalid)?;
        let (live, fixed): (Vec<&Key>, Vec<&Key>) = KEYS
            .iter()
            .filter(|key| (key.show)(&settings) != (key.show)(&self.settings))
            .partition(|key| key.live);
        if !fixed.is_empty() {
            return Err(ReloadError::NeedsRestart {
                keys: fixed.iter().map(|key| key.name).collect(),
            });
        }
        // What a default depended on may have changed since: only the live part is taken.
        let mut config = self.clone();
        config.live = settings.live.clone();
        config.settings = settings;
        Ok(Reload {
            config,
            changed: live.iter().map(|key| key.name).collect(),
        })
    }

    /// The table of keys, for documents.
    pub fn keys() -> impl Iterator<Item = KeyDoc> {
        KEYS.iter().map(Key::doc)
    }

    /// What is in force, as a file that would say the same.
    pub fn to_toml(&self) -> String {
        let resolved = Settings {
            runtime_dir: Some(self.runtime_dir.clone()),
            session_dir: Some(self.session_dir.clone()),
            state_dir: Some(self.state_dir.clone()),
            node: Some(self.node.clone()),
            ..self.settings.clone()
        };
        let mut text = String::new();
        for key in &KEYS {
            let line = match (key.show)(&resolved) {
                Some(value) => format!("{} = {value}\n", key.name),
                None => format!("# {}: {}\n", key.name, key.doc().default),
            };
            text.push_str(&line);
        }
        text
    }
}

/// What all sources say together, the weakest first so that the strongest stays.
fn collect(overrides: &Overrides, env: &Env) -> Result<Settings, ConfigErrors> {
    let mut errors = Vec::new();
    let mut given: Vec<(&'static Key, Raw, Origin)> = Vec::new();
    let named = overrides
        .config_file
        .clone()
        .or_else(|| env.var(CONFIG_VAR).map(PathBuf::from));
    let required = named.is_some();
    let files = named.map_or_else(|| env.config_files(), |file| vec![file]);
    for path in files.into_iter().rev() {
        let values = file::read(&path, required, &mut errors);
        given.extend(
            values
                .into_iter()
                .map(|(key, raw)| (key, raw, Origin::File(path.clone()))),
        );
    }
    for key in &KEYS {
        let name = key.env();
        if let Some(value) = env.var(&name) {
            given.push((key, Raw::Text(value.to_owned()), Origin::Variable(name)));
        }
    }
    for (name, value) in &overrides.values {
        let key = Key::find(name).expect("a flag carries the name of a key");
        let flag = format!("--{}", name.replace('_', "-"));
        given.push((key, Raw::Text(value.clone()), Origin::Flag(flag)));
    }
    let mut settings = Settings::default();
    for (key, raw, origin) in given {
        if let Err(value::Allowed(allowed)) = (key.assign)(&mut settings, &raw) {
            errors.push(ConfigError::BadValue {
                key: key.name,
                value: raw.describe(),
                allowed: allowed.into_owned(),
                origin,
            });
        }
    }
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigErrors(errors))
    }
}

/// Finds out the defaults that depend on the host.
fn resolve(settings: Settings, overrides: Overrides, env: Env) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<PathBuf, paths::PathError>| {
        result.unwrap_or_else(|error| {
            errors.push(ConfigError::Path(error));
            PathBuf::new()
        })
    };
    let given = settings.clone();
    let runtime_dir = keep(given.runtime_dir.map_or_else(|| env.runtime_dir(), Ok));
    let session_dir = keep(match given.session_dir {
        Some(path) => Ok(path),
        None => env
            .session_dir_override()
            .map(|path| path.unwrap_or_else(|| paths::default_session_dir(&runtime_dir))),
    });
    let state_dir = keep(given.state_dir.map_or_else(|| env.state_dir(), Ok));
    let operator_socket = keep(paths::socket_path(&runtime_dir, paths::OPERATOR_SOCKET));
    let session_socket = keep(paths::socket_path(&session_dir, paths::SESSION_SOCKET));
    for (other, directory) in [("runtime_dir", &runtime_dir), ("state_dir", &state_dir)] {
        if is_same(&session_dir, directory) {
            let path = session_dir.clone();
            errors.push(ConfigError::SharedDirectory { path, other });
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    Ok(Config {
        runtime_dir,
        session_dir,
        state_dir,
        operator_socket,
        session_socket,
        session_group: given.session_group,
        node: given.node.unwrap_or_else(host_name),
        log_format: given.log_format,
        recovery: given.recovery,
        reflection_on_session: given.reflection_on_session,
        default_ttl: given.default_ttl,
        call_timeout: given.call_timeout,
        max_connections: given.max_connections,
        drain_timeout: given.drain_timeout,
        live: given.live,
        settings,
        overrides,
        env,
    })
}

/// Whether both name one directory, which need not be there yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        path.canonicalize()
            .or_else(|_| std::path::absolute(path))
            .ok()
    };
    real(one) == real(other)
}

/// The host name in the form that `node` takes.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let usable = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if usable { name } else { "localhost".to_owned() }
}

#[cfg(test)]
mod tests;
