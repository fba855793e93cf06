//! The configuration of the key cache: the table `[agent]` of a file that may belong
//! to other programs too, whose tables are theirs. The environment overrides what
//! is said about sleep.
//!
//! Refuses a key of `[agent]` that is not known, a file that was named and is not
//! there, and a variable that says neither yes nor no.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;

use serde::Deserialize;

use crate::config::read_text;
use crate::paths::{AGENT_PREVENT_SLEEP_VAR, AGENT_TERMINATE_VAR, Env};

/// Ten minutes: what source 001 gives an agent with nothing to keep.
const IDLE_EXIT: Duration = Duration::from_mins(10);

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Keep keys even where memory cannot be locked.
    pub allow_unlocked_memory: bool,
    /// Use memfd_secret(2) where the kernel has it.
    pub secret_memory: bool,
    /// Ends after so long with nothing to keep; none: never.
    pub idle_exit: Option<Duration>,
    /// A key is kept for so long without a use at most, whatever was asked for; none: as
    /// asked.
    pub max_ttl: Option<Duration>,
    /// What is done about the machine's sleep.
    pub sleep: SleepConfig,
}

/// What is done about the machine's sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SleepConfig {
    /// Keep the machine awake while a program has a secret in hand.
    pub prevent: bool,
    /// End such programs before the machine sleeps all the same.
    pub terminate: bool,
}

impl Default for SleepConfig {
    fn default() -> Self {
        Self {
            prevent: true,
            terminate: true,
        }
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            allow_unlocked_memory: false,
            secret_memory: true,
            idle_exit: Some(IDLE_EXIT),
            max_ttl: None,
            sleep: SleepConfig::default(),
        }
    }
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    agent: Table,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    allow_unlocked_memory: Option<bool>,
    secret_memory: Option<bool>,
    idle_exit: Option<String>,
    max_ttl: Option<String>,
    #[serde(alias = "suspend_inhibit")]
    prevent_sleep: Option<bool>,
    terminate_on_suspend: Option<bool>,
}

impl AgentConfig {
    /// Reads the file that the environment names, and what the environment says.
    pub fn read(env: &Env) -> Result<Self, ConfigError> {
        let mut config = Self::of_file(env)?;
        for (name, setting) in [
            (AGENT_PREVENT_SLEEP_VAR, &mut config.sleep.prevent),
            (AGENT_TERMINATE_VAR, &mut config.sleep.terminate),
        ] {
            if let Some(text) = env.var(name) {
                *setting = yes_or_no(&text.to_string_lossy()).ok_or_else(|| ConfigError {
                    path: name.into(),
                    why: format!("{}: must be true or false", text.display()),
                })?;
            }
        }
        Ok(config)
    }

    fn of_file(env: &Env) -> Result<Self, ConfigError> {
        let Some((path, named)) = env.agent_config() else {
            return Ok(Self::default());
        };
        match read(&path) {
            Ok(text) => Self::parse(&text).map_err(|why| ConfigError { path, why }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => Ok(Self::default()),
            Err(error) => Err(ConfigError {
                path,
                why: error.to_string(),
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let default = Self::default();
        let idle_exit = match file.agent.idle_exit.as_deref() {
            None => default.idle_exit,
            Some("never") => None,
            Some(text) => Some(seconds(text).ok_or_else(|| {
                format!("agent.idle_exit = {text:?}: must be a number of seconds such as \"600s\", or \"never\"")
            })?),
        };
        let max_ttl = file.agent.max_ttl.as_deref().map(|text| {
            seconds(text).ok_or_else(|| {
                format!("agent.max_ttl = {text:?}: must be a number of seconds such as \"3600s\"")
            })
        });
        let agent = file.agent;
        Ok(Self {
            allow_unlocked_memory: agent
                .allow_unlocked_memory
                .unwrap_or(default.allow_unlocked_memory),
            secret_memory: agent.secret_memory.unwrap_or(default.secret_memory),
            idle_exit,
            max_ttl: max_ttl.transpose()?,
            sleep: SleepConfig {
                prevent: agent.prevent_sleep.unwrap_or(true),
                terminate: agent.terminate_on_suspend.unwrap_or(true),
            },
        })
    }
}

/// A plain file: whoever reads another may wait for ever.
fn read(path: &Path) -> io::Result<String> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    read_text(file)
}

fn yes_or_no(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let number: u32 = text.strip_suffix('s')?.parse().ok()?;
    (number > 0).then(|| Duration::from_secs(number.into()))
}

/// A file or a variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::AgentConfig;

    #[test]
    fn tables_of_others_are_theirs_and_what_is_not_said_is_as_ever() {
        let config = AgentConfig::parse("[vault]\nx = 1\n").unwrap();
        assert_eq!(config, AgentConfig::default());
        assert_eq!(config.idle_exit, Some(Duration::from_mins(10)));
        assert!(config.sleep.prevent && config.sleep.terminate);
    }

    #[test]
    fn what_is_said_about_sleep_has_two_names_and_an_override() {
        for key in ["prevent_sleep", "suspend_inhibit"] {
            let config = AgentConfig::parse(&format!("[agent]\n{key} = false")).unwrap();
            assert!(!config.sleep.prevent && config.sleep.terminate, "{key}");
        }
        for (text, means) in [
            ("TRUE", Some(true)),
            ("1", Some(true)),
            ("off", Some(false)),
            ("", None),
            ("2", None),
        ] {
            assert_eq!(super::yes_or_no(text), means, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_in_force() {
        let text =
            "[agent]\nallow_unlocked_memory = true\nsecret_memory = false\nidle_exit = \"never\"\n";
        let config = AgentConfig::parse(text).unwrap();
        assert!(config.allow_unlocked_memory && !config.secret_memory);
        assert_eq!(config.idle_exit, None);
        let config = AgentConfig::parse("[agent]\nidle_exit = \"5s\"").unwrap();
        assert_eq!(config.idle_exit, Some(Duration::from_secs(5)));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (text, named) in [
            ("[agent]\nidel_exit = \"5s\"", "idel_exit"),
            ("[agent]\nidle_exit = \"0s\"", "idle_exit"),
            ("[agent]\nidle_exit = \"5m\"", "idle_exit"),
            ("[agent]\nmax_ttl = \"never\"", "max_ttl"),
            (
                "[agent]\nallow_unlocked_memory = 1",
                "allow_unlocked_memory",
            ),
            ("[agent]\nprevent_sleep = \"no\"", "prevent_sleep"),
            (
                "[agent]\nprevent_sleep = true\nsuspend_inhibit = true",
                "prevent_sleep",
            ),
        ] {
            let refused = AgentConfig::parse(text).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
