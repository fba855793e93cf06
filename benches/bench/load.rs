//! Closed loops of calls: one in flight, or many.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Runtime, time::Instant};
use tonic::Status;

use super::{
    daemon::alone,
    raw::{self, Authorization, Caller},
    stat,
};

/// Connections, and calls in flight on each.
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 16;

/// How long a loop runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// Calls that are timed before it is another target's turn, and calls before.
pub const BLOCK: usize = 50;
const BLOCK_WARM_UP: usize = 5;

/// Makes the body of the next call.
pub type Body = Arc<dyn Fn() -> Bytes + Send + Sync>;

/// What is called, where, and with what.
#[derive(Clone)]
pub struct Target {
    /// The socket.
    pub socket: PathBuf,
    /// The method.
    pub path: &'static str,
    /// The next call's body.
    pub body: Body,
    /// Each loop uses one of them; none: calls carry no handle.
    pub handles: Arc<[Authorization]>,
    /// The call that each connection begins with, if there is one.
    pub opening: Option<(&'static str, Bytes)>,
}

impl Target {
    /// Calls that carry no handle.
    pub fn new(
        socket: impl Into<PathBuf>,
        path: &'static str,
        body: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self {
            socket: socket.into(),
            path,
            body: Arc::new(body),
            handles: Arc::new([]),
            opening: None,
        }
    }

    async fn caller(&self) -> Caller {
        let channel = raw::connect(&self.socket).await;
        if let Some((path, body)) = &self.opening {
            let opened = Caller::new(channel.clone(), path);
            opened
                .clone()
                .call(body.clone(), None)
                .await
                .expect("it opens");
        }
        Caller::new(channel, self.path)
    }

    /// The answer to one call.
    pub fn once(&self) -> Bytes {
        let answer = alone(async {
            let mut caller = self.caller().await;
            caller.call((self.body)(), self.handles.first()).await
        });
        answer.expect("a call is answered")
    }

    /// A client on one thread with one call in flight.
    pub fn single(&self) -> Single {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let caller = runtime.block_on(self.caller());
        Single {
            runtime,
            caller,
            target: self.clone(),
        }
    }

    /// Calls a second, with sixteen in flight on each of eight connections. The
    /// client takes as many threads as it likes.
    pub fn throughput(&self, window: Duration) -> f64 {
        self.throughput_of(CONNECTIONS, IN_FLIGHT, window)
    }

    /// The same with so many connections, and so many in flight on each.
    pub fn throughput_of(&self, connections: usize, in_flight: usize, window: Duration) -> f64 {
        let runtime = Runtime::new().expect("a runtime starts");
        runtime.block_on(async {
            let (answered, over) = (
                Arc::new(AtomicU64::new(0)),
                Arc::new(AtomicBool::new(false)),
            );
            let mut loops = tokio::task::JoinSet::new();
            for connection in 0..connections {
                let caller = self.caller().await;
                for stream in 0..in_flight {
                    let number = connection * in_flight + stream;
                    let one = Loop {
                        caller: caller.clone(),
                        body: Arc::clone(&self.body),
                        handle: self
                            .handles
                            .get(number % self.handles.len().max(1))
                            .cloned(),
                        answered: Arc::clone(&answered),
                        over: Arc::clone(&over),
                    };
                    loops.spawn(one.run());
                }
            }
            tokio::time::sleep(WARM_UP).await;
            let (before, started) = (answered.load(Ordering::Relaxed), Instant::now());
            tokio::time::sleep(window).await;
            let count = answered.load(Ordering::Relaxed) - before;
            let rate = count as f64 / started.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            while let Some(ended) = loops.join_next().await {
                ended.expect("every call is answered");
            }
            rate
        })
    }

    /// Makes that many calls as fast as it goes; nothing is measured.
    pub fn all(&self, calls: usize) {
        let runtime = Runtime::new().expect("a runtime starts");
        runtime.block_on(async {
            let left = Arc::new(AtomicU64::new(calls as u64));
            let mut loops = tokio::task::JoinSet::new();
            for _ in 0..CONNECTIONS {
                let caller = self.caller().await;
                for _ in 0..IN_FLIGHT {
                    let (mut caller, body, left) =
                        (caller.clone(), self.body.clone(), left.clone());
                    loops.spawn(async move {
                        while take_one(&left) {
                            let answer = caller.call(body(), None).await;
                            answer.expect("a call is answered");
                        }
                    });
                }
            }
            while let Some(ended) = loops.join_next().await {
                ended.expect("every call is answered");
            }
        });
    }
}

fn take_one(left: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

struct Loop {
    caller: Caller,
    body: Body,
    handle: Option<Authorization>,
    answered: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Loop {
    async fn run(mut self) {
        while !self.over.load(Ordering::Relaxed) {
            let answer = self.caller.call((self.body)(), self.handle.as_ref()).await;
            answer.expect("a call is answered");
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes one call after the other over one connection.
pub struct Single {
    runtime: Runtime,
    caller: Caller,
    target: Target,
}

impl Single {
    /// How long each of [`BLOCK`] calls takes, in microseconds, after a few that
    /// are not counted.
    pub fn block(&mut self) -> Vec<f64> {
        self.timed(Result::is_ok)
    }

    /// The same of calls that are refused.
    pub fn refused(&mut self) -> Vec<f64> {
        self.timed(Result::is_err)
    }

    fn timed(&mut self, is_expected: fn(&Result<Bytes, Status>) -> bool) -> Vec<f64> {
        let (caller, target) = (&mut self.caller, &self.target);
        let mut times = Vec::with_capacity(BLOCK);
        self.runtime.block_on(async {
            for call in 0..BLOCK + BLOCK_WARM_UP {
                let body = (target.body)();
                let sent = Instant::now();
                let answer = caller.call(body, target.handles.first()).await;
                let time = sent.elapsed();
                assert!(is_expected(&answer), "{answer:?}");
                if call >= BLOCK_WARM_UP {
                    times.push(stat::micros(time));
                }
            }
        });
        times
    }
}
