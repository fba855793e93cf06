//! What is kept, for whom, and for how long.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::agent::Agent;
use super::wire::{Answer, Client, FRAME, GET, LONGEST_KEY, PUT, frame, put};
use super::{PROMPT, throughout, unique, until};

/// The keys that a full cache holds at most, if each is as long as it may be.
const ROOM: usize = 16 * 1024 * 1024 / LONGEST_KEY;

#[test]
fn a_key_comes_back_byte_for_byte() {
    let agent = Agent::start();
    let (mut giver, mut taker) = (agent.client(), agent.client());
    for length in [1, 32, 64, 65, 4_096, LONGEST_KEY] {
        for path in ["", "/home/someone/böx.lbox"] {
            let id = format!("id-{length}-{path}");
            let key = unique(length);
            assert_eq!(giver.put(&id, &key, path, 3_600), Answer::Ok);
            assert_eq!(taker.get(&id), Answer::Key(key));
            assert!(taker.list().contains(&(id, path.to_owned())));
        }
    }
    assert_eq!(agent.client().list().len(), 12);
}

#[test]
fn every_byte_of_a_key_is_kept() {
    let agent = Agent::start();
    let key: Vec<u8> = (0..=255).collect();
    agent.client().keep("id", &key);
    assert_eq!(agent.client().get("id"), Answer::Key(key));
}

#[test]
fn what_is_forgotten_is_gone_and_the_rest_stays() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.keep("one", b"first");
    client.keep("other", b"second");
    for _ in 0..2 {
        assert_eq!(client.forget("one"), Answer::Ok);
        assert_eq!(client.get("one"), Answer::Miss);
    }
    assert_eq!(client.forget("never there"), Answer::Ok);
    assert_eq!(client.get("other"), Answer::Key(b"second".to_vec()));
}

#[test]
fn a_second_put_replaces_key_and_path() {
    let agent = Agent::start();
    let mut client = agent.client();
    for (key, path) in [
        (&b"first"[..], "/first"),
        (b"a second, longer", ""),
        (b"3", "/third"),
    ] {
        assert_eq!(client.put("id", key, path, 3_600), Answer::Ok);
        assert_eq!(client.get("id"), Answer::Key(key.to_vec()));
        assert_eq!(client.list(), [("id".to_owned(), path.to_owned())]);
    }
}

#[test]
fn forget_all_forgets_all() {
    let agent = Agent::start();
    let mut client = agent.client();
    let ids: Vec<_> = (0..100).map(|number| format!("id-{number}")).collect();
    for id in &ids {
        client.keep(id, id.as_bytes());
    }
    assert_eq!(client.list().len(), ids.len());
    assert_eq!(agent.client().forget_all(), Answer::Ok);
    assert!(client.list().is_empty());
    for id in &ids {
        assert_eq!(client.get(id), Answer::Miss);
    }
    assert_eq!(client.forget_all(), Answer::Ok);
}

#[test]
fn a_list_shows_ids_and_paths_and_no_key() {
    let agent = Agent::start();
    let mut client = agent.client();
    let key = unique(32);
    for (id, path) in [("b", "/b"), ("a", ""), ("c", "/c"), ("B", "/B")] {
        assert_eq!(client.put(id, &key, path, 3_600), Answer::Ok);
    }
    let shown = [("B", "/B"), ("a", ""), ("b", "/b"), ("c", "/c")];
    let shown = shown.map(|(id, path)| (id.to_owned(), path.to_owned()));
    assert_eq!(client.list(), shown);
    let raw = client.finish(b"LBX2\x06\x00\x00\x00\x00");
    assert!(!raw.windows(4).any(|part| part == &key[..4]));
    assert!(raw.windows(2).any(|part| part == b"/b"), "the control");
}

#[test]
fn a_list_that_is_too_long_shows_what_fits() {
    let agent = Agent::start();
    let mut client = agent.client();
    let path = "p".repeat(FRAME / 2 - 64);
    for id in ["a", "b", "c"] {
        assert_eq!(client.put(id, b"key", &path, 3_600), Answer::Ok);
    }
    let ids: Vec<_> = client.list().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(client.get("c"), Answer::Key(b"key".to_vec()));
}

#[test]
fn a_client_that_stalls_delays_nobody() {
    let mut agent = Agent::start();
    let mut stalled = agent.client();
    let whole = frame(PUT, &put(b"stalled", &unique(LONGEST_KEY), b"", 60));
    stalled.send(&whole[..LONGEST_KEY / 2]);

    let mut client = agent.client();
    client.patience(PROMPT);
    client.keep("id", b"key");
    assert_eq!(client.get("id"), Answer::Key(b"key".to_vec()));
    assert_eq!(client.get("stalled"), Answer::Miss);
    assert_eq!(client.forget("id"), Answer::Ok);
    client.keep("id", b"key");
    assert_eq!(client.forget_all(), Answer::Ok);
    assert!(client.list().is_empty());
    stalled.send(&whole[LONGEST_KEY / 2..]);
    let answer = stalled.answer();
    assert!(
        matches!(&answer, Answer::Error(why) if why.starts_with("wiped")),
        "it began before all was forgotten: {answer:?}"
    );
    stalled.ended();
    assert!(client.list().is_empty());

    let mut stalled = agent.client();
    stalled.send(&whole[..LONGEST_KEY / 2]);
    assert_eq!(client.stop(), Answer::Ok);
    assert_eq!(agent.process().exited_within(PROMPT), Some(0));
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let mut agent = Agent::start();
    agent.client().keep("id", &unique(LONGEST_KEY));
    let mut deaf = agent.client();
    deaf.send(&frame(GET, b"id").repeat(64));

    let mut client = agent.client();
    client.patience(PROMPT);
    assert_eq!(client.forget_all(), Answer::Ok);
    assert_eq!(client.get("id"), Answer::Miss);
    assert_eq!(client.stop(), Answer::Ok);
    assert_eq!(agent.process().exited_within(PROMPT), Some(0));
}

/// Lets this process, and agents that it starts, have as many files open as the
/// machine lets it.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum is allowed");
}

#[test]
fn a_thousand_silent_connections_delay_nobody() {
    many_files();
    let agent = Agent::start();
    agent.client().keep("id", b"key");
    let mut silent: Vec<Client> = (0..1_000).map(|_| agent.client()).collect();

    let mut client = agent.client();
    client.patience(PROMPT);
    assert_eq!(client.forget_all(), Answer::Ok);
    assert_eq!(client.get("id"), Answer::Miss);
    let last = silent.last_mut().expect("there are a thousand");
    assert_eq!(last.get("id"), Answer::Miss, "it is served too");
}

/// More than the agent has room for; another program locks all keys beside them.
#[test]
fn whoever_takes_all_connections_keeps_nobody_from_locking() {
    many_files();
    let agent = Agent::start();
    agent.client().keep("id", b"key");
    let silent: Vec<Client> = (0..4_200).map(|_| agent.client()).collect();
    for (what, told) in [("lock-all", "1 key forgotten"), ("stop", "")] {
        let mut command = std::process::Command::new(crate::harness::EPISODECTL);
        let command = command.arg("--socket").arg(agent.place().socket());
        let output = command.args(["key", what]).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(told), "{said}");
    }
    drop(silent);
}

#[test]
fn an_entry_ends_with_its_ttl_and_a_list_does_not_prolong_it() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.keep("lasting", b"other");
    assert_eq!(client.put("short", b"key", "/p", 1), Answer::Ok);
    assert_eq!(client.list().len(), 2);
    until("the entry ends", Duration::from_secs(3), || {
        client.list().len() == 1
    });
    assert_eq!(client.get("short"), Answer::Miss);
    assert_eq!(client.get("lasting"), Answer::Key(b"other".to_vec()));
}

#[test]
fn a_get_prolongs_an_entry() {
    let agent = Agent::start();
    let mut client = agent.client();
    assert_eq!(client.put("id", b"key", "", 2), Answer::Ok);
    throughout("the key is there", Duration::from_secs(4), || {
        client.get("id") == Answer::Key(b"key".to_vec())
    });
    let limit = Duration::from_secs(4);
    until("the entry ends", limit, || client.list().is_empty());
}

#[test]
fn a_replacing_put_sets_a_new_ttl() {
    let agent = Agent::start();
    let mut client = agent.client();
    assert_eq!(client.put("id", b"key", "", 3_600), Answer::Ok);
    assert_eq!(client.put("id", b"key", "", 1), Answer::Ok);
    let limit = Duration::from_secs(3);
    until("the entry ends", limit, || client.list().is_empty());
}

#[test]
fn a_full_cache_refuses_and_goes_on() {
    let agent = Agent::start();
    let key = unique(LONGEST_KEY);
    let mut kept = 0;
    let message = loop {
        let id = format!("id-{kept:04}");
        match agent.client().put(&id, &key, "", 3_600) {
            Answer::Ok => kept += 1,
            Answer::Error(message) => break message,
            other => panic!("no answer to a put: {other:?}"),
        }
        assert!(kept <= ROOM, "more than the limit");
    };
    assert!(message.starts_with("full"), "{message}");
    assert!(kept > 0);

    let mut client = agent.client();
    assert_eq!(client.list().len(), kept, "none was dropped");
    assert_eq!(client.get("id-0000"), Answer::Key(key.clone()));
    assert_eq!(client.forget("id-0000"), Answer::Ok);
    client.keep("another", &key);
    assert_eq!(client.get("another"), Answer::Key(key));
    assert_eq!(client.forget_all(), Answer::Ok);
    client.keep("another", b"key");
}
