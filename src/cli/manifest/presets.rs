//! Command rules for common tools, and `manifest presets`.
//!
//! Owns the rules, each preset a file in the format of `--rules`. A preset allows
//! what a developer runs again and again; it gives no option that names another
//! program, another configuration or a place outside the workspace. What the
//! workspace itself makes its tools do, no rule about words can prevent.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::words;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::Format;
use crate::cli::output::protojson::{Json, from_json, to_json};
use crate::cli::output::text::Columns;
use crate::firewall::command::Rule;
use crate::proto::{manifest as pb, manifests};

/// A set of command rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// cargo and rustfmt.
    Rust,
    /// pytest, ruff and mypy.
    Python,
    /// npm's scripts, tsc and eslint.
    Node,
    /// git, reading only.
    GitRead,
}

impl Preset {
    const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::Node, Self::GitRead];

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::GitRead => "git-read",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Rust => "cargo build, check, clippy, doc, test and fmt; rustfmt",
            Self::Python => "pytest, ruff check and format, mypy",
            Self::Node => "npm test, npm run build, lint or test; npx tsc and eslint",
            Self::GitRead => "git status, diff, log, show and branch; all of the history is read",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Rust => include_str!("presets/rust.json"),
            Self::Python => include_str!("presets/python.json"),
            Self::Node => include_str!("presets/node.json"),
            Self::GitRead => include_str!("presets/git-read.json"),
        }
    }

    /// Its rules.
    pub fn rules(self) -> Vec<pb::CommandRule> {
        let items: Vec<Json> = serde_json::from_str(self.text()).expect("a preset is JSON");
        let rules = items.iter().map(from_json);
        rules
            .map(|rule| rule.expect("a preset has rules"))
            .collect()
    }

    fn parsed(self) -> Vec<Rule> {
        let wire = pb::Manifest {
            commands: self.rules(),
            ..pb::Manifest::default()
        };
        manifests::draft(wire).0.commands
    }
}

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.about()))
    }
}

/// List the presets of command rules, or print one.
#[derive(Debug, Args)]
#[command(
    after_help = "As JSON a preset is a list of rules, to be changed and given with --rules.

Examples:
  episodectl manifest presets
  episodectl manifest presets rust --format json > rules.json"
)]
pub struct Presets {
    /// Print the rules of this one
    #[arg(value_enum)]
    name: Option<Preset>,
}

impl Presets {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let mut printer = context.printer();
        match (self.name, context.format) {
            (Some(preset), Format::Table) => {
                for rule in preset.parsed() {
                    printer.text(&format!("{}\n", words::rule(&rule)))?;
                }
            }
            (Some(preset), _) => {
                let rules = preset.rules();
                printer.json(&Json::Array(rules.iter().map(to_json).collect()))?;
            }
            (None, Format::Table) => {
                let mut columns = Columns::new(&["PRESET", "ALLOWS"]);
                for preset in Preset::ALL {
                    columns.row(vec![preset.name().into(), preset.about().into()]);
                }
                printer.text(&columns.take())?;
            }
            (None, _) => {
                let names = Preset::ALL.iter().map(|preset| preset.name().into());
                printer.json(&Json::Array(names.map(Json::Leaf).collect()))?;
            }
        }
        printer.flush()
    }
}

#[cfg(test)]
mod tests;
