//! What is refused, how, and that it goes on afterwards.

use super::agent::Agent;
use super::wire::{
    Answer, FORGET, FORGET_ALL, FRAME, GET, HEADER, LIST, LONGEST_KEY, MAGIC, PUT, REGISTER, STOP,
    UNREGISTER, activity, frame, put,
};

/// Sends it on a connection of its own, which must end with a message that
/// begins so; the agent must serve the next one. The message.
#[track_caller]
fn refused(agent: &Agent, request: &[u8], begins: &str) -> String {
    let message = agent.client().refused(request);
    assert!(message.starts_with(begins), "{message:?} to {request:x?}");
    assert_eq!(agent.client().get("other"), Answer::Miss);
    message
}

#[test]
fn what_is_no_frame_is_refused() {
    let agent = Agent::start();
    for magic in [b"LBX1", b"lbx2", b"2XBL", b"GET ", b"\0\0\0\0"] {
        let header = [&magic[..], b"\x06\x00\x00\x00\x00"].concat();
        refused(&agent, &header, "malformed");
    }
    for kind in [0x00, 0x07, 0x0f, 0x12, 0x80, 0x81, 0x84, 0xff] {
        refused(&agent, &frame(kind, b""), "unsupported");
    }
    let most = u32::try_from(FRAME - HEADER).expect("it fits");
    for length in [most + 1, u32::MAX] {
        for kind in [GET, PUT, LIST] {
            let header = [MAGIC, &[kind][..], &length.to_le_bytes()].concat();
            refused(&agent, &header, "oversize");
        }
    }
}

#[test]
fn an_id_that_is_empty_or_not_text_is_refused() {
    let agent = Agent::start();
    for id in [&b""[..], b"\xff", b"a\xc3", b"\xed\xa0\x80"] {
        refused(&agent, &frame(GET, id), "malformed");
        refused(&agent, &frame(FORGET, id), "malformed");
        refused(&agent, &frame(PUT, &put(id, b"k", b"", 60)), "malformed");
    }
}

#[test]
fn a_ttl_that_is_nothing_or_never_ends_is_refused() {
    let agent = Agent::start();
    for ttl in [0, u64::MAX] {
        let request = frame(PUT, &put(b"id", b"k", b"", ttl));
        let message = refused(&agent, &request, "malformed");
        assert!(message.contains("TTL"), "{message}");
    }
    assert_eq!(agent.client().get("id"), Answer::Miss);
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    let agent = Agent::start();
    let good = put(b"id", b"key", b"/path", 60);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let (id, key, path) = (0, 4, 8);
    let mut wrong = vec![
        [&good[..], b"x"].concat(),
        with(id, b"\x03\x00"),
        with(id, b"\xff\xff"),
        with(key, b"\x02"),
        with(key, b"\xff\xff\xff\xff"),
        with(path, b"\x06"),
        with(path, b"\xff\xff\xff\xff"),
        with(key, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        with(key, b"\x00\x00\x00\x80\x08\x00\x00\x80"),
    ];
    wrong.extend((0..good.len()).map(|cut| good[..cut].to_vec()));
    for payload in &wrong {
        refused(&agent, &frame(PUT, payload), "malformed");
    }
    for kind in [FORGET_ALL, STOP, LIST] {
        refused(&agent, &frame(kind, b"x"), "malformed");
    }
    assert!(agent.client().list().is_empty());
    assert_eq!(agent.client().ask(PUT, &good), Answer::Ok, "the control");
}

#[test]
fn a_key_that_is_empty_or_too_long_is_refused() {
    let agent = Agent::start();
    let empty = frame(PUT, &put(b"id", b"", b"/path", 60));
    refused(&agent, &empty, "malformed");
    let long = vec![1; LONGEST_KEY + 1];
    let request = frame(PUT, &put(b"id", &long, b"", 60));
    let refusal = agent.client().finish(&request);
    assert!(refusal.starts_with(b"LBX2\xff"), "{refusal:x?}");
    let message = &refusal[HEADER..];
    let says = message.starts_with(b"malformed") || message.starts_with(b"oversize");
    assert!(says, "{}", String::from_utf8_lossy(message));
    assert!(agent.client().list().is_empty());
}

#[test]
fn an_activity_of_nobody_or_of_no_kind_is_refused() {
    let agent = Agent::start();
    let own = std::process::id();
    let mut wrong: Vec<_> = [(0, 1), (0x8000_0000, 1), (u32::MAX, 1), (own, 0), (own, 7)]
        .map(|(pid, kind)| activity(pid, kind))
        .into();
    wrong.push(activity(own, 255));
    wrong.push(activity(own, 1)[..4].to_vec());
    wrong.push([&activity(own, 1)[..], b"x"].concat());
    for payload in &wrong {
        refused(&agent, &frame(REGISTER, payload), "malformed");
    }
    for length in [0, 4, 11, 13] {
        refused(&agent, &frame(UNREGISTER, &vec![1; length]), "malformed");
    }
    for kind in 1..=6 {
        assert_ne!(agent.client().register(own, kind), 0);
    }
}

#[test]
fn an_activity_is_of_the_peer_or_of_a_descendant() {
    let agent = Agent::start();
    assert_ne!(agent.client().register(std::process::id(), 1), 0);
    assert_ne!(agent.client().register(agent.pid(), 2), 0, "a child");

    let stranger = frame(REGISTER, &activity(1, 1));
    let message = agent.client().refused(&stranger);
    let says = message.starts_with("malformed") || message.contains("pid");
    assert!(says, "{message}");
    assert_eq!(agent.client().get("other"), Answer::Miss);
}

#[test]
fn what_ends_within_its_header_is_told_so() {
    let agent = Agent::start();
    for begun in [&b"X"[..], b"LBX", b"PRI", b"LBX2\x01\x02"] {
        let answer = agent.client().finish(begun);
        assert_eq!(&answer[..5], b"LBX2\xff", "{begun:?}: {answer:?}");
        let said = String::from_utf8_lossy(&answer[9..]).into_owned();
        assert!(said.starts_with("malformed"), "{said}");
    }
    assert_eq!(
        agent.client().finish(b""),
        b"",
        "who says nothing is told nothing"
    );
}
