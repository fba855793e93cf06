//! `session get` and `session lookup`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::session::detail;
use crate::cli::secrets::HandleArgs;
use crate::proto::session::lookup_session_request::Key;
use crate::proto::session::{GetSessionRequest, LookupSessionRequest};

/// Show a session by its id.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl session get s-17 --format json")]
pub struct Get {
    /// The session
    session_id: String,
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = GetSessionRequest {
            session_id: self.session_id,
        };
        let answer = context.operator().await?.get_session(request).await?;
        let mut printer = context.printer();
        printer.answer(&answer, |answer| detail(answer.session.as_ref()))?;
        printer.flush()
    }
}

/// Find a session by its handle, work id or episode id.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl session lookup --work-id task-17
  EPISODE_HANDLE_FILE=handle episodectl session lookup --own")]
pub struct Lookup {
    #[command(flatten)]
    key: KeyArgs,

    /// Find the last ended session when none is live
    #[arg(long)]
    include_terminated: bool,

    #[command(flatten)]
    handle: HandleArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KeyArgs {
    /// The session of the given handle
    #[arg(long)]
    own: bool,

    /// The newest session of a work id
    #[arg(long, value_name = "ID")]
    work_id: Option<String>,

    /// The session bound to an episode
    #[arg(long, value_name = "ID")]
    episode_id: Option<String>,
}

impl Lookup {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = if self.key.own {
            context.session(self.handle.require(&context.env)?).await?
        } else {
            context.operator().await?
        };
        let episode = self.key.episode_id.map(Key::EpisodeId);
        let key = self.key.work_id.map(Key::WorkId).or(episode);
        let request = LookupSessionRequest {
            key: Some(key.unwrap_or(Key::Own(true))),
            include_terminated: self.include_terminated,
        };
        let answer = client.lookup_session(request).await?;
        let mut printer = context.printer();
        printer.answer(&answer, |answer| detail(answer.session.as_ref()))?;
        printer.flush()
    }
}
