//! Where its log goes that was given no file.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::agent::{Agent, KEYCACHED, Place};
use super::places::mode;
use super::unique;
use super::wire::Answer;

/// A place whose agents must find their log, with or without syslog.
fn place() -> Place {
    let place = Place::new();
    let (syslog, state) = (syslog_path(&place), place.root().join("state"));
    place
        .with("LOCKBOX_SESSION_AGENT_LOG", OsString::new())
        .with("LOCKBOX_SYSLOG_SOCKET", syslog.into())
        .with("XDG_STATE_HOME", state.into())
}

fn syslog_path(place: &Place) -> PathBuf {
    place.root().join("syslog")
}

fn own_file(place: &Place) -> PathBuf {
    place.root().join("state/lockbox/agent.log")
}

fn output(place: &Place) -> String {
    std::fs::read_to_string(place.output()).unwrap_or_default()
}

fn listen(place: &Place) -> UnixDatagram {
    let syslog = UnixDatagram::bind(syslog_path(place)).expect("a socket is bound");
    syslog.set_nonblocking(true).expect("it can be asked");
    syslog
}

/// What has arrived.
fn heard(syslog: &UnixDatagram) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    std::iter::from_fn(|| {
        let length = syslog.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    })
    .collect()
}

fn is_in(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

#[test]
fn it_goes_to_syslog_without_a_key_or_a_path() {
    let place = place();
    let syslog = listen(&place);
    let mut agent = Agent::at(place);
    let (key, path) = (unique(32), "/home/ada/box.lbox");
    assert_eq!(agent.client().put("id", &key, path, 60), Answer::Ok);
    assert_eq!(agent.client().get("id"), Answer::Key(key.clone()));
    assert_eq!(agent.client().stop(), Answer::Ok);
    let pid = agent.pid();
    assert_eq!(agent.exited(), Some(0));
    let heard = heard(&syslog);
    let lines: Vec<_> = heard
        .iter()
        .map(|line| String::from_utf8_lossy(line))
        .collect();
    // Information, and one warning: there is no bus that would tell of sleep.
    let begins = [86, 84].map(|severity| format!("<{severity}>keycached[{pid}]: "));
    let is_one = |line: &str| begins.iter().any(|begins| line.starts_with(begins));
    assert!(lines.iter().all(|line| is_one(line)), "{lines:?}");
    for word in ["serving", "all keys forgotten", "stopped"] {
        assert!(
            lines.iter().any(|line| line.contains(word)),
            "{word} {lines:?}"
        );
    }
    for secret in [&key[..], path.as_bytes()] {
        assert!(!heard.iter().any(|line| is_in(line, secret)), "{lines:?}");
    }
    assert_eq!(output(agent.place()), "");
    assert!(!own_file(agent.place()).exists());
}

#[test]
fn a_syslog_that_does_not_read_delays_nothing() {
    let place = place();
    let _never_read = listen(&place);
    let agent = Agent::at(place);
    let mut client = agent.client();
    // Each is a line; far more than a socket holds.
    for _ in 0..2_000 {
        assert_eq!(client.forget_all(), Answer::Ok);
    }
}

#[test]
fn without_syslog_it_goes_to_a_file_of_its_own() {
    let place = place();
    // Nobody reads.
    drop(listen(&place));
    let agent = Agent::at(place);
    let file = own_file(agent.place());
    let said = std::fs::read_to_string(&file).expect("it is there");
    assert!(said.contains("serving"), "{said}");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(output(agent.place()), "");
}

#[test]
fn the_journal_is_used_as_it_is() {
    let place = place();
    let syslog = listen(&place);
    std::fs::write(place.output(), "").expect("it is written");
    let journal = std::fs::metadata(place.output()).unwrap();
    let name = |inode| format!("{}:{inode}", journal.dev()).into();

    let agent = Agent::at(place.with("JOURNAL_STREAM", name(journal.ino())));
    let said = output(agent.place());
    assert!(said.contains("serving"), "{said}");
    assert!(heard(&syslog).is_empty());

    // Of the unit that the starter of this one runs in.
    let another = agent
        .killed()
        .with("JOURNAL_STREAM", name(journal.ino() + 1));
    drop(Agent::at(another));
    assert!(!heard(&syslog).is_empty());
}

#[test]
fn with_nowhere_to_log_to_it_serves_and_says_so() {
    let place = place().with("XDG_STATE_HOME", OsString::new());
    let agent = Agent::at(place);
    agent.client().keep("id", b"key");
    let said = output(agent.place());
    assert!(said.contains("neither syslog nor a file"), "{said}");
    assert!(said.contains("serving"), "{said}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    let place = Place::new();
    let nowhere = place.root().join("nowhere/log");
    let place = place.with("LOCKBOX_SESSION_AGENT_LOG", nowhere.clone().into());
    assert_eq!(place.refused(), 69);
    let said = output(&place);
    assert!(said.contains(&*nowhere.to_string_lossy()), "{said}");
}

#[test]
fn whoever_starts_it_is_told_why_it_cannot_serve() {
    for syslog in [true, false] {
        let place = place();
        let syslog = syslog.then(|| listen(&place));
        place.make_directory(0o755);
        assert_eq!(place.refused(), 69);
        let logged = match syslog {
            Some(syslog) => String::from_utf8(heard(&syslog).concat()).unwrap(),
            None => std::fs::read_to_string(own_file(&place)).unwrap(),
        };
        for said in [output(&place), logged] {
            assert_eq!(said.matches("cannot serve").count(), 1, "{said}");
            assert!(said.contains("755"), "{said}");
        }
    }
}

#[test]
fn on_a_terminal_it_is_shown_there() {
    let place = place();
    let syslog = listen(&place);
    place.make_directory(0o755);
    let shown = Command::new("script")
        .args(["-qec", KEYCACHED, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(place.environment())
        .stdin(Stdio::null())
        .output()
        .expect("script is part of every Debian");
    assert_eq!(shown.status.code(), Some(69));
    let said = String::from_utf8_lossy(&shown.stdout);
    assert_eq!(said.matches("cannot serve").count(), 1, "{said}");
    assert!(heard(&syslog).is_empty());
}
