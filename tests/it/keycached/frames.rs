//! What goes over the socket, byte for byte, and in order.

use super::agent::Agent;
use super::wire::{
    Answer, FORGET, FORGET_ALL, FRAME, GET, HEADER, LIST, LONGEST_KEY, MAGIC, PUT, REGISTER,
    UNREGISTER, frame, put,
};
use crate::crash::random::Random;

/// What a put says beside its id, key and path.
const PUT_FIELDS: usize = 2 + 4 + 4 + 8;

const OK: &[u8] = b"LBX2\x81\x00\x00\x00\x00";
const MISS: &[u8] = b"LBX2\x82\x00\x00\x00\x00";

/// Sends the one and reads exactly the other.
#[track_caller]
fn exchange(agent: &Agent, request: &[u8], answer: &[u8]) {
    let mut client = agent.client();
    client.send(request);
    assert_eq!(client.receive(answer.len()), answer);
    assert_eq!(client.finish(b""), b"", "nothing comes after it");
}

#[test]
fn every_request_and_answer_has_these_bytes() {
    let agent = Agent::start();
    let nothing = b"LBX2\x84\x04\x00\x00\x00\x00\x00\x00\x00";
    exchange(&agent, b"LBX2\x06\x00\x00\x00\x00", nothing);
    exchange(&agent, b"LBX2\x01\x02\x00\x00\x00ab", MISS);
    let whole = b"LBX2\x02\x19\x00\x00\x00\
        \x02\x00ab\
        \x03\x00\x00\x00\
        \x02\x00\x00\x00\
        \x10\x0e\x00\x00\x00\x00\x00\x00\
        \x01\x00\xff\
        /p";
    exchange(&agent, whole, OK);
    exchange(
        &agent,
        b"LBX2\x01\x02\x00\x00\x00ab",
        b"LBX2\x83\x03\x00\x00\x00\x01\x00\xff",
    );
    let without_path = b"LBX2\x02\x15\x00\x00\x00\
        \x02\x00\xc3\xa4\
        \x01\x00\x00\x00\
        \x00\x00\x00\x00\
        \x10\x0e\x00\x00\x00\x00\x00\x00\
        \x07";
    exchange(&agent, without_path, OK);
    let both = b"LBX2\x84\x16\x00\x00\x00\
        \x02\x00\x00\x00\
        \x02\x00ab\x02\x00\x00\x00/p\
        \x02\x00\xc3\xa4\x00\x00\x00\x00";
    exchange(&agent, b"LBX2\x06\x00\x00\x00\x00", &both[..]);
    exchange(&agent, b"LBX2\x03\x02\x00\x00\x00ab", OK);
    exchange(&agent, b"LBX2\x01\x02\x00\x00\x00ab", MISS);
    exchange(&agent, b"LBX2\x04\x00\x00\x00\x00", OK);
    exchange(&agent, b"LBX2\x06\x00\x00\x00\x00", nothing);
}

#[test]
fn activities_and_errors_have_these_bytes() {
    let mut agent = Agent::start();
    let pid = std::process::id().to_le_bytes();
    let mut client = agent.client();
    let begin = [&b"LBX2\x10\x05\x00\x00\x00"[..], &pid, b"\x03"].concat();
    client.send(&begin);
    assert_eq!(client.receive(9), b"LBX2\x80\x08\x00\x00\x00");
    let token = client.receive(8);
    assert_ne!(token, [0; 8]);
    let end = [&b"LBX2\x11\x0c\x00\x00\x00"[..], &pid, &token].concat();
    client.send(&end);
    assert_eq!(client.receive(OK.len()), OK);

    let refusal = agent.client().finish(b"LBX2\x07\x00\x00\x00\x00");
    assert_eq!(&refusal[..5], b"LBX2\xff");
    let length = u32::from_le_bytes(refusal[5..9].try_into().expect("four bytes"));
    assert_eq!(length as usize, refusal.len() - HEADER);
    assert!(refusal[HEADER..].starts_with(b"unsupported"));

    exchange(&agent, b"LBX2\x05\x00\x00\x00\x00", OK);
    assert_eq!(agent.exited(), Some(0));
}

#[test]
fn a_frame_of_131072_bytes_is_taken_and_one_more_is_not() {
    let agent = Agent::start();
    let id = "longest!";
    let key = super::unique(LONGEST_KEY);
    let path = "p".repeat(FRAME - HEADER - PUT_FIELDS - id.len() - key.len());
    let longest = put(id.as_bytes(), &key, path.as_bytes(), 60);
    assert_eq!(frame(PUT, &longest).len(), FRAME);
    let mut client = agent.client();
    assert_eq!(client.ask(PUT, &longest), Answer::Ok);
    assert_eq!(client.get(id), Answer::Key(key));
    assert_eq!(client.list(), [(id.to_owned(), path)]);

    let longer = [&longest[..], b"p"].concat();
    let header = &frame(PUT, &longer)[..HEADER];
    let message = agent.client().refused(header);
    assert!(message.starts_with("oversize"), "{message}");
    let whole = agent.client().finish(&frame(PUT, &longer));
    assert!(whole[HEADER..].starts_with(b"oversize"));
    assert_eq!(agent.client().list().len(), 1);
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    let agent = Agent::start();
    let mut client = agent.client();
    for byte in frame(PUT, &put(b"id", b"key", b"/path", 60)) {
        client.send(&[byte]);
    }
    assert_eq!(client.answer(), Answer::Ok);
    for byte in frame(GET, b"id") {
        client.send(&[byte]);
    }
    assert_eq!(client.answer(), Answer::Key(b"key".to_vec()));
}

#[test]
fn requests_that_come_at_once_are_answered_in_order() {
    let agent = Agent::start();
    let mut client = agent.client();
    let requests = [
        frame(PUT, &put(b"id", b"key", b"", 60)),
        frame(GET, b"id"),
        frame(FORGET, b"id"),
    ];
    client.send(&requests.concat());
    assert_eq!(client.answer(), Answer::Ok);
    assert_eq!(client.answer(), Answer::Key(b"key".to_vec()));
    assert_eq!(client.answer(), Answer::Ok);
    assert_eq!(client.get("id"), Answer::Miss);

    let unsound = [frame(GET, b"id"), frame(0x07, b""), frame(GET, b"id")];
    client.send(&unsound.concat());
    assert_eq!(client.answer(), Answer::Miss);
    assert!(matches!(client.answer(), Answer::Error(_)));
    client.ended();
}

/// Anything but a sound stop.
fn garbage(random: &mut Random) -> Vec<u8> {
    let length = random.below(300);
    let mut noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    let kinds = [GET, PUT, FORGET, FORGET_ALL, LIST, REGISTER, UNREGISTER, 0];
    let kind = kinds[random.below(kinds.len())];
    match random.below(4) {
        0 => noise,
        1 => frame(kind, &noise),
        2 => {
            let mut cut = frame(kind, &noise);
            cut.truncate(random.below(cut.len()));
            cut
        }
        _ => {
            let mut put = put(b"id", &noise, b"path", random.next());
            noise = put.split_off(random.below(put.len()));
            frame(PUT, &[put, noise.split_off(noise.len() / 2)].concat())
        }
    }
}

#[test]
fn garbage_neither_hangs_nor_ends_it() {
    const ROUNDS: usize = 2_000;
    let mut agent = Agent::start();
    let mut random = Random::new(0x4c42_5832);
    for round in 0..ROUNDS {
        let bytes = garbage(&mut random);
        let answers = agent.client().finish(&bytes);
        let sound = answers.is_empty() || answers.starts_with(MAGIC);
        assert!(sound, "round {round}: {answers:x?} to {bytes:x?}");
    }
    let mut client = agent.client();
    assert_eq!(client.forget_all(), Answer::Ok);
    assert!(client.list().is_empty());
    assert!(agent.process().runs());
}
