//! `session watch`: one line per event, across restarts of the daemon.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;

use crate::cli::args::{self, Labels};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::event::{line, snapshot_line};
use crate::cli::output::protojson::{Json, to_json};
use crate::cli::output::{Format, Printer, note};
use crate::client::{Follow, Start, Update};
use crate::proto::session::{Event, Role, Session, WatchFilter};

/// Print events as they happen, across daemon restarts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  episodectl session watch --label team=blue
  episodectl session watch --snapshot --format jsonl
  episodectl session watch --from 4711")]
pub struct Watch {
    /// Begin behind this revision
    #[arg(long, value_name = "REV", conflicts_with = "snapshot")]
    from: Option<u64>,

    /// The registry that --from is of; another one is refused
    #[arg(long, value_name = "ID", requires = "from")]
    registry_id: Option<String>,

    /// Begin with the live sessions
    #[arg(long)]
    snapshot: bool,

    /// Only of this session
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new())]
    session_id: Option<String>,

    /// Only of this work id
    #[arg(long, value_name = "ID")]
    work_id: Option<String>,

    /// Only of sessions in this role
    #[arg(long, value_parser = args::role())]
    role: Option<Role>,

    #[command(flatten)]
    labels: Labels,
}

impl Watch {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let filter = WatchFilter {
            session_id: self.session_id.unwrap_or_default(),
            work_id: self.work_id.unwrap_or_default(),
            role: self.role.map(Into::into).unwrap_or_default(),
            labels: self.labels.into_map()?,
        };
        let client = context.operator().await?;
        let mut follow = match (self.from, self.snapshot) {
            (Some(revision), _) => {
                let registry_id = self.registry_id.unwrap_or_default();
                let start = Start::After {
                    revision,
                    registry_id,
                };
                Follow::new(client, filter, start)
            }
            (None, true) => Follow::new(client, filter, Start::Snapshot),
            (None, false) => Follow::from_now(client, filter).await?,
        };
        let mut printer = context.printer();
        loop {
            match follow.next().await? {
                Update::Snapshot { sessions, .. } => {
                    sessions
                        .iter()
                        .try_for_each(|s| print_session(&mut printer, s))?;
                }
                Update::Events(events) => {
                    events
                        .iter()
                        .try_for_each(|event| print_event(&mut printer, event))?;
                }
                Update::Lost(error) => note(format_args!("{error}; waiting for the daemon")),
                Update::Resumed => note("the daemon is back; nothing was missed"),
                Update::Reset(error) => {
                    note(format_args!(
                        "{error}; events were missed, here is what lives now"
                    ));
                }
            }
            printer.flush()?;
        }
    }
}

fn print_event(printer: &mut Printer, event: &Event) -> Result<(), CliError> {
    match printer.format() {
        Format::Table => printer.text(&line(event)),
        Format::Json | Format::Jsonl => printer.json(&to_json(event)),
    }
}

fn print_session(printer: &mut Printer, session: &Session) -> Result<(), CliError> {
    match printer.format() {
        Format::Table => printer.text(&snapshot_line(session)),
        Format::Json | Format::Jsonl => {
            let member = ("snapshot".to_owned(), to_json(session));
            printer.json(&Json::Object(vec![member]))
        }
    }
}
