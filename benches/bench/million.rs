//! A registry that grows to a million live sessions: what a session takes, how
//! long anybody waits on the way, how fast it is then, and how fast it is back.

use std::{
    io::Read as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    append::Append,
    daemon::{Daemon, alone},
    load::Target,
    raw::{Caller, connect},
    report::{Figure, Goal},
    shape::{self, Numbers},
    stat::{Rounds, millis},
};
use tokio::{task::JoinSet, time::Instant};

const BATCH: u64 = 1_000;

/// Batches in flight while the registry fills: the daemon always has the next.
const FILLERS: usize = 2;

/// The bare append of the same time rests so long between two commits, to leave
/// the disk to the daemon.
const APPEND_PAUSE: Duration = Duration::from_millis(2);

/// What few live sessions are.
const FEW: u64 = 1_000;

/// Short, so that few stay few.
const WINDOW: Duration = Duration::from_millis(500);

/// All four figures, with that many sessions.
pub fn figures(sessions: u64) -> Vec<Figure> {
    let mut daemon = Daemon::start("million");
    let numbers = Arc::new(Numbers::default());
    let mut grown = grow(&daemon, &numbers, sessions);
    let few = few_or_many(&daemon, &numbers, sessions);
    let starts = starts(&mut daemon);
    let many = thousands(sessions);
    grown.push(Figure::of(
        format!("durable register, 8 × 16, at {many} live (floor: at 1,000 live)"),
        "calls/s",
        &few,
        Goal::RatioAtLeast(0.9),
    ));
    grown.push(Figure::of(
        format!("start with {many} live until SERVING (floor: reading the files)"),
        "ms",
        &starts,
        Goal::AtMost(2_000.0),
    ));
    grown
}

fn thousands(number: u64) -> String {
    match number {
        1_000_000.. => format!("{},{:03},000", number / 1_000_000, number / 1_000 % 1_000),
        _ => format!("{},000", number / 1_000),
    }
}

/// Fills the registry: memory per session, and the slowest registration.
fn grow(daemon: &Daemon, numbers: &Arc<Numbers>, sessions: u64) -> Vec<Figure> {
    let mut append = Append::open(daemon.home().state(), shape::register(0).len());
    let first = fill(daemon, numbers, sessions / 10, &mut append);
    let (few, little) = (alone(daemon.live()), daemon.resident());
    let second = fill(daemon, numbers, sessions, &mut append);
    let (many, much) = (alone(daemon.live()), daemon.resident());
    assert_eq!(many, numbers.taken(), "every item succeeded");
    let slope = (much - little) as f64 / (many - few) as f64;
    let slowest = first.register.max(second.register);
    let floor = first.append.max(second.append);
    let (from, to) = (thousands(sessions / 10), thousands(sessions));
    vec![
        Figure::new(
            format!("memory per live session, from {from} to {to}"),
            "bytes",
            slope,
            None,
            Goal::AtMost(500.0),
        ),
        Figure::new(
            format!("slowest durable register from 0 to {to} (floor: slowest append)"),
            "ms",
            millis(slowest),
            Some(millis(floor)),
            Goal::AtMost(50.0),
        ),
    ]
}

/// The slowest of each while something went on.
struct Slowest {
    register: Duration,
    append: Duration,
}

/// Registers batches until so many sessions were registered, and one by one in
/// the meantime.
fn fill(daemon: &Daemon, numbers: &Arc<Numbers>, up_to: u64, append: &mut Append) -> Slowest {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                slowest = slowest.max(append.commit(1));
                std::thread::sleep(APPEND_PAUSE);
            }
            slowest
        });
        let probing = scope.spawn(|| alone(probe(daemon, numbers, &over)));
        fill_batches(&daemon.operator_socket(), numbers, up_to);
        over.store(true, Ordering::Relaxed);
        Slowest {
            register: probing.join().expect("the prober ends"),
            append: appending.join().expect("the appender ends"),
        }
    })
}

/// One registration after the other.
async fn probe(daemon: &Daemon, numbers: &Numbers, over: &AtomicBool) -> Duration {
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, shape::REGISTER);
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let body = shape::register(numbers.take(1));
        let sent = Instant::now();
        let answer = caller.call(body, None).await;
        slowest = slowest.max(sent.elapsed());
        answer.expect("a session is registered");
    }
    slowest
}

fn fill_batches(socket: &Path, numbers: &Arc<Numbers>, up_to: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut loops = JoinSet::new();
        for _ in 0..FILLERS {
            let mut caller = Caller::new(connect(socket).await, shape::REGISTER_MANY);
            let numbers = Arc::clone(numbers);
            loops.spawn(async move {
                while numbers.taken() + BATCH <= up_to {
                    let body = shape::register_many(numbers.take(BATCH), BATCH);
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
    });
}

/// Throughput with many live sessions, and with few in a registry of their own.
/// What a round registers is removed after it.
fn few_or_many(many: &Daemon, numbers: &Arc<Numbers>, sessions: u64) -> Rounds {
    let few = Daemon::start("few");
    let few_numbers = Arc::new(Numbers::default());
    fill_batches(&few.operator_socket(), &few_numbers, FEW);
    let rounds = Rounds::interleaved(
        || measure_and_remove(many, numbers),
        || measure_and_remove(&few, &few_numbers),
    );
    assert_eq!(alone(few.live()), FEW, "few stayed few");
    assert!(
        alone(many.live()) + BATCH * 2 >= sessions,
        "many stayed many"
    );
    rounds
}

fn measure_and_remove(daemon: &Daemon, numbers: &Arc<Numbers>) -> f64 {
    let first = numbers.taken();
    let next = Arc::clone(numbers);
    let register = move || shape::register_unbound(next.take(1));
    let register = Target::new(daemon.operator_socket(), shape::REGISTER, register);
    let rate = register.throughput(WINDOW);
    let registered = numbers.taken() - first;
    let gone = Numbers::default();
    let remove = move || shape::remove(first + gone.take(1));
    Target::new(daemon.operator_socket(), shape::REMOVE, remove).all(registered as usize);
    rate
}

/// Time to serve again after SIGKILL, beside reading the same files.
fn starts(daemon: &mut Daemon) -> Rounds {
    let mut rounds = Rounds::default();
    for _ in 0..super::stat::ROUNDS {
        let start = daemon.restart_after_kill();
        let read = read_through(daemon.home().state());
        rounds.push(millis(start), millis(read));
    }
    rounds
}

/// Reads the registry and its log from front to back.
fn read_through(state: &Path) -> Duration {
    let mut buffer = vec![0; 1024 * 1024];
    let started = Instant::now();
    for name in ["registry.db", "registry.db-wal"] {
        let Ok(mut file) = std::fs::File::open(state.join(name)) else {
            continue;
        };
        while file.read(&mut buffer).expect("the registry can be read") > 0 {}
    }
    started.elapsed()
}
