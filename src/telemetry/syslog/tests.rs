use std::{io::Write as _, os::unix::net::UnixDatagram, path::Path};

use tracing::Level;

use super::{Event, MAX_LINE, Syslog, severity};

fn reader(path: &Path) -> UnixDatagram {
    let reader = UnixDatagram::bind(path).unwrap();
    reader.set_nonblocking(true).unwrap();
    reader
}

/// The next datagram, its tag taken off.
fn next(reader: &UnixDatagram) -> Option<String> {
    let mut buffer = vec![0; 2 * MAX_LINE];
    let length = reader.recv(&mut buffer).ok()?;
    let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
    assert!(text.len() <= MAX_LINE, "{}", text.len());
    let tag = format!("key[{}]: ", std::process::id());
    Some(text.replacen(&tag, "", 1))
}

fn say(syslog: &Syslog, level: Level, text: &str) {
    let severity = severity(level);
    let mut event = Event { syslog, severity };
    event.write_all(text.as_bytes()).unwrap();
}

#[test]
fn each_line_is_a_datagram_of_its_level() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let reader = reader(&path);
    let syslog = Syslog::open(&path, "key").unwrap();
    for (level, text) in [
        (Level::ERROR, "one\n"),
        (Level::WARN, "two\nthree\n\n"),
        (Level::INFO, "four\n"),
        (Level::DEBUG, "five\n"),
    ] {
        say(&syslog, level, text);
    }
    let heard: Vec<String> = std::iter::from_fn(|| next(&reader)).collect();
    let told = ["<83>one", "<84>two", "<84>three", "<86>four", "<87>five"];
    assert_eq!(heard, told);
}

#[test]
fn a_reader_that_does_not_read_delays_nobody_and_one_that_starts_again_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let first = reader(&path);
    let syslog = Syslog::open(&path, "key").unwrap();
    // More than any queue holds.
    for _ in 0..100_000 {
        say(&syslog, Level::INFO, "lost or not\n");
    }
    assert_eq!(next(&first).unwrap(), "<86>lost or not");
    drop(first);
    std::fs::remove_file(&path).unwrap();
    say(&syslog, Level::INFO, "lost\n");
    let second = reader(&path);
    say(&syslog, Level::INFO, &"long ".repeat(MAX_LINE));
    assert!(next(&second).unwrap().starts_with("<86>long long"));
    assert_eq!(next(&second), None);
}

#[test]
fn a_socket_without_a_reader_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    assert!(Syslog::open(&path, "key").is_err());
    drop(reader(&path));
    assert!(Syslog::open(&path, "key").is_err());
}
