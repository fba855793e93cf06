//! Finding the agent, or starting it.
//!
//! Whoever comes first starts it; the lock of its directory sees to it that of many
//! at once one stays. It outlives the command, with a log file of its own.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::client::{KeyCache, Origin};
use crate::paths::{
    AGENT_CONFIG_VAR, AGENT_DIR_VAR, AGENT_SOCKET, LOCKBOX_CONFIG_VAR, ensure_private_dir,
};

/// What `episodectl` is called with to be the agent.
pub const AGENT_ARGUMENT: &str = "__agent";

/// What it is called with to say whether keys are safe there.
pub const AGENT_CHECK_ARGUMENT: &str = "__agent_security_check";

/// Names the agent's log file.
const LOG_VAR: &str = "LOCKBOX_SESSION_AGENT_LOG";

/// What an agent is told of its starter's environment, which may hold secrets.
const KEPT: [&str; 8] = [
    AGENT_DIR_VAR,
    AGENT_CONFIG_VAR,
    LOCKBOX_CONFIG_VAR,
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
/// Of an agent that failed: enough for its last words.
const LAST_WORDS: usize = 1024;

fn socket(context: &Context) -> Result<PathBuf, CliError> {
    match context.named_socket() {
        Some(path) => Ok(path.to_owned()),
        None => Ok(context.env.agent_dir()?.join(AGENT_SOCKET)),
    }
}

/// The agent, if one runs.
pub async fn find(context: &Context) -> Result<Option<KeyCache>, CliError> {
    let timeout = context.timeout().min(ANSWER);
    match KeyCache::connect(socket(context)?).await {
        Ok(cache) => Ok(Some(cache.with_timeout(timeout))),
        Err(error) if error.origin == Origin::Unreachable => Ok(None),
        Err(error) => Err(error.into()),
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
        agent.check()?;
        if Instant::now() > deadline {
            let message = "the agent was started, and does not serve";
            let error = CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message);
            return Err(error.with_hint(format!("its log is {}", agent.log.display())));
        }
        sleep(POLL).await;
    }
}

/// Waits until nobody answers.
pub async fn wait_until_gone(context: &Context) -> Result<(), CliError> {
    let deadline = Instant::now() + ANSWER;
    while find(context).await?.is_some() {
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
    log: PathBuf,
    /// Bytes that others left in the log.
    before: usize,
}

impl Agent {
    fn spawn(context: &Context) -> Result<Self, CliError> {
        let log = match context.env.var(LOG_VAR) {
            Some(path) => PathBuf::from(path),
            None => default_log(context)?,
        };
        let before = std::fs::read(&log).map_or(0, |said| said.len());
        let program = std::env::current_exe()
            .map_err(|error| CliError::reading("/proc/self/exe".as_ref(), &error))?;
        let kept = KEPT
            .iter()
            .filter_map(|name| Some((*name, context.env.var(name)?)));
        let child = Command::new(&program)
            .arg(AGENT_ARGUMENT)
            .env_clear()
            .envs(kept)
            .env(LOG_VAR, &log)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| CliError::reading(&program, &error))?;
        Ok(Self { child, log, before })
    }

    /// Fails when the agent has failed, with its last words. One that found another
    /// at work is no failure.
    fn check(&mut self) -> Result<(), CliError> {
        let Ok(Some(status)) = self.child.try_wait() else {
            return Ok(());
        };
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(said.get(self.before..).unwrap_or_default());
        let from = said.ceil_char_boundary(said.len().saturating_sub(LAST_WORDS));
        let message = format!("the agent ended with {status}: {}", said[from..].trim());
        Err(CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message)
            .with_hint(format!("its log is {}", self.log.display())))
    }
}

/// Where the agent's log goes that nobody gave a place.
fn default_log(context: &Context) -> Result<PathBuf, CliError> {
    let log = context.env.agent_log()?;
    let directory = log.parent().unwrap_or(&log);
    ensure_private_dir(directory).map_err(|error| {
        let message = format!("cannot use {}: {error}", directory.display());
        CliError::local(exit::CANNOT_CREATE, "FAILED_PRECONDITION", message)
    })?;
    Ok(log)
}
