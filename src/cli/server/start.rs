//! `server start`: the daemon in the background.
//!
//! Owns the search for the program, its log file, and the wait for it to
//! serve. What the daemon said before it failed is repeated.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::note;
use crate::cli::output::text::last_words;
use crate::client::{Client, Origin};
use crate::paths::{OPERATOR_SOCKET, RUNTIME_DIR_VAR, ensure_private_dir};

const PROGRAM: &str = "episoded";
/// What the daemon prints, in the runtime directory; starts go on in the same file,
/// which tells how the daemon before ended.
const LOG: &str = "episoded.log";
/// A log that is larger is put aside as `episoded.log.1` by the next start.
const LOG_BYTES: u64 = 1024 * 1024;
/// A start reads every live session, and may migrate the registry first.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a daemon that was quicker may take to serve.
const RIVAL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Of a daemon that failed: enough for its last words.
const LAST_WORDS: usize = 2048;

/// Start the daemon in the background and wait until it serves.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl server start
  episodectl server start -- --config ./episoded.toml")]
pub struct Start {
    /// Arguments of the daemon
    #[arg(last = true)]
    args: Vec<OsString>,
}

impl Start {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let socket = context.operator_socket()?;
        let at = socket.display();
        // A daemon that was just killed may still be there for a moment.
        if let Ok(client) = Client::connect(&socket).await
            && serves(&client, None).await?
        {
            if !self.args.is_empty() {
                return Err(CliError::local(
                    exit::TRY_AGAIN,
                    "FAILED_PRECONDITION",
                    format!("a daemon is already running at {at}, without these arguments"),
                )
                .with_hint("stop it first with `episodectl server stop`"));
            }
            note(format_args!("already running at {at}"));
            return Ok(());
        }
        let mut daemon = Daemon::spawn(context, &socket, self.args)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(&socket).await {
                Ok(client) if serves(&client, Some(&mut daemon)).await? => break,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Ok(_) | Err(_) => daemon.check()?,
            }
            tokio::time::sleep(POLL).await;
        }
        note(format_args!(
            "running at {at}, log in {}",
            daemon.log.display()
        ));
        Ok(())
    }
}

/// Waits until the daemon's health is SERVING; false: it has gone away meanwhile.
async fn serves(client: &Client, mut daemon: Option<&mut Daemon>) -> Result<bool, CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.is_serving().await {
            Ok(true) => return Ok(true),
            Err(error) if error.origin == Origin::Unreachable => return Ok(false),
            Err(error) if !error.is_transient() => return Err(error.into()),
            Ok(false) | Err(_) => {}
        }
        if let Some(daemon) = &mut daemon {
            daemon.check()?;
        }
        if Instant::now() > deadline {
            return Err(CliError::local(
                exit::UNREACHABLE,
                "UNAVAILABLE",
                "the daemon accepts connections, but does not serve yet",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Daemon {
    child: Child,
    program: PathBuf,
    log: PathBuf,
    /// Bytes in the log before it was started.
    log_from: u64,
    ended: Option<Instant>,
}

impl Daemon {
    fn spawn(context: &Context, socket: &Path, args: Vec<OsString>) -> Result<Self, CliError> {
        let program = find_program(context);
        let mut command = Command::new(&program);
        let mut runtime_dir = context.env.runtime_dir()?;
        if socket != context.env.operator_socket()? {
            runtime_dir = other_runtime_dir(socket)?;
            command.env(RUNTIME_DIR_VAR, &runtime_dir);
        }
        ensure_private_dir(&runtime_dir).map_err(|error| {
            let message = format!("cannot use {}: {error}", runtime_dir.display());
            CliError::local(exit::CANNOT_CREATE, "FAILED_PRECONDITION", message)
        })?;
        let log = runtime_dir.join(LOG);
        let (file, log_from) = open_log(&log).map_err(|error| CliError::writing(&log, &error))?;
        let second = file
            .try_clone()
            .map_err(|error| CliError::writing(&log, &error))?;
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second)
            .process_group(0)
            .spawn()
            .map_err(|error| not_started(&program, &error))?;
        Ok(Self {
            child,
            program,
            log,
            log_from,
            ended: None,
        })
    }

    /// Fails when the daemon has ended, with its last words. One that found
    /// another at work is given up a while later: the other may be about to serve.
    fn check(&mut self) -> Result<(), CliError> {
        let Ok(Some(status)) = self.child.try_wait() else {
            return Ok(());
        };
        let ended = *self.ended.get_or_insert_with(Instant::now);
        if status.code() == Some(exit::TRY_AGAIN.into()) && ended.elapsed() < RIVAL {
            return Ok(());
        }
        let said = read_from(&self.log, self.log_from).unwrap_or_default();
        let message = format!(
            "{} ended with {status}: {}",
            self.program.display(),
            last_words(&said, LAST_WORDS)
        );
        Err(CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message)
            .with_hint(format!("its log is {}", self.log.display())))
    }
}

/// The log to write to, and how much is in it already.
fn open_log(path: &Path) -> std::io::Result<(File, u64)> {
    let is_large = path.metadata().is_ok_and(|log| log.len() > LOG_BYTES);
    if is_large {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn read_from(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut said = Vec::new();
    file.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The daemon beside this program, else the one on PATH.
fn find_program(context: &Context) -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.map(|path| path.with_file_name(PROGRAM));
    let directories = context.env.var("PATH").map(std::env::split_paths);
    let on_path = directories
        .into_iter()
        .flatten()
        .map(|dir| dir.join(PROGRAM));
    beside
        .into_iter()
        .chain(on_path)
        .find(|path| path.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

/// A socket that is named elsewhere moves the daemon's runtime directory.
fn other_runtime_dir(socket: &Path) -> Result<PathBuf, CliError> {
    let socket = std::path::absolute(socket).map_err(|e| CliError::reading(socket, &e))?;
    match (socket.parent(), socket.file_name()) {
        (Some(parent), Some(name)) if name == OPERATOR_SOCKET => Ok(parent.to_owned()),
        _ => Err(CliError::usage(
            format!("cannot start a daemon at {}", socket.display()),
            format!("its socket is always called {OPERATOR_SOCKET}"),
        )),
    }
}

fn not_started(program: &Path, error: &std::io::Error) -> CliError {
    let message = format!("cannot run {}: {error}", program.display());
    CliError::local(exit::UNREACHABLE, "UNAVAILABLE", message)
        .with_hint("install episoded beside episodectl or on PATH")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LOG_BYTES, open_log, other_runtime_dir, read_from};

    #[test]
    fn a_log_goes_on_until_it_is_large() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("episoded.log");
        for (before, word) in [(0, "one"), (3, "two")] {
            let (mut log, from) = open_log(&path).unwrap();
            assert_eq!(from, before);
            log.write_all(word.as_bytes()).unwrap();
            assert_eq!(read_from(&path, from).unwrap(), word);
        }
        let (log, _) = open_log(&path).unwrap();
        log.set_len(LOG_BYTES + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().1, 0);
        let aside = directory.path().join("episoded.log.1");
        assert_eq!(aside.metadata().unwrap().len(), LOG_BYTES + 1);
    }

    #[test]
    fn a_daemon_can_be_started_wherever_its_socket_keeps_its_name() {
        let at = |path| other_runtime_dir(Path::new(path));
        assert_eq!(at("/x/operator.sock").unwrap(), Path::new("/x"));
        assert_eq!(at("/x/other.sock").unwrap_err().exit(), 64);
    }
}
