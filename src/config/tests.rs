use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Config, ConfigError, ConfigErrors, Origin, Overrides, Recovery, ReloadError};
use crate::paths::{Env, PathError};
use crate::telemetry::LogFormat;

/// A host of its own, with a user's and a host's configuration file.
struct Host {
    root: TempDir,
    env: Env,
    overrides: Overrides,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let env = Env::new(7)
            .with_root(root.path())
            .with("HOME", root.path().join("home"))
            .with("XDG_RUNTIME_DIR", "/run/user/7");
        Self {
            root,
            env,
            overrides: Overrides::default(),
        }
    }

    fn user_file(&self) -> PathBuf {
        self.root.path().join("home/.config/episoded/config.toml")
    }

    fn host_file(&self) -> PathBuf {
        self.root.path().join("etc/episoded/config.toml")
    }

    fn write(self, file: &Path, text: &str) -> Self {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    fn user(self, text: &str) -> Self {
        let file = self.user_file();
        self.write(&file, text)
    }

    fn host(self, text: &str) -> Self {
        let file = self.host_file();
        self.write(&file, text)
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.env = self.env.with(name, value);
        self
    }

    fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.overrides.values.push((key, value.into()));
        self
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(self.overrides.clone(), self.env.clone())
    }
}

/// The errors, each on a line, with the temporary directory as `ROOT`.
fn lines(host: &Host) -> Vec<String> {
    let root = host.root.path().to_str().unwrap();
    let text = host.load().unwrap_err().to_string().replace(root, "ROOT");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_configured_gives_the_defaults() {
    let config = Host::new().load().unwrap();
    assert_eq!(
        config.operator_socket,
        Path::new("/run/user/7/episoded/operator.sock")
    );
    assert_eq!(
        config.session_socket,
        Path::new("/run/user/7/episoded/session/session.sock")
    );
    assert!(config.state_dir.ends_with("home/.local/state/episoded"));
    assert_eq!(config.default_ttl, Some(Duration::from_hours(168)));
    assert_eq!(config.live.terminated_ttl, Duration::from_mins(5));
    assert_eq!(config.live.max_sessions, 1_000_000);
    assert_eq!(config.recovery, Recovery::Keep);
    assert_eq!(config.session_group, None);
    assert!(!config.node.is_empty());
}

#[test]
fn flag_wins_over_variable_over_user_over_host() {
    let mut host =
        Host::new().host("max_sessions = 1\nmax_terminated = 1\nmax_events = 1\nnode = \"etc\"");
    host = host.user("max_sessions = 2\nmax_terminated = 2\nmax_events = 2");
    host = host
        .var("EPISODED_MAX_SESSIONS", "3")
        .var("EPISODED_MAX_TERMINATED", "3");
    host = host.flag("max_sessions", "4");
    let config = host.load().unwrap();
    assert_eq!(config.live.max_sessions, 4);
    assert_eq!(config.live.max_terminated, 3);
    assert_eq!(config.live.max_events, 2);
    assert_eq!(config.node, "etc");
}

#[test]
fn every_key_can_be_set_in_a_file() {
    let config = Host::new()
        .user(
            r#"
            runtime_dir = "/r"
            session_dir = "/s"
            state_dir = "/t"
            session_group = "agents"
            session_uids = [1000, "2000-2999"]
            operator_uids = [5]
            node = "n1"
            log = "warn,episoded=debug"
            log_format = "json"
            recovery = "terminate"
            reflection_on_session = true
            max_sessions = 10
            max_terminated = 11
            default_ttl = 0
            terminated_ttl = "10s"
            event_retention = "1h"
            max_events = 12
            call_timeout = "500ms"
            max_connections = 256
            drain_timeout = "2s"
            "#,
        )
        .load()
        .unwrap();
    assert_eq!(config.session_socket, Path::new("/s/session.sock"));
    assert_eq!(config.default_ttl, None);
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.recovery, Recovery::Terminate);
    assert!(config.live.session_uids.contains(2500));
    assert!(config.live.operator_uids.contains(5));
    assert!(!config.live.operator_uids.contains(1000));
    assert_eq!(config.max_connections, Some(256));
    assert_eq!(config.call_timeout, Duration::from_millis(500));
    assert_eq!(
        config
            .to_toml()
            .lines()
            .filter(|l| l.starts_with('#'))
            .count(),
        0
    );
}

#[test]
fn all_errors_come_at_once_and_name_key_value_place_and_what_is_allowed() {
    let host = Host::new()
        .host("max_sesions = 1\n[limits]\nmax = 2")
        .user("recovery = \"maybe\"\nmax_sessions = \"10\"\nsession_uids = [-1]\ndefault_ttl = \"soon\"")
        .var("EPISODED_LOG", "loud")
        .flag("terminated_ttl", "0s");
    let lines = lines(&host);
    let expect = [
        "ROOT/etc/episoded/config.toml: unknown key \"limits\"",
        "ROOT/etc/episoded/config.toml: unknown key \"max_sesions\"",
        "ROOT/home/.config/episoded/config.toml: recovery is \"maybe\", allowed is keep or terminate",
        "ROOT/home/.config/episoded/config.toml: max_sessions is \"10\", allowed is a number from 1 to 8000000",
        "ROOT/home/.config/episoded/config.toml: session_uids is [-1], allowed is a list of user ids and ranges",
        "ROOT/home/.config/episoded/config.toml: default_ttl is \"soon\", allowed is 0 or a duration from 1s to 3650d",
        "EPISODED_LOG: log is \"loud\", allowed is off, error",
        "--terminated-ttl: terminated_ttl is \"0s\", allowed is a duration from 1s",
    ];
    assert_eq!(lines.len(), expect.len(), "{lines:#?}");
    for start in expect {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start}\n{lines:#?}"
        );
    }
}

#[test]
fn a_bad_value_is_an_error_even_where_another_source_wins() {
    let host = Host::new().user("max_events = 0").flag("max_events", "5");
    let errors = host.load().unwrap_err();
    assert!(matches!(
        errors.iter().next(),
        Some(ConfigError::BadValue { key: "max_events", origin: Origin::File(file), .. })
            if *file == host.user_file()
    ));
}

#[test]
fn text_that_is_not_toml_names_file_and_line() {
    let host = Host::new().user("node = \"n\"\nlog = = 1\n");
    let lines = lines(&host);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("ROOT/home/.config/episoded/config.toml, line 2: not TOML: "),
        "{lines:?}"
    );
    let host = Host::new().user("node = \"a\"\nnode = \"b\"\n");
    assert!(matches!(
        host.load().unwrap_err().iter().next(),
        Some(ConfigError::Syntax { line: 2, .. })
    ));
}

#[test]
fn a_named_file_is_the_only_one_and_must_exist() {
    let mut host = Host::new().user("node = \"user\"").host("max_events = 9");
    let named = host.root.path().join("named.toml");
    host.overrides.config_file = Some(named.clone());
    assert!(matches!(
        host.load().unwrap_err().iter().next(),
        Some(ConfigError::Read { file, .. }) if *file == named
    ));
    let mut host = host.write(&named, "max_sessions = 3");
    let config = host.load().unwrap();
    assert_eq!(config.live.max_sessions, 3);
    assert_eq!(config.live.max_events, 5_000_000);

    host.overrides.config_file = None;
    let host = host.var("EPISODED_CONFIG", named.to_str().unwrap());
    assert_eq!(host.load().unwrap().live.max_sessions, 3);
}

#[test]
fn an_unreadable_or_endless_file_is_an_error() {
    let host = Host::new();
    fs::create_dir_all(host.user_file()).unwrap();
    assert!(matches!(
        host.load().unwrap_err().iter().next(),
        Some(ConfigError::Read { .. })
    ));
    let host = Host::new().user(&"#".repeat((1 << 20) + 1));
    assert!(matches!(
        host.load().unwrap_err().iter().next(),
        Some(ConfigError::Read { .. })
    ));
}

#[test]
fn a_socket_path_that_does_not_fit_is_an_error_of_the_configuration() {
    let host = Host::new().flag("session_dir", &format!("/{}", "d".repeat(100)));
    assert!(matches!(
        host.load().unwrap_err().iter().next(),
        Some(ConfigError::Path(PathError::TooLong { length: 114, .. }))
    ));
}

#[test]
fn the_session_directory_follows_the_runtime_directory() {
    let config = Host::new().flag("runtime_dir", "/r").load().unwrap();
    assert_eq!(config.session_dir, Path::new("/r/session"));
    let config = Host::new()
        .var("RUNTIME_DIRECTORY", "/run/episoded:/run/episoded-session")
        .load()
        .unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/episoded"));
    assert_eq!(config.session_dir, Path::new("/run/episoded-session"));
}

#[test]
fn a_reload_changes_live_keys() {
    let host = Host::new().user("max_sessions = 5\nnode = \"n\"");
    let config = host.load().unwrap();
    let reload = config.reload().unwrap();
    assert!(reload.changed.is_empty());

    let host = host.user("node = \"n\"\nlog = \"debug\"\nsession_uids = [9]");
    let reload = reload.config.reload().unwrap();
    assert_eq!(reload.changed, ["session_uids", "log", "max_sessions"]);
    assert!(reload.config.live.session_uids.contains(9));
    assert_eq!(reload.config.live.max_sessions, 1_000_000);
    assert_eq!(config.live.max_sessions, 5, "the old one is as it was");
    drop(host);
}

#[test]
fn a_reload_with_a_fixed_key_changed_names_it() {
    let host = Host::new().user("max_sessions = 5\nnode = \"n\"");
    let config = host.load().unwrap();
    let _host = host.user("max_sessions = 6\nnode = \"m\"\nstate_dir = \"/elsewhere\"");
    assert!(matches!(
        config.reload(),
        Err(ReloadError::NeedsRestart { keys }) if keys == ["state_dir", "node"]
    ));
}

#[test]
fn a_reload_of_a_bad_file_says_what_is_wrong() {
    let host = Host::new();
    let config = host.load().unwrap();
    let _host = host.user("max_sessions = 6\nnod = \"m\"");
    let Err(ReloadError::Invalid(errors)) = config.reload() else {
        panic!("accepted");
    };
    assert!(errors.to_string().contains("unknown key \"nod\""));
}

#[test]
fn a_reload_keeps_what_a_flag_says() {
    let host = Host::new().flag("max_sessions", "4");
    let config = host.load().unwrap();
    let _host = host.user("max_sessions = 6");
    let reload = config.reload().unwrap();
    assert_eq!(reload.config.live.max_sessions, 4);
    assert!(reload.changed.is_empty());
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let host = Host::new().user("session_uids = [1, \"5-9\"]\ndefault_ttl = \"0\"");
    let config = host.load().unwrap();
    let text = config.to_toml();
    let again = Host::new().user(&text).load().unwrap();
    assert_eq!(again.to_toml(), text);
    assert_eq!(again.live, config.live);
    assert_eq!(again.default_ttl, None);
    assert!(text.contains("# session_group: none\n"), "{text}");
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let text = Host::new().load().unwrap().to_toml();
    let table: toml::Table = text.parse().unwrap();
    for doc in Config::keys() {
        let Ok(default) = format!("x = {}", doc.default).parse::<toml::Table>() else {
            assert!(
                [
                    "runtime_dir",
                    "session_dir",
                    "state_dir",
                    "session_group",
                    "node",
                    "max_connections"
                ]
                .contains(&doc.key),
                "{} has a default that is no value",
                doc.key
            );
            continue;
        };
        assert_eq!(table[doc.key], default["x"], "{}", doc.key);
    }
    assert_eq!(Config::keys().count(), 21);
}

#[test]
fn the_live_keys_are_those_that_sighup_promises() {
    let live: Vec<_> = Config::keys()
        .filter(|key| key.live)
        .map(|key| key.key)
        .collect();
    assert_eq!(
        live,
        [
            "session_uids",
            "operator_uids",
            "log",
            "max_sessions",
            "max_terminated",
            "terminated_ttl",
            "event_retention",
            "max_events",
            "max_manifest_entries"
        ]
    );
    assert!(Config::keys().all(|key| key.env == format!("EPISODED_{}", key.key.to_uppercase())));
}
