//! What a command prints on stdout.
//!
//! Owns the three formats and the one writer. A closed pipe is the reader's
//! way to say "enough": it ends the command in silence.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;

pub mod event;
pub mod protojson;
pub mod refinement;
pub mod session;
pub mod text;

use super::error::CliError;
use protojson::{Described, Json, to_json};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document per answer, indented.
    Json,
    /// One JSON document per line.
    Jsonl,
}

/// The writer of results.
pub struct Printer {
    format: Format,
    out: Box<dyn Write>,
}

impl Printer {
    /// Prints on stdout.
    pub fn stdout(format: Format) -> Self {
        Self::new(format, BufWriter::new(io::stdout()))
    }

    /// Prints somewhere else.
    pub fn new(format: Format, out: impl Write + 'static) -> Self {
        Self {
            format,
            out: Box::new(out),
        }
    }

    /// The format asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// An answer: the message itself, or what `table` makes of it.
    pub fn answer<M: Described>(
        &mut self,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.text(&table(message)),
            Format::Json | Format::Jsonl => self.json(&to_json(message)),
        }
    }

    /// A JSON document, indented or on a line of its own.
    pub fn json(&mut self, json: &Json) -> Result<(), CliError> {
        self.value(json)
    }

    /// The same of anything that is one.
    pub fn value(&mut self, json: &impl serde::Serialize) -> Result<(), CliError> {
        let written = match self.format {
            Format::Json => serde_json::to_writer_pretty(&mut self.out, json),
            Format::Table | Format::Jsonl => serde_json::to_writer(&mut self.out, json),
        };
        written.map_err(|error| CliError::stdout(&error.into()))?;
        self.text("\n")
    }

    /// Text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out
            .write_all(bytes)
            .map_err(|error| CliError::stdout(&error))
    }

    /// Makes everything visible: at the end, and whenever a stream pauses.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(|error| CliError::stdout(&error))
    }
}

/// A line for people on stderr, of which nothing depends on the success.
pub fn note(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "episodectl: {line}");
}
