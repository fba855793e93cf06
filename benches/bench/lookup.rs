//! Lookup by handle, on session.sock, and handles that are not accepted.

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
    place,
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

/// All figures.
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
    let servers = [daemon.pid(), echo.pid()];
    let latency = place::apart(&servers, || {
        Rounds::in_blocks(BLOCKS, || real.block(), &mut [&mut || bare.block()])
    });
    let refused = refused(&daemon, &lookup);
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
        Figure::of(
            "a bad handle refused: the kind that takes longest, p50",
            "µs",
            &refused,
            Goal::RatioAtMost(1.1),
        ),
    ]
}

/// Presents handles that are wrong in different ways; nobody who measures them
/// should learn in which.
fn refused(daemon: &Daemon, lookup: &Target) -> Rounds {
    let (replaced, ended) = alone(spoil(daemon));
    let unknown = "Bearer H-6f1c2a44-5d0e-4c1b-9a57-0f6f3f1f7a10";
    let other_scheme = "Basic H-6f1c2a44-5d0e-4c1b-9a57-0f6f3f1f7a10";
    let fixed = ["Bearer H-6f1c2a44", unknown, other_scheme];
    let fixed = fixed.map(|value| value.parse().expect("it is a header"));
    let mut kinds: Vec<_> = fixed
        .into_iter()
        .chain([replaced, ended])
        .map(|handle: Authorization| {
            let mut target = lookup.clone();
            target.handles = Arc::new([handle]);
            let mut single = target.single();
            move || single.refused()
        })
        .collect();
    place::apart(&[daemon.pid()], || Rounds::spread(BLOCKS, &mut kinds))
}

/// Two handles that were good: one of them was replaced, the session of the other
/// has ended.
async fn spoil(daemon: &Daemon) -> (Authorization, Authorization) {
    let mut spoiled = Vec::new();
    let rotate = (shape::ROTATE, Bytes::new());
    let end = (shape::TERMINATE, shape::end_own());
    for (number, (path, body)) in (SESSIONS..).zip([rotate, end]) {
        let channel = connect(&daemon.operator_socket()).await;
        let handle = register_one(&mut Caller::new(channel, shape::REGISTER), number).await;
        let channel = connect(&daemon.session_socket()).await;
        let mut caller = Caller::new(channel, path);
        let answer = caller.call(body, Some(&handle)).await;
        answer.expect("the handle is good until then");
        spoiled.push(handle);
    }
    let [replaced, ended] = spoiled.try_into().expect("there are two");
    (replaced, ended)
}

async fn register(daemon: &Daemon) -> Arc<[Authorization]> {
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, shape::REGISTER);
    let mut handles = Vec::new();
    for number in 0..HANDLES {
        handles.push(register_one(&mut caller, number).await);
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

async fn register_one(caller: &mut Caller, number: u64) -> Authorization {
    let answer = caller.call(shape::register(number), None).await;
    let answer = answer.expect("a session is registered");
    let answer = RegisterSessionResponse::decode(answer).expect("it is an answer");
    let session = answer.session.expect("it has the session");
    let value = format!("Bearer {}", session.ephemeral_handle);
    value.parse().expect("a handle is a header")
}
