//! A hundred watchers of everything while 5,000 sessions are registered a second.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use episoded::proto::session::{RegisterSessionsResponse, register_sessions_result};
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint, skip_field},
};
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use super::{
    daemon::{Daemon, alone},
    echo::{self, Echo},
    raw::{Caller, connect},
    register::median_of,
    report::{Figure, Goal},
    shape::{self, Numbers},
    stat::{ROUNDS, Rounds, millis, percentile},
};

const WATCHERS: usize = 100;

/// Sessions in a call, and how often one is made: 5,000 a second.
const ITEMS: u64 = 10;
const EVERY: Duration = Duration::from_millis(2);
const RATE: f64 = 5_000.0;

/// Less than this share of the rate is another load.
const TOLERANCE: f64 = 0.98;

/// The single registrations beside it rest so long in between.
const PROBE_PAUSE: Duration = Duration::from_millis(10);

const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(3);

/// When what was sent, by revision; when each watcher had it.
type Sent = HashMap<u64, Instant>;
type Seen = Vec<(u64, Instant)>;

/// Both figures.
pub fn figures() -> Vec<Figure> {
    let daemon = Daemon::start("watch");
    let echo = Echo::start(daemon.home());
    alone(echo::wait_until_it_answers(&echo));
    let numbers = Arc::new(Numbers::default());
    let socket = daemon.operator_socket();
    let (mut delay, mut register) = (Rounds::default(), Rounds::default());
    let mut kept_up = true;
    for _ in 0..ROUNDS {
        let without = round(&socket, &numbers, 0);
        let with = round(&socket, &numbers, WATCHERS);
        kept_up &= with.rate >= RATE * TOLERANCE && without.rate >= RATE * TOLERANCE;
        let floor = bare_stream(echo.socket(), with.event_bytes);
        delay.push(with.delay, floor);
        register.push(with.register, without.register);
    }
    let name = "100 watchers, 5,000 events/s: event at the last watcher, p99 (floor: bare streams)";
    let event = Figure::of(name, "ms", &delay, Goal::AtMost(20.0));
    let name = "the same: register, 1 in flight, p50 (floor: without watchers)";
    let register = Figure::of(name, "µs", &register, Goal::RatioAtMost(1.15));
    vec![event.provided(kept_up), register.provided(kept_up)]
}

/// What one round of load shows.
struct Round {
    /// From the call that made an event to the last watcher: p99, in
    /// milliseconds.
    delay: f64,
    /// Median of single registrations, in microseconds.
    register: f64,
    /// Events a second.
    rate: f64,
    /// Bytes of one event.
    event_bytes: usize,
}

fn round(socket: &Path, numbers: &Arc<Numbers>, watchers: usize) -> Round {
    let runtime = Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let over = Arc::new(AtomicBool::new(false));
        let mut watching = Vec::new();
        for _ in 0..watchers {
            watching.push(watch(socket, Arc::clone(&over)).await);
        }
        let generating = generate(socket, numbers, Arc::clone(&over)).await;
        tokio::time::sleep(SETTLE).await;
        let (first, started) = (numbers.taken(), Instant::now());
        let probed = probe(socket, numbers, started + WINDOW).await;
        let count = numbers.taken() - first - probed.len() as u64;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        let ended = Instant::now();
        over.store(true, Ordering::Relaxed);
        let sent = generating.await.expect("the generator ends");
        let (mut seen, mut bytes) = (Vec::new(), 0);
        for watcher in watching {
            let watched = watcher.await.expect("a watcher ends");
            bytes = watched.event_bytes;
            seen.push(watched.seen);
        }
        Round {
            delay: last_arrivals(&sent, &seen, started, ended - SETTLE),
            register: median_of(&probed),
            rate,
            event_bytes: bytes,
        }
    })
}

/// P99 of the time to the last watcher, in milliseconds, over the events that
/// were sent in between.
fn last_arrivals(sent: &Sent, seen: &[Seen], from: Instant, to: Instant) -> f64 {
    if seen.is_empty() {
        return 0.0;
    }
    let mut last: HashMap<u64, (usize, Instant)> = HashMap::with_capacity(sent.len());
    for (revision, at) in seen.iter().flatten() {
        let entry = last.entry(*revision).or_insert((0, *at));
        *entry = (entry.0 + 1, entry.1.max(*at));
    }
    let measured = sent.iter().filter(|(_, at)| (from..to).contains(*at));
    let mut delays: Vec<f64> = measured
        .map(|(revision, at)| {
            let (watchers, last) = last.get(revision).expect("every event is seen");
            assert_eq!(*watchers, seen.len(), "by every watcher, once");
            millis(*last - *at)
        })
        .collect();
    percentile(&mut delays, 0.99)
}

/// Registers a few sessions in each tick, whether or not the last were answered.
async fn generate(
    socket: &Path,
    numbers: &Arc<Numbers>,
    over: Arc<AtomicBool>,
) -> JoinHandle<Sent> {
    let caller = Caller::new(connect(socket).await, shape::REGISTER_MANY);
    let numbers = Arc::clone(numbers);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        while !over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let (mut caller, first) = (caller.clone(), numbers.take(ITEMS));
            calls.spawn(async move {
                let body = shape::register_many(first, ITEMS);
                let sent = Instant::now();
                let answer = caller.call(body, None).await;
                (sent, answer.expect("sessions are registered"))
            });
        }
        let answers = calls.join_all().await;
        let sent = answers.into_iter().flat_map(|(sent, answer)| {
            let revisions = revisions_registered(answer);
            revisions.into_iter().map(move |revision| (revision, sent))
        });
        sent.collect()
    })
}

fn revisions_registered(answer: Bytes) -> Vec<u64> {
    use register_sessions_result::Result::Registered;
    let answer = RegisterSessionsResponse::decode(answer).expect("it is an answer");
    let revisions = answer.results.into_iter().map(|item| match item.result {
        Some(Registered(registered)) => registered.revision,
        _ => panic!("every item succeeds"),
    });
    revisions.collect()
}

/// One registration after the other, until then.
async fn probe(socket: &Path, numbers: &Numbers, until: Instant) -> Vec<Duration> {
    let mut caller = Caller::new(connect(socket).await, shape::REGISTER);
    let mut times = Vec::new();
    while Instant::now() < until {
        let body = shape::register(numbers.take(1));
        let sent = Instant::now();
        let answer = caller.call(body, None).await;
        times.push(sent.elapsed());
        answer.expect("a session is registered");
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    times
}

/// What a watcher saw.
struct Watched {
    seen: Seen,
    event_bytes: usize,
}

/// Watches everything from now on, over a connection of its own.
async fn watch(socket: &Path, over: Arc<AtomicBool>) -> JoinHandle<Watched> {
    let mut caller = Caller::new(connect(socket).await, shape::WATCH);
    let mut answers = caller.stream(Bytes::new()).await.expect("a watch begins");
    let begun = answers
        .message()
        .await
        .expect("a watch tells where it begins");
    assert!(begun.is_some(), "the first answer is the bookmark");
    tokio::spawn(async move {
        let (mut seen, mut event_bytes, mut last) = (Vec::new(), 0, false);
        // What was sent before the end still arrives within a moment.
        while let Ok(answer) = tokio::time::timeout(SETTLE, answers.message()).await {
            let answer = answer.expect("the watch goes on").expect("it does not end");
            let now = Instant::now();
            event_bytes = answer.len();
            let before = seen.len();
            seen.extend(
                revisions_seen(answer)
                    .into_iter()
                    .map(|revision| (revision, now)),
            );
            event_bytes /= (seen.len() - before).max(1);
            last |= over.load(Ordering::Relaxed);
        }
        assert!(last, "events came until the end");
        Watched { seen, event_bytes }
    })
}

/// The revisions in an answer, without a look at anything else in it.
fn revisions_seen(mut answer: Bytes) -> Vec<u64> {
    let mut revisions = Vec::new();
    while answer.has_remaining() {
        let (tag, wire) = decode_key(&mut answer).expect("a field has a key");
        if (tag, wire) != (1, WireType::LengthDelimited) {
            skip_field(
                wire,
                tag,
                &mut answer,
                prost::encoding::DecodeContext::default(),
            )
            .expect("a field is whole");
            continue;
        }
        let length = decode_varint(&mut answer).expect("an event has a length") as usize;
        let mut event = answer.split_to(length);
        let (tag, _) = decode_key(&mut event).expect("an event has fields");
        assert_eq!(tag, 1, "the revision comes first");
        revisions.push(decode_varint(&mut event).expect("it is a number"));
    }
    revisions
}

/// The floor: a bare server that sends as many bytes to as many streams, every
/// few milliseconds. P99 of the time from tick to last stream, in milliseconds.
fn bare_stream(socket: &Path, event_bytes: usize) -> f64 {
    let events = RATE * echo::TICK.as_secs_f64();
    let answer = vec![0; (events * event_bytes as f64) as usize];
    let request = echo::request_like(&[0; 16], answer.len());
    let runtime = Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let until = Instant::now() + WINDOW;
        let mut streams = JoinSet::new();
        for _ in 0..WATCHERS {
            let mut caller = Caller::new(connect(socket).await, echo::STREAM);
            let mut answers = caller
                .stream(request.clone())
                .await
                .expect("a stream begins");
            streams.spawn(async move {
                let mut seen = HashMap::new();
                while Instant::now() < until {
                    let answer = answers
                        .message()
                        .await
                        .expect("it goes on")
                        .expect("for ever");
                    let now = echo::monotonic();
                    let at = echo::moment_of(&answer);
                    seen.insert(at, now.saturating_sub(at));
                }
                seen
            });
        }
        let seen = streams.join_all().await;
        let mut last: HashMap<u64, (usize, u64)> = HashMap::new();
        for (at, delay) in seen.iter().flatten() {
            let entry = last.entry(*at).or_default();
            *entry = (entry.0 + 1, entry.1.max(*delay));
        }
        // The first and last ticks were not on every stream.
        let whole = last.values().filter(|(streams, _)| *streams == WATCHERS);
        let mut delays: Vec<f64> = whole.map(|(_, delay)| *delay as f64 / 1e6).collect();
        percentile(&mut delays, 0.99)
    })
}
