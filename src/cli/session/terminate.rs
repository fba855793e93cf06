//! `session terminate`: one session, or all that a selector matches.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;

use super::change::{CounterArgs, Etag, print, speaker};
use crate::cli::args::{self, Labels};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::{note, session::detail};
use crate::cli::secrets::{HandleArgs, LeaseArgs};
use crate::proto::session::terminate_sessions_request::Selector;
use crate::proto::session::{
    ExitClassification, Role, SessionFilter, TerminateSessionRequest, TerminateSessionsRequest,
    TerminateSessionsResponse, TerminationReason,
};

/// End a session, or all of a lease, work id, label or role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl session terminate s-17
  EPISODE_HANDLE_FILE=handle episodectl session terminate --reason normal --exit-code 0
  episodectl session terminate --work-id task-17 --dry-run
  episodectl session terminate --lease --lease-file lease")]
pub struct Terminate {
    /// The session; absent, and nothing selected: that of the given handle
    #[arg(conflicts_with_all = ["work_id", "lease", "labels", "role", "dry_run", "handle_stdin"], value_parser = NonEmpty::new())]
    session_id: Option<String>,

    /// Why; default: operator, or normal when it is one's own
    #[arg(long, value_parser = args::reason())]
    reason: Option<TerminationReason>,

    /// How it went; default: by the exit code, else cancelled, or success when it is one's own
    #[arg(long, value_parser = args::classification())]
    classification: Option<ExitClassification>,

    /// The episode's exit code
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    exit_code: Option<i32>,

    /// Tokens the episode consumed
    #[arg(long, value_name = "N")]
    tokens_consumed: Option<u64>,

    /// A few words for the record
    #[arg(long, value_name = "TEXT")]
    detail: Option<String>,

    #[command(flatten)]
    counters: CounterArgs,

    #[command(flatten)]
    etag: Etag,

    #[command(flatten)]
    handle: HandleArgs,

    #[command(flatten)]
    many: Many,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Many at once")]
struct Many {
    /// All of this work id
    #[arg(long, value_name = "ID", conflicts_with_all = ["lease", "labels", "role"])]
    work_id: Option<String>,

    /// All of the lease given with --lease-file, EPISODE_LEASE_FILE or --lease-stdin
    #[arg(long, conflicts_with_all = ["labels", "role"])]
    lease: bool,

    #[command(flatten)]
    lease_from: LeaseArgs,

    #[command(flatten)]
    labels: Labels,

    /// All in this role, with the labels if given
    #[arg(long, value_parser = args::role())]
    role: Option<Role>,

    /// Print what would be ended, end nothing
    #[arg(long)]
    dry_run: bool,
}

impl Many {
    fn selector(&self, context: &Context) -> Result<Option<Selector>, CliError> {
        if self.lease {
            let lease = self.lease_from.require(&context.env)?;
            return Ok(Some(Selector::LeaseId(lease.expose().to_owned())));
        }
        if let Some(work_id) = &self.work_id {
            return Ok(Some(Selector::WorkId(work_id.clone())));
        }
        if self.labels.is_empty() && self.role.is_none() {
            return Ok(None);
        }
        Ok(Some(Selector::Filter(SessionFilter {
            role: self.role.map(Into::into).unwrap_or_default(),
            labels: self.labels.clone().into_map()?,
            ..SessionFilter::default()
        })))
    }
}

impl Terminate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.many.selector(context)? {
            Some(selector) => self.many(context, selector).await,
            None if self.many.dry_run => Err(CliError::usage(
                "--dry-run needs something to select",
                "give --work-id, --lease, --label or --role",
            )),
            None => self.one(context).await,
        }
    }

    async fn one(self, context: &Context) -> Result<(), CliError> {
        let client = speaker(context, self.session_id.as_ref(), &self.handle).await?;
        let is_own = self.session_id.is_none();
        let request = TerminateSessionRequest {
            reason: self.reason(is_own).into(),
            exit_classification: self.classification(is_own).into(),
            session_id: self.session_id.unwrap_or_default(),
            exit_code: self.exit_code,
            tokens_consumed: self.tokens_consumed,
            detail: self.detail.unwrap_or_default(),
            counters: self.counters.into_wire(),
            etag: self.etag.text(),
        };
        let answer = client.terminate_session(request).await?;
        if answer.already_terminated {
            note("the session had ended before; this is its first record");
        }
        print(context, &answer, |answer| detail(answer.session.as_ref()))
    }

    fn reason(&self, is_own: bool) -> TerminationReason {
        self.reason.unwrap_or(if is_own {
            TerminationReason::Normal
        } else {
            TerminationReason::Operator
        })
    }

    fn classification(&self, is_own: bool) -> ExitClassification {
        let by_code = self.exit_code.map(|code| match code {
            0 => ExitClassification::Success,
            _ => ExitClassification::Failure,
        });
        self.classification.or(by_code).unwrap_or(if is_own {
            ExitClassification::Success
        } else {
            ExitClassification::Cancelled
        })
    }

    /// What is true of one session only and must not be passed over.
    fn only_for_one(&self) -> bool {
        self.exit_code.is_some()
            || self.tokens_consumed.is_some()
            || self.counters.is_given()
            || self.etag.is_given()
    }

    /// A call ends at most 1,000: repeats it until none is left.
    async fn many(self, context: &Context, selector: Selector) -> Result<(), CliError> {
        if self.only_for_one() {
            return Err(CliError::usage(
                "an exit code, counters and an etag are of one session",
                "name the session, or leave them out",
            ));
        }
        let client = context.operator().await?;
        let request = TerminateSessionsRequest {
            reason: self.reason(false).into(),
            exit_classification: self.classification(false).into(),
            detail: self.detail.unwrap_or_default(),
            dry_run: self.many.dry_run,
            selector: Some(selector),
        };
        let mut whole = TerminateSessionsResponse::default();
        loop {
            let part = client.terminate_sessions(request.clone()).await?;
            let ended = !part.session_ids.is_empty();
            whole.session_ids.extend(part.session_ids);
            whole.remaining = part.remaining;
            whole.revision = part.revision;
            if whole.remaining == 0 || self.many.dry_run || !ended {
                break;
            }
        }
        let count = whole.session_ids.len();
        let what = if self.many.dry_run {
            "would end"
        } else {
            "ended"
        };
        note(format_args!(
            "{what} {count} sessions, {} more match",
            whole.remaining
        ));
        print(context, &whole, |whole| lines(&whole.session_ids))
    }
}

fn lines(ids: &[String]) -> String {
    ids.iter().flat_map(|id| [id.as_str(), "\n"]).collect()
}
