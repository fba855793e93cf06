//! The command line of `episoded`.
//!
//! Owns the flags and the exit codes. A flag that is a key of the configuration
//! is carried as it was typed, because the table of keys alone knows what it
//! takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use crate::config::Overrides;

/// It served, and was stopped.
pub const EXIT_STOPPED: u8 = 0;
/// The command line is wrong: `EX_USAGE`.
pub const EXIT_USAGE: u8 = 64;
/// The registry is foreign, newer or corrupt: `EX_DATAERR`.
pub const EXIT_BAD_DATA: u8 = 65;
/// Sockets or directories cannot be had: `EX_UNAVAILABLE`.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The store failed and the outcome of a commit is unknown: `EX_IOERR`.
pub const EXIT_STORE_FAILED: u8 = 74;
/// Another daemon holds the state: `EX_TEMPFAIL`.
pub const EXIT_HELD: u8 = 75;
/// The configuration is wrong: `EX_CONFIG`.
pub const EXIT_BAD_CONFIG: u8 = 78;

const AFTER_HELP: &str = "\
Every key of the configuration can also be set as EPISODED_<KEY> and in a file:
flag, then variable, then $XDG_CONFIG_HOME/episoded/config.toml, then
/etc/episoded/config.toml. SIGHUP reads the files again, SIGTERM stops.

Examples:
  episoded
          Serve with state in $XDG_STATE_HOME/episoded
  episoded --log debug --state-dir /tmp/try/state --runtime-dir /tmp/try/run
          Try something apart from the daemon that runs already
  episoded --check-config
          Say what would be in force, as TOML, or everything that is wrong
  episoded --restore backup.db
          Start from a backup; the digest key file that belongs to it must lie
          beside the registry

Exit codes:
  0   stopped
  64  the command line is wrong
  65  the registry is foreign, newer or corrupt; it was not touched
  69  sockets or directories cannot be had
  74  the store failed; start again
  75  another daemon holds the state
  78  the configuration is wrong";

/// Local control plane for agent episodes.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "episoded", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Read this file instead of the user's and the host's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory of operator.sock
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<OsString>,

    /// Directory of session.sock
    #[arg(long, value_name = "DIR")]
    pub session_dir: Option<OsString>,

    /// Directory of the registry
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<OsString>,

    /// Name of this host in sessions, events and answers
    #[arg(long, value_name = "NAME")]
    pub node: Option<OsString>,

    /// What is logged: off, error, warn, info, debug, trace, module=LEVEL
    #[arg(long, value_name = "FILTER")]
    pub log: Option<OsString>,

    /// How it is logged: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<OsString>,

    /// What becomes of sessions that were live: keep or terminate
    #[arg(long, value_name = "WHAT")]
    pub recovery: Option<OsString>,

    /// Live sessions at most
    #[arg(long, value_name = "COUNT")]
    pub max_sessions: Option<OsString>,

    /// Termination records at most
    #[arg(long, value_name = "COUNT")]
    pub max_terminated: Option<OsString>,

    /// How long a termination record answers queries
    #[arg(long, value_name = "DURATION")]
    pub terminated_ttl: Option<OsString>,

    /// Life of a session registered without a deadline; 0 is for ever
    #[arg(long, value_name = "DURATION")]
    pub default_ttl: Option<OsString>,

    /// Put this backup in the place of the registry, then serve it
    #[arg(long, value_name = "FILE", conflicts_with = "check_config")]
    pub restore: Option<PathBuf>,

    /// Write the configuration in force to stdout, as TOML, and exit
    #[arg(long)]
    pub check_config: bool,
}

impl Args {
    /// What they say about the configuration.
    pub fn overrides(&self) -> Overrides {
        let values = [
            ("runtime_dir", &self.runtime_dir),
            ("session_dir", &self.session_dir),
            ("state_dir", &self.state_dir),
            ("node", &self.node),
            ("log", &self.log),
            ("log_format", &self.log_format),
            ("recovery", &self.recovery),
            ("max_sessions", &self.max_sessions),
            ("max_terminated", &self.max_terminated),
            ("terminated_ttl", &self.terminated_ttl),
            ("default_ttl", &self.default_ttl),
        ];
        Overrides {
            config_file: self.config.clone(),
            values: values
                .into_iter()
                .filter_map(|(key, value)| Some((key, value.clone()?)))
                .collect(),
        }
    }
}

/// The exit code for what `Args::try_parse` answered instead of arguments.
pub fn usage_exit_code(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => EXIT_STOPPED,
        _ => EXIT_USAGE,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory as _, Parser as _};

    use super::{Args, usage_exit_code};
    use crate::config::{Config, ConfigError, Origin};
    use crate::paths::Env;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["episoded"], args].concat())
    }

    #[test]
    fn the_definition_is_sound_and_documents_the_exit_codes() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for code in ["0 ", "64", "65", "69", "74", "75", "78"] {
            assert!(help.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn every_flag_of_the_configuration_reaches_its_key() {
        let given = [
            ("runtime_dir", "/r"),
            ("session_dir", "/s"),
            ("state_dir", "/t"),
            ("node", "n"),
            ("log", "warn"),
            ("log_format", "json"),
            ("recovery", "terminate"),
            ("max_sessions", "1"),
            ("max_terminated", "2"),
            ("terminated_ttl", "3s"),
            ("default_ttl", "4h"),
        ];
        let flags: Vec<_> = given
            .iter()
            .map(|(key, value)| format!("--{}={value}", key.replace('_', "-")))
            .collect();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let args = parse(&flags).unwrap();
        let overrides = args.overrides();
        assert_eq!(
            overrides.values,
            given.map(|(key, value)| (key, value.into()))
        );
        let config = Config::load(overrides, Env::new(7).with_root("/nonexistent")).unwrap();
        assert_eq!(config.session_socket, Path::new("/s/session.sock"));
        assert_eq!(config.live.max_terminated, 2);
    }

    #[test]
    fn a_bad_value_names_the_flag() {
        let overrides = parse(&["--max-sessions", "many"]).unwrap().overrides();
        let env = Env::new(7)
            .with_root("/nonexistent")
            .with("HOME", "/nonexistent");
        let errors = Config::load(overrides, env).unwrap_err();
        assert!(matches!(
            errors.iter().next(),
            Some(ConfigError::BadValue { origin: Origin::Flag(flag), .. }) if flag == "--max-sessions"
        ));
    }

    #[test]
    fn usage_errors_are_told_from_help() {
        for bad in [
            &["--no-such-flag"][..],
            &["serve"],
            &["--node"],
            &["--check-config", "--restore", "f"],
        ] {
            assert_eq!(usage_exit_code(&parse(bad).unwrap_err()), 64, "{bad:?}");
        }
        for good in ["--help", "--version"] {
            assert_eq!(usage_exit_code(&parse(&[good]).unwrap_err()), 0);
        }
    }
}
