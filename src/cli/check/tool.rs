//! Requests as they are written on a command line.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::{Args, Subcommand};

use crate::cli::args;
use crate::proto::firewall as pb;
use crate::proto::firewall::tool_request::Request;
use crate::proto::manifest::Words;

/// One request.
#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Read a file
    #[command(after_help = "Example:\n  episodectl check read src/main.rs")]
    Read {
        path: String,
        /// BLAKE3 of the content at hand (64 hexadecimal digits)
        #[arg(long, value_name = "HASH", value_parser = args::hash)]
        hash: Option<Bytes>,
    },
    /// Look at a file or directory without its content
    #[command(after_help = "Example:\n  episodectl check stat src")]
    Stat { path: String },
    /// List a directory
    #[command(after_help = "Example:\n  episodectl check list src")]
    List { path: String },
    /// Search in a file, or in all below a directory
    #[command(after_help = "Example:\n  episodectl check search src --recursive")]
    Search {
        scope: String,
        /// In all below a directory
        #[arg(short, long)]
        recursive: bool,
    },
    /// Create or overwrite a file
    #[command(after_help = "Example:\n  episodectl check write out/report.md")]
    Write { path: String },
    /// Change a file
    #[command(after_help = "Example:\n  episodectl check edit src/main.rs")]
    Edit { path: String },
    /// Delete a file or directory
    #[command(after_help = "Example:\n  episodectl check delete out/report.md")]
    Delete { path: String },
    /// Make a directory
    #[command(after_help = "Example:\n  episodectl check mkdir out/new")]
    Mkdir { path: String },
    /// Rename a file or directory
    #[command(after_help = "Example:\n  episodectl check rename out/a out/b")]
    Rename { from: String, to: String },
    /// Run a command
    #[command(after_help = "Example:\n  episodectl check exec -- cargo test --release")]
    Exec(Exec),
    /// Run git
    #[command(after_help = "Example:\n  episodectl check git -- status --short")]
    Git(Git),
    /// Talk to a host
    #[command(after_help = "Example:\n  episodectl check network example.org 443")]
    Network { host: String, port: u16 },
    /// Call a tool of a server, as those of MCP
    #[command(
        name = "tool",
        after_help = "Example:\n  episodectl check tool github list_issues"
    )]
    Call { server: String, name: String },
    /// Ask a model
    #[command(after_help = "Example:\n  episodectl check inference small")]
    Inference { model: String },
    /// Use an artifact
    #[command(after_help = "Example:\n  episodectl check artifact report")]
    Artifact { name: String },
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// A line for a shell, instead of words
    #[arg(long, value_name = "LINE", conflicts_with = "words")]
    line: Option<String>,

    #[command(flatten)]
    place: Place,

    /// The program and its arguments
    #[arg(last = true, value_name = "WORD", required_unless_present = "line")]
    words: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Git {
    #[command(flatten)]
    place: Place,

    /// Its arguments
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

#[derive(Debug, Args)]
struct Place {
    /// Where it is to run; default: the workspace root
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// A variable that is set for it; may be repeated
    #[arg(long = "env", value_name = "NAME")]
    environment: Vec<String>,
}

impl Place {
    fn into_parts(self) -> (String, BTreeMap<String, String>) {
        let names = self.environment.into_iter();
        let environment = names.map(|name| (name, String::new())).collect();
        (self.cwd.unwrap_or_default(), environment)
    }
}

impl Tool {
    pub(super) fn into_wire(self) -> pb::ToolRequest {
        let request = match self {
            Self::Read { path, hash } => Request::Read(pb::Read {
                path,
                hash: hash.unwrap_or_default().to_vec(),
            }),
            Self::Stat { path } => Request::Stat(pb::Stat { path }),
            Self::List { path } => Request::List(pb::List { path }),
            Self::Search { scope, recursive } => Request::Search(pb::Search { scope, recursive }),
            Self::Write { path } => Request::Write(pb::Write { path }),
            Self::Edit { path } => Request::Edit(pb::Edit { path }),
            Self::Delete { path } => Request::Delete(pb::Delete { path }),
            Self::Mkdir { path } => Request::MakeDirectory(pb::MakeDirectory { path }),
            Self::Rename { from, to } => Request::Rename(pb::Rename { from, to }),
            Self::Exec(exec) => {
                let (working_directory, environment) = exec.place.into_parts();
                let form = match exec.line {
                    Some(line) => pb::command::Form::Line(line),
                    None => pb::command::Form::Argv(Words { words: exec.words }),
                };
                Request::Command(pb::Command {
                    form: Some(form),
                    working_directory,
                    environment,
                })
            }
            Self::Git(git) => {
                let (working_directory, environment) = git.place.into_parts();
                Request::Git(pb::Git {
                    arguments: git.words,
                    working_directory,
                    environment,
                })
            }
            Self::Network { host, port } => Request::Network(pb::Network {
                host,
                port: port.into(),
            }),
            Self::Call { server, name } => Request::CallTool(pb::CallTool {
                server,
                name,
                argument_digest: Vec::new(),
            }),
            Self::Inference { model } => Request::Inference(pb::Inference { model }),
            Self::Artifact { name } => Request::Artifact(pb::Artifact { name }),
        };
        pb::ToolRequest {
            request: Some(request),
        }
    }
}
