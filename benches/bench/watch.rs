//! A hundred watchers of everything while 5,000 sessions are registered a second.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use episoded::proto::session::{RegisterSessionsResponse, register_sessions_result};
use prost::Message as _;
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use super::{
    daemon::{Daemon, alone},
    echo::{self, Echo},
    raw::{Caller, connect},
    report::{Figure, Goal},
    shape::{self, Numbers},
    stat::{ROUNDS, Rounds, median, micros, millis, percentile},
    watcher::{FOR_EVER, Seen, bare_stream, watch},
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

/// Before the window begins.
const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(3);

/// When what was sent, by revision.
type Sent = HashMap<u64, Instant>;

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
        let floor = bare_streams(echo.socket(), with.event_bytes);
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

/// The watchers and the caller have threads of their own, as they are programs of
/// their own elsewhere: what a call waits for is the daemon, not the watchers'
/// client.
fn round(socket: &Path, numbers: &Arc<Numbers>, watchers: usize) -> Round {
    let until = Arc::new(AtomicU64::new(FOR_EVER));
    let watching_runtime = Runtime::new().expect("a runtime starts");
    let watching: Vec<_> = watching_runtime.block_on(async {
        let mut watching = Vec::new();
        for _ in 0..watchers {
            watching.push(watch(socket, Arc::clone(&until)).await);
        }
        watching
    });
    let calling = Runtime::new().expect("a runtime starts");
    let load = calling.block_on(load(socket, numbers));
    let newest = load.sent.keys().copied().max();
    until.store(newest.unwrap_or(0), Ordering::Relaxed);
    let (mut seen, mut bytes) = (Vec::new(), 0);
    for watcher in watching {
        let watched = watching_runtime.block_on(watcher);
        let watched = watched.expect("a watcher ends");
        bytes = watched.event_bytes;
        seen.push(watched.seen);
    }
    Round {
        delay: last_arrivals(&load.sent, &seen, load.started, load.ended),
        register: median(&load.probed),
        rate: load.rate,
        event_bytes: bytes,
    }
}

/// What was called.
struct Load {
    sent: Sent,
    /// How long single registrations took, in microseconds.
    probed: Vec<f64>,
    /// The window in which it was measured.
    started: Instant,
    ended: Instant,
    /// Events a second.
    rate: f64,
}

async fn load(socket: &Path, numbers: &Arc<Numbers>) -> Load {
    let over = Arc::new(AtomicBool::new(false));
    let generating = generate(socket, numbers, Arc::clone(&over)).await;
    tokio::time::sleep(SETTLE).await;
    let (first, started) = (numbers.taken(), Instant::now());
    let probed = probe(socket, numbers, started + WINDOW).await;
    let count = numbers.taken() - first - probed.len() as u64;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    let ended = Instant::now();
    over.store(true, Ordering::Relaxed);
    let sent = generating.await.expect("the generator ends");
    Load {
        sent,
        probed,
        started,
        ended,
        rate,
    }
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

/// One registration after the other, until then: how long each took, in
/// microseconds.
async fn probe(socket: &Path, numbers: &Numbers, until: Instant) -> Vec<f64> {
    let mut caller = Caller::new(connect(socket).await, shape::REGISTER);
    let mut times = Vec::new();
    while Instant::now() < until {
        let body = shape::register(numbers.take(1));
        let sent = Instant::now();
        let answer = caller.call(body, None).await;
        times.push(micros(sent.elapsed()));
        answer.expect("a session is registered");
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    times
}

/// The floor: a bare server that sends as many bytes to as many streams, every
/// few milliseconds. P99 of the time from tick to last stream, in milliseconds.
fn bare_streams(socket: &Path, event_bytes: usize) -> f64 {
    let events = RATE * echo::TICK.as_secs_f64();
    let bytes = (events * event_bytes as f64) as usize;
    let runtime = Runtime::new().expect("a runtime starts");
    let seen = runtime.block_on(async {
        let until = Instant::now() + WINDOW;
        let mut streams = Vec::new();
        for _ in 0..WATCHERS {
            streams.push(bare_stream(socket, bytes, until).await);
        }
        let mut seen = Vec::new();
        for stream in streams {
            seen.push(stream.await.expect("a stream ends"));
        }
        seen
    });
    let mut last: HashMap<u64, (usize, Duration)> = HashMap::new();
    for (tick, delay) in seen.into_iter().flatten() {
        let entry = last.entry(tick).or_default();
        *entry = (entry.0 + 1, entry.1.max(delay));
    }
    // The first and the last ticks were not on every stream.
    let whole = last
        .into_values()
        .filter(|(streams, _)| *streams == WATCHERS);
    let mut delays: Vec<f64> = whole.map(|(_, delay)| millis(delay)).collect();
    percentile(&mut delays, 0.99)
}
