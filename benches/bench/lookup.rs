//! Lookup by handle, on session.sock.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use episoded::proto::session::{
    LookupSessionRequest, RegisterSessionResponse, lookup_session_request::Key,
};
use prost::Message as _;

use super::{
    daemon::{Daemon, alone},
    echo::{self, Echo},
    load::Target,
    raw::{Authorization, Caller, connect},
    report::{Figure, Goal},
    shape,
    stat::Rounds,
};

/// Sessions, and handles that are presented in turn.
const SESSIONS: u64 = 1_000;
const HANDLES: u64 = 128;

/// Blocks of calls in a round.
const BLOCKS: usize = 60;
const WINDOW: Duration = Duration::from_secs(1);

/// Both figures.
pub fn figures() -> Vec<Figure> {
    let daemon = Daemon::start("lookup");
    let echo = Echo::start(daemon.home());
    let handles = alone(register(&daemon));
    alone(echo::wait_until_it_answers(&echo));
    let key = Some(Key::Own(true));
    let request = LookupSessionRequest {
        key,
        ..LookupSessionRequest::default()
    };
    let body = Bytes::from(request.encode_to_vec());
    let real = body.clone();
    let mut lookup = Target::new(daemon.session_socket(), shape::LOOKUP, move || real.clone());
    lookup.handles = Arc::clone(&handles);
    let answer = lookup.once().len();
    let like = echo::request_like(&body, answer);
    let mut floor = Target::new(echo.socket(), echo::UNARY, move || like.clone());
    floor.handles = handles;
    assert_eq!(floor.once().len(), answer, "an echo answers as many bytes");

    let (mut real, mut bare) = (lookup.single(), floor.single());
    let latency = Rounds::in_blocks(BLOCKS, || real.block(), &mut [&mut || bare.block()]);
    let throughput = Rounds::interleaved(|| lookup.throughput(WINDOW), || floor.throughput(WINDOW));
    vec![
        Figure::of(
            "lookup by handle, 1 in flight, p50",
            "µs",
            &latency,
            Goal::RatioAtMost(1.15),
        ),
        Figure::of(
            "lookup by handle, 8 × 16",
            "calls/s",
            &throughput,
            Goal::RatioAtLeast(0.85),
        ),
    ]
}

async fn register(daemon: &Daemon) -> Arc<[Authorization]> {
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, shape::REGISTER);
    let mut handles = Vec::new();
    for number in 0..HANDLES {
        let answer = caller.call(shape::register(number), None).await;
        let answer = answer.expect("a session is registered");
        let answer = RegisterSessionResponse::decode(answer).expect("it is an answer");
        let session = answer.session.expect("it has the session");
        let value = format!("Bearer {}", session.ephemeral_handle);
        handles.push(value.parse().expect("a handle is a header"));
    }
    let mut caller = Caller::new(
        connect(&daemon.operator_socket()).await,
        shape::REGISTER_MANY,
    );
    let rest = shape::register_many(HANDLES, SESSIONS - HANDLES);
    caller
        .call(rest, None)
        .await
        .expect("sessions are registered");
    assert_eq!(daemon.live().await, SESSIONS, "every item succeeded");
    handles.into()
}
