//! Durable registration: one in flight, many, and a thousand a call.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use super::{
    append::Append,
    daemon::{Daemon, alone},
    echo::{self, Echo},
    load::{BLOCK, Target},
    place,
    raw::{Caller, connect},
    report::{Figure, Goal},
    shape::{self, Numbers},
    stat::Rounds,
};

/// Blocks of calls in a round.
const BLOCKS: usize = 20;

const WINDOW: Duration = Duration::from_secs(1);

/// Sessions in a batch, batches in flight, and batches in a round.
const BATCH: u64 = 1_000;
const BATCHES_IN_FLIGHT: usize = 4;
const BATCHES: usize = 60;

/// Calls that register session after session.
fn registering(daemon: &Daemon, numbers: &Arc<Numbers>) -> Target {
    let numbers = Arc::clone(numbers);
    let next = move || shape::register(numbers.take(1));
    Target::new(daemon.operator_socket(), shape::REGISTER, next)
}

/// The same to an echo server: as many bytes both ways, made in the same way.
fn echoing(echo: &Echo, answer: usize) -> Target {
    let numbers = Numbers::default();
    let next = move || echo::request_like(&shape::register(numbers.take(1)), answer);
    Target::new(echo.socket(), echo::UNARY, next)
}

/// Both figures of single registrations.
pub fn figures() -> Vec<Figure> {
    let daemon = Daemon::start("register");
    let echo = Echo::start(daemon.home());
    alone(echo::wait_until_it_answers(&echo));
    let numbers = Arc::new(Numbers::default());
    let register = registering(&daemon, &numbers);
    let answer = register.once().len();
    let floor = echoing(&echo, answer);
    assert_eq!(floor.once().len(), answer, "an echo answers as many bytes");
    let mut append = Append::open(daemon.home().state(), shape::register(0).len());

    let mut durable = floor.clone();
    durable.path = echo::DURABLE;
    assert_eq!(durable.once().len(), answer, "and so does one that appends");
    let (mut real, mut bare) = (register.single(), floor.single());
    // An append has nobody to be placed with, so neither are these two.
    let latency = Rounds::in_blocks(
        BLOCKS,
        || real.block(),
        &mut [&mut || bare.block(), &mut || append.block(BLOCK)],
    );
    let mut durable = durable.single();
    let beside_durable = place::apart(&[daemon.pid(), echo.pid()], || {
        Rounds::in_blocks(BLOCKS, || real.block(), &mut [&mut || durable.block()])
    });
    let throughput =
        Rounds::interleaved(|| register.throughput(WINDOW), || floor.throughput(WINDOW));
    assert_eq!(
        alone(daemon.live()),
        numbers.taken(),
        "every call registered"
    );
    vec![
        Figure::of(
            "durable register, 1 in flight, p50 (floor: echo p50 + append p50)",
            "µs",
            &latency,
            Goal::RatioAtMost(1.5),
        ),
        Figure::of(
            "durable register, 1 in flight, p50 (floor: a bare server that appends)",
            "µs",
            &beside_durable,
            Goal::RatioAtMost(1.5),
        ),
        Figure::of(
            "durable register, 8 × 16",
            "calls/s",
            &throughput,
            Goal::RatioAtLeast(0.5),
        ),
    ]
}

/// Sessions a second through `RegisterSessions`.
pub fn batch_figure() -> Figure {
    let daemon = Daemon::start("batch");
    let mut append = Append::open(daemon.home().state(), shape::register(0).len());
    let numbers = Numbers::default();
    let rounds = Rounds::interleaved(
        || {
            let first = numbers.take(BATCH * BATCHES as u64);
            batches(&daemon.operator_socket(), first, BATCHES, BATCHES_IN_FLIGHT)
        },
        || {
            let times = (0..BATCHES).map(|_| append.commit(BATCH as usize));
            (BATCH as usize * BATCHES) as f64 / times.sum::<Duration>().as_secs_f64()
        },
    );
    assert_eq!(
        alone(daemon.live()),
        numbers.taken(),
        "every item succeeded"
    );
    Figure::of(
        "RegisterSessions, 1,000 a call (floor: bare append, 1,000 a commit)",
        "sessions/s",
        &rounds,
        Goal::AtLeast(100_000.0),
    )
}

/// Registers so many batches and tells how many sessions a second that were.
/// The bodies are made before the clock runs.
fn batches(socket: &Path, first: u64, count: usize, in_flight: usize) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let bodies: Vec<_> = (0..count as u64)
        .map(|batch| shape::register_many(first + batch * BATCH, BATCH))
        .collect();
    let bodies = Arc::new(Mutex::new(bodies));
    runtime.block_on(async {
        let mut callers = Vec::new();
        for _ in 0..in_flight {
            callers.push(Caller::new(connect(socket).await, shape::REGISTER_MANY));
        }
        let started = Instant::now();
        let mut loops = JoinSet::new();
        for mut caller in callers {
            let bodies = Arc::clone(&bodies);
            loops.spawn(async move {
                loop {
                    let Some(body) = bodies.lock().await.pop() else {
                        return;
                    };
                    caller
                        .call(body, None)
                        .await
                        .expect("a batch is registered");
                }
            });
        }
        while let Some(ended) = loops.join_next().await {
            ended.expect("every batch is registered");
        }
        (count as u64 * BATCH) as f64 / started.elapsed().as_secs_f64()
    })
}
