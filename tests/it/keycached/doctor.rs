//! `episodectl doctor`: what it says of an agent, a daemon and a host, and that it
//! changes none of them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use episoded::proto::keycache::StatusResponse;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use super::agent::KEYCACHED;
use super::bus::Bus;
use super::home::Home;
use super::{HANG, STRANGER, as_stranger, chmod, impostor, until};
use crate::harness::{Daemon, EPISODECTL, need_command, need_root};

const AGENT: [&str; 8] = [
    "agent-directory",
    "agent-socket",
    "agent",
    "agent-version",
    "agent-memory",
    "agent-process",
    "agent-core-dumps",
    "agent-inhibitor",
];
const HOST: [&str; 3] = ["memory-limit", "bus", "clock"];
const DAEMON: [&str; 7] = [
    "daemon-directory",
    "operator-socket",
    "daemon",
    "daemon-version",
    "session-directory",
    "session-socket",
    "daemon-session",
];
const WALLS: [&str; 4] = [
    "wall-own-uid",
    "wall-other-uid",
    "wall-namespace",
    "wall-firewall",
];

/// What it said, and its exit code.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    state: String,
    checks: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(output: &Output) -> Self {
        assert_eq!(output.stderr, b"", "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        Self {
            code: output.status.code(),
            state: text(&report["state"]),
            checks: report["checks"].as_array().expect("there are some").clone(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.checks
            .iter()
            .map(|check| text(&check["name"]))
            .collect()
    }

    /// Its state, what was found, and the mend.
    #[track_caller]
    fn check(&self, name: &str) -> (String, String, String) {
        let found = self.checks.iter().find(|check| check["name"] == name);
        let check = found.unwrap_or_else(|| panic!("no {name}: {self:?}"));
        let (state, mend) = (text(&check["state"]), text(&check["mend"]));
        assert_eq!(mend.is_empty(), state == "OK", "{check}");
        (state, text(&check["what"]), mend)
    }

    fn state(&self, name: &str) -> String {
        self.check(name).0
    }

    /// The names of the checks in that state.
    fn that_are(&self, state: &str) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| self.state(name) == state);
        names
    }

    /// The one check that failed, what was found, and the mend.
    #[track_caller]
    fn failed(&self, name: &str) -> (String, String) {
        assert_eq!((self.code, &*self.state), (Some(1), "FAILED"), "{self:?}");
        assert_eq!(self.that_are("FAILED"), [name], "{self:?}");
        let (_, what, mend) = self.check(name);
        (what, mend)
    }

    #[track_caller]
    fn has_none_failed(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.that_are("FAILED").is_empty(), "{self:?}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is text").to_owned()
}

#[track_caller]
fn doctor(home: &Home) -> Report {
    Report::of(&home.run(&["--format", "json", "doctor"]))
}

/// The home of a user whose daemon that is.
fn beside(daemon: &Daemon) -> Home {
    let runtime = daemon.dirs().runtime().display().to_string();
    Home::new().with("EPISODED_RUNTIME_DIR", runtime)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_an_agent_a_daemon_and_a_bus() {
    let daemon = Daemon::start().await;
    let Some(bus) = tokio::task::block_in_place(Bus::new) else {
        return;
    };
    let home = beside(&daemon).with("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    home.put("id", b"key");
    let (mut report, all) = (doctor(&home), [&AGENT[..], &HOST, &DAEMON, &WALLS].concat());
    until("the agent hears logind", HANG, || {
        report = doctor(&home);
        report.state("agent-inhibitor") == "OK"
    });
    assert_eq!(report.names(), all);
    report.has_none_failed();
    let warnings = report.that_are("WARNING");
    let of_the_host = ["memory-limit".to_owned()];
    assert!(
        warnings.iter().all(|name| of_the_host.contains(name)),
        "{report:?}"
    );
    let version = report.check("agent-version").1;
    assert!(version.starts_with(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(report.check("agent").1.contains(&home.pid().to_string()));

    let lines = home.ok(&["--format", "jsonl", "doctor"]);
    let lines = String::from_utf8(lines).expect("it is text");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
    assert_eq!(
        lines.map(|check| text(&check["name"])).collect::<Vec<_>>(),
        all
    );
    let table = String::from_utf8(home.ok(&["doctor"])).expect("it is text");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["CHECK", "STATE", "FOUND", "MEND"]);
    assert_eq!(rows[1][..2], ["agent-directory", "ok"]);
    assert_eq!(
        rows.last().expect("there are some")[..3],
        ["wall-firewall", "no", "wall:"]
    );
    tokio::task::block_in_place(|| drop(bus));
}

#[test]
fn a_host_without_agent_and_daemon_has_nothing_failed_and_nothing_started() {
    let home = Home::new();
    let report = doctor(&home);
    report.has_none_failed();
    assert_eq!(
        report.names(),
        [&AGENT[..3], &HOST, &DAEMON[..3], &DAEMON[4..6], &WALLS].concat()
    );
    let (state, what, _) = report.check("agent");
    assert!(state == "OK" && what.contains("no agent runs"), "{what}");
    let (state, what, mend) = report.check("daemon");
    assert!(what.contains("no episoded runs"), "{what}");
    assert_eq!((&*state, &*mend), ("WARNING", "episodectl server start"));
    let made = fs::read_dir(home.root().join("run")).expect("it is there");
    assert_eq!(made.count(), 0);
    assert!(!home.log().exists());
}

/// As systemd makes it, which starts an agent for whoever connects.
#[test]
fn a_socket_that_no_agent_serves_is_not_connected_to() {
    let home = Home::new();
    fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o700);
    let listener = UnixListener::bind(home.socket()).unwrap();
    listener.set_nonblocking(true).unwrap();
    chmod(&home.socket(), 0o600);
    for lock in [None, Some(""), Some("4194305\n")] {
        if let Some(pid) = lock {
            fs::write(home.directory().join("agent.lock"), pid).unwrap();
        }
        let report = doctor(&home);
        report.has_none_failed();
        assert!(
            report.check("agent").1.contains("no agent runs"),
            "{report:?}"
        );
        let came = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "{lock:?}");
    }
}

#[test]
fn a_directory_or_socket_that_is_open_to_others_failed_until_mended() {
    let home = Home::new();
    home.put("id", b"key");
    for (name, path, mode) in [
        ("agent-directory", home.directory(), 0o755),
        ("agent-directory", home.directory(), 0o710),
        ("agent-socket", home.socket(), 0o666),
        ("agent-socket", home.socket(), 0o660),
    ] {
        chmod(&path, mode);
        let report = doctor(&home);
        let (what, mend) = report.failed(name);
        assert!(what.contains(&format!("{mode:04o}")), "{what}");
        assert!(
            report
                .check("wall-other-uid")
                .1
                .contains("not known to hold")
        );
        home.shell(&mend);
        doctor(&home).has_none_failed();
        assert_ne!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode
        );
    }
    assert_eq!(home.ok(&["key", "get", "id", "--out", "-"]), b"key");
}

#[test]
fn what_lies_in_the_place_of_another_thing_failed_until_moved_away() {
    let home = Home::new();
    let elsewhere = home.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    chmod(&elsewhere, 0o700);
    symlink(&elsewhere, home.directory()).unwrap();
    let (what, mend) = doctor(&home).failed("agent-directory");
    assert!(what.contains("a symlink, not a directory"), "{what}");
    home.shell(&mend);
    doctor(&home).has_none_failed();

    fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o700);
    fs::write(home.socket(), "").unwrap();
    let (what, mend) = doctor(&home).failed("agent-socket");
    assert!(what.contains("a file, not a socket"), "{what}");
    home.shell(&mend);
    doctor(&home).has_none_failed();
    fs::create_dir_all(home.root().join("run/episoded/operator.sock")).unwrap();
    chmod(&home.root().join("run/episoded"), 0o700);
    let (what, mend) = doctor(&home).failed("operator-socket");
    assert!(what.contains("a directory, not a socket"), "{what}");
    home.shell(&mend);
    doctor(&home).has_none_failed();
}

#[test]
fn what_belongs_to_another_user_failed_and_is_not_looked_into() {
    if !need_root() {
        return;
    }
    let home = Home::new();
    fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o700);
    let listener = UnixListener::bind(home.socket()).unwrap();
    chmod(&home.socket(), 0o600);
    listener.set_nonblocking(true).unwrap();
    let pid = std::process::id().to_string();
    fs::write(home.directory().join("agent.lock"), pid).unwrap();
    for (name, path) in [
        ("agent-socket", home.socket()),
        ("agent-directory", home.directory()),
    ] {
        chown(&path, Some(STRANGER), None).unwrap();
        let report = doctor(&home);
        let (what, _) = report.failed(name);
        assert!(
            what.contains(&format!("belongs to uid {STRANGER}")),
            "{what}"
        );
        assert!(!report.names().contains(&"agent".to_owned()), "{report:?}");
        assert!(listener.accept().is_err(), "nobody came");
        chown(&path, Some(0), None).unwrap();
    }
}

#[test]
fn an_agent_that_is_wedged_failed_within_seconds() {
    let home = Home::new();
    home.put("id", b"key");
    let agent = home.pid();
    let process = Pid::from_raw(i32::try_from(agent).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let began = Instant::now();
    let report = doctor(&home);
    let took = began.elapsed();
    let (what, mend) = report.failed("agent");
    assert!(what.contains("no answer within 2 s"), "{what}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let first = format!("kill -CONT {agent} ");
    assert!(mend.starts_with(&first), "{mend}");
    home.shell(&first);
    doctor(&home).has_none_failed();
}

#[tokio::test]
async fn a_daemon_that_is_wedged_failed_and_is_waited_for_once() {
    let daemon = Daemon::start().await;
    let home = beside(&daemon);
    doctor(&home).has_none_failed();
    daemon.running().freeze();
    let began = Instant::now();
    let (what, _) = doctor(&home).failed("daemon");
    let took = began.elapsed();
    assert!(what.contains("no answer within 2 s"), "{what}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_daemon_without_one_of_its_sockets_failed() {
    let daemon = Daemon::start().await;
    let home = beside(&daemon);
    fs::rename(daemon.operator_socket(), daemon.dirs().root().join("away")).unwrap();
    let (what, mend) = doctor(&home).failed("daemon-session");
    assert!(what.contains("whose other socket was removed"), "{what}");
    assert!(mend.contains("SIGTERM"), "{mend}");
    fs::rename(daemon.dirs().root().join("away"), daemon.operator_socket()).unwrap();
    doctor(&home).has_none_failed();
    fs::remove_file(daemon.session_socket()).unwrap();
    let (what, _) = doctor(&home).failed("daemon-session");
    assert!(what.contains("nobody answers at"), "{what}");
}

#[tokio::test]
async fn a_daemon_whose_sockets_are_open_to_others_failed_until_mended() {
    let daemon = Daemon::start().await;
    let home = beside(&daemon);
    for (name, path) in [
        ("daemon-directory", daemon.dirs().runtime()),
        ("operator-socket", daemon.operator_socket()),
        ("session-directory", daemon.dirs().runtime().join("session")),
        ("session-socket", daemon.session_socket()),
    ] {
        chmod(&path, 0o777);
        let (what, mend) = doctor(&home).failed(name);
        assert!(what.contains("0777"), "{what}");
        home.shell(&mend);
        doctor(&home).has_none_failed();
    }
}

#[tokio::test]
async fn a_daemon_of_another_user_that_was_named_is_a_warning() {
    if !need_root() {
        return;
    }
    let daemon = Daemon::start().await;
    let socket = daemon.operator_socket().display().to_string();
    for path in [daemon.dirs().runtime(), daemon.operator_socket()] {
        chown(path, Some(STRANGER), None).unwrap();
    }
    let named = doctor(&Home::new().with("EPISODED_SOCKET", socket));
    named.has_none_failed();
    assert_eq!(
        named.that_are("WARNING")[2..4],
        ["daemon-directory", "operator-socket"]
    );
    assert_eq!(named.state("daemon"), "OK");
    doctor(&beside(&daemon)).failed("daemon-directory");
}

#[test]
fn memory_that_is_not_locked_is_a_warning() {
    if !need_command("setpriv") || !need_command("prlimit") || !need_root() {
        return;
    }
    let home = Home::new();
    let config = home.root().join("config/lockbox");
    fs::create_dir_all(&config).unwrap();
    fs::write(
        config.join("config.toml"),
        "[agent]\nallow_unlocked_memory = true\n",
    )
    .unwrap();
    let bare = "setpriv --bounding-set=-ipc_lock prlimit --memlock=0:0";
    home.shell(&format!("printf key | {bare} $CTL key put id"));
    let report = doctor(&home);
    report.has_none_failed();
    let (state, what, _) = report.check("agent-memory");
    assert_eq!(state, "WARNING", "{what}");
    assert!(what.contains("unlocked"), "{what}");
}

#[test]
fn memory_that_is_locked_by_mlock_is_well() {
    let home = Home::new();
    let config = home.root().join("config/lockbox");
    fs::create_dir_all(&config).unwrap();
    fs::write(
        config.join("config.toml"),
        "[agent]\nsecret_memory = false\n",
    )
    .unwrap();
    home.put("id", b"key");
    let (state, what, _) = doctor(&home).check("agent-memory");
    assert!(state == "OK" && what.starts_with("mlock"), "{what}");
}

#[test]
fn a_limit_on_locked_memory_is_a_warning_with_its_size() {
    if !need_command("prlimit") {
        return;
    }
    let home = Home::new();
    let mut prlimit = home.other("prlimit");
    let prlimit = prlimit.arg("--memlock=1048576:1048576");
    let doctor = prlimit.args([EPISODECTL, "--format", "json", "doctor"]);
    let report = Report::of(&doctor.output().expect("prlimit starts"));
    report.has_none_failed();
    let (state, what, mend) = report.check("memory-limit");
    assert!(what.contains("locks 1 MiB at most, not 16 MiB"), "{what}");
    assert!(
        state == "WARNING" && mend.contains("memlock 16384"),
        "{mend}"
    );
}

#[test]
fn a_bus_that_is_absent_is_a_warning_with_its_cause() {
    let home = Home::new().with("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let report = doctor(&home);
    assert_eq!(report.state("bus"), "WARNING");
    home.put("id", b"key");
    let mut report = doctor(&home);
    until("the agent has found none", HANG, || {
        report = doctor(&home);
        report
            .check("agent-inhibitor")
            .1
            .contains("/nonexistent/bus")
    });
    report.has_none_failed();
    assert_eq!(report.state("agent-inhibitor"), "WARNING");
    let (state, what, mend) = report.check("bus");
    assert_eq!(
        (&*state, &*mend),
        ("WARNING", "start dbus and systemd-logind")
    );
    assert!(what.contains("/nonexistent/bus"), "{what}");
}

#[tokio::test]
async fn an_agent_of_another_version_is_a_warning() {
    let home = Home::new();
    fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o700);
    let listener = UnixListener::bind(home.socket()).unwrap();
    chmod(&home.socket(), 0o600);
    let status = StatusResponse {
        version: "0.0.1".into(),
        pid: i32::try_from(std::process::id()).unwrap(),
        ..StatusResponse::default()
    };
    impostor::serve(&home, listener, status);
    let asked = tokio::process::Command::from(home.command(&["--format", "json", "doctor"]))
        .output()
        .await;
    let report = Report::of(&asked.unwrap());
    let (state, what, mend) = report.check("agent-version");
    assert!(state == "WARNING" && what.contains("0.0.1"), "{what}");
    assert!(mend.starts_with("episodectl key stop"), "{mend}");
}

/// Killed and reaped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The home of [`STRANGER`]; needs root.
fn strangers() -> Home {
    let home = Home::new();
    fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o700);
    for path in [
        home.directory(),
        home.root().join("run"),
        home.root().to_owned(),
    ] {
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    home
}

/// Starts a program of ours as [`STRANGER`], who may not come in where it lies.
fn as_strangers<T: Send + 'static>(
    home: &Home,
    program: &str,
    run: impl FnOnce(&mut Command) -> T + Send + 'static,
) -> T {
    let file = File::open(program).expect("it is there");
    let mut command = home.other(&format!("/proc/self/fd/{}", file.as_raw_fd()));
    as_stranger(move || {
        let done = run(&mut command);
        drop(file);
        done
    })
}

fn doctor_of_strangers(home: &Home) -> Report {
    let args = ["--format", "json", "doctor"];
    let output = as_strangers(home, EPISODECTL, move |doctor| doctor.args(args).output());
    Report::of(&output.expect("it starts"))
}

#[test]
fn an_agent_cannot_be_read_by_its_own_user() {
    if !need_root() {
        return;
    }
    let home = strangers();
    let agent = as_strangers(&home, KEYCACHED, |agent| {
        agent.stderr(Stdio::null()).spawn()
    });
    let agent = Running(agent.expect("it starts"));
    until("it serves", HANG, || home.is_running());
    let report = doctor_of_strangers(&home);
    report.has_none_failed();
    let pid = agent.0.id();
    let what = format!("pid {pid}: other processes of uid {STRANGER} cannot read its memory");
    let found = report.check("agent-process");
    assert_eq!(found, ("OK".to_owned(), what, String::new()));
    assert_eq!(report.state("agent-core-dumps"), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_others_can_read_or_that_dumps_core_failed() {
    if !need_root() || !need_command("setpriv") || !need_command("prlimit") {
        return;
    }
    let home = strangers();
    let socket = home.socket();
    let listener = as_stranger(move || UnixListener::bind(socket).unwrap());
    chmod(&home.socket(), 0o600);
    let mut sleep = Command::new("prlimit");
    sleep.args(["--core=4096:4096", "setpriv", "--clear-groups"]);
    sleep.args([format!("--regid={STRANGER}"), format!("--reuid={STRANGER}")]);
    let sleep = Running(sleep.args(["sleep", "600"]).spawn().expect("it starts"));
    let pid = sleep.0.id();
    until("it is another program", HANG, || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    let status = StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: i32::try_from(pid).unwrap(),
        memory: "unlocked".into(),
        ..StatusResponse::default()
    };
    impostor::serve(&home, listener, status);
    let lock = home.directory().join("agent.lock");
    chown(lock, Some(STRANGER), Some(STRANGER)).unwrap();
    let report = tokio::task::block_in_place(|| doctor_of_strangers(&home));
    assert_eq!(report.code, Some(1), "{report:?}");
    assert_eq!(
        report.that_are("FAILED"),
        ["agent-process", "agent-core-dumps"]
    );
    assert_eq!(report.state("agent-memory"), "WARNING");
    assert!(
        report.check("agent-core-dumps").1.contains("4096"),
        "{report:?}"
    );
}

#[tokio::test]
async fn the_walls_are_those_of_this_host() {
    let namespace = |report: &Report| report.check("wall-namespace").1;
    let home = Home::new();
    let report = doctor(&home);
    assert!(
        namespace(&report).contains("no bubblewrap on PATH"),
        "{report:?}"
    );
    let own = report.check("wall-own-uid").1;
    assert!(
        own.contains("file modes and handles are no wall against it"),
        "{own}"
    );
    let other = report.check("wall-other-uid").1;
    assert!(other.contains("no episoded runs"), "{other}");

    let tools = home.root().join("tools");
    fs::create_dir(&tools).unwrap();
    let with_tools = Home::new().with("PATH", tools.display().to_string());
    for (script, says) in [
        ("exit 0", "holds"),
        ("echo no namespaces >&2; exit 1", "no namespaces"),
    ] {
        fs::write(tools.join("bwrap"), format!("#!/bin/sh\n{script}\n")).unwrap();
        chmod(&tools.join("bwrap"), 0o755);
        let said = namespace(&doctor(&with_tools));
        assert!(said.contains(says), "{said}");
    }

    if !need_root() {
        return;
    }
    let daemon = Daemon::builder()
        .config("session_group = \"47113\"\n")
        .start()
        .await;
    let other = doctor(&beside(&daemon)).check("wall-other-uid").1;
    assert!(
        other.contains("group 47113 can open session.sock"),
        "{other}"
    );
    let daemon = Daemon::start().await;
    let other = doctor(&beside(&daemon)).check("wall-other-uid").1;
    assert!(other.contains("can open none of the sockets"), "{other}");
}
