//! Requests as cases write them.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

use crate::cli::args;
use crate::firewall::decide::{CommandRequest, Request};
use crate::firewall::manifest::NamedTool;

/// A request of a case; none asks for nothing.
#[derive(Debug)]
pub struct Asked(Option<Kind>);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Map::deserialize(deserializer)?;
        if members.is_empty() {
            return Ok(Self(None));
        }
        let kind = Kind::deserialize(Value::Object(members)).map_err(D::Error::custom)?;
        Ok(Self(Some(kind)))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Kind {
    Read {
        path: String,
        #[serde(default, deserialize_with = "hash")]
        hash: Option<[u8; 32]>,
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
    #[serde(alias = "mkdir", alias = "make_directory")]
    MakeDirectory {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Command(Command),
    Git(Git),
    Network(Network),
    #[serde(alias = "tool", alias = "call_tool")]
    CallTool {
        server: String,
        name: String,
        #[serde(default, rename = "argumentDigest", alias = "argument_digest")]
        _argument_digest: IgnoredAny,
    },
    Inference {
        model: String,
    },
    Artifact {
        name: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    argv: Option<Words>,
    #[serde(alias = "line")]
    string: Option<String>,
    #[serde(default, alias = "workingDirectory", alias = "working_directory")]
    cwd: String,
    #[serde(default, alias = "environment")]
    env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Git {
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default, alias = "workingDirectory", alias = "working_directory")]
    cwd: String,
    #[serde(default, alias = "environment")]
    env: BTreeMap<String, String>,
}

/// A list, or a message that holds one.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Message { words: Vec<String> },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Network {
    Host { host: String, port: u16 },
    Url { url: String },
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = args::hash(&text).map_err(de::Error::custom)?;
    let bytes: [u8; 32] = bytes[..].try_into().map_err(de::Error::custom)?;
    Ok(Some(bytes))
}

impl Asked {
    /// As the firewall decides it.
    pub fn request(&self) -> Request {
        let Some(kind) = self.0.clone() else {
            return Request::Unknown;
        };
        match kind {
            Kind::Read { path, hash } => Request::Read { path, hash },
            Kind::Stat { path } => Request::Stat(path),
            Kind::List { path } => Request::List(path),
            Kind::Search { scope, recursive } => Request::Search { scope, recursive },
            Kind::Write { path } => Request::Write(path),
            Kind::Edit { path } => Request::Edit(path),
            Kind::Delete { path } => Request::Delete(path),
            Kind::MakeDirectory { path } => Request::MakeDirectory(path),
            Kind::Rename { from, to } => Request::Rename { from, to },
            Kind::Command(command) => Request::Command(command.request()),
            Kind::Git(git) => Request::Git(CommandRequest {
                words: git.arguments,
                line: None,
                directory: git.cwd,
                environment: git.env.into_keys().collect(),
            }),
            Kind::Network(network) => network.request(),
            Kind::CallTool { server, name, .. } => Request::NamedTool {
                digest: Box::default(),
                tool: NamedTool {
                    server: server.into(),
                    name: name.into(),
                },
            },
            Kind::Inference { model } => Request::Inference(model),
            Kind::Artifact { name } => Request::Artifact(name),
        }
    }
}

impl Command {
    fn request(self) -> CommandRequest {
        let words = match self.argv {
            Some(Words::List(words) | Words::Message { words }) => words,
            None => Vec::new(),
        };
        CommandRequest {
            words,
            line: self.string,
            directory: self.cwd,
            environment: self.env.into_keys().collect(),
        }
    }
}

impl Network {
    fn request(self) -> Request {
        match self {
            Self::Host { host, port } => Request::Network { host, port },
            Self::Url { url } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let usual = if scheme == "https" { 443 } else { 80 };
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) => (host, port.parse().unwrap_or(usual)),
                    None => (authority, usual),
                };
                let host = host.to_owned();
                Request::Network { host, port }
            }
        }
    }
}
