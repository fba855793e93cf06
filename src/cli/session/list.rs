//! `session list`: every page of sessions.

use clap::Args;

use crate::cli::args::{self, Labels};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::protojson::to_json;
use crate::cli::output::session::{columns, row};
use crate::cli::output::{Format, Printer};
use crate::client::{Client, ClientError};
use crate::proto::session::{
    LeaseState, ListSessionsRequest, ListSessionsResponse, Role, SessionFilter, SessionStatus,
};

/// The most a page may have.
const PAGE: u64 = 1_000;

/// List sessions in registration order.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl session list --status active --label team=blue --format jsonl")]
pub struct List {
    /// Only those in this status
    #[arg(long, value_parser = args::status())]
    status: Option<SessionStatus>,

    /// Only those of this work id
    #[arg(long, value_name = "ID")]
    work_id: Option<String>,

    /// Only those in this role
    #[arg(long, value_parser = args::role())]
    role: Option<Role>,

    /// Only those whose lease is in this state
    #[arg(long, value_parser = args::lease_state())]
    lease_state: Option<LeaseState>,

    #[command(flatten)]
    labels: Labels,

    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let filter = SessionFilter {
            status: self.status.map(Into::into).unwrap_or_default(),
            work_id: self.work_id.unwrap_or_default(),
            role: self.role.map(Into::into).unwrap_or_default(),
            labels: self.labels.into_map()?,
            lease_state: self.lease_state.map(Into::into).unwrap_or_default(),
        };
        let client = context.operator().await?;
        let mut pages = Pages::new(client, filter, self.limit.unwrap_or(u64::MAX));
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

async fn print(pages: &mut Pages, printer: &mut Printer) -> Result<(), CliError> {
    let mut table = columns();
    while let Some(page) = pages.next().await? {
        for session in &page.sessions {
            match printer.format() {
                Format::Table => table.row(row(session)),
                Format::Json | Format::Jsonl => printer.json(&to_json(session))?,
            }
        }
        if printer.format() == Format::Table {
            printer.text(&table.take())?;
        }
    }
    Ok(())
}

/// The pages of one list, until its end or the limit.
pub struct Pages {
    client: Client,
    filter: SessionFilter,
    token: Option<String>,
    left: u64,
}

impl Pages {
    /// From the first page.
    pub fn new(client: Client, filter: SessionFilter, limit: u64) -> Self {
        Self {
            client,
            filter,
            token: Some(String::new()),
            left: limit,
        }
    }

    /// The next page.
    pub async fn next(&mut self) -> Result<Option<ListSessionsResponse>, ClientError> {
        let Some(page_token) = self.token.take().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let request = ListSessionsRequest {
            page_size: self.left.min(PAGE) as i32,
            page_token,
            filter: Some(self.filter.clone()),
        };
        let mut page = self.client.list_sessions(request).await?;
        self.left = self.left.saturating_sub(page.sessions.len() as u64);
        let token = std::mem::take(&mut page.next_page_token);
        self.token = Some(token).filter(|token| !token.is_empty());
        Ok(Some(page))
    }

    /// All pages as one answer, with the revision of the first.
    async fn whole(&mut self) -> Result<ListSessionsResponse, ClientError> {
        let mut whole = self.next().await?.unwrap_or_default();
        while let Some(page) = self.next().await? {
            whole.sessions.extend(page.sessions);
        }
        Ok(whole)
    }
}
