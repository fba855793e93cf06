//! The commands that change one session: heartbeat, bind, renew, rotate,
//! update, stop, remove.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use prost_types::FieldMask;

use crate::cli::args::{self, Deadline, Labels, wire_deadline};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::protojson::{Described, duration_text};
use crate::cli::output::text::{fields, second, short};
use crate::cli::output::{note, session::detail};
use crate::cli::secrets::{HandleArgs, HandleOut, LeaseArgs};
use crate::client::{Client, Handle};
use crate::proto::session::{
    BindEpisodeRequest, Counters, HeartbeatSessionRequest, HeartbeatSessionResponse,
    RemoveSessionRequest, RenewLeaseRequest, RenewLeaseResponse, RequestStopRequest,
    RotateHandleRequest, UpdateSessionRequest, renew_lease_request, update_session_request,
};

/// With the session id as the operator, without it as the session itself.
pub(super) async fn speaker(
    context: &Context,
    session_id: Option<&String>,
    handle: &HandleArgs,
) -> Result<Client, CliError> {
    match session_id {
        Some(_) => context.operator().await,
        None => context.session(handle.require(&context.env)?).await,
    }
}

pub(super) fn print<M: Described>(
    context: &Context,
    answer: &M,
    table: impl FnOnce(&M) -> String,
) -> Result<(), CliError> {
    let mut printer = context.printer();
    printer.answer(answer, table)?;
    printer.flush()
}

/// The `--etag` of every change.
#[derive(Debug, Args)]
pub(super) struct Etag {
    /// Fail if the session changed since this etag was read
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Etag {
    pub(super) fn is_given(&self) -> bool {
        self.etag.is_some()
    }

    pub(super) fn text(self) -> String {
        self.etag.unwrap_or_default()
    }
}

/// Totals of the episode so far.
#[derive(Debug, Args)]
pub(super) struct CounterArgs {
    /// Tool calls so far
    #[arg(long, value_name = "N")]
    tool_calls: Option<u64>,

    /// Events so far
    #[arg(long, value_name = "N")]
    events: Option<u64>,

    /// Tokens so far
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
}

impl CounterArgs {
    pub(super) fn is_given(&self) -> bool {
        self.tool_calls.is_some() || self.events.is_some() || self.tokens.is_some()
    }

    pub(super) fn into_wire(self) -> Option<Counters> {
        self.is_given().then(|| Counters {
            tool_calls: self.tool_calls.unwrap_or_default(),
            events: self.events.unwrap_or_default(),
            tokens: self.tokens.unwrap_or_default(),
        })
    }
}

/// Say that a session's episode is alive.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  EPISODE_HANDLE_FILE=handle episodectl session heartbeat --tool-calls 12 --tokens 4000")]
pub struct Heartbeat {
    /// The session; absent: that of the given handle
    #[arg(conflicts_with = "handle_stdin", value_parser = NonEmpty::new())]
    session_id: Option<String>,

    #[command(flatten)]
    counters: CounterArgs,

    #[command(flatten)]
    handle: HandleArgs,
}

impl Heartbeat {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = speaker(context, self.session_id.as_ref(), &self.handle).await?;
        let request = HeartbeatSessionRequest {
            session_id: self.session_id.unwrap_or_default(),
            counters: self.counters.into_wire(),
        };
        let answer = client.heartbeat_session(request).await?;
        print(context, &answer, heartbeat_table)
    }
}

fn heartbeat_table(answer: &HeartbeatSessionResponse) -> String {
    let stop = if answer.stop_requested { "yes" } else { "" };
    let idle = answer.idle_timeout.as_ref().map(duration_text);
    fields(&[
        (
            "Status",
            short(answer.status().as_str_name(), "SESSION_STATUS_"),
        ),
        ("Stop requested", stop.to_owned()),
        ("Expires", second(answer.expire_time.as_ref())),
        ("Idle timeout", idle.unwrap_or_default()),
        ("Last activity", second(answer.last_activity_time.as_ref())),
    ])
}

/// Write back the episode id and process of a session.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl session bind s-17 --episode-id ep-9 --pid 4711")]
pub struct Bind {
    /// The session
    session_id: String,

    /// The episode
    #[arg(long, value_name = "ID")]
    episode_id: String,

    /// Its process, as the daemon sees it
    #[arg(long)]
    pid: Option<i32>,

    /// Makes a repeated call answer the first one
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    #[command(flatten)]
    etag: Etag,
}

impl Bind {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = BindEpisodeRequest {
            session_id: self.session_id,
            episode_id: self.episode_id,
            pid: self.pid,
            request_id: self.request_id.unwrap_or_default(),
            etag: self.etag.text(),
        };
        let answer = context.operator().await?.bind_episode(request).await?;
        print(context, &answer, |answer| detail(answer.session.as_ref()))
    }
}

/// Show a lease again, for one session or for all it holds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl session renew --lease-file lease
  episodectl session renew s-17 --lease-file lease --lease-holder blue --ttl 1h --take-over")]
pub struct Renew {
    /// The session; absent: every live session of the lease
    #[arg(value_parser = NonEmpty::new())]
    session_id: Option<String>,

    #[command(flatten)]
    lease: LeaseArgs,

    /// Public name of the lease's holder
    #[arg(long, value_name = "NAME")]
    lease_holder: Option<String>,

    #[command(flatten)]
    deadline: Deadline,

    /// Replace a lease that another holds
    #[arg(long, requires = "session_id")]
    take_over: bool,

    /// Makes a repeated call answer the first one
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    #[command(flatten)]
    etag: Etag,
}

impl Renew {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let lease = self.lease.require(&context.env)?;
        let request = RenewLeaseRequest {
            lease_id: lease.expose().to_owned(),
            lease_holder: self.lease_holder.unwrap_or_default(),
            session_id: self.session_id.unwrap_or_default(),
            deadline: wire_deadline!(self.deadline, renew_lease_request::Deadline),
            take_over: self.take_over,
            request_id: self.request_id.unwrap_or_default(),
            etag: self.etag.text(),
        };
        let answer = context.operator().await?.renew_lease(request).await?;
        print(context, &answer, renew_table)
    }
}

fn renew_table(answer: &RenewLeaseResponse) -> String {
    match &answer.session {
        Some(session) => detail(Some(session)),
        None => fields(&[
            ("Renewed", answer.renewed.to_string()),
            ("Revision", answer.revision.to_string()),
        ]),
    }
}

/// Replace a session's handle.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl session rotate s-17 --handle-out handle")]
pub struct Rotate {
    /// The session; absent: that of the given handle
    #[arg(conflicts_with = "handle_stdin", value_parser = NonEmpty::new())]
    session_id: Option<String>,

    #[command(flatten)]
    out: HandleOut,

    /// With it, the old handle may repeat this very call for a minute
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    #[command(flatten)]
    etag: Etag,

    #[command(flatten)]
    handle: HandleArgs,
}

impl Rotate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let destination = self.out.open()?;
        let client = speaker(context, self.session_id.as_ref(), &self.handle).await?;
        let request = RotateHandleRequest {
            session_id: self.session_id.unwrap_or_default(),
            request_id: self.request_id.unwrap_or_default(),
            etag: self.etag.text(),
        };
        let mut answer = client.rotate_handle(request).await?;
        let handle = answer.session.as_mut().and_then(Handle::take);
        let session = answer.session.as_ref();
        let session_id = session.map(|s| s.session_id.clone()).unwrap_or_default();
        let leaves_stdout = destination.leaves_stdout();
        match handle {
            Some(handle) => destination.write(&handle)?,
            None => return Err(super::register::withheld(&session_id)),
        }
        if leaves_stdout {
            return print(context, &answer, |answer| detail(answer.session.as_ref()));
        }
        note(format_args!("rotated the handle of session {session_id}"));
        Ok(())
    }
}

/// Change labels, deadline or idle timeout.
#[derive(Debug, Args)]
#[command(
    after_help = "What is not named stays as it is; --label replaces all labels there were.\n
Example:
  episodectl session update s-17 --ttl 2h --label team=blue --label phase=review"
)]
pub struct Update {
    /// The session
    session_id: String,

    #[command(flatten)]
    what: Changes,

    #[command(flatten)]
    etag: Etag,
}

#[derive(Debug, Args)]
struct Changes {
    #[command(flatten)]
    labels: Labels,

    /// Remove all labels
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,

    #[command(flatten)]
    deadline: Deadline,

    /// Remove the deadline
    #[arg(long, conflicts_with_all = ["expire_at", "ttl"])]
    no_deadline: bool,

    /// End the session after this much silence
    #[arg(long, value_name = "DURATION", value_parser = args::wire_duration)]
    idle: Option<prost_types::Duration>,

    /// Remove the idle timeout
    #[arg(long, conflicts_with = "idle")]
    no_idle: bool,
}

impl Changes {
    fn mask(&self) -> Vec<String> {
        let deadline = self.deadline.expire_at.is_some() || self.deadline.ttl.is_some();
        let paths = [
            ("labels", self.no_labels || !self.labels.is_empty()),
            ("deadline", self.no_deadline || deadline),
            ("idle_timeout", self.no_idle || self.idle.is_some()),
        ];
        let changed = paths.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(path, _)| path.to_owned()).collect()
    }
}

impl Update {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let paths = self.what.mask();
        if paths.is_empty() {
            return Err(CliError::usage(
                "nothing to change",
                "give --label, --ttl, --expire-at, --idle, or --no-labels, --no-deadline, --no-idle",
            ));
        }
        let request = UpdateSessionRequest {
            session_id: self.session_id,
            update_mask: Some(FieldMask { paths }),
            labels: self.what.labels.into_map()?,
            deadline: wire_deadline!(self.what.deadline, update_session_request::Deadline),
            idle_timeout: self.what.idle,
            etag: self.etag.text(),
        };
        let answer = context.operator().await?.update_session(request).await?;
        print(context, &answer, |answer| detail(answer.session.as_ref()))
    }
}

/// Ask a session's episode to stop.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl session stop s-17")]
pub struct Stop {
    /// The session
    session_id: String,

    #[command(flatten)]
    etag: Etag,
}

impl Stop {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = RequestStopRequest {
            session_id: self.session_id,
            etag: self.etag.text(),
        };
        let answer = context.operator().await?.request_stop(request).await?;
        print(context, &answer, |answer| detail(answer.session.as_ref()))
    }
}

/// Take back a registration that was never used.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl session remove s-17")]
pub struct Remove {
    /// The session
    session_id: String,

    #[command(flatten)]
    etag: Etag,
}

impl Remove {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = RemoveSessionRequest {
            session_id: self.session_id,
            etag: self.etag.text(),
        };
        let answer = context.operator().await?.remove_session(request).await?;
        print(context, &answer, |answer| detail(answer.session.as_ref()))
    }
}
