//! Finding the agent, or starting it.
//!
//! Whoever comes first starts it; the lock of its directory sees to it that of many
//! at once one stays. It outlives the command, and finds a log for itself.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::text::last_words;
use crate::client::{KeyCache, Origin};
use crate::paths::{
    AGENT_CONFIG_VAR, AGENT_DIR_VAR, AGENT_LOG_VAR, AGENT_PREVENT_SLEEP_VAR, AGENT_SOCKET,
    AGENT_TERMINATE_VAR, LOCKBOX_CONFIG_VAR, RUNTIME_DIR_VAR, SESSION_DIR_VAR, SYSLOG_VAR,
    socket_path,
};

/// What `episodectl` is called with to be the agent.
pub const AGENT_ARGUMENT: &str = "__agent";

/// What it is called with to say whether keys are safe there.
pub const AGENT_CHECK_ARGUMENT: &str = "__agent_security_check";

/// What an agent is told of its starter's environment, which may hold secrets.
const KEPT: [&str; 15] = [
    AGENT_DIR_VAR,
    AGENT_CONFIG_VAR,
    AGENT_LOG_VAR,
    LOCKBOX_CONFIG_VAR,
    AGENT_PREVENT_SLEEP_VAR,
    AGENT_TERMINATE_VAR,
    "DBUS_SYSTEM_BUS_ADDRESS",
    RUNTIME_DIR_VAR,
    SESSION_DIR_VAR,
    SYSLOG_VAR,
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "HOME",
    "TMPDIR",
];

/// An agent that does not answer by then is wedged.
const ANSWER: Duration = Duration::from_secs(2);
/// An agent that was started serves by then, or fails.
const START: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);
/// Between two tries to connect, or to start one, after a connection broke.
const BROKEN: Duration = Duration::from_millis(50);
/// Of an agent that failed: enough for its last words.
const LAST_WORDS: usize = 1024;

fn socket(context: &Context) -> Result<PathBuf, CliError> {
    match context.named_socket() {
        Some(path) => Ok(path.to_owned()),
        None => Ok(socket_path(&context.env.agent_dir()?, AGENT_SOCKET)?),
    }
}

/// The agent, if one runs.
pub async fn find(context: &Context) -> Result<Option<KeyCache>, CliError> {
    let timeout = context.timeout().min(ANSWER);
    let socket = socket(context)?;
    let deadline = Instant::now() + ANSWER;
    loop {
        let error = match KeyCache::connect(&*socket).await {
            Ok(cache) => return Ok(Some(cache.with_timeout(timeout))),
            Err(error) if error.origin == Origin::Unreachable => return Ok(None),
            Err(error) => error,
        };
        // One that is just ending: its listener went with our connection in it.
        let is_broken = error.origin == Origin::Connection && error.reason.is_none();
        if !is_broken {
            return Err(error.into());
        }
        if Instant::now() > deadline {
            return Err(CliError::from(error).with_hint(
                "it is busy or hangs, and keeps what it has: kill -USR1 its pid, which agent.lock holds, forgets all keys",
            ));
        }
        sleep(BROKEN).await;
    }
}

/// That there is none.
pub fn none(context: &Context) -> Result<CliError, CliError> {
    let message = format!("no agent at {}", socket(context)?.display());
    Ok(CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message)
        .with_hint("`episodectl key put` starts it"))
}

/// The agent; starts it when there is none.
pub async fn ensure(context: &Context) -> Result<KeyCache, CliError> {
    if let Some(cache) = find(context).await? {
        return Ok(cache);
    }
    if context.named_socket().is_some() {
        return Err(none(context)?.with_hint("without --socket it is started where it belongs"));
    }
    let (deadline, mut agent) = (Instant::now() + START, Agent::spawn(context)?);
    loop {
        if let Some(cache) = find(context).await? {
            return Ok(cache);
        }
        if agent.check()? {
            // It found another, which was ending.
            sleep(BROKEN).await;
            agent = Agent::spawn(context)?;
        }
        if Instant::now() > deadline {
            let message = "the agent was started, and does not serve";
            let error = CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message);
            return Err(error.with_hint(format!("its log is {}", agent.log)));
        }
        sleep(POLL).await;
    }
}

/// Waits until nobody answers, or another: a supervisor starts one when we ask.
pub async fn wait_until_gone(context: &Context, pid: i32) -> Result<(), CliError> {
    let deadline = Instant::now() + ANSWER;
    while let Some(cache) = find(context).await? {
        // One that is just ending fails to say.
        if cache.status().await.is_ok_and(|status| status.pid != pid) {
            break;
        }
        if Instant::now() > deadline {
            let message = "the agent forgot all keys, but is still there";
            return Err(CliError::local(exit::TRY_AGAIN, "UNAVAILABLE", message));
        }
        sleep(POLL).await;
    }
    Ok(())
}

struct Agent {
    child: Child,
    /// Where to look for its log.
    log: String,
}

impl Agent {
    fn spawn(context: &Context) -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::reading("/proc/self/exe".as_ref(), &error))?;
        let kept = KEPT
            .iter()
            .filter_map(|name| Some((*name, PathBuf::from(context.env.var(name)?))));
        let mut kept: BTreeMap<&str, PathBuf> = kept.collect();
        for name in [
            AGENT_CONFIG_VAR,
            AGENT_LOG_VAR,
            LOCKBOX_CONFIG_VAR,
            SYSLOG_VAR,
        ] {
            if let Some(path) = kept.get_mut(name) {
                *path = absolute(&*path)?;
            }
        }
        let log = place_of_log(context, kept.get(AGENT_LOG_VAR));
        // What is wrong comes through the pipe, and nothing once it serves.
        let child = Command::new(&program)
            .arg(AGENT_ARGUMENT)
            .env_clear()
            .envs(kept)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| CliError::reading(&program, &error))?;
        Ok(Self { child, log })
    }

    /// Whether the agent found another at work and left. Fails when it has failed,
    /// with its last words.
    fn check(&mut self) -> Result<bool, CliError> {
        let Ok(Some(status)) = self.child.try_wait() else {
            return Ok(false);
        };
        if status.success() {
            return Ok(true);
        }
        let mut said = Vec::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What was said before it broke off is still worth showing.
            let _ = stderr.read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let message = format!(
            "the agent ended with {status}: {}",
            last_words(&said, LAST_WORDS)
        );
        Err(CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message)
            .with_hint(format!("its log is {}", self.log)))
    }
}

/// As the agent will find it, which runs elsewhere.
fn absolute(path: impl AsRef<Path>) -> Result<PathBuf, CliError> {
    let path = path.as_ref();
    std::path::absolute(path).map_err(|error| CliError::reading(path, &error))
}

/// Where the agent will log to, for people.
fn place_of_log(context: &Context, named: Option<&PathBuf>) -> String {
    if let Some(named) = named {
        return named.display().to_string();
    }
    match context.env.agent_log() {
        Ok(own) => format!("the system's, or else {}", own.display()),
        Err(_) => "the system's".to_owned(),
    }
}
