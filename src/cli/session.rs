//! `episodectl session …`: one module per group of commands.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;

mod change;
pub mod firewall;
pub mod history;
mod list;
mod read;
pub mod register;
mod terminate;
mod wait;
mod watch;

pub use history::EventPages;
pub use list::Pages;

/// Commands on sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Register a session and keep its handle
    Register(Box<register::Register>),
    /// Show a session by its id
    Get(read::Get),
    /// Find a session by its handle, work id or episode id
    Lookup(read::Lookup),
    /// List sessions in registration order
    List(list::List),
    /// Print events as they happen, across daemon restarts
    Watch(watch::Watch),
    /// Wait until sessions end; exit 0 success, 1 failure, 3 otherwise
    Wait(wait::Wait),
    /// List past events, newest first
    History(history::History),
    /// Say that a session's episode is alive
    Heartbeat(change::Heartbeat),
    /// Write back the episode id and process of a session
    Bind(change::Bind),
    /// Show a lease again, for one session or for all it holds
    Renew(change::Renew),
    /// Replace a session's handle
    Rotate(change::Rotate),
    /// Change labels, deadline or idle timeout
    Update(change::Update),
    /// Ask a session's episode to stop
    Stop(change::Stop),
    /// End a session, or all of a lease, work id, label or role
    Terminate(terminate::Terminate),
    /// Take back a registration that was never used
    Remove(change::Remove),
}

impl SessionCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Register(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::Lookup(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Watch(command) => command.run(context).await,
            Self::Wait(command) => command.run(context).await,
            Self::History(command) => command.run(context).await,
            Self::Heartbeat(command) => command.run(context).await,
            Self::Bind(command) => command.run(context).await,
            Self::Renew(command) => command.run(context).await,
            Self::Rotate(command) => command.run(context).await,
            Self::Update(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::Terminate(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
        }
    }
}
