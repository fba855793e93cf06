//! What is a manifest, what it is called, and what is none.

use super::{
    Access, Draft, DraftEntry, DraftTree, Host, MAX_NAME_BYTES, MAX_NAMES, MAX_RULES, MAX_TREES,
    Manifest, NamedTool, ToolClass, TreeAccess, lint,
};
use crate::firewall::command::{Matcher, Rule};
use crate::firewall::path::RelativePath;

fn entry(path: &str) -> DraftEntry {
    DraftEntry {
        path: path.to_owned(),
        hash: vec![7; 32],
        access: Access::Read,
        stable_id: String::new(),
        size: None,
    }
}

fn tree(path: &str, access: TreeAccess) -> DraftTree {
    DraftTree {
        path: path.to_owned(),
        access,
    }
}

fn host(name: &str, port: Option<u16>) -> Host {
    Host {
        name: name.into(),
        port,
    }
}

fn tool(server: &str, name: &str) -> NamedTool {
    NamedTool {
        server: server.into(),
        name: name.into(),
    }
}

fn rule(program: &str, arguments: Vec<Matcher>) -> Rule {
    Rule {
        program: program.into(),
        arguments: arguments.into(),
        working_directory: None,
        environment: Box::default(),
    }
}

fn named() -> Draft {
    Draft {
        manifest_id: "m".to_owned(),
        profile_id: "p".to_owned(),
        ..Draft::default()
    }
}

fn with_entries(paths: &[&str]) -> Draft {
    Draft {
        entries: paths.iter().map(|path| entry(path)).collect(),
        ..named()
    }
}

fn relative(path: &str) -> RelativePath {
    RelativePath::parse(path).unwrap()
}

/// Something of everything.
fn rich() -> Draft {
    let text = |text: &str| Matcher::Literal(text.into());
    let option = Matcher::Option {
        names: ["-j".into()].into(),
        value: Box::new(Matcher::Integer { min: -1, max: 8 }),
    };
    let any = Matcher::AnyNumberOf(Box::new(Matcher::AnyOf(
        [option, Matcher::PathUnder(relative("src")), Matcher::Text].into(),
    )));
    let mut cargo = rule(
        "cargo",
        vec![
            text("test"),
            Matcher::OneOf(["a".into(), "b".into()].into()),
            any,
        ],
    );
    cargo.working_directory = Some(relative("."));
    cargo.environment = ["CI".into()].into();
    let mut second = entry("src/b.rs");
    second.access = Access::ReadWrite;
    second.stable_id = "id-b".to_owned();
    second.size = Some(300);
    let mut third = entry("src/a.rs");
    third.access = Access::ReadWithZoom;
    Draft {
        entries: vec![entry("README"), second, third],
        trees: vec![
            tree("out", TreeAccess::Write),
            tree(".", TreeAccess::Read),
            tree("both", TreeAccess::ReadWrite),
        ],
        tools: vec![ToolClass::Search, ToolClass::Read],
        commands: vec![cargo, rule("ls", Vec::new())],
        named_tools: vec![tool("b", "x"), tool("a", "y")],
        network: vec![host("b.org", None), host("a.org", Some(443))],
        models: vec!["two".to_owned(), "one".to_owned()],
        artifacts: vec!["z".to_owned(), "y".to_owned()],
        ..named()
    }
}

/// The fields that are at fault.
fn faults(draft: Draft) -> Vec<String> {
    let faults = draft.build(10).map(|_| ()).unwrap_err();
    faults.into_iter().map(|fault| fault.field).collect()
}

/// The words about the only fault.
fn fault(draft: Draft) -> String {
    let faults = draft.build(10).map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

#[test]
fn every_fault_is_named_at_once() {
    let mut draft = with_entries(&["/a", "../a", "a//b", ".", "", "a\0", "ok", "ok"]);
    draft.manifest_id.clear();
    draft.profile_id = "x\n".to_owned();
    draft.entries[0].hash.pop();
    draft.entries[6].stable_id = "x".repeat(MAX_NAME_BYTES + 1);
    draft.trees = vec![
        tree("/t", TreeAccess::Read),
        tree("t/", TreeAccess::Read),
        tree(".", TreeAccess::Write),
        tree("t", TreeAccess::Read),
        tree("t", TreeAccess::Write),
    ];
    let twice = Matcher::OneOf(["a".into(), "a".into()].into());
    draft.commands = vec![
        rule("", vec![twice]),
        rule("ls", Vec::new()),
        rule("l*", Vec::new()),
    ];
    draft.named_tools = vec![tool("", "x"), tool("s", ""), tool("s", "x"), tool("s", "x")];
    draft.network = vec![
        host("*.org", None),
        host("Up.org", None),
        host("a.org.", None),
    ];
    draft.models = vec![String::new(), "m".to_owned(), "m".to_owned()];
    draft.artifacts = vec!["x".repeat(MAX_NAME_BYTES + 1)];
    assert_eq!(
        faults(draft),
        [
            "manifest_id",
            "profile_id",
            "entries[0].path",
            "entries[0].hash",
            "entries[1].path",
            "entries[2].path",
            "entries[3].path",
            "entries[4].path",
            "entries[5].path",
            "entries[6].stable_id",
            "entries[7].path",
            "trees[0].path",
            "trees[1].path",
            "trees[2].path",
            "trees[4].path",
            "commands[0].program",
            "commands[0].arguments[0].one_of",
            "commands[2].program",
            "named_tools[0].server",
            "named_tools[1].name",
            "named_tools[3]",
            "network[0].host",
            "network[1].host",
            "network[2].host",
            "models[0]",
            "models[2]",
            "artifacts[0]",
        ]
    );
}

#[test]
fn a_path_is_there_once_however_its_accents_are_written() {
    let composed = "caf\u{e9}";
    let decomposed = "cafe\u{301}";
    for twins in [[composed, decomposed], [decomposed, composed], ["a", "a"]] {
        let said = fault(with_entries(&twins));
        assert_eq!(said, "entries[1].path is that of entries[0] again");
        let mut draft = named();
        draft.trees = twins.map(|path| tree(path, TreeAccess::Read)).to_vec();
        assert_eq!(fault(draft), "trees[1].path is that of trees[0] again");
    }
    // Alike to people, and two files everywhere.
    assert!(with_entries(&["\u{430}", "a", "A"]).build(10).is_ok());
    // Either is kept as it is written: it is what the system calls it.
    let manifest = with_entries(&[decomposed]).build(10).unwrap();
    assert!(manifest.entry(decomposed).is_some() && manifest.entry(composed).is_none());
    // A file and a tree may have one path, a tree of reads any path.
    let mut draft = with_entries(&["a"]);
    draft.trees = vec![tree("a", TreeAccess::Read), tree(".", TreeAccess::Read)];
    assert!(draft.build(10).is_ok());
}

#[test]
fn the_root_is_no_file_and_is_never_written() {
    assert_eq!(
        fault(with_entries(&["."])),
        "entries[0].path must not be the root itself"
    );
    assert_eq!(
        fault(with_entries(&["a/.."])),
        "entries[0].path must not be the root itself"
    );
    for access in [TreeAccess::Write, TreeAccess::ReadWrite] {
        let mut draft = named();
        draft.trees = vec![tree(".", access)];
        let said = fault(draft);
        assert_eq!(
            said,
            "trees[0].path must not be the root itself, if it is written"
        );
    }
}

#[test]
fn a_path_that_is_not_in_its_normal_form_is_told_that_form() {
    assert_eq!(
        fault(with_entries(&["src/./b/../a.rs"])),
        "entries[0].path must be in its normal form, src/a.rs"
    );
    let mut draft = named();
    draft.trees = vec![tree("a/..", TreeAccess::Read)];
    assert_eq!(fault(draft), "trees[0].path must be in its normal form, .");
}

#[test]
fn every_list_has_a_limit_that_is_the_last_that_fits() {
    fn many<T>(count: usize, item: impl Fn(String) -> T) -> Vec<T> {
        (0..count).map(|at| item(format!("n{at}"))).collect()
    }
    type Fill = fn(&mut Draft, usize);
    let lists: [(&str, usize, Fill); 7] = [
        ("entries", 10, |draft, n| {
            draft.entries = many(n, |it| entry(&it));
        }),
        ("trees", MAX_TREES, |draft, n| {
            draft.trees = many(n, |it| tree(&it, TreeAccess::Read));
        }),
        ("commands", MAX_RULES, |draft, n| {
            draft.commands = many(n, |it| rule(&it, Vec::new()));
        }),
        ("named_tools", MAX_NAMES, |draft, n| {
            draft.named_tools = many(n, |it| tool(&it, "x"));
        }),
        ("network", MAX_NAMES, |draft, n| {
            draft.network = many(n, |it| host(&it, None));
        }),
        ("models", MAX_NAMES, |draft, n| {
            draft.models = many(n, |it| it);
        }),
        ("artifacts", MAX_NAMES, |draft, n| {
            draft.artifacts = many(n, |it| it);
        }),
    ];
    for (field, limit, fill) in lists {
        let mut draft = named();
        fill(&mut draft, limit);
        assert!(draft.build(10).is_ok(), "{field}");
        let mut draft = named();
        fill(&mut draft, limit + 1);
        let said = fault(draft);
        assert_eq!(
            said,
            format!("{field} must be at most {limit}, not {}", limit + 1)
        );
    }
    let mut draft = named();
    draft.manifest_id = "x".repeat(MAX_NAME_BYTES);
    assert!(draft.build(10).is_ok());
}

/// The encoding of a small manifest, written out by hand: whoever changes the
/// encoding changes the hash of every manifest that is stored and referred to, so
/// it takes a new version and a new context, and this test beside another.
#[test]
fn the_hash_is_over_these_very_bytes() {
    let mut draft = with_entries(&["a"]);
    draft.entries[0].size = Some(258);
    draft.trees = vec![tree("out", TreeAccess::Write)];
    draft.tools = vec![ToolClass::Write, ToolClass::Read];
    draft.commands = vec![rule("ls", vec![Matcher::Literal("-l".into())])];
    draft.network = vec![host("h", Some(80))];
    let manifest = draft.build(10).unwrap();

    let mut bytes = b"episoded manifest\x01".to_vec();
    bytes.extend(b"\x01\0\0\0m\x01\0\0\0p");
    bytes.extend(b"\x01\0\0\0\x01\0\0\0a");
    bytes.extend([7; 32]);
    bytes.extend(b"\0\0\0\0\0\x01\x02\x01\0\0\0\0\0\0");
    bytes.extend(b"\x01\0\0\0\x03\0\0\0out\x01");
    bytes.extend(b"\x02\0\0\0\0\x01");
    bytes.extend(b"\x01\0\0\0\x02\0\0\0ls\x01\0\0\0\0\x02\0\0\0-l\0\0\0\0\0");
    bytes.extend(b"\0\0\0\0");
    bytes.extend(b"\x01\0\0\0\x01\0\0\0h\x01\x50\0\0\0\0\0\0\0");
    bytes.extend(b"\0\0\0\0\0\0\0\0");
    assert_eq!(manifest.encode(), bytes);
    let context = "episoded 2026-11-21 context pack manifest v1";
    assert_eq!(manifest.hash().0, blake3::derive_key(context, &bytes));
}

/// Every part of a manifest at once. The value was computed with the first version
/// of the encoding; that it is the right one the test above shows for the parts it
/// writes out.
#[test]
fn the_hash_of_a_manifest_never_changes() {
    let hash = rich().build(10).unwrap().hash().to_string();
    assert_eq!(
        hash,
        "9b02df8e2746e14013cccea2dec4b598044c4aaef085347dc895342a1238d263"
    );
}

#[test]
fn the_order_is_part_of_the_commands_only() {
    let straight = rich().build(10).unwrap();
    let mut turned = rich();
    turned.entries.reverse();
    turned.trees.reverse();
    turned.tools.reverse();
    turned.tools.push(ToolClass::Read);
    turned.named_tools.reverse();
    turned.network.reverse();
    turned.models.reverse();
    turned.artifacts.reverse();
    assert_eq!(turned.build(10).unwrap(), straight);
    let mut turned = rich();
    turned.commands.reverse();
    assert_ne!(turned.build(10).unwrap(), straight);
}

#[test]
fn every_difference_is_another_hash() {
    let changes: [fn(&mut Draft); 20] = [
        |it| it.manifest_id.push('x'),
        |it| it.profile_id.push('x'),
        |it| it.entries[0].path.push('x'),
        |it| it.entries[0].hash[31] ^= 1,
        |it| it.entries[0].access = Access::ReadWrite,
        |it| it.entries[0].stable_id.push('x'),
        |it| it.entries[0].size = Some(0),
        |it| it.entries[1].size = Some(301),
        |it| it.trees[0].path.push('x'),
        |it| it.trees[0].access = TreeAccess::Read,
        |it| it.tools.push(ToolClass::Write),
        |it| it.commands[1].program = "l".into(),
        |it| it.commands[1].working_directory = Some(relative(".")),
        |it| it.commands[1].environment = ["CI".into()].into(),
        |it| it.commands[1].arguments = [Matcher::Text].into(),
        |it| it.commands[1].arguments = [Matcher::Literal("".into())].into(),
        |it| it.named_tools[0] = tool("bx", ""),
        |it| it.network[0].port = Some(1),
        |it| it.models[0].push('x'),
        |it| it.artifacts.push("two".to_owned()),
    ];
    let mut seen = vec![rich().build(10).unwrap().hash()];
    for (at, change) in changes.into_iter().enumerate() {
        let mut draft = rich();
        change(&mut draft);
        let Ok(manifest) = draft.build(10) else {
            // A tool without a name is none; what matters is that it is not the same.
            assert_eq!(at, 16);
            continue;
        };
        assert!(!seen.contains(&manifest.hash()), "change {at}");
        seen.push(manifest.hash());
    }
}

#[test]
fn a_stored_manifest_is_read_back_and_anything_else_is_refused() {
    for draft in [rich(), named()] {
        let manifest = draft.build(10).unwrap();
        let bytes = manifest.encode();
        let again = Manifest::decode(&bytes).unwrap();
        assert_eq!(again.hash(), manifest.hash());
        assert_eq!(again.encode(), bytes);
        assert_eq!(manifest.draft().build(10).unwrap(), manifest);
        for cut in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert!(Manifest::decode(&longer).is_err());
    }
    // Entries in another order are the same manifest, in another encoding.
    let bytes = with_entries(&["a", "b"]).build(10).unwrap().encode();
    let at = |name: &[u8]| bytes.windows(5).position(|it| it == name).unwrap() + 4;
    let mut turned = bytes.clone();
    turned.swap(at(b"\x01\0\0\0a"), at(b"\x01\0\0\0b"));
    assert_ne!(turned, bytes);
    assert!(Manifest::decode(&turned).is_err());
}

#[test]
fn what_lies_below_a_directory_is_found_by_components() {
    let paths = ["a", "a!", "a/b", "a/b/c", "a0", "a/c", "b/a/b", "a-/x"];
    let manifest = with_entries(&paths).build(10).unwrap();
    let below = |directory| -> Vec<&str> {
        let entries = manifest.entries_below(directory).iter();
        entries.map(|entry| entry.path.as_str()).collect()
    };
    assert_eq!(below("a"), ["a/b", "a/b/c", "a/c"]);
    assert_eq!(below("a/b"), ["a/b/c"]);
    assert_eq!(below("a/b/c"), [""; 0]);
    assert_eq!(below("b"), ["b/a/b"]);
    assert_eq!(below("").len(), paths.len());
}

#[test]
fn a_lint_warns_of_twins_by_case_and_of_rules_that_run_more_than_they_say() {
    let mut draft = with_entries(&["Readme", "README", "src/x", "SRC/x", "other"]);
    draft.tools = vec![ToolClass::Read];
    draft.trees = vec![tree("out", TreeAccess::Write)];
    draft.commands = vec![
        rule("env", vec![Matcher::AnyNumberOf(Box::new(Matcher::Text))]),
        rule("env", vec![Matcher::Literal("x".into())]),
        rule("/usr/bin/find", vec![Matcher::PathUnder(relative("."))]),
        rule("./run.sh", Vec::new()),
        rule("cargo", vec![Matcher::Literal("test".into())]),
        rule("ls", vec![Matcher::Text]),
        Rule {
            environment: ["LD_PRELOAD".into(), "CI".into()].into(),
            ..rule("true", Vec::new())
        },
    ];
    let manifest = draft.build(10).unwrap();
    let fields: Vec<String> = lint(&manifest).into_iter().map(|it| it.field).collect();
    assert_eq!(
        fields,
        [
            "entry Readme",
            "entry src/x",
            "commands[0]",
            "commands[2]",
            "commands[3]",
            "commands[4]",
            "commands[6]",
            "tools",
            "tools",
        ]
    );
    let quiet = with_entries(&["a", "b"]);
    let tools = vec![ToolClass::Read];
    let quiet = Draft { tools, ..quiet }.build(10).unwrap();
    assert_eq!(lint(&quiet), []);
}
