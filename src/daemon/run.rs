//! The life of the daemon, from its arguments to its exit code.
//!
//! ```text
//! lock -> sockets (NOT_SERVING) -> registry opened and recovered -> SERVING
//!   -> SIGTERM or Shutdown: NOT_SERVING, new calls refused, watches told,
//!      connections finished or cut -> journal closed -> sockets removed
//! ```

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
};
use tracing::{error, info, warn};

use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Live, Recovery, ReloadError},
    grpc::{
        admin::{AdminApi, Facts},
        dispatch::Dispatcher,
        firewall::FirewallApi,
        services::{Apis, Health, Services},
        session::SessionApi,
    },
    paths::{self, Env},
    secret::{DigestKey, forbid_dumps},
    session::{
        limits::Limits,
        recovery::{self, Policy, Setup},
        service::{self, Sessions, WriterThread},
        state,
        writer::Ended,
    },
    storage::{self, Files, Journal},
    telemetry::Telemetry,
};

use super::{
    args::{
        Args, EXIT_BAD_CONFIG, EXIT_BAD_DATA, EXIT_HELD, EXIT_STOPPED, EXIT_STORE_FAILED,
        EXIT_UNAVAILABLE,
    },
    connection,
    guard::{Connections, Guard, connection_cap, raise_nofile},
    listen::{Listeners, Socket, SocketFile, activation::Activated},
    lock::{Lock, LockError},
    notify::Notifier,
};

/// Left of the drain for what comes after it.
const DRAIN_MARGIN: Duration = Duration::from_millis(1500);

/// A timer that always runs. Without one, each call that waits would set the
/// runtime's next wake-up and so interrupt its own thread's wait for the sockets.
const PULSE: Duration = Duration::from_secs(1);

/// Why the daemon did not come to serve, or stopped.
struct Failure {
    exit: u8,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    fn new(exit: u8, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }
}

/// Runs the daemon with these arguments.
pub fn run(args: &Args) -> ExitCode {
    let env = Env::of_process();
    let config = match Config::load(args.overrides(), env.clone()) {
        Ok(config) => config,
        Err(errors) => {
            let _ = writeln!(std::io::stderr(), "episoded: {errors}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    if args.check_config {
        return print(&config.to_toml());
    }
    let telemetry = Telemetry::install(&config.live.log, config.log_format);
    match start(args, &env, config, &telemetry) {
        Ok(()) => ExitCode::from(EXIT_STOPPED),
        Err(failure) => {
            error!(error = &*failure.error as &dyn std::error::Error, "stopped");
            ExitCode::from(failure.exit)
        }
    }
}

/// Writes it to stdout; a reader that has seen enough is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "episoded: cannot write stdout: {error}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
        _ => ExitCode::from(EXIT_STOPPED),
    }
}

fn start(args: &Args, env: &Env, config: Config, telemetry: &Telemetry) -> Result<(), Failure> {
    let activated = Activated::take(env).map_err(|e| Failure::new(EXIT_BAD_CONFIG, e))?;
    let nofile = raise_nofile();
    forbid_core_files();
    let unavailable = |error| Failure::new(EXIT_UNAVAILABLE, error);
    paths::ensure_private_dir(&config.state_dir).map_err(|e| unavailable(Box::new(e)))?;
    let lock = Lock::take(&config.state_dir).map_err(|error| match error {
        LockError::Held { .. } => Failure::new(EXIT_HELD, error),
        other => Failure::new(EXIT_UNAVAILABLE, other),
    })?;
    let key_file = config.state_dir.join(paths::REGISTRY_KEY);
    if args.restore.is_some() && !key_file.exists() {
        let message = format!(
            "put the backup's own registry.key at {} first: without it nothing in the backup \
             can be recognised",
            key_file.display()
        );
        return Err(Failure::new(EXIT_BAD_DATA, message));
    }
    let key_is_new = !key_file.exists();
    let key = storage::read_or_make_key(&key_file).map_err(|e| Failure::new(EXIT_BAD_DATA, e))?;
    let files = Files::in_dir(&config.state_dir);
    if let Some(backup) = &args.restore {
        let aside = storage::restore(backup, &files, &key);
        let aside = aside.map_err(|error| Failure::new(EXIT_BAD_DATA, error))?;
        info!(from = %backup.display(), replaced = ?aside, "registry restored");
    }
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::new(EXIT_UNAVAILABLE, error))?;
    let listeners = {
        let _in_runtime = runtime.enter();
        Listeners::open(&lock, &config, activated).map_err(|e| Failure::new(EXIT_UNAVAILABLE, e))?
    };
    let cap = connection_cap(nofile, config.max_connections);
    let notifier = Notifier::new(env);
    let daemon = Daemon {
        config,
        key,
        key_is_new,
        files,
        cap,
        notifier,
        lock,
    };
    let ended = runtime.block_on(daemon.serve(listeners, telemetry));
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// Handles pass through memory: no core file may hold them, whatever the system
/// does with core files. Nor may others of our uid trace the process.
fn forbid_core_files() {
    if forbid_dumps().is_err() {
        warn!("core files cannot be forbidden");
    }
}

struct Daemon {
    config: Config,
    key: DigestKey,
    /// Whether there was no key file before this start.
    key_is_new: bool,
    files: Files,
    cap: u64,
    notifier: Notifier,
    lock: Lock,
}

/// What runs once the registry is recovered.
struct Serving {
    sessions: Sessions,
    writer: WriterThread,
    limits: Arc<RwLock<Limits>>,
}

/// Both sockets, and the word to those who are connected.
struct Doors {
    guards: [Arc<Guard>; 2],
    dispatchers: [Arc<Dispatcher>; 2],
    draining: watch::Sender<bool>,
    abort: watch::Sender<bool>,
    /// Closed once the last connection has ended.
    open: tokio::sync::mpsc::Receiver<()>,
}

impl Daemon {
    async fn serve(mut self, listeners: Listeners, telemetry: &Telemetry) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(EXIT_UNAVAILABLE, error);
        let mut signals = Signals::new().map_err(failed)?;
        let health = Health::new().await;
        let files = listeners.files;
        let doors = open_doors(
            [listeners.operator, listeners.session],
            &self.config,
            &health,
            self.cap,
        )
        .map_err(failed)?;
        let stop = Arc::new(Notify::new());
        let serving = tokio::select! {
            serving = self.recover(&doors, &stop) => serving?,
            () = signals.stop.told() => {
                self.give_up(doors, files).await;
                return Ok(());
            }
        };
        health.set(true).await;
        self.notifier.ready();
        info!(operator = %self.config.operator_socket.display(), "serving");
        let mut pulse = tokio::time::interval(PULSE);
        let ended = loop {
            tokio::select! {
                _ = pulse.tick() => {}
                () = signals.stop.told() => break Ok(()),
                () = stop.notified() => break Ok(()),
                _ = signals.hangup.recv() => self.reload(&doors, &serving, telemetry),
                () = serving.writer.ended() => {
                    break Err(Failure::new(EXIT_STORE_FAILED, "the writer ended"));
                }
            }
        };
        self.notifier.stopping();
        health.set(false).await;
        if ended.is_ok() {
            self.drain(doors).await;
        }
        finish(serving, ended, files, &self.lock).await
    }

    /// Stops before the registry is back: nothing was served. The thread that recovers
    /// it goes with the process, as at a crash, and nobody has the state before that.
    async fn give_up(self, doors: Doors, files: Vec<SocketFile>) {
        self.notifier.stopping();
        self.drain(doors).await;
        for file in files {
            let _ = file.remove(&self.lock);
        }
        std::mem::forget(self.lock);
        info!("stopped before the registry was recovered");
    }

    /// Opens the registry and brings it back, off the runtime's threads.
    async fn recover(&self, doors: &Doors, stop: &Arc<Notify>) -> Result<Serving, Failure> {
        let clock: Arc<dyn Clock> = match SystemClock::new() {
            Ok(clock) => Arc::new(clock),
            Err(error) => return Err(Failure::new(EXIT_UNAVAILABLE, error)),
        };
        let started = clock.now();
        let boot_id = clock.boot_id();
        let limits = Arc::new(RwLock::new(limits(&self.config)));
        let (files, key) = (self.files.clone(), self.key.clone());
        let new_key = self
            .key_is_new
            .then(|| self.config.state_dir.join(paths::REGISTRY_KEY));
        let setup = Setup {
            clock: Arc::clone(&clock),
            limits: Arc::clone(&limits),
            policy: match self.config.recovery {
                Recovery::Keep => Policy::Keep,
                Recovery::Terminate => Policy::Terminate,
            },
            daemon: recovery::daemon_peer(
                rustix::process::geteuid().as_raw(),
                i32::try_from(std::process::id()).unwrap_or(0),
            ),
        };
        let shared = Arc::clone(&limits);
        let recovered = tokio::task::spawn_blocking(move || -> Result<_, Failure> {
            let exit = |is_bad_data| {
                if is_bad_data {
                    EXIT_BAD_DATA
                } else {
                    EXIT_STORE_FAILED
                }
            };
            let journal = Journal::open(&files, &key).map_err(|error| match &new_key {
                Some(new_key) if matches!(error, storage::OpenError::WrongKey(_)) => {
                    missing_key(new_key)
                }
                _ => Failure::new(exit(error.is_bad_data()), error),
            })?;
            let recovered = recovery::recover(Box::new(journal), setup)
                .map_err(|error| Failure::new(exit(error.is_bad_data()), error))?;
            let (kept, ended) = recovered.came_back;
            info!(
                incarnation = recovered.incarnation,
                kept, ended, "registry recovered"
            );
            service::start(recovered, key, clock, shared)
                .map_err(|error| Failure::new(EXIT_UNAVAILABLE, error))
        });
        let recovered = recovered
            .await
            .map_err(|error| Failure::new(EXIT_STORE_FAILED, error))?;
        let (sessions, writer) = recovered?;
        let facts = Facts {
            started: started.wall,
            boot_id,
            node: self.config.node.as_str().into(),
            state_dir: self.config.state_dir.clone(),
            max_connections: self.cap,
            operator_socket: absolute(&self.config.operator_socket),
            session_socket: absolute(&self.config.session_socket),
        };
        let draining = doors.draining.subscribe();
        let session = SessionApi::new(sessions.clone(), &self.config.node, draining);
        let apis = Apis {
            firewall: FirewallApi::new(session.clone()),
            session,
            admin: AdminApi::new(sessions.clone(), facts, Arc::clone(stop)),
        };
        for dispatcher in &doors.dispatchers {
            dispatcher.services().serve(&apis);
        }
        Ok(Serving {
            sessions,
            writer,
            limits,
        })
    }

    /// Reads the configuration again; what cannot change now changes nothing.
    fn reload(&mut self, doors: &Doors, serving: &Serving, telemetry: &Telemetry) {
        self.notifier.reloading();
        match self.config.reload() {
            Ok(reload) => {
                let live = &reload.config.live;
                telemetry.set_filter(&live.log);
                *serving.limits.write() = limits(&reload.config);
                doors.guards[0].set_uids(live.operator_uids.clone());
                doors.guards[1].set_uids(live.session_uids.clone());
                info!(changed = ?reload.changed, "configuration read again");
                self.config = reload.config;
            }
            Err(error @ (ReloadError::Invalid(_) | ReloadError::NeedsRestart { .. })) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "configuration not changed");
            }
        }
        self.notifier.ready();
    }

    /// Lets what has begun finish, but not for ever.
    async fn drain(&self, mut doors: Doors) {
        for dispatcher in &doors.dispatchers {
            dispatcher.drain();
        }
        doors.draining.send_replace(true);
        let patience = self.config.drain_timeout.saturating_sub(DRAIN_MARGIN);
        if tokio::time::timeout(patience, doors.open.recv())
            .await
            .is_err()
        {
            doors.abort.send_replace(true);
            let _ = tokio::time::timeout(DRAIN_MARGIN / 3, doors.open.recv()).await;
        }
    }
}

/// A registry whose key is not there: the one just made for it is of no use.
fn missing_key(new_key: &Path) -> Failure {
    let _ = std::fs::remove_file(new_key);
    let message = format!(
        "{} is missing: without it nothing in the registry beside it can be recognised; put it \
         back, or move registry.db away to start with an empty registry",
        new_key.display()
    );
    Failure::new(EXIT_BAD_DATA, message)
}

/// Writes what is left, gives the sockets up, and says how it ended.
async fn finish(
    serving: Serving,
    ended: Result<(), Failure>,
    files: Vec<SocketFile>,
    lock: &Lock,
) -> Result<(), Failure> {
    let Serving {
        sessions, writer, ..
    } = serving;
    let last = tokio::task::spawn_blocking(move || {
        sessions.stop();
        writer.join()
    });
    let last = last.await.unwrap_or(Ended::StoreFailed);
    for file in files {
        let _ = file.remove(lock);
    }
    match (ended, last) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Ended::StoreFailed) => {
            Err(Failure::new(EXIT_STORE_FAILED, "the last write failed"))
        }
        (Ok(()), Ended::Stopped) => {
            info!("stopped");
            Ok(())
        }
    }
}

fn limits(config: &Config) -> Limits {
    let Live {
        max_sessions,
        max_terminated,
        terminated_ttl,
        event_retention,
        max_events,
        max_manifest_entries,
        ..
    } = config.live;
    Limits {
        max_sessions: usize::try_from(max_sessions).unwrap_or(usize::MAX),
        max_terminated: usize::try_from(max_terminated).unwrap_or(usize::MAX),
        default_ttl: config.default_ttl.unwrap_or_default(),
        terminated_ttl,
        event_retention,
        max_events,
        max_manifest_entries: usize::try_from(max_manifest_entries).unwrap_or(usize::MAX),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Accepts on both sockets from now on.
fn open_doors(
    listeners: [std::os::unix::net::UnixListener; 2],
    config: &Config,
    health: &Health,
    cap: u64,
) -> std::io::Result<Doors> {
    let connections = Connections::new(cap, rustix::process::geteuid().as_raw());
    let draining = watch::Sender::new(false);
    let abort = watch::Sender::new(false);
    let (held, open) = tokio::sync::mpsc::channel::<()>(1);
    let [operator, session] = listeners;
    let door = |listener, (socket, named), services, uids| -> std::io::Result<_> {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let guard = Arc::new(Guard::new(listener, socket, uids, Arc::clone(&connections)));
        let dispatcher = Arc::new(Dispatcher::new(services, named, config.call_timeout));
        let accepting = accept(
            named,
            Arc::clone(&guard),
            Arc::clone(&dispatcher),
            draining.subscribe(),
            abort.subscribe(),
            held.clone(),
        );
        tokio::spawn(accepting);
        Ok((guard, dispatcher))
    };
    let live = &config.live;
    let operator = door(
        operator,
        (Socket::Operator, state::Socket::Operator),
        Services::for_operator(health),
        live.operator_uids.clone(),
    )?;
    let session = door(
        session,
        (Socket::Session, state::Socket::Session),
        Services::for_session(health, config.reflection_on_session),
        live.session_uids.clone(),
    )?;
    Ok(Doors {
        guards: [operator.0, session.0],
        dispatchers: [operator.1, session.1],
        draining,
        abort,
        open,
    })
}

async fn accept(
    socket: state::Socket,
    guard: Arc<Guard>,
    dispatcher: Arc<Dispatcher>,
    draining: watch::Receiver<bool>,
    abort: watch::Receiver<bool>,
    held: tokio::sync::mpsc::Sender<()>,
) {
    let mut over = draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = guard.accept() => accepted,
            () = async { let _ = over.wait_for(|draining| *draining).await; } => return,
        };
        let (stream, peer, permit) = accepted;
        let peer = connection::peer(&peer, socket);
        let served = connection::serve(stream, peer, Arc::clone(&dispatcher), draining.clone());
        let (abort, held) = (abort.clone(), held.clone());
        tokio::spawn(async move {
            connection::until_aborted(served, abort).await;
            drop((permit, held));
        });
    }
}

struct Signals {
    stop: Stop,
    hangup: Signal,
}

/// SIGTERM and SIGINT, which mean the same.
struct Stop([Signal; 2]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            stop: Stop([
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ]),
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Stop {
    /// Waits until the daemon is told to stop.
    async fn told(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
