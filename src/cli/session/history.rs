//! `session history`: past events, newest first.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use prost_types::Timestamp;

use crate::cli::args::{self, Labels};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::event::{HEADING, row};
use crate::cli::output::protojson::to_json;
use crate::cli::output::text::Columns;
use crate::cli::output::{Format, Printer};
use crate::client::{Client, ClientError};
use crate::proto::session::{EventFilter, EventKind, ListEventsRequest, ListEventsResponse};

/// The most a page may have.
const PAGE: u64 = 1_000;

/// List past events, newest first.
#[derive(Debug, Args)]
#[command(
    after_help = "What a restart did to the sessions is one event here, `restarted`, about no session;
`episodectl session watch --from REV` tells it for each.

Examples:
  episodectl session history s-17
  episodectl session history --kind terminated --since 2030-01-31T00:00:00Z --limit 1000"
)]
pub struct History {
    /// Only of this session
    #[arg(value_parser = NonEmpty::new())]
    session_id: Option<String>,

    /// Only of this work id
    #[arg(long, value_name = "ID")]
    work_id: Option<String>,

    /// Only of this kind; may be repeated
    #[arg(long = "kind", value_parser = args::event_kind())]
    kinds: Vec<EventKind>,

    #[command(flatten)]
    labels: Labels,

    /// At or after this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    since: Option<Timestamp>,

    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    until: Option<Timestamp>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

impl History {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let filter = EventFilter {
            session_id: self.session_id.unwrap_or_default(),
            work_id: self.work_id.unwrap_or_default(),
            kinds: self.kinds.into_iter().map(Into::into).collect(),
            labels: self.labels.into_map()?,
            start_time: self.since,
            end_time: self.until,
        };
        let client = context.operator().await?;
        let mut pages = EventPages::new(client, filter, self.limit);
        let mut printer = context.printer();
        if context.format == Format::Json {
            let whole = pages.whole().await?;
            printer.json(&to_json(&whole))?;
        } else {
            print(&mut pages, &mut printer).await?;
        }
        printer.flush()
    }
}

async fn print(pages: &mut EventPages, printer: &mut Printer) -> Result<(), CliError> {
    let mut table = Columns::new(&HEADING);
    while let Some(page) = pages.next().await? {
        for event in &page.events {
            match printer.format() {
                Format::Table => table.row(row(event)),
                Format::Json | Format::Jsonl => printer.json(&to_json(event))?,
            }
        }
        if printer.format() == Format::Table {
            printer.text(&table.take())?;
        }
    }
    Ok(())
}

/// The pages of past events, until the oldest or the limit.
pub struct EventPages {
    client: Client,
    filter: EventFilter,
    token: Option<String>,
    left: u64,
}

impl EventPages {
    /// From the newest event.
    pub fn new(client: Client, filter: EventFilter, limit: u64) -> Self {
        Self {
            client,
            filter,
            token: Some(String::new()),
            left: limit,
        }
    }

    /// The next page.
    pub async fn next(&mut self) -> Result<Option<ListEventsResponse>, ClientError> {
        let Some(page_token) = self.token.take().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let request = ListEventsRequest {
            page_size: self.left.min(PAGE) as i32,
            page_token,
            filter: Some(self.filter.clone()),
        };
        let mut page = self.client.list_events(request).await?;
        self.left = self.left.saturating_sub(page.events.len() as u64);
        let token = std::mem::take(&mut page.next_page_token);
        self.token = Some(token).filter(|token| !token.is_empty());
        Ok(Some(page))
    }

    async fn whole(&mut self) -> Result<ListEventsResponse, ClientError> {
        let mut whole = self.next().await?.unwrap_or_default();
        while let Some(page) = self.next().await? {
            whole.events.extend(page.events);
        }
        Ok(whole)
    }
}
