use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::{Activated, ActivationError, announced};
use crate::daemon::listen::Socket;
use crate::paths::Env;

fn env(pid: &str, fds: &str, names: &str) -> Env {
    Env::new(0)
        .with("LISTEN_PID", pid)
        .with("LISTEN_FDS", fds)
        .with("LISTEN_FDNAMES", names)
}

#[test]
fn names_are_read_in_the_order_of_the_descriptors() {
    let both = announced(&env("7", "2", "session:operator"), 7).unwrap();
    assert_eq!(both, [Socket::Session, Socket::Operator]);
    let one = announced(&env("7", "1", "operator"), 7).unwrap();
    assert_eq!(one, [Socket::Operator]);
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    assert!(announced(&Env::new(0), 7).unwrap().is_empty());
    assert!(announced(&env("8", "1", "operator"), 7).unwrap().is_empty());
    assert!(announced(&env("7", "0", ""), 7).unwrap().is_empty());
    let activated = Activated::take(&env("1", "1", "operator")).unwrap();
    assert!(activated.operator.is_none() && activated.session.is_none());
}

#[test]
fn odd_announcements_are_refused() {
    let error = |pid, fds, names| announced(&env(pid, fds, names), 7).unwrap_err();
    for (pid, fds, names, variable) in [
        ("x", "1", "operator", "LISTEN_PID"),
        ("7", "-1", "operator", "LISTEN_FDS"),
        ("7", "3", "operator:session:operator", "LISTEN_FDNAMES"),
        ("7", "2", "operator", "LISTEN_FDNAMES"),
        ("7", "1", "operator:session", "LISTEN_FDNAMES"),
    ] {
        assert!(
            matches!(error(pid, fds, names), ActivationError::Malformed { variable: found } if found == variable),
            "{pid} {fds} {names}"
        );
    }
    for (names, bad) in [("unknown", "unknown"), ("", ""), ("Operator", "Operator")] {
        assert!(matches!(error("7", "1", names), ActivationError::Name(name) if name == bad));
    }
    assert!(matches!(
        error("7", "2", "session:session"),
        ActivationError::Name(name) if name == "session"
    ));
}

/// Starts this test program again, as [`child`], with descriptor 3 (and 4) as given.
fn started_with(first: impl Into<OwnedFd>, second: Option<OwnedFd>, names: &str) -> String {
    let script = match second {
        Some(_) => r#"exec 3<&0 4<&2 </dev/null 2>/dev/null; LISTEN_PID=$$ exec "$0" "$@""#,
        None => r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$0" "$@""#,
    };
    let fds = if second.is_some() { "2" } else { "1" };
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg("daemon::listen::activation::tests::child")
        .env("LISTEN_FDS", fds)
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first.into()))
        .stderr(second.map_or_else(Stdio::null, Stdio::from))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "the other side of started_with"]
fn child() {
    let env = Env::of_process();
    match Activated::take(&env) {
        Ok(activated) => {
            for (name, listener) in [
                ("operator", &activated.operator),
                ("session", &activated.session),
            ] {
                let Some(listener) = listener else { continue };
                let (_stream, _) = listener.accept().unwrap();
                let blocked = listener.accept().unwrap_err().kind();
                assert_eq!(blocked, std::io::ErrorKind::WouldBlock);
                println!("\naccepted on {name}");
            }
            println!("\nagain: {}", Activated::take(&env).unwrap_err());
        }
        Err(error) => println!("\nrefused: {error}"),
    }
}

#[test]
fn both_sockets_are_taken_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let listener = |name: &str| UnixListener::bind(dir.path().join(name)).unwrap();
    let (operator, session) = (listener("o"), listener("s"));
    let _clients = ["o", "s"].map(|name| UnixStream::connect(dir.path().join(name)).unwrap());
    let said = started_with(operator, Some(session.into()), "operator:session");
    for line in [
        "accepted on operator",
        "accepted on session",
        "again: the sockets were taken before",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_descriptor_of_another_kind_is_refused() {
    let refused = "refused: descriptor 3 is no listening Unix stream socket";
    let (stream, _peer) = UnixStream::pair().unwrap();
    let said = started_with(stream, None, "operator");
    assert!(said.contains(refused), "{said}");
    let said = started_with(UnixDatagram::unbound().unwrap(), None, "operator");
    assert!(said.contains(refused), "{said}");
    let said = started_with(std::fs::File::open("/dev/null").unwrap(), None, "operator");
    assert!(said.contains(refused), "{said}");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = started_with(tcp, None, "operator");
    assert!(said.contains(refused), "{said}");
}

#[test]
fn the_shipped_units_use_our_names_paths_and_modes() {
    for (unit, socket, path, mode) in [
        (
            include_str!("../../../../packaging/systemd/user/episoded-operator.socket"),
            Socket::Operator,
            "%t/episoded/operator.sock",
            "0600",
        ),
        (
            include_str!("../../../../packaging/systemd/user/episoded-session.socket"),
            Socket::Session,
            "%t/episoded/session/session.sock",
            "0660",
        ),
        (
            include_str!("../../../../packaging/systemd/system/episoded-operator.socket"),
            Socket::Operator,
            "/run/episoded/operator.sock",
            "0600",
        ),
        (
            include_str!("../../../../packaging/systemd/system/episoded-session.socket"),
            Socket::Session,
            "/run/episoded-session/session.sock",
            "0660",
        ),
        (
            include_str!("../../../../packaging/systemd/user/keycached.socket"),
            Socket::Agent,
            "%t/lockbox/agent.sock",
            "0600",
        ),
    ] {
        for line in [
            format!("FileDescriptorName={}", socket.name()),
            format!("ListenStream={path}"),
            format!("SocketMode={mode}"),
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
    }
}
