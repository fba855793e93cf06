//! Many requests on one connection: JSON lines in, verdicts out, in order.
//!
//! A line is a request as protojson has it: `{"read":{"path":"src/main.rs"}}`. What
//! cannot be read is answered in its place with a denial, and asked of nobody.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{code, print};
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::client::Client;
use crate::proto::firewall as pb;
use crate::proto::firewall::tool_request::Request;
use crate::proto::manifest::Words;

/// Longest line, in bytes: more than any request may have.
const MAX_LINE: usize = 256 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Line {
    Read {
        path: String,
        #[serde(default)]
        hash: String,
    },
    Stat {
        path: String,
    },
    List {
        path: String,
    },
    Search {
        scope: String,
        #[serde(default)]
        recursive: bool,
    },
    Write {
        path: String,
    },
    Edit {
        path: String,
    },
    Delete {
        path: String,
    },
    MakeDirectory {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    #[serde(rename_all = "camelCase")]
    Command {
        argv: Option<LineWords>,
        line: Option<String>,
        #[serde(default)]
        working_directory: String,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    #[serde(rename_all = "camelCase")]
    Git {
        arguments: Vec<String>,
        #[serde(default)]
        working_directory: String,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    Network {
        host: String,
        port: u16,
    },
    CallTool {
        server: String,
        name: String,
    },
    Inference {
        model: String,
    },
    Artifact {
        name: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineWords {
    words: Vec<String>,
}

/// A request from a line.
fn parse(text: &str) -> Result<pb::ToolRequest, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let request = match line {
        Line::Read { path, hash } => Request::Read(pb::Read {
            path,
            hash: match hash.as_str() {
                "" => Vec::new(),
                hash => crate::cli::args::hash(hash)?.to_vec(),
            },
        }),
        Line::Stat { path } => Request::Stat(pb::Stat { path }),
        Line::List { path } => Request::List(pb::List { path }),
        Line::Search { scope, recursive } => Request::Search(pb::Search { scope, recursive }),
        Line::Write { path } => Request::Write(pb::Write { path }),
        Line::Edit { path } => Request::Edit(pb::Edit { path }),
        Line::Delete { path } => Request::Delete(pb::Delete { path }),
        Line::MakeDirectory { path } => Request::MakeDirectory(pb::MakeDirectory { path }),
        Line::Rename { from, to } => Request::Rename(pb::Rename { from, to }),
        Line::Command {
            argv,
            line,
            working_directory,
            environment,
        } => Request::Command(pb::Command {
            form: match (argv, line) {
                (Some(argv), None) => Some(pb::command::Form::Argv(Words { words: argv.words })),
                (None, Some(line)) => Some(pb::command::Form::Line(line)),
                _ => return Err("a command has either argv or line".to_owned()),
            },
            working_directory,
            environment,
        }),
        Line::Git {
            arguments,
            working_directory,
            environment,
        } => Request::Git(pb::Git {
            arguments,
            working_directory,
            environment,
        }),
        Line::Network { host, port } => Request::Network(pb::Network {
            host,
            port: port.into(),
        }),
        Line::CallTool { server, name } => Request::CallTool(pb::CallTool {
            server,
            name,
            argument_digest: Vec::new(),
        }),
        Line::Inference { model } => Request::Inference(pb::Inference { model }),
        Line::Artifact { name } => Request::Artifact(pb::Artifact { name }),
    };
    Ok(pb::ToolRequest {
        request: Some(request),
    })
}

/// Decides every line of stdin; ends with the session. The exit code is that of the
/// worst verdict.
pub(super) async fn run(
    context: &Context,
    client: &Client,
    session_id: &str,
) -> Result<u8, CliError> {
    let mut checks = client.check_tool_requests().await?;
    let mut input = BufReader::new(tokio::io::stdin());
    let mut printer = context.printer();
    let mut worst = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = input.read_until(b'\n', &mut text).await;
        let read = read.map_err(|error| CliError::reading("stdin".as_ref(), &error))?;
        if read == 0 {
            return Ok(worst);
        }
        let parsed = match std::str::from_utf8(&text) {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) if line.len() <= MAX_LINE => parse(line),
            Ok(_) => Err("the line is too long".to_owned()),
            Err(_) => Err("the line is not UTF-8".to_owned()),
        };
        let verdict = match parsed {
            Ok(tool) => {
                let request = pb::CheckToolRequestsRequest {
                    session_id: session_id.to_owned(),
                    tool: Some(tool),
                };
                checks.send(request).await;
                let Some(verdict) = checks.next().await? else {
                    return Err(ended());
                };
                verdict
            }
            Err(why) => pb::Verdict {
                decision: pb::Decision::Deny.into(),
                detail: format!("not a request: {why}"),
                ..pb::Verdict::default()
            },
        };
        worst = worst.max(code(&verdict));
        print(&mut printer, &verdict)?;
        printer.flush()?;
        if verdict.session_ended {
            return Ok(worst);
        }
    }
}

fn ended() -> CliError {
    let message = "the session has ended: nothing more is decided";
    CliError::local(exit::NO_PERMISSION, "PERMISSION_DENIED", message)
}

#[cfg(test)]
mod tests {
    use super::{Request, parse, pb};

    #[test]
    fn a_line_is_a_request_as_protojson_has_it() {
        let of = |text: &str| parse(text).map(|tool| tool.request.unwrap());
        let read = Request::Read(pb::Read {
            path: "a".to_owned(),
            hash: vec![0xab; 32],
        });
        let text = format!(r#"{{"read":{{"path":"a","hash":"{}"}}}}"#, "ab".repeat(32));
        assert_eq!(of(&text).unwrap(), read);
        let command = of(r#"{"command":{"argv":{"words":["ls","-l"]},"workingDirectory":"src"}}"#);
        let Request::Command(command) = command.unwrap() else {
            panic!("a command")
        };
        assert_eq!(command.working_directory, "src");
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (text, why) in [
            ("{}", "expected"),
            (r#"{"read":{"path":"a"},"write":{"path":"a"}}"#, "expected"),
            (r#"{"read":{"path":"a","sneaky":1}}"#, "unknown field"),
            (r#"{"exec":{"path":"a"}}"#, "unknown variant"),
            (r#"{"read":{"path":"a","hash":"zz"}}"#, ""),
            (r#"{"command":{}}"#, "either argv or line"),
            (r#"{"network":{"host":"h","port":70000}}"#, "expected u16"),
            ("nonsense", "expected"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
