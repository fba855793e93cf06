//! `manifest lint`: what is valid and probably not meant.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::file;
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::text::clean;
use crate::cli::output::{Format, note};
use crate::firewall::manifest::{MAX_ENTRIES, Manifest, Warning, lint};

/// Look for what is allowed and probably not meant.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit 0 with warnings too, unless --strict; 65 if the file is no manifest.

Examples:
  episodectl manifest lint m.json
  episodectl manifest lint m.json --strict && episodectl manifest show m.json"
)]
pub struct Lint {
    /// The manifest; - for stdin
    file: PathBuf,

    /// Exit 65 if there are warnings
    #[arg(long)]
    strict: bool,
}

impl Lint {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let warnings = warnings(&file::load(&self.file)?);
        let mut printer = context.printer();
        match context.format {
            Format::Table => {
                for warning in &warnings {
                    printer.text(&format!("{}\n", clean(&warning.to_string())))?;
                }
            }
            Format::Json | Format::Jsonl => {
                let shown = |w: &Warning| json!({"field": w.field, "what": w.what});
                let shown: Vec<_> = warnings.iter().map(shown).collect();
                printer.value(&json!({ "warnings": shown }))?;
            }
        }
        printer.flush()?;
        let count = match warnings.len() {
            0 => return Ok(()),
            1 => "one warning".to_owned(),
            many => format!("{many} warnings"),
        };
        if self.strict {
            let message = format!("{} has {count}", file::named(&self.file));
            return Err(CliError::local(exit::DATA, "FAILED_PRECONDITION", message));
        }
        note(count);
        Ok(())
    }
}

/// The firewall's warnings, and one about what a daemon takes.
pub fn warnings(manifest: &Manifest) -> Vec<Warning> {
    let mut warnings = lint(manifest);
    let count = manifest.entries().len();
    if count > MAX_ENTRIES {
        warnings.push(Warning {
            field: "entries".to_owned(),
            what: format!(
                "are {count}: a daemon takes {MAX_ENTRIES}, unless it is configured otherwise"
            ),
        });
    }
    warnings
}
