//! Hooks of agents: an event before a tool is used, in the agent's own terms.
//!
//! Fails closed: an event that cannot be read, a tool that cannot be asked about, a
//! daemon that does not answer all deny. Tools that touch no file, host or command
//! are asked about by name, as tools of a server called like the agent.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{ask, line};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::secrets::HandleArgs;
use crate::proto::firewall as pb;
use crate::proto::firewall::tool_request::Request;

/// What the agent takes for "no", with the reason on stderr for its model.
pub const BLOCKED: u8 = 2;

/// Longest event, in bytes: a whole file may be written by one.
const MAX_EVENT: u64 = 64 * 1024 * 1024;

/// Agents whose hooks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agent {
    /// A PreToolUse hook of Claude Code
    ClaudeCode,
}

/// Answer a hook of an agent.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in the settings of the agent and for every tool:
  {\"hooks\": {\"PreToolUse\": [{\"matcher\": \"*\", \"hooks\": [
    {\"type\": \"command\", \"command\": \"episodectl check hook --for claude-code\"}]}]}}

Exit: 0 the tool may be used; 2 it may not, and stderr says why. What cannot be read is denied."
)]
pub(super) struct Hook {
    /// Whose hook it is
    #[arg(long = "for", value_enum)]
    agent: Agent,
}

impl Hook {
    pub(super) async fn run(
        self,
        context: &Context,
        handle: &HandleArgs,
        session: &str,
        explain: bool,
    ) -> u8 {
        match self.decide(context, handle, session, explain).await {
            Ok(verdict) if verdict.decision() == pb::Decision::Deny => say(&format!(
                "denied by the context firewall: {}",
                line(&verdict)
            )),
            Ok(verdict) if verdict.decision() == pb::Decision::Unspecified => {
                say("denied: the context firewall gave no verdict")
            }
            Ok(verdict) if verdict.narrowed && verdict.enforced => say(&format!(
                "denied: of {} only what is listed may be shown, and a hook cannot see to that; \
                 name a listed file, or a directory that may be read as a whole",
                line(&verdict)
            )),
            Ok(_) => 0,
            Err(why) => say(&format!(
                "denied, because the context firewall was not asked: {why}"
            )),
        }
    }

    async fn decide(
        &self,
        context: &Context,
        handle: &HandleArgs,
        session: &str,
        explain: bool,
    ) -> Result<pb::Verdict, String> {
        let event = read_event()?;
        let tool = match self.agent {
            Agent::ClaudeCode => claude_code(&event)?,
        };
        let failed = |error: CliError| error.render(context.format).trim().to_owned();
        let client = if session.is_empty() {
            let handle = handle.require(&context.env).map_err(failed)?;
            context.session(handle).await
        } else {
            context.operator().await
        };
        let client = client.map_err(failed)?;
        let tool = pb::ToolRequest {
            request: Some(tool),
        };
        ask(&client, session.to_owned(), tool, explain)
            .await
            .map_err(failed)
    }
}

fn say(why: &str) -> u8 {
    crate::cli::output::note(why);
    BLOCKED
}

fn read_event() -> Result<Value, String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let stdin = std::io::stdin().lock();
    let read = stdin.take(MAX_EVENT + 1).read_to_end(&mut text);
    read.map_err(|error| format!("stdin cannot be read: {error}"))?;
    if text.len() as u64 > MAX_EVENT {
        return Err("the event is too long".to_owned());
    }
    serde_json::from_slice(&text).map_err(|error| format!("the event is not JSON: {error}"))
}

/// The request behind a PreToolUse event.
fn claude_code(event: &Value) -> Result<Request, String> {
    let name = event["tool_name"].as_str();
    let name = name.ok_or("the event has no tool_name")?;
    let cwd = text(event, "cwd")?.unwrap_or_default();
    let input = &event["tool_input"];
    let field = |key: &str| {
        let text = text(input, key)?.map(str::to_owned);
        text.ok_or_else(|| format!("{name} has no {key}"))
    };
    // Relative to where the agent is, not to the root of the workspace.
    let at = |path: &str| {
        let path = plain(path)?;
        Ok::<_, String>(match cwd {
            "" => path.to_owned(),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("{cwd}/{path}"),
        })
    };
    let file = |key: &str| at(&field(key)?);
    let place = || at(text(input, "path")?.unwrap_or("."));
    Ok(match name {
        "Read" | "NotebookRead" => {
            let is_notebook = input["file_path"].is_null();
            let key = if is_notebook {
                "notebook_path"
            } else {
                "file_path"
            };
            Request::Read(pb::Read {
                path: file(key)?,
                hash: Vec::new(),
            })
        }
        "Write" => Request::Write(pb::Write {
            path: file("file_path")?,
        }),
        "Edit" | "MultiEdit" => Request::Edit(pb::Edit {
            path: file("file_path")?,
        }),
        "NotebookEdit" => Request::Edit(pb::Edit {
            path: file("notebook_path")?,
        }),
        "LS" => Request::List(pb::List { path: place()? }),
        "Glob" => Request::List(pb::List {
            path: glob_place(&field("pattern")?, place()?)?,
        }),
        "Grep" => Request::Search(pb::Search {
            scope: place()?,
            recursive: true,
        }),
        "Bash" => Request::Command(pb::Command {
            form: Some(pb::command::Form::Line(field("command")?)),
            working_directory: cwd.to_owned(),
            environment: std::collections::BTreeMap::new(),
        }),
        "WebFetch" => host_of(&field("url")?)?,
        other => match other.strip_prefix("mcp__") {
            Some(tool) => {
                let (server, tool) = tool.split_once("__").ok_or("the tool has no server")?;
                named(server, tool)
            }
            None => named("claude-code", other),
        },
    })
}

/// A field that is text or absent; anything else is not guessed at.
fn text<'a>(object: &'a Value, key: &str) -> Result<Option<&'a str>, String> {
    match &object[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(format!("{key} is no text")),
    }
}

/// A path that means the same to whoever opens it: an agent might expand `~`, or
/// trim blanks.
fn plain(path: &str) -> Result<&str, String> {
    if path.starts_with('~') || path.trim() != path {
        return Err(format!("the path `{path}` is not plain"));
    }
    Ok(path)
}

fn named(server: &str, name: &str) -> Request {
    Request::CallTool(pb::CallTool {
        server: server.to_owned(),
        name: name.to_owned(),
        argument_digest: Vec::new(),
    })
}

/// Where a pattern looks: the directory, or what the pattern itself begins with.
fn glob_place(pattern: &str, directory: String) -> Result<String, String> {
    // Alternatives can begin anywhere and climb.
    let group = pattern.find(['{', '(']);
    let leads_away = group.is_some_and(|at| pattern[at..].contains('/'));
    if pattern.contains("..") || plain(pattern).is_err() || leads_away {
        return Err("a pattern that may leave its directory is not judged".to_owned());
    }
    if !pattern.starts_with('/') {
        return Ok(directory);
    }
    let wild = pattern
        .find(|c| "*?[{\\".contains(c))
        .unwrap_or(pattern.len());
    let end = pattern[..wild].rfind('/').unwrap_or(0);
    Ok(match &pattern[..end] {
        "" => "/".to_owned(),
        place => place.to_owned(),
    })
}

/// Host and port of an address. What is unusual in it is not judged.
fn host_of(url: &str) -> Result<Request, String> {
    let (port, rest) = match url.split_once("://") {
        Some(("https", rest)) => (443, rest),
        Some(("http", rest)) => (80, rest),
        _ => return Err("the address is not http or https".to_owned()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, digits)) if !host.is_empty() && !authority.ends_with(']') => {
            let port = digits.parse::<u16>().map_err(|_| "the port is not one")?;
            (host, port)
        }
        _ => (authority, port),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err("the host is not plain".to_owned());
    }
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    Ok(Request::Network(pb::Network {
        host: address.unwrap_or(host).to_owned(),
        port: port.into(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Request, claude_code, glob_place, host_of, pb};

    fn path(request: Request) -> String {
        match request {
            Request::Read(read) => read.path,
            Request::Write(write) => write.path,
            Request::Edit(edit) => edit.path,
            Request::List(list) => list.path,
            Request::Search(search) => search.scope,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_tool_is_judged_where_it_acts() {
        let of = |tool: &str, input| {
            claude_code(&json!({"tool_name": tool, "cwd": "/w", "tool_input": input})).unwrap()
        };
        for (tool, input, expected) in [
            ("Read", json!({"file_path": "/w/a"}), "/w/a"),
            ("Read", json!({"file_path": "a"}), "/w/a"),
            (
                "Write",
                json!({"file_path": "/etc/x", "content": ""}),
                "/etc/x",
            ),
            ("Edit", json!({"file_path": "a"}), "/w/a"),
            ("MultiEdit", json!({"file_path": "a"}), "/w/a"),
            ("NotebookEdit", json!({"notebook_path": "n"}), "/w/n"),
            ("LS", json!({"path": "/etc"}), "/etc"),
            ("Glob", json!({"pattern": "**/*.rs"}), "/w/."),
            ("Glob", json!({"pattern": "/etc/*.conf"}), "/etc"),
            ("Grep", json!({"pattern": "x", "path": "src"}), "/w/src"),
            ("Grep", json!({"pattern": "x"}), "/w/."),
            ("Glob", json!({"pattern": "src/**/*.{ts,tsx}"}), "/w/."),
        ] {
            assert_eq!(path(of(tool, input)), expected, "{tool}");
        }
        let Request::Command(command) = of("Bash", json!({"command": "ls; rm -rf /"})) else {
            panic!("a command")
        };
        assert_eq!(command.working_directory, "/w");
        assert_eq!(
            command.form,
            Some(pb::command::Form::Line("ls; rm -rf /".to_owned()))
        );
        for (tool, server, name) in [
            ("mcp__docs__search", "docs", "search"),
            ("mcp__a__b__c", "a", "b__c"),
            ("TodoWrite", "claude-code", "TodoWrite"),
            ("SomethingNew", "claude-code", "SomethingNew"),
        ] {
            let Request::CallTool(call) = of(tool, json!({})) else {
                panic!("a named tool")
            };
            assert_eq!((call.server.as_str(), call.name.as_str()), (server, name));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        for event in [
            json!({}),
            json!({"tool_name": 7}),
            json!({"tool_name": "Read", "tool_input": {}}),
            json!({"tool_name": "Read", "tool_input": {"file_path": ["a"]}}),
            json!({"tool_name": "Bash"}),
            json!({"tool_name": "mcp__docs"}),
            json!({"tool_name": "WebFetch", "tool_input": {"url": "file:///etc/passwd"}}),
        ] {
            assert!(claude_code(&event).is_err(), "{event}");
        }
        for input in [
            json!({"path": ["/etc"]}),
            json!({"path": 7}),
            json!({"path": "~/.ssh"}),
            json!({"path": " /etc"}),
        ] {
            for tool in ["LS", "Grep"] {
                let event = json!({"tool_name": tool, "cwd": "/w", "tool_input": input});
                assert!(claude_code(&event).is_err(), "{event}");
            }
        }
        let nowhere = json!({"tool_name": "LS", "cwd": [], "tool_input": {}});
        assert!(claude_code(&nowhere).is_err());
        for pattern in [
            "../*",
            "{/etc,src}/*",
            "{..,src}/*",
            "@(..)/*",
            "~/.ssh/*",
            "a/@(b|/etc)",
        ] {
            assert!(glob_place(pattern, "/w".to_owned()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_address_is_its_host_and_port() {
        let of = |url| match host_of(url) {
            Ok(Request::Network(network)) => Some((network.host, network.port)),
            _ => None,
        };
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(of("https://example.org/x?y"), is("example.org", 443));
        assert_eq!(of("http://localhost:8080"), is("localhost", 8080));
        assert_eq!(of("http://[::1]:80/"), is("::1", 80));
        assert_eq!(of("http://[::1]"), is("::1", 80));
        for bad in [
            "ftp://h",
            "https://",
            "https://user@h/",
            "https://h:x/",
            "https://h%2e/",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
