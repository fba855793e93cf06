//! Manifests on the wire and in the domain: the one conversion that the daemon and
//! the CLI share.

use super::manifest as pb;
use crate::firewall::{
    command::{Matcher, Rule},
    manifest::{
        Access, Draft, DraftEntry, DraftTree, Entry, Fault, Host, Manifest, NamedTool, ToolClass,
        Tree, TreeAccess,
    },
    path::RelativePath,
};

/// Matchers inside matchers that are read; a rule that is valid has fewer.
const MAX_DEPTH: usize = 6;

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, rule: &str) {
        self.0.push(Fault {
            field: field.into(),
            rule: rule.to_owned(),
        });
    }
}

/// The draft of a manifest from the wire, and what of it cannot be said in one.
pub fn draft(wire: pb::Manifest) -> (Draft, Vec<Fault>) {
    let mut faults = Faults::default();
    let (entries, trees) = paths(wire.entries, wire.trees, &mut faults);
    let mut tools = Vec::with_capacity(wire.tools.len());
    if wire.tools.len() > 100 {
        faults.add("tools", "must be at most 100");
    }
    for (at, number) in wire.tools.into_iter().enumerate().take(100) {
        match class(number) {
            Some(class) => tools.push(class),
            None => faults.add(format!("tools[{at}]"), "must be a class of tools"),
        }
    }
    let commands = wire.commands.into_iter().enumerate();
    let commands =
        commands.map(|(at, rule)| command(rule, &format!("commands[{at}]"), &mut faults));
    let commands = commands.collect();
    let named = |tool: pb::NamedTool| NamedTool {
        server: tool.server.into(),
        name: tool.name.into(),
    };
    let mut network = Vec::with_capacity(wire.network.len());
    for (at, host) in wire.network.into_iter().enumerate() {
        let port = host.port.map(u16::try_from).transpose();
        if !matches!(port, Ok(None | Some(1..))) {
            faults.add(format!("network[{at}].port"), "must be 1 to 65,535");
        }
        network.push(Host {
            name: host.host.into(),
            port: port.ok().flatten(),
        });
    }
    let draft = Draft {
        manifest_id: wire.manifest_id,
        profile_id: wire.profile_id,
        entries,
        trees,
        tools,
        commands,
        named_tools: wire.named_tools.into_iter().map(named).collect(),
        network,
        models: wire.models,
        artifacts: wire.artifacts,
    };
    (draft, faults.0)
}

/// Builds the manifest of a message; names every fault of both.
pub fn build(wire: pb::Manifest, max_entries: usize) -> Result<Manifest, Vec<Fault>> {
    let (draft, mut faults) = draft(wire);
    match draft.build(max_entries) {
        Ok(manifest) if faults.is_empty() => Ok(manifest),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Entries and trees, as a draft has them.
pub fn additions(
    entries: Vec<pb::Entry>,
    trees: Vec<pb::Tree>,
) -> (Vec<DraftEntry>, Vec<DraftTree>, Vec<Fault>) {
    let mut faults = Faults::default();
    let (entries, trees) = paths(entries, trees, &mut faults);
    (entries, trees, faults.0)
}

fn paths(
    entries: Vec<pb::Entry>,
    trees: Vec<pb::Tree>,
    faults: &mut Faults,
) -> (Vec<DraftEntry>, Vec<DraftTree>) {
    let entries = entries.into_iter().enumerate().map(|(at, entry)| {
        let access = match pb::Access::try_from(entry.access) {
            Ok(pb::Access::Read) => Access::Read,
            Ok(pb::Access::ReadWithZoom) => Access::ReadWithZoom,
            Ok(pb::Access::ReadWrite) => Access::ReadWrite,
            Ok(pb::Access::Unspecified) | Err(_) => {
                let rule = "must be READ, READ_WITH_ZOOM or READ_WRITE";
                faults.add(format!("entries[{at}].access"), rule);
                Access::Read
            }
        };
        DraftEntry {
            path: entry.path,
            hash: entry.hash,
            access,
            stable_id: entry.stable_id,
            size: entry.size,
        }
    });
    let entries = entries.collect();
    let trees = trees.into_iter().enumerate().map(|(at, tree)| {
        let access = match pb::TreeAccess::try_from(tree.access) {
            Ok(pb::TreeAccess::Read) => TreeAccess::Read,
            Ok(pb::TreeAccess::Write) => TreeAccess::Write,
            Ok(pb::TreeAccess::ReadWrite) => TreeAccess::ReadWrite,
            Ok(pb::TreeAccess::Unspecified) | Err(_) => {
                let rule = "must be READ, WRITE or READ_WRITE";
                faults.add(format!("trees[{at}].access"), rule);
                TreeAccess::Read
            }
        };
        DraftTree {
            path: tree.path,
            access,
        }
    });
    (entries, trees.collect())
}

fn class(number: i32) -> Option<ToolClass> {
    use pb::ToolClass as Wire;
    Some(match Wire::try_from(number).ok()? {
        Wire::Unspecified => return None,
        Wire::Read => ToolClass::Read,
        Wire::Write => ToolClass::Write,
        Wire::Execute => ToolClass::Execute,
        Wire::Network => ToolClass::Network,
        Wire::Git => ToolClass::Git,
        Wire::Inference => ToolClass::Inference,
        Wire::Artifact => ToolClass::Artifact,
        Wire::ListFiles => ToolClass::ListFiles,
        Wire::Search => ToolClass::Search,
    })
}

fn command(wire: pb::CommandRule, place: &str, faults: &mut Faults) -> Rule {
    let arguments = wire.arguments.into_iter().enumerate();
    let arguments = arguments
        .filter_map(|(at, it)| matcher(it, &format!("{place}.arguments[{at}]"), MAX_DEPTH, faults))
        .collect();
    let directory = wire
        .working_directory
        .and_then(|text| relative(&text, &format!("{place}.working_directory"), faults));
    Rule {
        program: wire.program.into(),
        arguments,
        working_directory: directory,
        environment: wire.environment.into_iter().map(Into::into).collect(),
    }
}

fn relative(text: &str, place: &str, faults: &mut Faults) -> Option<RelativePath> {
    RelativePath::parse(text)
        .map_err(|error| faults.add(place, error.rule()))
        .ok()
}

fn matcher(wire: pb::Matcher, place: &str, depth: usize, faults: &mut Faults) -> Option<Matcher> {
    use pb::matcher::Matcher as Wire;
    let Some(depth) = depth.checked_sub(1) else {
        faults.add(place, "must not be nested so deep");
        return None;
    };
    let words = |words: Vec<String>| words.into_iter().map(Into::into).collect();
    Some(match wire.matcher {
        None => {
            faults.add(place, "must be one of the matchers");
            return None;
        }
        Some(Wire::Literal(text)) => Matcher::Literal(text.into()),
        Some(Wire::OneOf(texts)) => Matcher::OneOf(words(texts.words)),
        Some(Wire::PathUnder(path)) => {
            Matcher::PathUnder(relative(&path, &format!("{place}.path_under"), faults)?)
        }
        Some(Wire::Integer(range)) => Matcher::Integer {
            min: range.min,
            max: range.max,
        },
        Some(Wire::Text(pb::Text {})) => Matcher::Text,
        Some(Wire::Option(option)) => {
            let place = format!("{place}.option.value");
            let Some(value) = option.value else {
                faults.add(place, "must be a matcher");
                return None;
            };
            Matcher::Option {
                names: words(option.names),
                value: Box::new(matcher(*value, &place, depth, faults)?),
            }
        }
        Some(Wire::AnyOf(matchers)) => {
            let matchers = matchers.matchers.into_iter().enumerate();
            let all = matchers.filter_map(|(at, it)| {
                matcher(it, &format!("{place}.any_of[{at}]"), depth, faults)
            });
            Matcher::AnyOf(all.collect())
        }
        Some(Wire::AnyNumberOf(inner)) => {
            let place = format!("{place}.any_number_of");
            Matcher::AnyNumberOf(Box::new(matcher(*inner, &place, depth, faults)?))
        }
    })
}

impl From<&Manifest> for pb::Manifest {
    fn from(manifest: &Manifest) -> Self {
        Self {
            entries: manifest.entries().iter().map(Into::into).collect(),
            ..head(manifest)
        }
    }
}

/// All but the entries.
pub fn head(manifest: &Manifest) -> pb::Manifest {
    let texts = |names: Vec<&str>| {
        names
            .into_iter()
            .map(std::string::ToString::to_string)
            .collect()
    };
    pb::Manifest {
        manifest_id: manifest.manifest_id().to_owned(),
        profile_id: manifest.profile_id().to_owned(),
        entries: Vec::new(),
        trees: manifest.trees().iter().map(Into::into).collect(),
        tools: manifest
            .tools()
            .iter()
            .map(|c| shown_class(c).into())
            .collect(),
        commands: manifest.commands().iter().map(Into::into).collect(),
        named_tools: manifest
            .named_tools()
            .into_iter()
            .map(|tool| pb::NamedTool {
                server: tool.server.to_string(),
                name: tool.name.to_string(),
            })
            .collect(),
        network: manifest
            .network()
            .into_iter()
            .map(|host| pb::Host {
                host: host.name.to_string(),
                port: host.port.map(u32::from),
            })
            .collect(),
        models: texts(manifest.models()),
        artifacts: texts(manifest.artifacts()),
    }
}

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            path: entry.path.as_str().to_owned(),
            hash: entry.hash.to_vec(),
            access: shown_access(entry.access).into(),
            stable_id: entry.stable_id.to_string(),
            size: entry.size,
        }
    }
}

impl From<&Tree> for pb::Tree {
    fn from(tree: &Tree) -> Self {
        Self {
            path: tree.path.shown().to_owned(),
            access: shown_tree(tree.access).into(),
        }
    }
}

/// An entry's access on the wire.
pub fn shown_access(access: Access) -> pb::Access {
    match access {
        Access::Read => pb::Access::Read,
        Access::ReadWithZoom => pb::Access::ReadWithZoom,
        Access::ReadWrite => pb::Access::ReadWrite,
    }
}

/// A tree's access on the wire.
pub fn shown_tree(access: TreeAccess) -> pb::TreeAccess {
    match access {
        TreeAccess::Read => pb::TreeAccess::Read,
        TreeAccess::Write => pb::TreeAccess::Write,
        TreeAccess::ReadWrite => pb::TreeAccess::ReadWrite,
    }
}

fn shown_class(class: ToolClass) -> pb::ToolClass {
    match class {
        ToolClass::Read => pb::ToolClass::Read,
        ToolClass::Write => pb::ToolClass::Write,
        ToolClass::Execute => pb::ToolClass::Execute,
        ToolClass::Network => pb::ToolClass::Network,
        ToolClass::Git => pb::ToolClass::Git,
        ToolClass::Inference => pb::ToolClass::Inference,
        ToolClass::Artifact => pb::ToolClass::Artifact,
        ToolClass::ListFiles => pb::ToolClass::ListFiles,
        ToolClass::Search => pb::ToolClass::Search,
    }
}

impl From<&Rule> for pb::CommandRule {
    fn from(rule: &Rule) -> Self {
        Self {
            program: rule.program.to_string(),
            arguments: rule.arguments.iter().map(Into::into).collect(),
            working_directory: rule
                .working_directory
                .as_ref()
                .map(|directory| directory.shown().to_owned()),
            environment: texts(&rule.environment),
        }
    }
}

impl From<&Matcher> for pb::Matcher {
    fn from(matcher: &Matcher) -> Self {
        use pb::matcher::Matcher as Wire;
        let wire = match matcher {
            Matcher::Literal(text) => Wire::Literal(text.to_string()),
            Matcher::OneOf(words) => Wire::OneOf(pb::Words {
                words: texts(words),
            }),
            Matcher::PathUnder(path) => Wire::PathUnder(path.shown().to_owned()),
            Matcher::Integer { min, max } => Wire::Integer(pb::IntegerRange {
                min: *min,
                max: *max,
            }),
            Matcher::Text => Wire::Text(pb::Text {}),
            Matcher::Option { names, value } => Wire::Option(Box::new(pb::Option {
                names: texts(names),
                value: Some(Box::new((&**value).into())),
            })),
            Matcher::AnyOf(matchers) => Wire::AnyOf(pb::Matchers {
                matchers: matchers.iter().map(Into::into).collect(),
            }),
            Matcher::AnyNumberOf(inner) => Wire::AnyNumberOf(Box::new((&**inner).into())),
        };
        Self {
            matcher: Some(wire),
        }
    }
}

fn texts(texts: &[Box<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
