//! Every kind of request against every kind of access.

use super::{Basis, CommandRequest, Decision, DenialReason, Judged, Request, Scope, decide};
use crate::firewall::command::{Matcher, Rule};
use crate::firewall::manifest::{
    Access, Draft, DraftEntry, DraftTree, Host, Manifest, NamedTool, ToolClass, TreeAccess,
};
use crate::firewall::path::AbsolutePath;

const PINNED: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];

fn entry(path: &str, access: Access) -> DraftEntry {
    DraftEntry {
        path: path.to_owned(),
        hash: PINNED.to_vec(),
        access,
        stable_id: String::new(),
        size: None,
    }
}

fn rule(words: &[&str]) -> Rule {
    let literal = |word: &&str| Matcher::Literal((*word).into());
    Rule {
        program: words[0].into(),
        arguments: words[1..].iter().map(literal).collect(),
        working_directory: None,
        environment: Box::default(),
    }
}

/// One entry of each access, one tree of each, and one name of each.
fn draft() -> Draft {
    let tree = |path: &str, access| DraftTree {
        path: path.to_owned(),
        access,
    };
    Draft {
        manifest_id: "m".to_owned(),
        profile_id: "p".to_owned(),
        entries: vec![
            entry("src/read", Access::Read),
            entry("src/zoom", Access::ReadWithZoom),
            entry("src/edit", Access::ReadWrite),
            entry("out/pinned", Access::Read),
            entry("out/edit/file", Access::ReadWrite),
        ],
        trees: vec![
            tree("docs", TreeAccess::Read),
            tree("out", TreeAccess::Write),
            tree("both", TreeAccess::ReadWrite),
        ],
        tools: ToolClass::ALL.to_vec(),
        commands: vec![rule(&["cargo", "test"]), rule(&["git", "status"])],
        named_tools: vec![NamedTool {
            server: "docs".into(),
            name: "search".into(),
        }],
        network: vec![Host {
            name: "example.org".into(),
            port: Some(443),
        }],
        models: vec!["small".to_owned()],
        artifacts: vec!["report".to_owned()],
    }
}

fn manifest() -> Manifest {
    draft().build(100).unwrap()
}

fn root() -> AbsolutePath {
    AbsolutePath::parse("/w").unwrap()
}

/// Hands over the decision, of a session that lifted the pins of these entries.
fn decided<T>(
    manifest: &Manifest,
    lifted: &[&str],
    request: &Request,
    take: impl FnOnce(Decision<'_>) -> T,
) -> T {
    let place = |path: &&str| manifest.entry(path).unwrap().0;
    let mut lifted: Vec<u32> = lifted.iter().map(place).collect();
    lifted.sort_unstable();
    let root = root();
    let scope = Scope {
        manifest,
        root: &root,
        lifted: &lifted,
    };
    take(decide(&scope, request))
}

/// What came out, in a word or two: `ok`, `ok pinned`, `ok narrowed`, or the reason,
/// with `!` if it ends a session.
fn said(decision: &Decision<'_>) -> String {
    match &decision.outcome {
        Ok(allowed) => {
            let pinned = if allowed.pinned { " pinned" } else { "" };
            let narrowed = if allowed.narrowed { " narrowed" } else { "" };
            format!("ok{pinned}{narrowed}")
        }
        Err(denied) => {
            let ends = if denied.ends { "!" } else { "" };
            format!("{}{ends}", denied.reason.code())
        }
    }
}

fn verdict(request: &Request) -> String {
    decided(&manifest(), &[], request, |decision| said(&decision))
}

fn read(path: &str) -> Request {
    Request::Read {
        path: path.to_owned(),
        hash: None,
    }
}

fn read_as(path: &str, hash: [u8; 32]) -> Request {
    Request::Read {
        path: path.to_owned(),
        hash: Some(hash),
    }
}

fn search(scope: &str, recursive: bool) -> Request {
    Request::Search {
        scope: scope.to_owned(),
        recursive,
    }
}

fn rename(from: &str, to: &str) -> Request {
    Request::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn words(words: &[&str]) -> CommandRequest {
    CommandRequest {
        words: words.iter().map(ToString::to_string).collect(),
        ..CommandRequest::default()
    }
}

fn line(line: &str) -> Request {
    Request::Command(CommandRequest {
        line: Some(line.to_owned()),
        ..CommandRequest::default()
    })
}

#[test]
fn every_kind_of_request_about_a_path_has_a_verdict_for_every_access() {
    const NO: &str = "WRITE_PATH_NOT_ALLOWED!";
    const MISS: &str = "CONTEXT_MISS!";
    for (path, on_read, on_look, on_search, on_write, on_delete) in [
        ("src/read", "ok pinned", "ok pinned", "ok pinned", NO, NO),
        (
            "src/zoom",
            "CONTENT_HASH_REQUIRED",
            "ok pinned",
            "ok pinned",
            NO,
            NO,
        ),
        (
            "src/edit",
            "ok pinned",
            "ok pinned",
            "ok pinned",
            "ok",
            "ok",
        ),
        // A pinned file in a tree that is written stays as it is.
        ("out/pinned", "ok pinned", "ok pinned", "ok pinned", NO, NO),
        ("docs", "ok", "ok", "ok", NO, NO),
        ("docs/a/b", "ok", "ok", "ok", NO, NO),
        ("out/new", MISS, MISS, MISS, "ok", "ok"),
        // What is listed below it may be seen in it; what is pinned keeps it.
        ("out", MISS, "ok narrowed", MISS, "ok", NO),
        ("out/edit", MISS, "ok narrowed", MISS, "ok", "ok"),
        ("both/x", "ok", "ok", "ok", "ok", "ok"),
        ("src", MISS, "ok narrowed", MISS, NO, NO),
        (".", MISS, "ok narrowed", MISS, NO, NO),
        ("nowhere", MISS, MISS, MISS, NO, NO),
        ("/etc/passwd", MISS, MISS, MISS, NO, NO),
        ("/", MISS, MISS, MISS, NO, NO),
        (
            "../w/src/read",
            "ok pinned",
            "ok pinned",
            "ok pinned",
            NO,
            NO,
        ),
        ("/w2/src/read", MISS, MISS, MISS, NO, NO),
    ] {
        let text = || path.to_owned();
        for (request, expected) in [
            (read(path), on_read),
            (Request::Stat(text()), on_look),
            (Request::List(text()), on_look),
            (search(path, true), on_look),
            (search(path, false), on_search),
            (Request::Write(text()), on_write),
            (Request::Edit(text()), on_write),
            (Request::MakeDirectory(text()), on_write),
            (Request::Delete(text()), on_delete),
            (rename(path, "both/y"), on_delete),
            (rename("both/y", path), on_delete),
        ] {
            assert_eq!(verdict(&request), expected, "{request:?}");
        }
    }
}

#[test]
fn a_reader_who_shows_a_hash_must_show_the_pinned_one() {
    for (path, right, wrong) in [
        ("src/read", "ok pinned", "CONTENT_HASH_MISMATCH!"),
        ("src/zoom", "ok pinned", "CONTENT_HASH_MISMATCH!"),
        ("src/edit", "ok pinned", "CONTENT_HASH_MISMATCH!"),
        ("docs/a", "ok", "ok"),
    ] {
        assert_eq!(verdict(&read_as(path, PINNED)), right, "{path}");
        assert_eq!(verdict(&read_as(path, OTHER)), wrong, "{path}");
    }
}

#[test]
fn a_write_lifts_the_pin_and_what_was_lifted_is_read_as_it_is() {
    let manifest = manifest();
    let (edit, _) = manifest.entry("src/edit").unwrap();
    let (file, _) = manifest.entry("out/edit/file").unwrap();
    let lifts = |lifted: &[&str], request: &Request| {
        decided(&manifest, lifted, request, |decision| {
            assert_eq!(said(&decision), "ok", "{request:?}");
            decision.lifts
        })
    };
    let write = Request::Write("src/edit".to_owned());
    assert_eq!(lifts(&[], &write), [edit]);
    assert_eq!(lifts(&["src/edit"], &write), [0; 0], "it is lifted already");
    assert_eq!(lifts(&["out/edit/file"], &write), [edit]);
    let both = lifts(&[], &rename("src/edit", "out/edit/file"));
    assert_eq!(both, [edit, file]);
    assert_eq!(lifts(&[], &line("cargo test > src/edit")), [edit]);
    assert_eq!(lifts(&[], &Request::Write("out/x".to_owned())), [0; 0]);
    for (request, pinned, lifted) in [
        (read("src/edit"), "ok pinned", "ok"),
        (read_as("src/edit", OTHER), "CONTENT_HASH_MISMATCH!", "ok"),
        (Request::Stat("src/edit".to_owned()), "ok pinned", "ok"),
    ] {
        assert_eq!(verdict(&request), pinned, "{request:?}");
        let after = decided(&manifest, &["src/edit"], &request, |it| said(&it));
        assert_eq!(after, lifted, "{request:?}");
    }
    let denied = Request::Write("src/read".to_owned());
    decided(&manifest, &[], &denied, |decision| {
        assert_eq!(decision.lifts, [0; 0], "a denial lifts nothing");
    });
}

#[test]
fn a_tree_holds_what_is_below_it_by_components() {
    for (path, is_read, is_written) in [
        ("both", true, true),
        ("both/", true, true),
        ("both//x/./y", true, true),
        ("/w/both/x", true, true),
        ("both2", false, false),
        ("both2/x", false, false),
        ("bot", false, false),
        ("Both/x", false, false),
        ("both/../src/x", false, false),
        ("x/both", false, false),
    ] {
        let allowed = |request: &Request| verdict(request) == "ok";
        assert_eq!(allowed(&read(path)), is_read, "{path}");
        let write = Request::Write(path.to_owned());
        assert_eq!(allowed(&write), is_written, "{path}");
    }
}

#[test]
fn the_nearest_tree_that_lets_it_happen_is_the_basis() {
    let mut draft = draft();
    draft.trees.push(DraftTree {
        path: "docs/made".to_owned(),
        access: TreeAccess::Write,
    });
    let manifest = draft.build(100).unwrap();
    for (request, basis) in [
        (read("docs/made/x"), "tree docs"),
        (Request::Write("docs/made/x".to_owned()), "tree docs/made"),
        (read("src/read"), "entry src/read"),
        (Request::List("src".to_owned()), "entries below"),
        (read("nowhere"), "default"),
        (Request::Write("src/read".to_owned()), "entry src/read"),
        (Request::Delete("out".to_owned()), "entry out/pinned"),
        (line("cargo test; git status"), "commands[1]"),
        (Request::Inference("small".to_owned()), "models"),
    ] {
        let found = decided(&manifest, &[], &request, |it| it.basis.to_string());
        assert_eq!(found, basis, "{request:?}");
    }
}

#[test]
fn a_root_that_is_read_as_a_tree_is_all_below_it_and_nothing_above() {
    let mut draft = draft();
    draft.trees.push(DraftTree {
        path: ".".to_owned(),
        access: TreeAccess::Read,
    });
    let manifest = draft.build(100).unwrap();
    let verdict = |request| decided(&manifest, &[], &request, |it| said(&it));
    assert_eq!(verdict(read("any/thing")), "ok");
    assert_eq!(verdict(search(".", true)), "ok");
    assert_eq!(verdict(read("src/zoom")), "CONTENT_HASH_REQUIRED");
    assert_eq!(verdict(read("/etc/passwd")), "CONTEXT_MISS!");
    let write = Request::Write("any/thing".to_owned());
    assert_eq!(verdict(write), "WRITE_PATH_NOT_ALLOWED!");
}

#[test]
fn a_path_that_climbs_above_everything_is_an_attempt_and_any_other_bad_one_a_mistake() {
    for (path, expected) in [
        ("../..", "INVALID_PATH!"),
        ("/../etc", "INVALID_PATH!"),
        ("src/../../../x", "INVALID_PATH!"),
        ("..", "CONTEXT_MISS!"),
        ("", "INVALID_PATH"),
        ("a\0b", "INVALID_PATH"),
        ("a\nb", "INVALID_PATH"),
    ] {
        assert_eq!(verdict(&read(path)), expected, "{path:?}");
        assert_eq!(
            verdict(&Request::List(path.to_owned())),
            expected,
            "{path:?}"
        );
        let written = expected.replace("CONTEXT_MISS", "WRITE_PATH_NOT_ALLOWED");
        let write = Request::Write(path.to_owned());
        assert_eq!(verdict(&write), written, "{path:?}");
        assert_eq!(verdict(&rename("both/x", path)), written, "{path:?}");
        assert_eq!(verdict(&rename(path, "both/x")), written, "{path:?}");
    }
}

#[test]
fn the_class_of_tools_comes_first() {
    let git = Request::Git(words(&["status"]));
    for (request, class) in [
        (read("src/read"), ToolClass::Read),
        (Request::List("src".to_owned()), ToolClass::ListFiles),
        (search("docs", true), ToolClass::Search),
        (Request::Write("both/x".to_owned()), ToolClass::Write),
        (Request::Edit("both/x".to_owned()), ToolClass::Write),
        (Request::Delete("both/x".to_owned()), ToolClass::Write),
        (
            Request::MakeDirectory("both/x".to_owned()),
            ToolClass::Write,
        ),
        (rename("both/x", "both/y"), ToolClass::Write),
        (line("cargo test"), ToolClass::Execute),
        (git, ToolClass::Git),
        (network("example.org", 443), ToolClass::Network),
        (Request::Inference("small".to_owned()), ToolClass::Inference),
        (Request::Artifact("report".to_owned()), ToolClass::Artifact),
    ] {
        assert!(verdict(&request).starts_with("ok"), "{request:?}");
        let mut draft = draft();
        draft.tools.retain(|it| *it != class);
        let without = draft.build(100).unwrap();
        decided(&without, &[], &request, |decision| {
            assert_eq!(said(&decision), "TOOL_NOT_ALLOWED!", "{request:?}");
            assert_eq!(decision.basis, Basis::Tools(class));
        });
    }
    // A path is not even looked at.
    let mut draft = draft();
    draft.tools.clear();
    let without = draft.build(100).unwrap();
    decided(&without, &[], &read("../.."), |decision| {
        assert_eq!(said(&decision), "TOOL_NOT_ALLOWED!");
        assert_eq!(decision.judged, Judged::Raw("../..".to_owned()));
    });
    assert_eq!(verdict(&Request::Unknown), "TOOL_NOT_ALLOWED!");
}

#[test]
fn a_stat_is_let_on_by_either_of_two_classes_and_a_named_tool_by_none() {
    let with = |tools: &[ToolClass], request: &Request| {
        let mut draft = draft();
        draft.tools = tools.to_vec();
        let manifest = draft.build(100).unwrap();
        decided(&manifest, &[], request, |it| said(&it))
    };
    let stat = Request::Stat("src/read".to_owned());
    assert_eq!(with(&[ToolClass::Read], &stat), "ok pinned");
    assert_eq!(with(&[ToolClass::ListFiles], &stat), "ok pinned");
    assert_eq!(with(&[ToolClass::Search], &stat), "TOOL_NOT_ALLOWED!");
    let tool = |server: &str, name: &str| Request::NamedTool {
        digest: Box::new([0xab, 1]),
        tool: NamedTool {
            server: server.into(),
            name: name.into(),
        },
    };
    assert_eq!(with(&[], &tool("docs", "search")), "ok");
    assert_eq!(
        with(&ToolClass::ALL, &tool("docs", "write")),
        "TOOL_ARGS_NOT_ALLOWED!"
    );
    let denied = decided(&manifest(), &[], &tool("docs", "write"), |decision| {
        decision.outcome.clone().expect_err("it is not listed")
    });
    assert_eq!(denied.detail, "arguments ab01");
}

fn network(host: &str, port: u16) -> Request {
    Request::Network {
        host: host.to_owned(),
        port,
    }
}

#[test]
fn names_are_compared_exactly() {
    const NO: &str = "TOOL_ARGS_NOT_ALLOWED!";
    for (request, expected) in [
        (network("Example.ORG.", 443), "ok"),
        (network("example.org", 80), NO),
        (network("www.example.org", 443), NO),
        (network("example.org..", 443), NO),
        (network("", 443), NO),
        (Request::Inference("Small".to_owned()), NO),
        (Request::Inference(String::new()), NO),
        (Request::Artifact("report ".to_owned()), NO),
    ] {
        assert_eq!(verdict(&request), expected, "{request:?}");
    }
}

#[test]
fn git_is_a_command_with_a_class_of_its_own() {
    const NO: &str = "COMMAND_NOT_ALLOWED!";
    for (request, expected) in [
        (Request::Git(words(&["status"])), "ok"),
        (Request::Git(words(&["git", "status"])), NO),
        (Request::Git(words(&["push"])), NO),
        (Request::Git(words(&[])), NO),
        (Request::Command(words(&["git", "status"])), "ok"),
        (Request::Command(words(&["cargo", "test"])), "ok"),
        (Request::Command(words(&[])), NO),
    ] {
        assert_eq!(verdict(&request), expected, "{request:?}");
    }
    let line = CommandRequest {
        line: Some("git status".to_owned()),
        ..CommandRequest::default()
    };
    assert_eq!(verdict(&Request::Git(line)), NO);
}

#[test]
fn a_line_may_run_what_each_of_its_commands_may_and_redirect_where_it_may_write() {
    for (text, is_allowed) in [
        ("cargo test", true),
        ("cargo test && git status", true),
        ("cargo test; rm -rf x", false),
        ("cargo test > out/log 2>&1", true),
        ("cargo test > /dev/null", true),
        ("cargo test > /w/out/log", true),
        ("cargo test > out/pinned", false),
        ("cargo test > elsewhere", false),
        ("cargo test > /etc/x", false),
        ("cargo test < src/read", true),
        ("cargo test < docs/x", true),
        ("cargo test < src/zoom", false),
        ("cargo test < out/x", false),
        ("cargo test < /etc/passwd", false),
        ("cargo $X", false),
        ("", false),
    ] {
        let expected = if is_allowed {
            "ok"
        } else {
            "COMMAND_NOT_ALLOWED!"
        };
        assert_eq!(verdict(&line(text)), expected, "{text}");
    }
    // A redirection is a read or a write, and needs the class of one.
    for (text, class) in [
        ("cargo test < src/read", ToolClass::Read),
        ("cargo test > out/x", ToolClass::Write),
    ] {
        let mut draft = draft();
        draft.tools.retain(|it| *it != class);
        let manifest = draft.build(100).unwrap();
        let found = decided(&manifest, &[], &line(text), |it| said(&it));
        assert_eq!(found, "COMMAND_NOT_ALLOWED!", "{text}");
    }
}

#[test]
fn a_command_runs_below_the_root_and_sets_only_what_its_rule_names() {
    let command = |directory: &str, name: &str| {
        let mut request = words(&["cargo", "test"]);
        request.directory = directory.to_owned();
        request.environment = match name {
            "" => Vec::new(),
            name => vec![name.to_owned()],
        };
        verdict(&Request::Command(request))
    };
    for directory in ["", ".", "/w", "src", "/w/any/where"] {
        assert_eq!(command(directory, ""), "ok", "{directory}");
    }
    for directory in ["..", "/", "/w2", "../../.."] {
        assert_eq!(
            command(directory, ""),
            "COMMAND_NOT_ALLOWED!",
            "{directory}"
        );
    }
    assert_eq!(command("", "LD_PRELOAD"), "COMMAND_NOT_ALLOWED!");
}

#[test]
fn a_refused_command_says_which_word_did_not_fit() {
    for (text, detail) in [
        ("rm x", "no rule is for rm"),
        ("cargo build", "word 2, `build`, does not fit commands[0]"),
        ("cargo", "commands[0] wants more words"),
        ("cargo test > /x", "the redirection to /x is not allowed"),
    ] {
        decided(&manifest(), &[], &line(text), |decision| {
            let denied = decision.outcome.unwrap_err();
            assert_eq!(denied.reason, DenialReason::CommandNotAllowed);
            assert_eq!(denied.detail, detail, "{text}");
        });
    }
}
