//! `episodectl key`: the agent as a command finds, starts and ends it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::home::{Home, said};
use super::scan::{self, Found, Needle};
use super::{HANG, chmod, unique, until};
use crate::harness::need_root;

#[test]
fn a_cold_get_starts_the_agent_and_misses() {
    let home = Home::new();
    let output = home.run(&["key", "get", "id", "--out", "-"]);
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    assert!(said(&output).contains("no key of id is kept"), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert!(home.is_running());
}

#[test]
fn a_key_outlives_the_command_that_put_it() {
    let home = Home::new();
    let key = unique(200);
    home.put("id", &key);
    assert_eq!(home.ok(&["key", "get", "id", "--out", "-"]), key);
    home.shell("$CTL key get id --out fd:3 3>>out");
    assert_eq!(std::fs::read(home.root().join("out")).unwrap(), key);
    home.shell("printf another > in; $CTL key put id --fd 3 3<in");
    assert_eq!(home.ok(&["key", "get", "id", "--out", "-"]), b"another");
}

#[test]
fn reading_and_stopping_start_no_agent() {
    let home = Home::new();
    for args in [
        &["key", "sessions"][..],
        &["key", "list"],
        &["key", "lock", "id"],
        &["key", "forget", "id"],
        &["key", "lock-all"],
        &["key", "stop"],
        &["vault", "sessions"],
        &["vault", "sessions", "lock", "id"],
        &["vault", "sessions", "lock-all"],
        &["vault", "sessions", "stop"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(
            said(&output).contains("no agent runs"),
            "{args:?}: {output:?}"
        );
    }
    assert_eq!(
        home.json(&["key", "sessions"])["keys"],
        serde_json::Value::Null
    );
    let status = home.run(&["key", "status"]);
    assert_eq!(status.status.code(), Some(69), "{status:?}");
    assert!(said(&status).contains("no agent at"), "{status:?}");
    assert!(!home.directory().exists() && !home.log().exists());
}

#[test]
fn many_that_come_at_once_start_one_agent() {
    const MANY: usize = 100;
    let home = Home::new();
    let start = || {
        let mut command = home.command(&["key", "get", "id", "--out", "-"]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let children: Vec<_> = (0..MANY).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(66), "{output:?}");
    }
    let log = std::fs::read_to_string(home.log()).unwrap();
    assert_eq!(log.matches(" serving ").count(), 1, "{log}");
}

#[test]
fn sessions_are_listed_and_locked_by_id_and_path() {
    let home = Home::new();
    for (id, path) in [("a", "/x/a"), ("b", "/x/b"), ("c", "/x/c"), ("d", "")] {
        let output = home.fed(&["key", "put", id, "--path", path, "--ttl", "1h"], b"key");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let table = String::from_utf8(home.ok(&["key", "sessions"])).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["LOCKBOX", "PATH", "REMAINING", "USES", "OWNER"]);
    assert_eq!(rows[1][..2], ["a", "/x/a"]);
    assert_eq!(rows[1][3], "0");
    assert_eq!(rows.len(), 5);
    home.ok(&["key", "lock", "a"]);
    home.ok(&["vault", "sessions", "lock", "/x/b"]);
    let left = home.json(&["vault", "sessions"]);
    let ids: Vec<_> = left["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["lockboxId"])
        .collect();
    assert_eq!(ids, ["c", "d"]);
    let lines = home.ok(&["--format", "jsonl", "key", "sessions"]);
    assert_eq!(lines.split(|byte| *byte == b'\n').count(), 3);
    let output = home.run(&["key", "lock-all"]);
    assert_eq!(said(&output), "episodectl: 2 keys forgotten\n");
    assert_eq!(
        home.json(&["key", "status"])["entries"],
        serde_json::Value::Null
    );
    let pid = home.pid();
    home.ok(&["key", "stop"]);
    assert!(!home.socket().exists());
    let gone = || !PathBuf::from(format!("/proc/{pid}/exe")).exists();
    until("it has ended", HANG, gone);
}

#[test]
fn what_is_no_key_is_refused_before_an_agent_is_started() {
    let (home, long) = (Home::new(), vec![1; 65_537]);
    for (args, input, code) in [
        (&["key", "put", "id"][..], &[][..], 65),
        (&["key", "put", "id"], &long, 65),
        (&["key", "put", "id", "--ttl", "soon"], b"key", 64),
        (&["key", "put", "id", "--fd", "77"], b"key", 64),
        (&["key", "put", "id", "thekey"], b"", 64),
        (&["key", "get", "id"], b"", 64),
        (&["key", "get", "id", "--out", "file"], b"", 64),
        (&["key", "get", "id", "--out", "fd:77"], b"", 64),
    ] {
        let output = home.fed(args, input);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
    assert!(!home.is_running());
    let output = home.fed(&["key", "put", "", "--ttl", "0s"], b"key");
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let output = home.fed(&["key", "put", "id", "--ttl", "0s"], b"key");
    assert!(said(&output).contains("INVALID_TTL"), "{output:?}");
}

#[test]
fn a_terminal_neither_gives_nor_gets_a_key() {
    let home = Home::new();
    for (args, how) in [
        ("key put id", "</dev/tty"),
        ("key get id --out -", ">/dev/tty"),
        ("key get id --out fd:3", "3>/dev/tty"),
        ("key put id --fd 3", "3</dev/tty"),
    ] {
        let line = format!("$CTL {args} {how}");
        let output = home
            .other("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .expect("script is part of every Debian");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("refusing to put a key through a terminal"),
            "{line}: {said}"
        );
        assert_eq!(output.status.code(), Some(64), "{line}");
    }
    assert!(!home.is_running());
}

#[test]
fn an_agent_that_cannot_start_says_why_and_one_that_hangs_is_given_up() {
    let home = Home::new();
    std::fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o755);
    let output = home.fed(&["key", "put", "id"], b"key");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let message = said(&output);
    assert!(
        message.contains("the agent ended with") && message.contains("755"),
        "{message}"
    );
    assert!(message.contains("agent.log"), "{message}");
    chmod(&home.directory(), 0o700);

    home.put("id", b"key");
    let agent = Pid::from_raw(i32::try_from(home.pid()).unwrap()).unwrap();
    kill_process(agent, Signal::STOP).unwrap();
    let began = Instant::now();
    let output = home.run(&["key", "get", "id", "--out", "-"]);
    let took = began.elapsed();
    kill_process(agent, Signal::CONT).unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(said(&output).contains("no answer from"), "{output:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(home.ok(&["key", "get", "id", "--out", "-"]), b"key");
}

#[test]
fn an_agent_that_a_command_starts_logs_to_syslog_and_says_here_why_it_cannot_start() {
    let home = Home::new();
    let syslog = UnixDatagram::bind(home.root().join("syslog")).unwrap();
    syslog.set_nonblocking(true).unwrap();
    let heard = || {
        let mut buffer = vec![0; 8192];
        let length = syslog.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    std::fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o755);
    let output = home.fed(&["key", "put", "id"], b"key");
    let message = said(&output);
    assert!(
        message.contains("the agent ended with") && message.contains("755"),
        "{message}"
    );
    let line = heard().expect("syslog is told too");
    assert!(
        line.contains("755") && line.starts_with("<83>keycached["),
        "{line}"
    );
    chmod(&home.directory(), 0o700);

    home.put("id", b"key");
    let line = heard().expect("it is told");
    assert!(
        line.starts_with("<86>") && line.contains("serving"),
        "{line}"
    );
    assert!(!home.log().exists());
}

#[test]
fn an_agent_of_another_user_is_sent_nothing() {
    if !need_root() {
        return;
    }
    let home = Home::new();
    std::fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o777);
    for parent in home.directory().ancestors().skip(1).take(2) {
        chmod(parent, 0o755);
    }
    let socket = home.socket();
    let listener = super::as_stranger(move || UnixListener::bind(socket).unwrap());
    let output = home.fed(&["key", "put", "id"], b"key");
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(said(&output).contains("PEER_MISMATCH"), "{output:?}");
    let (mut stream, _) = listener.accept().unwrap();
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut sent).unwrap();
    assert_eq!(sent, b"", "not even a greeting");
}

#[test]
fn a_key_is_in_no_file_and_on_no_command_line() {
    if !need_root() {
        return;
    }
    let home = Home::new();
    let key = unique(48);
    let needle = Needle::new(&key);
    let handle = unique(32);
    let in_environment = Needle::new(&handle);
    let mut start = home.command(&["key", "get", "other", "--out", "-"]);
    let start = start.env("EPISODE_HANDLE", OsString::from_vec(handle));
    assert_eq!(start.output().unwrap().status.code(), Some(66));
    home.put("id", &key);
    assert_eq!(home.ok(&["key", "get", "id", "--out", "-"]), key);
    let scan = scan::memory(home.pid(), &needle);
    assert!(scan.found.raw <= 1, "{scan:?}");
    let scan = scan::memory(home.pid(), &in_environment);
    assert_eq!(scan.found, Found::NOTHING, "what its starter had: {scan:?}");
    assert_eq!(scan::files(home.root(), &needle), Found::NOTHING);
    let proc = std::fs::read_dir("/proc").unwrap();
    for entry in proc.filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert_eq!(needle.count(&line), Found::NOTHING);
    }
}

#[test]
fn help_does_not_show_what_scripts_and_the_agent_are_called_with() {
    let home = Home::new();
    let help = String::from_utf8(home.ok(&["--help"])).unwrap();
    assert!(help.contains("  key "), "{help}");
    assert!(
        !help.contains("vault") && !help.contains("__agent"),
        "{help}"
    );
}

/// Before any argument or configuration is looked at.
#[test]
fn the_security_check_fails_where_others_can_come_in() {
    let home = Home::new();
    for owner in ["lockbox", "episoded"] {
        let config = home.root().join("config").join(owner);
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.toml"), "][").unwrap();
    }
    let check = || {
        let output = home.run(&["__agent_security_check", "--nonsense"]);
        let said = String::from_utf8(output.stdout).unwrap();
        let words: Vec<String> = said
            .lines()
            .map(|line| line.split(": ").next().unwrap().to_owned())
            .collect();
        (output.status.code(), words)
    };
    let (ok, failed) = ("ok      ", "failed  ");
    let is = |directory: &str, socket: &str| {
        vec![
            format!("{directory}directory"),
            format!("{socket}socket"),
            format!("{ok}memory"),
        ]
    };
    assert_eq!(check(), (Some(0), is(ok, ok)), "nothing is there yet");
    std::fs::create_dir(home.directory()).unwrap();
    chmod(&home.directory(), 0o755);
    assert_eq!(check(), (Some(1), is(failed, ok)));
    chmod(&home.directory(), 0o700);
    let listener = UnixListener::bind(home.socket()).unwrap();
    chmod(&home.socket(), 0o666);
    assert_eq!(check(), (Some(1), is(ok, failed)));
    chmod(&home.socket(), 0o600);
    assert_eq!(check(), (Some(0), is(ok, ok)));
    drop(listener);
    std::fs::remove_file(home.socket()).unwrap();
    std::fs::write(home.socket(), "").unwrap();
    assert_eq!(check(), (Some(1), is(ok, failed)));
    std::fs::remove_file(home.socket()).unwrap();
}

/// With its own offset, whatever it is; and the agent keeps none of it open.
#[test]
fn a_descriptor_is_used_as_it_is_and_let_go() {
    let home = Home::new();
    let shell = |script: &str| home.shell(script);
    // The agent is started by the first, whose pipe must end.
    let said = shell("($CTL key get id --out fd:3 3>&1 >/dev/null || true) | cat");
    assert_eq!(said, "");
    shell(
        "printf before:thekey > in; (dd bs=1 count=7 <&3 of=/dev/null status=none; $CTL key put id --fd 3) 3<in",
    );
    let around = "(printf head:; $CTL key get id --out -; printf :tail) > out; cat out";
    assert_eq!(shell(around), "head:thekey:tail");
    let read_only = "printf mine > ro; $CTL key get id --out fd:3 3<ro || true; cat ro";
    assert_eq!(shell(read_only), "mine");
    shell("mkfifo f; printf thekey >f & exec 3<f; wait; $CTL key put fifo --fd 3");
    assert_eq!(shell("$CTL key get fifo --out fd:1"), "thekey");
    // Nobody reads any more.
    shell(
        "(exec 4<f) & exec 3>f; wait; if $CTL key get fifo --out fd:3; then exit 1; else test $? = 73; fi",
    );
    let held = std::fs::read_dir(format!("/proc/{}/fd", home.pid())).unwrap();
    let files = held.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let ours: Vec<_> = files.filter(|file| file.starts_with(home.root())).collect();
    let known = ["agent.lock", "agent.log"];
    let is_known = |file: &&PathBuf| !known.iter().any(|name| file.ends_with(name));
    assert_eq!(ours.iter().filter(is_known).count(), 0, "{ours:?}");
}
