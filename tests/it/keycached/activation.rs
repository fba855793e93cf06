//! Under a supervisor that made the socket.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use episoded::client::keycache::KeyCache;
use rustix::process::Signal;

use super::agent::{Agent, KEYCACHED, Place, Process};
use super::places::{inode, is_there};
use super::wire::Answer;
use super::{HANG, PROMPT, chmod, throughout, until};
use crate::harness::{EPISODECTL, need_command};

/// Longer than an idle agent stays when a second is its limit.
const LONG: Duration = Duration::from_secs(3);

fn nothing() -> OwnedFd {
    File::open("/dev/null").expect("it is there").into()
}

/// The socket as the supervisor makes it, where the agent would.
fn supervised(place: &Place) -> UnixListener {
    place.make_directory(0o700);
    let listener = UnixListener::bind(place.socket()).expect("a socket is bound");
    chmod(&place.socket(), 0o600);
    listener
}

fn handed(place: &Place, socket: &UnixListener) -> Process {
    let socket = socket.try_clone().expect("it has another owner");
    place.spawn_with([socket.into(), nothing()], "1")
}

#[test]
fn an_activated_one_serves_what_it_was_given_and_leaves_it_there() {
    let place = Place::new();
    let listener = supervised(&place);
    let before = inode(&place.socket());
    // Waits in the queue of the socket until somebody serves it.
    let mut early = place.client();
    early.send(&super::wire::frame(super::wire::LIST, b""));
    let mut agent = Agent::of(handed(&place, &listener), place);
    assert_eq!(early.answer(), Answer::List(Vec::new()));
    agent.client().keep("id", b"key");
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));

    let mut second = agent.place().spawn();
    assert_eq!(second.exited_within(PROMPT), Some(0), "it has the lock");
    assert_eq!(agent.client().stop(), Answer::Ok);
    assert_eq!(agent.exited(), Some(0), "{}", agent.place().said());
    assert_eq!(inode(&agent.place().socket()), before);

    let place = agent.killed();
    let again = Agent::of(handed(&place, &listener), place);
    assert!(again.client().list().is_empty());
}

#[tokio::test]
async fn an_activated_one_never_leaves_by_itself() {
    let place = Place::configured("idle_exit = \"1s\"\n");
    let listener = supervised(&place);
    let mut agent = Agent::of(handed(&place, &listener), place);
    throughout("it stays", LONG, || agent.process().runs());
    let cache = KeyCache::connect(agent.place().socket()).await;
    let status = cache.expect("it accepts").status().await;
    assert_eq!(status.expect("it answers").idle_exit, None);
}

#[test]
fn what_is_no_socket_of_its_own_is_refused() {
    type Made = fn(&Place) -> [OwnedFd; 2];
    let cases: [(&str, &str, Made); 6] = [
        ("1", "ListenStream must be", |place| {
            let other = UnixListener::bind(place.root().join("agent.sock"));
            [other.unwrap().into(), nothing()]
        }),
        ("1", "no listening Unix stream socket", |_| {
            [UnixDatagram::unbound().unwrap().into(), nothing()]
        }),
        ("1", "no listening Unix stream socket", |_| {
            [UnixStream::pair().unwrap().0.into(), nothing()]
        }),
        ("1", "no listening Unix stream socket", |_| {
            [nothing(), nothing()]
        }),
        ("2", "2 sockets were handed over", |place| {
            let two = ["one", "two"].map(|name| UnixListener::bind(place.root().join(name)));
            two.map(|socket| socket.unwrap().into())
        }),
        ("some", "LISTEN_FDS", |_| [nothing(), nothing()]),
    ];
    for (count, says, make) in cases {
        let place = Place::new();
        let mut process = place.spawn_with(make(&place), count);
        assert_eq!(process.exited_within(HANG), Some(78), "{says}");
        let output = std::fs::read_to_string(place.output()).unwrap();
        assert!(output.contains(says), "{output}");
        assert!(!is_there(&place.socket()));
    }
}

#[test]
fn what_is_meant_for_another_process_is_closed() {
    for (count, taken) in [("1", true), ("0", false)] {
        let place = Place::new();
        let listener = taken.then(|| supervised(&place));
        let socket = match &listener {
            Some(listener) => listener.try_clone().unwrap().into(),
            None => nothing(),
        };
        let (mut reader, writer) = std::io::pipe().expect("a pipe is made");
        let process = place.spawn_with([socket, writer.into()], count);
        let agent = Agent::of(process, place);
        let mut rest = Vec::new();
        // Ends only when the agent has let it go.
        let ended = std::thread::spawn(move || reader.read_to_end(&mut rest).map(|_| ()));
        until("the pipe ends", HANG, || ended.is_finished());
        agent.client().keep("id", b"key");
    }
}

#[test]
fn an_activated_one_beside_another_says_so() {
    let agent = Agent::start();
    let place = agent.place();
    // Else it ends once it sees that its socket is another.
    agent.signal(Signal::STOP);
    std::fs::remove_file(place.socket()).expect("as the supervisor does");
    let listener = UnixListener::bind(place.socket()).expect("a socket is bound");
    let mut second = handed(place, &listener);
    assert_eq!(second.exited_within(HANG), Some(69));
    let output = std::fs::read_to_string(place.output()).unwrap();
    assert!(output.contains(&agent.pid().to_string()), "{output}");
}

#[test]
fn the_supervisor_hears_of_the_start_and_of_the_end() {
    let place = Place::new();
    let path = place.root().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket is bound");
    let limit = supervisor.set_read_timeout(Some(HANG));
    limit.expect("it is longer than nothing");
    let hear = || {
        let mut buffer = [0; 64];
        let length = supervisor.recv(&mut buffer).expect("it is told");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut agent = Agent::at(place.with("NOTIFY_SOCKET", path.into()));
    assert_eq!(hear(), "READY=1\n");
    assert_eq!(agent.client().stop(), Answer::Ok);
    assert_eq!(hear(), "STOPPING=1\n");
    assert_eq!(agent.exited(), Some(0));
}

/// As systemd does with the next connection.
#[test]
fn a_stop_is_over_though_the_supervisor_starts_another() {
    let place = Place::new();
    let listener = supervised(&place);
    let mut agent = Agent::of(handed(&place, &listener), place);
    agent.client().keep("id", b"key");
    let mut stop = Command::new(EPISODECTL)
        .args(["key", "stop"])
        .env_clear()
        .envs(agent.place().environment())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    assert_eq!(agent.exited(), Some(0));
    let place = agent.killed();
    let next = Agent::of(handed(&place, &listener), place);
    until("the stop is over", HANG, || {
        stop.try_wait().unwrap().is_some()
    });
    let output = stop.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(next.client().list().is_empty());
}

#[test]
fn systemd_starts_it_with_the_first_connection() {
    const PROGRAM: &str = "systemd-socket-activate";
    if !need_command(PROGRAM) {
        return;
    }
    let place = Place::new();
    place.make_directory(0o700);
    let mut systemd = Command::new(PROGRAM);
    systemd.arg("-l").arg(place.socket()).arg("--fdname=agent");
    for (name, value) in place.environment() {
        let mut pair = std::ffi::OsString::from(format!("-E{name}="));
        pair.push(value);
        systemd.arg(pair);
    }
    let process = place.start(systemd.arg(KEYCACHED).stdin(Stdio::null()));
    let agent = Agent::of(process, place);
    agent.client().keep("id", b"key");
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));
    assert!(agent.place().said().contains("serving"));
}
