//! `session wait`: until sessions have ended, however often the daemon restarts.
//!
//! The watch begins before the sessions are looked at, so an end in between is
//! in its events. An ended session whose record is forgotten is found in the
//! history, which keeps longer.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::protojson::to_json;
use crate::cli::output::session::outcome;
use crate::cli::output::text::clean;
use crate::cli::output::{Format, Printer, note};
use crate::client::{Client, ClientError, Follow, Update};
use crate::proto::session::{
    Event, EventFilter, EventKind, ExitClassification, GetSessionRequest, ListEventsRequest,
    Session, SessionStatus, TerminationRecord, WatchFilter,
};
use crate::reason::Reason;

/// Between looks at sessions while the daemon does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const FAILURE: u8 = 1;
const OTHERWISE: u8 = 3;

/// Wait until sessions end; exit 0 success, 1 failure, 3 otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Exit: 0 all ended in success, 1 one ended in failure, \
3 otherwise (cancelled, removed, unknown).\n
Example:
  episodectl session wait s-17 s-18 && echo both succeeded")]
pub struct Wait {
    /// The sessions
    #[arg(required = true)]
    session_ids: Vec<String>,
}

impl Wait {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.operator().await?;
        let filter = WatchFilter {
            session_id: match self.session_ids.as_slice() {
                [only] => only.clone(),
                _ => String::new(),
            },
            ..WatchFilter::default()
        };
        let follow = Follow::from_now(client.clone(), filter).await?;
        let mut waiting = Waiting {
            client,
            pending: self.session_ids.into_iter().collect(),
            printer: context.printer(),
            exit: 0,
        };
        waiting.watch(follow).await?;
        match waiting.exit {
            0 => Ok(()),
            exit => Err(CliError::silent(exit)),
        }
    }
}

struct Waiting {
    client: Client,
    pending: BTreeSet<String>,
    printer: Printer,
    exit: u8,
}

impl Waiting {
    async fn watch(&mut self, mut follow: Follow) -> Result<(), CliError> {
        let mut unseen = true;
        loop {
            if unseen {
                unseen = match self.look().await {
                    Err(error) if error.is_transient() => true,
                    looked => looked.map(|()| false)?,
                };
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            let patience = if unseen { LOOK_AGAIN } else { Duration::MAX };
            let Ok(update) = timeout(patience, follow.next()).await else {
                continue;
            };
            match update? {
                Update::Events(events) => {
                    for event in &events {
                        self.see(event)?;
                    }
                }
                Update::Lost(error) => note(format_args!("{error}; waiting for the daemon")),
                Update::Resumed => note("the daemon is back"),
                Update::Reset(error) => {
                    note(format_args!("{error}; looking at the sessions anew"));
                    unseen = true;
                }
                Update::Snapshot { .. } => {}
            }
        }
    }

    /// Looks at every session still waited for.
    async fn look(&mut self) -> Result<(), CliError> {
        for session_id in self.pending.clone() {
            let request = GetSessionRequest {
                session_id: session_id.clone(),
            };
            match self.client.get_session(request).await {
                Ok(answer) => {
                    let session = answer.session.unwrap_or_default();
                    if session.status() == SessionStatus::Terminated {
                        self.settle(&session)?;
                    }
                }
                Err(error) if error.reason == Some(Reason::SessionNotFound) => {
                    if let Some(event) = self.last_event(&session_id).await? {
                        self.see(&event)?;
                    }
                    self.unknown(&session_id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// How a session that is no longer remembered ended.
    async fn last_event(&self, session_id: &str) -> Result<Option<Event>, ClientError> {
        let kinds = [
            EventKind::Terminated,
            EventKind::Evicted,
            EventKind::Removed,
        ];
        let request = ListEventsRequest {
            page_size: 1,
            page_token: String::new(),
            filter: Some(EventFilter {
                session_id: session_id.to_owned(),
                kinds: kinds.into_iter().map(Into::into).collect(),
                ..EventFilter::default()
            }),
        };
        Ok(self.client.list_events(request).await?.events.pop())
    }

    fn see(&mut self, event: &Event) -> Result<(), CliError> {
        let Some(session) = &event.session else {
            return Ok(());
        };
        match event.kind() {
            EventKind::Terminated | EventKind::Evicted => self.settle(session),
            EventKind::Removed if self.pending.remove(&session.session_id) => {
                note(format_args!("session {} was removed", session.session_id));
                self.count(ExitClassification::Unspecified);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn settle(&mut self, session: &Session) -> Result<(), CliError> {
        if !self.pending.remove(&session.session_id) {
            return Ok(());
        }
        let record = session.termination.as_ref();
        self.count(
            record
                .map(TerminationRecord::exit_classification)
                .unwrap_or_default(),
        );
        match self.printer.format() {
            Format::Table => {
                let line = format!("{}  {}", session.session_id, outcome(session));
                self.printer.text(&format!("{}\n", clean(&line)))?;
            }
            Format::Json | Format::Jsonl => self.printer.json(&to_json(session))?,
        }
        self.printer.flush()
    }

    fn unknown(&mut self, session_id: &str) {
        note(format_args!(
            "no session {session_id}, not even in the history"
        ));
        self.pending.remove(session_id);
        self.count(ExitClassification::Unspecified);
    }

    /// A failure outweighs everything, anything but success the rest.
    fn count(&mut self, classification: ExitClassification) {
        self.exit = match (self.exit, classification) {
            (FAILURE, _) | (_, ExitClassification::Failure) => FAILURE,
            (exit, ExitClassification::Success) => exit,
            _ => OTHERWISE,
        };
    }
}
