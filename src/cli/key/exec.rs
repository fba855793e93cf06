//! `key exec`: a program with a key on its stdin.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::{Activity, agent, fetch, harden};
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::keycache::arena::MAX_KEY;
use crate::proto::keycache::ActivityKind;

/// Run a program with a key on its stdin.
#[derive(Debug, Args)]
#[command(
    after_help = "The program takes the place of this command: its pid, its signals and its exit code
are its own. Its stdin holds the key and then ends. Starts the agent when there is
none; ends with 66 when the key is not there, 126 or 127 when the program cannot be run.

The machine may sleep while the program runs. With --stay-awake it is kept awake
for it, as long as it runs, and the program is ended before the machine sleeps all
the same.

Examples:
  episodectl key exec vault-7 -- cryptsetup open --key-file - /dev/vdb vault
  episodectl key exec vault-7 --stay-awake -- ./reencrypt --key-file /dev/stdin"
)]
pub struct Exec {
    /// The lockbox's id
    lockbox_id: String,

    /// Keep the machine awake while the program runs
    #[arg(long)]
    stay_awake: bool,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<std::ffi::OsString>,
}

impl Exec {
    /// Does not return unless it fails.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        harden()?;
        let cache = agent::ensure(context).await?;
        let activity = Activity::begin(&cache, ActivityKind::Env).await?;
        let fetched = fetch(context, &cache, &self.lockbox_id).await;
        let stdin = fetched.and_then(|key| pipe_with_key(&key));
        // From here on the program has it, which is this process still.
        if !self.stay_awake || stdin.is_err() {
            activity.end().await;
        }
        let (program, arguments) = self
            .program
            .split_first()
            .ok_or_else(|| CliError::usage("no program is named", "name it behind `--`"))?;
        let failed = Command::new(program).args(arguments).stdin(stdin?).exec();
        let message = format!("cannot run {}: {failed}", program.display());
        let code = match failed.kind() {
            std::io::ErrorKind::NotFound => exit::COMMAND_NOT_FOUND,
            _ => exit::NOT_EXECUTABLE,
        };
        Err(CliError::local(code, "FAILED_PRECONDITION", message))
    }
}

/// A pipe that holds the whole of it, so that nobody needs to stay and write.
fn pipe_with_key(key: &[u8]) -> Result<OwnedFd, CliError> {
    let made = (|| {
        let (reads, writes) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&writes, MAX_KEY)?;
        std::fs::File::from(writes).write_all(key)?;
        Ok::<_, std::io::Error>(reads)
    })();
    made.map_err(|error| {
        let message = format!("cannot make a pipe for the key: {error}");
        CliError::local(exit::SOFTWARE, "INTERNAL", message)
    })
}
