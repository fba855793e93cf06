//! The life of the key cache, from its environment to its exit code.

use std::{
    error::Error,
    io::{self, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rustix::process::geteuid;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    args::{EXIT_BAD_CONFIG, EXIT_STOPPED, EXIT_UNAVAILABLE},
    config::AgentConfig,
    connection,
    crowd::Crowd,
    harden::harden,
    keeper::Keeper,
    log::{self, Log},
    owners::Owners,
    rpc::{self, Door},
    sleep,
};
use crate::{
    clock::SystemClock,
    config::UidSet,
    daemon::{
        guard::{Connections, Guard, connection_cap, raise_nofile},
        listen::{
            Socket, SocketFile,
            activation::{ActivationError, take_agent, verify_path},
            bind_socket,
        },
        lock::{Lock, LockError},
        notify::Notifier,
    },
    keycache::arena::{Allowed, Arena},
    paths::{AGENT_LOCK, AGENT_SOCKET, Env, ensure_private_dir},
};

/// How often expired keys are looked for: gone within a second without traffic.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Connections at once; of more, those of whoever has most are closed. Each holds a descriptor and a few hundred
/// bytes.
const MAX_CONNECTIONS: u64 = 4096;

type Failure = (u8, Box<dyn Error + Send + Sync>);

/// Serves until it is stopped.
pub fn run() -> ExitCode {
    let env = Env::of_process();
    // A pipe of who started us would not end, and its file could be a key.
    let handed = take_agent(&env);
    let mut log = match Log::open(&env) {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(io::stderr(), "keycached: {}", log::chain(&error));
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    match start(&env, handed, &mut log) {
        Ok(()) => ExitCode::from(EXIT_STOPPED),
        Err((code, failure)) => {
            log.failed(&*failure);
            ExitCode::from(code)
        }
    }
}

fn start(
    env: &Env,
    handed: Result<Option<UnixListener>, ActivationError>,
    log: &mut Log,
) -> Result<(), Failure> {
    let lockable = harden().map_err(unavailable)?;
    let handed = handed.map_err(bad_config)?;
    let mut config = AgentConfig::read(env).map_err(bad_config)?;
    if handed.is_some() {
        // The supervisor would start it again with the next call.
        config.idle_exit = None;
    }
    let config = Arc::new(config);
    let dir = env.agent_dir().map_err(unavailable)?;
    ensure_private_dir(&dir).map_err(unavailable)?;
    let lock = match Lock::take_file(dir.join(AGENT_LOCK)) {
        Ok(lock) => lock,
        // With a socket of the supervisor that other one cannot be reached.
        Err(held @ LockError::Held { .. }) if handed.is_none() => {
            info!(%held, "another agent serves already");
            return Ok(());
        }
        Err(error) => return Err(unavailable(error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(unavailable)?;
    // Before anybody can know that we are here.
    let signals = {
        let _within = runtime.enter();
        Signals::new().map_err(unavailable)?
    };
    let allowed = Allowed {
        secret: config.secret_memory,
        unlocked: config.allow_unlocked_memory,
    };
    let arena = Arena::new(lockable, allowed).or_else(|error| {
        // Whoever puts a key is told; who asks, finds out why.
        warn!(%error, "no key can be kept");
        Arena::nothing()
    });
    let arena = arena.map_err(unavailable)?;
    let clock = SystemClock::new().map_err(unavailable)?;
    let (listener, file) = listen(handed, &lock, &dir)?;
    info!(
        socket = %dir.join(AGENT_SOCKET).display(),
        memory = arena.kind().as_str(),
        "serving"
    );
    let notifier = Notifier::new(env);
    notifier.ready();
    log.serving();
    let max_ttl = config.max_ttl.map(|ttl| ttl.as_secs().saturating_mul(1000));
    let keeper = Keeper::new(arena, Arc::new(clock), Owners::new(env), max_ttl);
    let keeper = Arc::new(keeper);
    let served = runtime.block_on(serve(listener, file.as_ref(), signals, &keeper, &config));
    notifier.stopping();
    remove(file, &lock);
    // Connections end here, and with them what they were in the middle of.
    drop(runtime);
    served.map_err(unavailable)
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    (EXIT_UNAVAILABLE, error.into())
}

fn bad_config(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    (EXIT_BAD_CONFIG, error.into())
}

/// The supervisor's socket, else one of our own with its file.
fn listen(
    handed: Option<UnixListener>,
    lock: &Lock,
    dir: &Path,
) -> Result<(UnixListener, Option<SocketFile>), Failure> {
    if let Some(listener) = handed {
        verify_path(&listener, &dir.join(AGENT_SOCKET)).map_err(bad_config)?;
        return Ok((listener, None));
    }
    let bound = bind_socket(lock, Socket::Agent, dir, None);
    let (listener, file) = bound.map_err(unavailable)?;
    Ok((listener, Some(file)))
}

async fn serve(
    listener: UnixListener,
    file: Option<&SocketFile>,
    mut signals: Signals,
    keeper: &Arc<Keeper>,
    config: &Arc<AgentConfig>,
) -> io::Result<()> {
    let cap = connection_cap(raise_nofile(), Some(MAX_CONNECTIONS));
    let connections = Connections::new(cap, geteuid().as_raw());
    // Those that have to go need a moment.
    let crowd = Crowd::new(cap - cap / 8);
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let guard = Guard::new(
        listener,
        Socket::Agent,
        UidSet::default(),
        Arc::clone(&connections),
    );
    let (door, closed) = Door::new(keeper, config, &connections).await;
    tokio::spawn(sleep::watch(Arc::clone(keeper), Arc::clone(config)));
    let mut stopping = keeper.stopping();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            what = signals.next() => match what {
                What::Stop => keeper.stop("a signal"),
                What::Forget => {
                    keeper.wipe("a signal");
                }
            },
            _ = looks.tick() => {
                keeper.prune();
                let limit = config.idle_exit.map(|limit| limit.as_millis());
                if limit.is_some_and(|limit| u128::from(keeper.idle()) >= limit) {
                    keeper.stop("nothing to keep");
                }
                // Keys that nobody can reach, nobody can lock either.
                if file.is_some_and(|file| !file.is_there()) {
                    keeper.stop("its socket is gone");
                }
            }
            (stream, peer, permit) = guard.accept() => {
                let (keeper, pid) = (Arc::clone(keeper), i32::try_from(peer.pid).unwrap_or(0));
                // Only what has come through the door keeps it open.
                let door = Arc::downgrade(&door);
                let of = peer.pid;
                let serving = tokio::spawn(async move {
                    let other = connection::serve(stream, pid, &keeper).await;
                    if let (Some((stream, begun)), Some(door)) = (other, door.upgrade()) {
                        door.serve(stream, begun, &peer).await;
                    }
                    drop(permit);
                });
                crowd.add(of, serving).await;
            }
        }
    }
    rpc::drain(door, closed).await;
    Ok(())
}

fn remove(file: Option<SocketFile>, lock: &Lock) {
    match file.map_or(Ok(true), |file| file.remove(lock)) {
        Ok(true) => info!("stopped"),
        Ok(false) => info!("stopped; the socket was another's by then"),
        Err(error) => error!(%error, "the socket could not be removed"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> What {
        tokio::select! {
            _ = self.terminate.recv() => What::Stop,
            _ = self.interrupt.recv() => What::Stop,
            _ = self.hangup.recv() => What::Forget,
            _ = self.user.recv() => What::Forget,
        }
    }
}

/// What a signal asks for.
enum What {
    Stop,
    Forget,
}
