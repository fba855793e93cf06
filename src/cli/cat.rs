//! `cat`: files as the manifest has them.

use clap::Args;

use super::context::Context;
use super::error::CliError;
use super::secrets::HandleArgs;
use crate::proto::firewall::ReadFileRequest;

/// Print files, verified against the session's manifest.
#[derive(Debug, Args)]
#[command(
    after_help = "What is printed is what was judged: the daemon opens the file, checks its content against the
manifest, and sends those very bytes. A read that is denied exits 77 and may end the session.

Example:
  episodectl cat src/main.rs"
)]
pub struct Cat {
    /// Files, relative to the workspace root unless absolute
    #[arg(required = true)]
    paths: Vec<String>,

    /// As the operator, about this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    #[command(flatten)]
    handle: HandleArgs,
}

impl Cat {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = if self.session.is_some() {
            context.operator().await?
        } else {
            let handle = self.handle.require(&context.env)?;
            context.session(handle).await?
        };
        let mut printer = context.printer();
        for path in self.paths {
            let request = ReadFileRequest {
                session_id: self.session.clone().unwrap_or_default(),
                path,
                hash: Vec::new(),
            };
            let mut parts = client.read_file(request).await?;
            while let Some(part) = parts.next().await? {
                printer.bytes(&part.data)?;
            }
        }
        printer.flush()
    }
}
