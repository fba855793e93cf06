//! How the parts of a manifest are written on the command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::cli::output::text::short;
use crate::firewall::manifest::TreeAccess;
use crate::firewall::path::RelativePath;
use crate::proto::manifest as pb;

/// `--allow-tool`: a class by its short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolChoice(pub pb::ToolClass);

impl ValueEnum for ToolChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(pb::ToolClass::Read),
            Self(pb::ToolClass::Write),
            Self(pb::ToolClass::Execute),
            Self(pb::ToolClass::Network),
            Self(pb::ToolClass::Git),
            Self(pb::ToolClass::Inference),
            Self(pb::ToolClass::Artifact),
            Self(pb::ToolClass::ListFiles),
            Self(pb::ToolClass::Search),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let name = self.0.as_str_name();
        let bare = name.trim_start_matches("TOOL_CLASS_");
        Some(PossibleValue::new(short(name, "TOOL_CLASS_")).alias(bare))
    }
}

/// `DIR=r`, `DIR=w` or `DIR=rw`.
pub fn tree(text: &str) -> Result<(RelativePath, TreeAccess), String> {
    let form = || "a tree is DIR=r, DIR=w or DIR=rw".to_owned();
    let (path, access) = text.rsplit_once('=').ok_or_else(form)?;
    let access = match access {
        "r" => TreeAccess::Read,
        "w" => TreeAccess::Write,
        "rw" => TreeAccess::ReadWrite,
        _ => return Err(form()),
    };
    let path = RelativePath::parse(path).map_err(|error| format!("the directory {error}"))?;
    if path.is_root() && access.writes() {
        return Err("the root itself cannot be written: name a directory below it".to_owned());
    }
    Ok((path, access))
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
pub fn host(text: &str) -> Result<pb::Host, String> {
    let form = || "a host is HOST, HOST:PORT or [ADDRESS]:PORT".to_owned();
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']').ok_or_else(form)? {
            (name, "") => (name, None),
            (name, port) => (name, Some(port.strip_prefix(':').ok_or_else(form)?)),
        },
        None => match text.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (text, None),
        },
    };
    let port = port.map(str::parse::<u16>).transpose();
    let port = port.map_err(|_| form())?;
    if name.is_empty() || port == Some(0) {
        return Err(form());
    }
    let host = name.trim_end_matches('.').to_ascii_lowercase();
    let port = port.map(u32::from);
    Ok(pb::Host { host, port })
}

/// `SERVER/TOOL`.
pub fn named_tool(text: &str) -> Result<pb::NamedTool, String> {
    match text.split_once('/') {
        Some((server, name)) if !server.is_empty() && !name.is_empty() => Ok(pb::NamedTool {
            server: server.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err("a tool is SERVER/TOOL".to_owned()),
    }
}

/// The classes without which a part of the manifest could not be used. Reading,
/// listing and searching are always among them.
pub fn needed_tools(manifest: &pb::Manifest) -> Vec<i32> {
    use pb::ToolClass::{
        Artifact, Execute, Git, Inference, ListFiles, Network, Read, Search, Write,
    };
    let is_read = |access| access == pb::TreeAccess::Read;
    let entries = &manifest.entries;
    let writes = manifest.trees.iter().any(|tree| !is_read(tree.access()))
        || entries.iter().any(|e| e.access() == pb::Access::ReadWrite);
    let git = manifest.commands.iter().any(|rule| rule.program == "git");
    let needed = [
        (Read, true),
        (ListFiles, true),
        (Search, true),
        (Write, writes),
        (Execute, !manifest.commands.is_empty()),
        (Git, git),
        (Network, !manifest.network.is_empty()),
        (Inference, !manifest.models.is_empty()),
        (Artifact, !manifest.artifacts.is_empty()),
    ];
    let needed = needed.into_iter().filter(|(_, is_needed)| *is_needed);
    needed.map(|(class, _)| class.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::{host, named_tool, tree};
    use crate::firewall::manifest::TreeAccess;

    #[test]
    fn hosts_have_a_port_or_none() {
        for (text, name, port) in [
            ("Example.ORG", "example.org", None),
            ("example.org.:443", "example.org", Some(443)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:80", "::1", Some(80)),
        ] {
            let host = host(text).unwrap();
            assert_eq!((host.host.as_str(), host.port), (name, port), "{text}");
        }
        for text in ["", ":1", "a:", "a:0", "a:65536", "[::1", "[::1]80"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn trees_are_below_the_root_unless_they_are_only_read() {
        let (path, access) = tree("./target/=rw").unwrap();
        assert_eq!((path.shown(), access), ("target", TreeAccess::ReadWrite));
        assert_eq!(tree("a=b=w").unwrap().0.shown(), "a=b");
        assert!(tree(".=r").is_ok());
        for text in ["", "a", "a=", "a=x", "=r", ".=w", "../a=r", "/a=r"] {
            assert!(tree(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_named_tool_has_a_server() {
        let tool = named_tool("github/issues/list").unwrap();
        assert_eq!(
            (tool.server.as_str(), tool.name.as_str()),
            ("github", "issues/list")
        );
        for text in ["", "a", "/a", "a/"] {
            assert!(named_tool(text).is_err(), "{text}");
        }
    }
}
