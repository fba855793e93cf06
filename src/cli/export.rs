//! `export`: everything that can be listed, as JSON lines.

use clap::Args;

use super::backup::key_note;
use super::context::Context;
use super::error::CliError;
use super::output::protojson::{Described, Json, to_json};
use super::output::{Format, Printer, note};
use super::session::{EventPages, Pages};
use crate::proto::session::{EventFilter, SessionFilter};

/// What it does, at length; given where the command is listed, whose one line would
/// else take its place.
pub const LONG: &str = "Print all sessions in registration order, then all events, newest first, \
as JSON lines: {\"session\": …} and {\"event\": …}.";

/// Print all sessions and events as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl export > sessions.jsonl")]
pub struct Export {}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.operator().await?;
        let mut printer = Printer::stdout(Format::Jsonl);
        let mut sessions = Pages::new(client.clone(), SessionFilter::default(), u64::MAX);
        let mut session_count = 0;
        while let Some(page) = sessions.next().await? {
            session_count += page.sessions.len();
            print(&mut printer, "session", &page.sessions)?;
        }
        let mut events = EventPages::new(client, EventFilter::default(), u64::MAX);
        let mut event_count = 0;
        while let Some(page) = events.next().await? {
            event_count += page.events.len();
            print(&mut printer, "event", &page.events)?;
        }
        printer.flush()?;
        note(format_args!(
            "{session_count} sessions, {event_count} events"
        ));
        note(key_note());
        Ok(())
    }
}

fn print<M: Described>(printer: &mut Printer, name: &str, messages: &[M]) -> Result<(), CliError> {
    messages.iter().try_for_each(|message| {
        let member = (name.to_owned(), to_json(message));
        printer.json(&Json::Object(vec![member]))
    })
}
