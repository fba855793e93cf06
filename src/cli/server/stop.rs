//! `server stop`: asks, then waits until the process is gone.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::note;
use crate::client::Client;
use crate::client::error::Origin;

/// Twice what a drain may take.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Drain and stop the daemon, and wait until it is gone.
#[derive(Debug, Args)]
#[command(
    after_help = "Live sessions stay in the registry and are live again after the next start.\n
Example:
  episodectl server stop"
)]
pub struct Stop {}

impl Stop {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let socket = context.operator_socket()?;
        let client = match Client::connect(&socket).await {
            Err(error) if error.origin == Origin::Unreachable => {
                return not_there(context, &socket, error.into()).await;
            }
            connected => connected?,
        };
        let pid = client.server_info().await?.pid;
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        client.shutdown().await?;
        let is_gone = match process {
            // Elsewhere, so that the connection answers what the daemon still asks.
            Some(process) => spawn_blocking(move || ended(&process))
                .await
                .unwrap_or(false),
            None => timeout(PATIENCE, silent(&socket)).await.is_ok(),
        };
        if !is_gone {
            let message = format!("the daemon (pid {pid}) was told to stop and still runs");
            return Err(CliError::local(
                exit::TRY_AGAIN,
                "DEADLINE_EXCEEDED",
                message,
            ));
        }
        note("stopped");
        Ok(())
    }
}

/// Nobody answers there: the daemon does not run, or its socket was taken away. In
/// that case its other socket still answers.
async fn not_there(context: &Context, socket: &Path, error: CliError) -> Result<(), CliError> {
    let other = context.session_socket_of(socket);
    if let Some(other) = other
        && Client::connect(&other).await.is_ok()
    {
        let hint = format!(
            "a daemon answers at {}: its other socket was removed, and only SIGTERM stops it",
            other.display()
        );
        return Err(error.with_hint(hint));
    }
    note(format_args!("not running at {}", socket.display()));
    Ok(())
}

/// Waits for the process.
fn ended(process: &OwnedFd) -> bool {
    let patience = Timespec::try_from(PATIENCE).ok();
    // A pidfd is readable from the moment its process has ended.
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    retry_on_intr(|| poll(&mut fds, patience.as_ref())).is_ok_and(|ready| ready > 0)
}

/// For a daemon in another pid namespace: until nobody accepts any more.
async fn silent(socket: &Path) {
    while Client::connect(socket).await.is_ok() {
        tokio::time::sleep(POLL).await;
    }
}
