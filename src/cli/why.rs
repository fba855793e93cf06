//! `why`: a decision, explained.

use clap::Args;
use prost_types::Timestamp;

use super::context::Context;
use super::error::{CliError, exit};
use super::output::session::actor;
use super::output::text::{fields, milli};
use super::session::history::EventPages;
use crate::proto::session::{Denial, DenialReason, Event, EventFilter, EventKind};

/// A denial is written within a second or two; one that is counted, with its minute.
/// Wall clocks may have been set meanwhile. In milliseconds.
const WRITTEN_WITHIN: u64 = 180_000;

/// Explain a denial by its decision id.
#[derive(Debug, Args)]
#[command(
    after_help = "The first 200 denials of a session are kept each, after that one row a minute counts them.

Example:
  episodectl why D-0193a5c0e2f000002a"
)]
pub struct Why {
    /// The decision, as the verdict named it
    decision_id: String,

    /// Only look at this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

impl Why {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let at = time_of(&self.decision_id).ok_or_else(|| {
            let hint = "it is `D-` and 17 hexadecimal digits, as a verdict shows it";
            CliError::usage("not a decision id", hint)
        })?;
        let filter = EventFilter {
            session_id: self.session.unwrap_or_default(),
            kinds: vec![EventKind::Denied.into()],
            start_time: Some(timestamp(at)),
            end_time: Some(timestamp(at + WRITTEN_WITHIN)),
            ..EventFilter::default()
        };
        let client = context.operator().await?;
        let mut pages = EventPages::new(client, filter, u64::MAX);
        let mut counted: Option<Event> = None;
        while let Some(page) = pages.next().await? {
            for event in page.events {
                let Some(denial) = &event.denial else {
                    continue;
                };
                if denial.decision_id == self.decision_id {
                    let mut printer = context.printer();
                    printer.answer(&event, explained)?;
                    return printer.flush();
                }
                if denial.count > 1 {
                    counted = Some(event);
                }
            }
        }
        Err(not_found(&self.decision_id, counted.as_ref()))
    }
}

fn not_found(id: &str, counted: Option<&Event>) -> CliError {
    let message = format!("no denial {id} is kept");
    let error = CliError::local(exit::NO_INPUT, "NOT_FOUND", message);
    match counted.and_then(|event| Some((event.session.as_ref()?, event.denial.as_ref()?))) {
        Some((session, denial)) => error.with_hint(format!(
            "it may be one of the {} that were only counted for session {} about then",
            denial.count, session.session_id
        )),
        None => error.with_hint(
            "an allowed request leaves no record; past events are kept for event_retention",
        ),
    }
}

fn explained(event: &Event) -> String {
    let denial = event.denial.clone().unwrap_or_default();
    let session = event.session.clone().unwrap_or_default();
    let reason = denial.reason().as_str_name();
    let reason = reason.strip_prefix("DENIAL_REASON_").unwrap_or(reason);
    let verdict = if denial.enforced {
        reason.to_owned()
    } else {
        format!("{reason}, not enforced")
    };
    let manifest = session.firewall.map(|it| it.manifest_id);
    fields(&[
        ("Decision", denial.decision_id.clone()),
        ("Denied", verdict),
        ("Request", format!("{} {}", denial.request, denial.subject)),
        ("Rule", denial.rule.clone()),
        ("Because", because(&denial)),
        ("To allow it", remedy(denial.reason()).to_owned()),
        ("Manifest", manifest.unwrap_or_default()),
        ("Session", session.session_id),
        ("Work", session.work_id),
        ("Time", milli(event.time.as_ref())),
        ("By", actor(event.actor.as_ref())),
    ])
}

fn because(denial: &Denial) -> String {
    if denial.detail.is_empty() && denial.rule == "default" {
        return "nothing in the manifest allows it".to_owned();
    }
    denial.detail.clone()
}

/// What a better manifest would have, or the request.
fn remedy(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::Unspecified => "",
        DenialReason::ToolNotAllowed => {
            "the class of tools in `tools` (manifest build --allow-tool)"
        }
        DenialReason::ContextMiss => "an entry or a readable tree (refine reissue --add PATH)",
        DenialReason::ContentHashMismatch => "an entry with the content as it is now",
        DenialReason::ContentHashRequired => "the hash of the content in the request, or `cat`",
        DenialReason::InvalidPath => "a path that stays below the root",
        DenialReason::WritePathNotAllowed => {
            "a READ_WRITE entry or a writable tree (manifest build --edit, --tree DIR=rw)"
        }
        DenialReason::CommandNotAllowed => {
            "a command rule that fits (manifest build --rules, --preset)"
        }
        DenialReason::ToolArgsNotAllowed => "the name in its list",
        DenialReason::MaxRefinementsExceeded => "another work id: this one has had its ten",
    }
}

/// When a decision was made, in milliseconds since the epoch.
fn time_of(decision_id: &str) -> Option<u64> {
    let digits = decision_id.strip_prefix("D-")?;
    let time = digits.get(..11).filter(|_| digits.len() == 17)?;
    u64::from_str_radix(time, 16).ok()
}

fn timestamp(millis: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    }
}
