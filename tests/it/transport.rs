//! The limits of a connection: what is announced, what ends it, what is refused.

pub mod wire;

use std::path::Path;
use std::time::Duration;

use episoded::proto::session as pb;
use episoded::reason::Reason;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::{Response, Status};

use crate::harness::{
    Client, Daemon, Preload, bearer, find, get, normal_end, own, refusal, register, registration,
    within,
};
use wire::{Fate, Wire, begun, call, check, malformed, message, taken_back};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const ENHANCE_YOUR_CALM: Option<u32> = Some(11);

/// What is promised within five seconds is there within five times that.
const FIVE_TIMES_FIVE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn the_first_settings_announce_the_streams_and_the_headers_that_are_taken() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let daemon = Daemon::start().await;
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        let mut wire = Wire::open(&socket).await;
        let settings = wire.next().await.expect("it answers");
        assert_eq!((settings.kind, settings.stream), (4, 0));
        let value = |setting: u16| {
            let mut pairs = settings.payload.chunks(6);
            let found = pairs.find(|pair| pair[..2] == setting.to_be_bytes());
            found.map(|pair| u32::from_be_bytes(pair[2..].try_into().expect("four octets")))
        };
        assert_eq!(value(MAX_CONCURRENT_STREAMS), Some(128));
        assert_eq!(value(MAX_HEADER_LIST_SIZE), Some(8 * 1024));
    }
}

/// Its timers run ten times as fast, or the test would take a minute and more.
#[tokio::test]
async fn a_silent_client_is_asked_whether_it_is_there_and_closed_if_it_is_not() {
    let library = Preload::compile("transport/hurried.c");
    let mut daemon = Daemon::builder().stopped();
    daemon.wrap(library.wrapper("HURRY=10"));
    daemon.restart().await;
    let mut there = Wire::open(&daemon.operator_socket()).await;
    let mut gone = Wire::open(&daemon.session_socket()).await;
    let asked = there.asked().await;
    there.reply(&asked).await;
    gone.asked().await;
    gone.closed().await;
    assert_eq!(there.fate().await, Fate::Alive);
}

/// So many of them, each on the next stream.
fn many(count: u32, first: u32, one: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|n| one(first + 2 * n)).collect()
}

#[tokio::test]
async fn calls_taken_back_at_once_end_the_connection_when_seventeen_wait() {
    let daemon = Daemon::start().await;
    let socket = daemon.session_socket();
    let mut wire = Wire::open(&socket).await;
    wire.send(&many(16, 1, taken_back)).await;
    assert_eq!(wire.fate().await, Fate::Alive);
    let mut flooding = Wire::open(&socket).await;
    flooding.send(&many(17, 1, taken_back)).await;
    let flooded = Fate::Closed {
        code: ENHANCE_YOUR_CALM,
        why: "too_many_resets".to_owned(),
    };
    assert_eq!(flooding.fate().await, flooded);
    wire.send(&check(33)).await;
    wire.answered(33).await;
}

#[tokio::test]
async fn malformed_calls_are_reset_and_the_sixty_fifth_ends_the_connection() {
    let daemon = Daemon::start().await;
    let socket = daemon.session_socket();
    let mut wire = Wire::open(&socket).await;
    wire.send(&check(1)).await;
    wire.answered(1).await;
    wire.send(&many(64, 3, malformed)).await;
    wire.reset(3 + 2 * 63).await;
    assert_eq!(wire.fate().await, Fate::Alive);
    wire.send(&malformed(131)).await;
    let flooded = Fate::Closed {
        code: ENHANCE_YOUR_CALM,
        why: "too_many_internal_resets".to_owned(),
    };
    assert_eq!(wire.fate().await, flooded);
}

#[tokio::test]
async fn a_client_that_does_not_open_is_closed_within_five_seconds() {
    let daemon = Daemon::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut waiting = tokio::task::JoinSet::new();
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        for said in [&b""[..], &preface[..10], &preface[..]] {
            let socket = socket.clone();
            waiting.spawn(async move {
                let mut wire = Wire::connect(&socket).await;
                wire.send(said).await;
                let closed = tokio::time::timeout(FIVE_TIMES_FIVE, wire.closed()).await;
                closed.expect("it is closed");
            });
        }
    }
    while let Some(closed) = waiting.join_next().await {
        closed.expect("each is closed");
    }
    let registered = register(&mut daemon.operator().await, registration("work")).await;
    assert!(!registered.session_id.is_empty(), "others are served");
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_closed_without_a_word() {
    let daemon = Daemon::start().await;
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        let mut wire = Wire::connect(&socket).await;
        wire.send(b"GET /episoded HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert!(wire.next().await.is_none());
    }
}

type Sender = h2::client::SendRequest<bytes::Bytes>;

/// A connection by the library below tonic, and what drives it.
async fn connect_h2(socket: &Path) -> (Sender, tokio::task::JoinHandle<()>) {
    let stream = UnixStream::connect(socket).await.expect("it listens");
    let opened = within(h2::client::handshake(stream)).await;
    let (client, connection) = opened.expect("it opens");
    let driven = tokio::spawn(async move {
        let _ = connection.await;
    });
    (client, driven)
}

/// Calls a method with one more header field; the head of the answer.
async fn ask(
    client: &Sender,
    path: &str,
    field: (&'static str, String),
    message: &impl prost::Message,
) -> http::Response<h2::RecvStream> {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(field.0, field.1)
        .body(())
        .expect("it is a request");
    let mut octets = vec![0];
    octets.extend((message.encoded_len() as u32).to_be_bytes());
    octets.extend(message.encode_to_vec());
    let mut ready = within(client.clone().ready()).await.expect("it is open");
    let (answer, mut body) = ready.send_request(request, false).expect("it is sent");
    // A refusal may come before all of it was sent.
    let _ = body.send_data(octets.into(), true);
    within(answer).await.expect("it is answered")
}

/// The HTTP status of a health check whose headers come to that many octets, by
/// the count of HTTP/2: 32 for each field besides its name and value.
async fn status_of(client: &Sender, octets: usize) -> u16 {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/grpc.health.v1.Health/Check"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-filler", ""),
    ];
    let sizes = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32);
    let filler = "x".repeat(octets - sizes.sum::<usize>());
    let path = "/grpc.health.v1.Health/Check";
    let answer = ask(client, path, ("x-filler", filler), &()).await;
    answer.status().as_u16()
}

#[tokio::test]
async fn headers_of_eight_kibibytes_are_refused_and_the_connection_goes_on() {
    let daemon = Daemon::start().await;
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        let (client, connection) = connect_h2(&socket).await;
        for (octets, status) in [
            (8 * KIB - 1, 200),
            (8 * KIB, 431),
            (12 * KIB, 431),
            (1_000, 200),
        ] {
            assert_eq!(status_of(&client, octets).await, status, "{octets}");
        }
        connection.abort();
    }
}

#[tokio::test]
async fn a_call_whose_own_deadline_is_over_is_refused_and_does_nothing() {
    const REGISTER: &str = "/episoded.session.v1.SessionService/RegisterSession";
    let daemon = Daemon::start().await;
    let (client, connection) = connect_h2(&daemon.operator_socket()).await;
    let named = |id: &str| pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        ..registration("work")
    };
    for (id, timeout, code) in [("late", "1n", "4"), ("in-time", "1M", "0")] {
        let field = ("grpc-timeout", timeout.to_owned());
        let answer = ask(&client, REGISTER, field, &named(id)).await;
        let (head, mut body) = answer.into_parts();
        let mut trailers = None;
        if !head.headers.contains_key("grpc-status") {
            while within(body.data()).await.is_some() {}
            trailers = within(body.trailers()).await.expect("it ends well");
        }
        let fields = trailers.unwrap_or(head.headers);
        assert_eq!(fields["grpc-status"], code, "{id}");
    }
    let mut operator = daemon.operator().await;
    get(&mut operator, "in-time").await.expect("it is there");
    let late = get(&mut operator, "late").await;
    late.expect_err("it was not begun")
        .expect(Reason::SessionNotFound);
    connection.abort();
}

/// An end whose message has exactly that many octets, most of them in its detail.
fn sized_end(id: &str, octets: usize) -> pb::TerminateSessionRequest {
    let mut request = normal_end(id);
    let mut detail = octets;
    while request.encoded_len() != octets {
        request.detail = "x".repeat(detail);
        detail -= 1;
    }
    request
}

fn assert_bad_detail<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) {
    let refused = refusal(answer).expect(Reason::MalformedMessage);
    assert_eq!(refused.fields, ["detail"]);
}

#[tokio::test]
async fn a_message_over_the_limit_of_its_socket_is_refused_and_does_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut session = daemon.session().await;
    let registered = register(&mut operator, registration("work")).await;
    let (id, handle) = (registered.session_id, registered.ephemeral_handle);

    let own_end = |octets| bearer(sized_end("", octets), &handle);
    assert_bad_detail(session.terminate_session(own_end(256 * KIB)).await);
    let refused = refusal(session.terminate_session(own_end(256 * KIB + 1)).await);
    refused.expect(Reason::MessageTooLarge);
    let refused = refusal(session.terminate_session(own_end(8 * MIB)).await);
    refused.expect(Reason::MessageTooLarge);

    let end = |octets| sized_end(&id, octets);
    assert_bad_detail(operator.terminate_session(end(256 * KIB + 1)).await);
    assert_bad_detail(operator.terminate_session(end(4 * MIB)).await);
    let refused = refusal(operator.terminate_session(end(4 * MIB + 1)).await);
    refused.expect(Reason::MessageTooLarge);
    let opened = find(&mut session, own(&handle)).await;
    let opened = opened.expect("it lives, and so do the connections");
    assert_eq!(opened.status(), pb::SessionStatus::Active);
}

#[tokio::test]
async fn a_watch_is_asked_for_in_a_message_of_the_same_limit() {
    let daemon = Daemon::start().await;
    let mut operator: Client = daemon.operator().await;
    let request = |octets: usize| pb::WatchSessionsRequest {
        registry_id: "x".repeat(octets),
        ..Default::default()
    };
    let refused = refusal(operator.watch_sessions(request(4 * MIB - 100)).await);
    refused.expect(Reason::RegistryChanged);
    let refused = refusal(operator.watch_sessions(request(4 * MIB)).await);
    refused.expect(Reason::MessageTooLarge);
}

/// Asks until the socket has too many calls, or until it has room for one.
async fn until_busy(client: &mut Client, busy: bool) {
    let asking = async {
        loop {
            let answer = client.list_sessions(pb::ListSessionsRequest::default());
            match answer.await {
                Ok(_) if busy => {}
                Ok(_) => return,
                refused => {
                    let refused = refusal(refused).expect(Reason::RateLimited);
                    assert!(refused.message.contains("try again"), "{refused:?}");
                    if busy {
                        return;
                    }
                }
            }
        }
    };
    within(asking).await;
}

/// Calls are begun and their messages do not come: 128 on each of 128 connections.
#[tokio::test]
async fn more_calls_at_once_than_a_socket_takes_are_refused_and_the_other_socket_serves() {
    const STREAMS: u32 = 128;
    const CONNECTIONS: usize = 128;
    const GET: &str = "/episoded.session.v1.SessionService/GetSession";
    let builder = Daemon::builder().config("call_timeout = \"5m\"\n");
    let daemon = builder.start().await;
    let mut operator = daemon.operator().await;
    let mut session = daemon.session().await;
    let registered = register(&mut operator, registration("work")).await;
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut wire = Wire::open(&daemon.operator_socket()).await;
        wire.send(&many(STREAMS, 1, |stream| begun(stream, GET)))
            .await;
        wires.push(wire);
    }
    until_busy(&mut operator, true).await;
    for wire in &mut wires {
        assert_eq!(wire.fate().await, Fate::Alive, "nobody is thrown out");
    }
    let own = find(&mut session, own(&registered.ephemeral_handle)).await;
    own.expect("the other socket has calls of its own");

    // All but one.
    wires[0].send(&message(1, &[])).await;
    wires[0].answered(1).await;
    until_busy(&mut operator, false).await;
}

/// What it would send fills every buffer on the way, and it reads none of it.
#[tokio::test]
async fn a_stop_is_over_within_five_seconds_though_a_watcher_does_not_read() {
    const WATCH: &str = "/episoded.session.v1.SessionService/WatchSessions";
    let mut daemon = Daemon::start().await;
    let mut wire = Wire::open(&daemon.operator_socket()).await;
    wire.send(&call(1, WATCH, &[])).await;
    wire.answered(1).await;
    let large = pb::RegisterSessionRequest {
        labels: [("label".to_owned(), "v".repeat(255))].into(),
        ..registration("work")
    };
    let request = pb::RegisterSessionsRequest {
        requests: vec![large; 1_000],
    };
    let mut operator = daemon.operator().await;
    let answer = operator.register_sessions(request).await;
    answer.expect("they are registered");

    let stopped = tokio::time::timeout(FIVE_TIMES_FIVE, daemon.sigterm()).await;
    let exit = stopped.expect("it is over");
    assert_eq!(exit.code(), Some(0), "{exit:?}");
    assert!(!daemon.operator_socket().exists(), "an orderly stop");
    drop(wire);
}
