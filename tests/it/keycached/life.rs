//! How it starts, beside others of its kind too, and how it ends.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::process::Signal;

use super::agent::{Agent, Place};
use super::places::{inode, is_there, mode};
use super::wire::Answer;
use super::{HANG, PROMPT, STRANGER, as_stranger, chmod, until};
use crate::harness::need_root;

/// How soon it has ended after a stop.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn its_files_are_its_users_alone() {
    let place = Place::new();
    // Others could read it until now.
    std::fs::write(place.log(), "").expect("it is written");
    chmod(&place.log(), 0o644);
    let agent = Agent::at(place);
    agent.client().keep("id", b"key");
    let place = agent.place();
    assert_eq!(mode(&place.directory()), 0o700);
    assert_eq!(mode(&place.socket()), 0o600);
    assert!(is_there(&place.lock()));
    assert_eq!(mode(&place.lock()) & 0o077, 0);
    assert_eq!(mode(&place.log()), 0o600);
}

#[test]
fn a_private_directory_is_used_as_it_is() {
    let place = Place::new();
    place.make_directory(0o700);
    let before = inode(&place.directory());
    let agent = Agent::at(place);
    agent.client().keep("id", b"key");
    assert_eq!(inode(&agent.place().directory()), before);
}

#[test]
fn a_second_one_ends_at_once_and_the_first_goes_on() {
    let mut agent = Agent::start();
    agent.client().keep("id", b"key");
    let before = inode(&agent.place().socket());
    for _ in 0..3 {
        let mut second = agent.place().spawn();
        assert_eq!(second.exited_within(PROMPT), Some(0));
    }
    assert!(agent.process().runs());
    assert_eq!(inode(&agent.place().socket()), before);
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));
}

#[test]
fn of_many_that_start_at_once_one_serves() {
    const STARTS: usize = 16;
    let place = Place::new();
    let mut processes: Vec<_> = (0..STARTS).map(|_| place.spawn()).collect();
    let mut ended = Vec::new();
    until("all but one have ended", HANG, || {
        processes.retain_mut(|process| {
            let runs = process.runs();
            if !runs {
                ended.push(process.exited());
            }
            runs
        });
        ended.len() == STARTS - 1
    });
    assert_eq!(ended, [Some(0); STARTS - 1]);
    until("the one accepts", HANG, || {
        UnixStream::connect(place.socket()).is_ok()
    });
    place.client().keep("id", b"key");
    assert_eq!(place.client().get("id"), Answer::Key(b"key".to_vec()));
    assert!(processes[0].runs());
}

#[test]
fn a_stop_is_answered_and_ends_it() {
    let mut agent = Agent::start();
    let mut idle = agent.client();
    let mut client = agent.client();
    for id in ["a", "b", "c"] {
        client.keep(id, b"key");
    }
    assert_eq!(idle.get("a"), Answer::Key(b"key".to_vec()));
    assert_eq!(client.stop(), Answer::Ok);
    assert_eq!(agent.process().exited_within(SOON), Some(0));
    assert!(!is_there(&agent.place().socket()));
    client.ended();
    idle.ended();

    let again = Agent::at(agent.killed());
    assert!(again.client().list().is_empty());
}

#[test]
fn a_signal_to_end_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start();
        let mut idle = agent.client();
        idle.keep("id", b"key");
        agent.signal(signal);
        assert_eq!(agent.exited(), Some(0), "{signal:?}");
        assert!(!is_there(&agent.place().socket()));
        idle.ended();
    }
}

#[test]
fn a_signal_to_forget_does_not_end_it() {
    for signal in [Signal::USR1, Signal::HUP] {
        let mut agent = Agent::start();
        let mut client = agent.client();
        for _ in 0..2 {
            client.keep("id", b"key");
            agent.signal(signal);
            until("it forgets", HANG, || client.list().is_empty());
            assert_eq!(client.get("id"), Answer::Miss);
        }
        assert!(agent.process().runs());
    }
}

#[test]
fn what_a_crash_left_is_replaced() {
    let agent = Agent::start();
    agent.client().keep("id", b"key");
    let before = inode(&agent.place().socket());
    let place = agent.killed();
    assert_eq!(inode(&place.socket()), before, "it is left behind");
    let refused = UnixStream::connect(place.socket()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    let again = Agent::at(place);
    assert!(again.client().list().is_empty());
    assert_eq!(mode(&again.place().socket()), 0o600);
}

#[test]
fn a_successors_socket_is_left_alone() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start();
        let socket = agent.place().socket();
        let new = agent.place().root().join("new.sock");
        let _listener = UnixListener::bind(&new).expect("a socket is bound");
        let successor = inode(&new);
        std::fs::rename(&new, &socket).expect("it takes the place");
        agent.signal(signal);
        assert_eq!(agent.exited(), Some(0));
        assert_eq!(inode(&socket), successor);
        UnixStream::connect(&socket).expect("it still listens");
    }
}

#[test]
fn one_that_nobody_can_reach_any_more_forgets_and_ends() {
    let mut agent = Agent::start();
    agent.client().keep("id", b"key");
    std::fs::remove_file(agent.place().socket()).expect("it is there");
    assert_eq!(agent.exited(), Some(0));
    let said = agent.place().said();
    assert!(said.contains("its socket is gone"), "{said}");
}

#[test]
fn another_user_is_closed_without_an_answer() {
    use std::io::{Read as _, Write as _};
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    agent.client().keep("id", b"key");
    chmod(agent.place().root(), 0o711);
    chmod(&agent.place().directory(), 0o711);
    chmod(&agent.place().socket(), 0o666);
    for request in [&b""[..], b"LBX2\x01\x02\x00\x00\x00id", b"LBX2\x04\0\0\0\0"] {
        let socket = agent.place().socket();
        let heard = as_stranger(move || {
            let mut stream = UnixStream::connect(socket).expect("the modes let it connect");
            let limit = stream.set_read_timeout(Some(PROMPT));
            limit.expect("it is longer than nothing");
            // It may be closed already.
            let _ = stream.write_all(request);
            let mut heard = Vec::new();
            let ended = stream.read_to_end(&mut heard);
            (heard, ended.err().map(|error| error.kind()))
        });
        let (bytes, error) = heard;
        assert_eq!(bytes, b"");
        let closed = matches!(error, None | Some(ErrorKind::ConnectionReset));
        assert!(closed, "{error:?}");
    }
    let said = agent.place().said();
    assert!(said.contains("connection refused"), "{said}");
    assert!(said.contains(&format!("uid={STRANGER}")), "{said}");
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));
    let socket = agent.place().socket();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let counted = runtime.expect("a runtime is made").block_on(async {
        let cache = episoded::client::KeyCache::connect(socket).await?;
        cache.status().await
    });
    assert_eq!(counted.expect("it answers").peers_refused, 3);
}

/// Inodes of the sockets that a process has open.
fn sockets(pid: u32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("root may look");
    fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.trim_end_matches(']').to_owned())
        })
        .collect()
}

/// How many of them are sockets of the network.
fn of_the_network(pid: u32) -> usize {
    let sockets = sockets(pid);
    assert!(!sockets.is_empty(), "it has sockets");
    ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"]
        .map(|kind| std::fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default())
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| line.split_whitespace().nth(9))
        .filter(|inode| sockets.iter().any(|socket| socket == inode))
        .count()
}

#[test]
fn it_has_no_socket_of_the_network() {
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    // Open to the end: the control, too, needs a socket to look at.
    let mut client = agent.client();
    client.keep("id", b"key");
    assert_eq!(of_the_network(agent.pid()), 0);
    // Whatever other tests have open.
    let _any = UnixStream::pair().expect("a pair is made");
    let before = of_the_network(std::process::id());
    let _own = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("it is bound");
    assert!(of_the_network(std::process::id()) > before, "the control");
}
