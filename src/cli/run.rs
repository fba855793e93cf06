//! `run`: a command as the episode of a new session.
//!
//! Owns the order of things: register, give the child its handle, start it,
//! bind it, keep the session alive while it runs, and end the session as the
//! child ended. A child whose session was ended by somebody else is stopped;
//! a daemon that is away stops nothing.
//!
//! ```text
//! registered ── spawn fails ──> removed                         126, 127
//!     │ spawned
//!  running ──── child ends ───> terminated with its exit code   code, 128+n
//!     ├──────── stop requested ─> TERM, KILL ─> terminated      code, 128+n
//!     └──────── session ended ──> TERM, KILL                    124
//! ```

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use prost_types::Duration as WireDuration;

use super::args;
use super::context::Context;
use super::error::CliError;
use super::output::note;
use super::secrets::NewLeaseArgs;
use super::session::register::{NewSession, may_be_registered, withheld};
use crate::client::{Client, ClientError, Follow, Handle};
use crate::proto::session::{
    BindEpisodeRequest, Firewall, RegisterSessionRequest, RegisterSessionResponse,
    RemoveSessionRequest, Role, WatchFilter,
};

mod child;
pub(super) mod confine;
mod keeper;
mod report;
mod scratch;
mod signals;
mod supervise;
pub mod terminal;

use child::Episode;
use confine::Confinement;
use keeper::{Keeper, OnMiss};
use scratch::Scratch;
use signals::Signals;

/// Before the command was started.
const FAILED_BEFORE_START: u8 = 125;
/// As a shell: found, but not to be executed.
const NOT_EXECUTABLE: u8 = super::error::exit::NOT_EXECUTABLE;
/// As a shell: not found.
const NOT_FOUND: u8 = super::error::exit::COMMAND_NOT_FOUND;
/// Somebody else ended the session.
const SESSION_ENDED: u8 = 124;

/// Silence after which the session of a `run` that was killed ends.
const IDLE: WireDuration = WireDuration {
    seconds: 60,
    nanos: 0,
};
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Of the calls while the child runs: an answer this late is no answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Run a command as the episode of a new session.
#[derive(Debug, Args)]
#[command(
    after_help = "The command finds EPISODE_SESSION_ID, EPISODE_HANDLE_FILE and EPISODE_SOCKET in its environment.
The idle timeout is 60s unless --idle says otherwise; a heartbeat is sent every 10s, or three in each idle timeout.
A command that ends its own session has --kill-after to exit by itself.

Exit: the command's code; 128+n for signal n; 124 the session was ended by somebody else;
125 the command was not started; 126 not executable; 127 not found.

Examples:
  episodectl run --work-id task-17 -- ./agent --fast
  episodectl run --work-id task-17 --role reviewer --label team=blue --ttl 2h -- make review
  episodectl run --work-id task-17 --consume --manifest m.json --on-miss wait --confine -- ./agent"
)]
pub struct Run {
    /// What the episode does
    #[arg(long, value_parser = args::role(), default_value = "implementer")]
    role: Role,

    #[command(flatten)]
    lease: NewLeaseArgs,

    /// The socket the command gets in EPISODE_SOCKET; default: session.sock of the same daemon
    #[arg(long, value_name = "PATH")]
    session_socket: Option<PathBuf>,

    /// How long the command has to exit when its session has ended
    #[arg(long, value_name = "DURATION", value_parser = args::duration, default_value = "10s")]
    kill_after: Duration,

    /// What to do when the session misses something: stop the command, or wait for the coordinator's
    /// answer and go on with the successor's handle in EPISODE_HANDLE_FILE
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Miss::Stop, requires = "manifest")]
    on_miss: Miss,

    /// Run the command where it sees only the system's programs, the workspace, session.sock and its own
    /// handle (needs bubblewrap)
    #[arg(long, requires = "manifest", conflicts_with = "session_socket")]
    confine: bool,

    /// With --confine: another directory it may read; may be repeated
    #[arg(long, value_name = "DIR", requires = "confine")]
    confine_read: Vec<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(flatten)]
    session: NewSession,
}

/// What a miss does to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Miss {
    /// It is stopped, as by any other end of the session.
    Stop,
    /// It runs on until a successor can go on.
    Wait,
}

/// Where the daemon says that things are.
struct Places {
    session_socket: PathBuf,
    /// What a confined command may see nothing of.
    guarded: Vec<PathBuf>,
}

/// A registered session about to get its episode.
struct Registered {
    client: Client,
    handle: Handle,
    session_id: String,
    episode_id: String,
    idle: Duration,
    revision: u64,
    registry_id: String,
    firewall: Option<Firewall>,
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> Result<u8, CliError> {
        if self.on_miss == Miss::Wait && self.session.firewall.survives_denials() {
            let message = "--on-miss wait needs a session that a miss ends";
            let error = CliError::usage(message, "leave out --on-denial continue");
            return Err(before_start(error));
        }
        // From here on a signal waits for the child instead of ending this
        // process, so that nothing made below is left behind.
        let mut signals = Signals::open()
            .map_err(|error| before_start(CliError::reading("signals".as_ref(), &error)))?;
        let places = self.places(context).await.map_err(before_start)?;
        let registered = tokio::select! {
            registered = register(context, self.session.clone(), self.role, &self.lease) => registered.map_err(before_start)?,
            signal = signals.fatal() => return Ok(child::Exit::Signal(signal.as_raw()).code()),
        };
        let prepared = Scratch::create(&context.env, &registered.handle);
        let scratch = match prepared {
            Ok(scratch) => scratch,
            Err(error) => {
                remove(&registered).await;
                return Err(before_start(error));
            }
        };
        let command = match self.command_line(&registered, &scratch, &places) {
            Ok(command) => command,
            Err(error) => {
                remove(&registered).await;
                return Err(error);
            }
        };
        let environment = [
            ("EPISODE_SESSION_ID", registered.session_id.clone().into()),
            ("EPISODE_HANDLE_FILE", scratch.handle_file().into()),
            ("EPISODE_SOCKET", places.session_socket.into()),
        ];
        let episode = match Episode::spawn(&command, environment, self.confine) {
            Ok(episode) => episode,
            Err(error) => {
                remove(&registered).await;
                return Err(not_started(&command[0], &error));
            }
        };
        let waits = self.on_miss == Miss::Wait;
        let handle_file = waits.then(|| scratch.handle_file());
        Ok(accompany(registered, episode, signals, self.kill_after, handle_file).await)
    }
}

impl Run {
    async fn places(&self, context: &Context) -> Result<Places, CliError> {
        if let Some(path) = &self.session_socket {
            return Ok(Places {
                session_socket: path.clone(),
                guarded: Vec::new(),
            });
        }
        let info = context.operator().await?.server_info().await?;
        let session_socket = PathBuf::from(info.session_socket);
        let guarded = vec![
            parent(Path::new(&info.operator_socket)),
            parent(&session_socket),
            info.state_dir.into(),
            parent(&context.operator_socket()?),
            context.env.state_dir()?,
            context.env.runtime_dir()?,
        ];
        Ok(Places {
            session_socket,
            guarded,
        })
    }

    /// The command as it is started: itself, or confined.
    fn command_line(
        &self,
        registered: &Registered,
        scratch: &Scratch,
        places: &Places,
    ) -> Result<Vec<OsString>, CliError> {
        let Some(firewall) = registered.firewall.as_ref().filter(|_| self.confine) else {
            return Ok(self.command.clone());
        };
        let host_root = match firewall.host_root.as_str() {
            "" => &firewall.workspace_root,
            root => root,
        };
        let whole = |path: &PathBuf| {
            path.canonicalize()
                .map_err(|error| CliError::reading(path, &error))
        };
        let readable: Result<_, _> = self.confine_read.iter().map(whole).collect();
        let readable = readable.map_err(before_start)?;
        let confinement = Confinement {
            workspace: host_root.into(),
            named: firewall.workspace_root.clone().into(),
            session_dir: parent(&places.session_socket),
            scratch: parent(&scratch.handle_file()),
            readable,
        };
        confine::check_bubblewrap().map_err(before_start)?;
        confinement.check(&places.guarded).map_err(before_start)?;
        confinement.check_program(&self.command[0])?;
        confine::hand_on_nothing().map_err(before_start)?;
        Ok(confinement.wrap(&self.command))
    }
}

fn before_start(error: CliError) -> CliError {
    error.with_exit(FAILED_BEFORE_START)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

async fn register(
    context: &Context,
    session: NewSession,
    role: Role,
    lease: &NewLeaseArgs,
) -> Result<Registered, CliError> {
    let lease = lease.resolve(&context.env)?;
    let firewall = session.firewall.clone();
    let mut request = session.into_request(role, lease.lease.as_ref())?;
    let idle = *request.idle_timeout.get_or_insert(IDLE);
    let episode_id = std::mem::take(&mut request.episode_id);
    if request.request_id.is_empty() {
        request.request_id = format!("run-{}", super::secrets::random_name()?);
    }
    let client = context.operator().await?;
    firewall.apply(&client, &mut request).await?;
    let answer = registered(&client, request).await;
    if may_be_registered(&answer) {
        lease.keep();
    }
    let answer = answer?;
    for evicted in &answer.evicted {
        note(format_args!("evicted session {}", evicted.session_id));
    }
    let mut session = answer.session.unwrap_or_default();
    let handle = Handle::take(&mut session).ok_or_else(|| withheld(&session.session_id))?;
    let default_episode_id = || format!("run-{}", session.session_id);
    Ok(Registered {
        client: client.with_timeout(CALL_TIMEOUT),
        handle,
        episode_id: Some(episode_id)
            .filter(|id| !id.is_empty())
            .unwrap_or_else(default_episode_id),
        session_id: session.session_id,
        idle: idle.try_into().unwrap_or(HEARTBEAT),
        revision: answer.revision,
        registry_id: session.registry_id,
        firewall: session.firewall,
    })
}

/// Once more if the answer was lost: the request id makes that safe.
async fn registered(
    client: &Client,
    request: RegisterSessionRequest,
) -> Result<RegisterSessionResponse, ClientError> {
    match client.register_session(request.clone()).await {
        Err(error) if error.is_transient() => client.register_session(request).await,
        answer => answer,
    }
}

/// From the start of the child to the end of its session.
async fn accompany(
    registered: Registered,
    mut episode: Episode,
    mut signals: Signals,
    kill_after: Duration,
    handle_file: Option<PathBuf>,
) -> u8 {
    let Registered {
        client,
        handle,
        session_id,
        episode_id,
        idle,
        revision,
        registry_id,
        firewall: _,
    } = registered;
    let filter = WatchFilter {
        session_id: session_id.clone(),
        ..WatchFilter::default()
    };
    let bind = BindEpisodeRequest {
        session_id,
        episode_id,
        pid: Some(episode.pid()),
        ..BindEpisodeRequest::default()
    };
    let on_miss = handle_file.map(|handle_file| OnMiss {
        handle_file,
        episode: bind.clone(),
    });
    let beat = HEARTBEAT.min(idle / 3);
    let keeper = Keeper::new(client.clone(), handle, bind, beat, on_miss);
    let mut news = keeper.start(Follow::behind(
        client.clone(),
        filter,
        revision,
        registry_id,
    ));
    let ending = supervise::supervise(&mut episode, &mut news, &mut signals, kill_after).await;
    let session_id = news.session_id();
    drop(news);
    if ending.session_ended {
        return SESSION_ENDED;
    }
    // The child is reaped after this, when `episode` goes.
    let terminated = report::terminate(&client, &session_id, &ending);
    tokio::select! {
        () = terminated => {}
        _ = signals.fatal() => note("interrupted: the session ends by its idle timeout"),
    }
    ending.exit.code()
}

/// Takes back a session whose child was never started.
async fn remove(registered: &Registered) {
    let request = RemoveSessionRequest {
        session_id: registered.session_id.clone(),
        ..RemoveSessionRequest::default()
    };
    if let Err(error) = registered.client.remove_session(request).await {
        note(format_args!(
            "session {} is left to its idle timeout: {error}",
            registered.session_id
        ));
    }
}

fn not_started(program: &OsString, error: &io::Error) -> CliError {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let message = format!("cannot run {}: {error}", program.display());
    CliError::local(exit, "FAILED_PRECONDITION", message)
}
