//! `server start|info|stop`: the daemon itself.

use clap::{Args, Subcommand};

use super::context::Context;
use super::error::CliError;
use super::output::protojson::duration_text;
use super::output::text::{fields, second};
use crate::proto::admin::{GetServerInfoResponse, ServerLimits};

mod start;
mod stop;

/// Commands on the daemon.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Start the daemon in the background and wait until it serves
    Start(start::Start),
    /// Show what is running and what it holds
    Info(Info),
    /// Drain and stop the daemon, and wait until it is gone
    Stop(stop::Stop),
}

impl ServerCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Start(command) => command.run(context).await,
            Self::Info(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
        }
    }
}

/// Show what is running and what it holds.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  episodectl server info --format json")]
pub struct Info {}

impl Info {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let info = context.operator().await?.server_info().await?;
        let mut printer = context.printer();
        printer.answer(&info, table)?;
        printer.flush()
    }
}

fn table(info: &GetServerInfoResponse) -> String {
    let mut pairs = vec![
        ("Version", info.version.clone()),
        ("Pid", info.pid.to_string()),
        ("Started", second(info.start_time.as_ref())),
        ("Node", info.node.clone()),
        ("Boot", info.boot_id.clone()),
        ("Registry", info.registry_id.clone()),
        ("Schema", info.schema.to_string()),
        ("Incarnation", info.incarnation.to_string()),
        ("Live sessions", info.live_sessions.to_string()),
        ("Terminated sessions", info.terminated_sessions.to_string()),
        ("Early purges", info.early_purges.to_string()),
        ("Revision", info.revision.to_string()),
        ("Compacted revision", info.compacted_revision.to_string()),
        ("Request ids since", second(info.request_ids_since.as_ref())),
    ];
    pairs.extend(info.limits.iter().flat_map(limits));
    fields(&pairs)
}

fn limits(limits: &ServerLimits) -> [(&'static str, String); 7] {
    let text = |duration: &Option<prost_types::Duration>| {
        duration.as_ref().map(duration_text).unwrap_or_default()
    };
    [
        ("Max sessions", limits.max_sessions.to_string()),
        ("Max terminated", limits.max_terminated.to_string()),
        ("Default TTL", text(&limits.default_ttl)),
        ("Terminated TTL", text(&limits.terminated_ttl)),
        ("Event retention", text(&limits.event_retention)),
        ("Max events", limits.max_events.to_string()),
        ("Max connections", limits.max_connections.to_string()),
    ]
}
