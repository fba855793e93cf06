//! The configuration of the key cache: the table `[agent]` of a file that may belong
//! to other programs too, whose tables are theirs.
//!
//! Refuses a key of `[agent]` that is not known, and a file that was named and is
//! not there.

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::paths::Env;

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
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            allow_unlocked_memory: false,
            secret_memory: true,
            idle_exit: Some(IDLE_EXIT),
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
}

impl AgentConfig {
    /// Reads the file that the environment names.
    pub fn read(env: &Env) -> Result<Self, ConfigError> {
        let Some((path, named)) = env.agent_config() else {
            return Ok(Self::default());
        };
        match std::fs::read_to_string(&path) {
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
        let agent = file.agent;
        Ok(Self {
            allow_unlocked_memory: agent
                .allow_unlocked_memory
                .unwrap_or(default.allow_unlocked_memory),
            secret_memory: agent.secret_memory.unwrap_or(default.secret_memory),
            idle_exit,
        })
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let number: u32 = text.strip_suffix('s')?.parse().ok()?;
    (number > 0).then(|| Duration::from_secs(number.into()))
}

/// A file that cannot be used.
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
            (
                "[agent]\nallow_unlocked_memory = 1",
                "allow_unlocked_memory",
            ),
        ] {
            let refused = AgentConfig::parse(text).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
