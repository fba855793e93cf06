//! `key status`: what the agent is and holds.

use clap::Args;

use super::{agent, whole_seconds};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::protojson::duration_text;
use crate::cli::output::text::{fields, second};
use crate::proto::keycache as pb;

/// Show what the agent is and holds.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl key status")]
pub struct Status {}

impl Status {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Some(cache) = agent::find(context).await? else {
            return Err(agent::none(context)?);
        };
        let status = cache.status().await?;
        let mut printer = context.printer();
        printer.answer(&status, table)?;
        printer.flush()
    }
}

fn table(status: &pb::StatusResponse) -> String {
    let text = |duration: &Option<prost_types::Duration>| {
        let whole = duration.as_ref().map(whole_seconds);
        whole.as_ref().map(duration_text)
    };
    let wipe = status.last_wipe.as_ref().map(|wipe| {
        let when = second(wipe.time.as_ref());
        format!("{when}, {} keys: {}", wipe.forgotten, wipe.why)
    });
    fields(&[
        ("Version", status.version.clone()),
        ("Pid", status.pid.to_string()),
        ("Running for", text(&status.uptime).unwrap_or_default()),
        ("Keys", status.entries.to_string()),
        ("Keys of sessions", status.owned.to_string()),
        ("Locked bytes", status.locked_bytes.to_string()),
        ("Memory", status.memory.clone()),
        ("Activities", status.activities.to_string()),
        ("Last wipe", wipe.unwrap_or_else(|| "none".to_owned())),
        (
            "Ends when idle for",
            text(&status.idle_exit).unwrap_or_else(|| "never".to_owned()),
        ),
        (
            "Sleep",
            status.sleep.as_ref().map(sleep_text).unwrap_or_default(),
        ),
    ])
}

fn sleep_text(sleep: &pb::SleepStatus) -> String {
    let watch = match sleep.watch() {
        pb::SuspendWatch::Watching if sleep.delays_sleep => "waits until keys are forgotten",
        pb::SuspendWatch::Watching => "is announced",
        pb::SuspendWatch::Asleep => "is about to begin",
        pb::SuspendWatch::Absent | pb::SuspendWatch::Unspecified => {
            "is seen afterwards only, by its clocks"
        }
    };
    let held_off = if sleep.holds_off_sleep {
        ", and is held off: a secret is in hand"
    } else {
        ""
    };
    let why = match &*sleep.why {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    format!("{watch}{held_off}{why}")
}
