//! Manifests from the command line: built, looked at, compared, tried.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::firewall::equipment::consuming;
use crate::firewall::vectors::example;
use crate::harness::{Ctl, Daemon, Dirs, Done, done, register, repository};

mod audit;
mod build;

/// A directory `w` to make manifests of, and files beside it.
struct Project {
    directory: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("w")).expect("it is made");
        Self { directory }
    }

    /// One with some Rust in it.
    fn rust() -> Self {
        let project = Self::new();
        project.put("w/Cargo.toml", "[package]\n");
        project.put("w/src/main.rs", "fn main() {}\n");
        project.put("w/src/lib.rs", "// lib\n");
        project.put("w/docs/guide.md", "# Guide\n");
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.path(path).to_str().expect("it is text").to_owned()
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }

    fn read(&self, path: &str) -> Value {
        let text = std::fs::read_to_string(self.path(path)).expect("it is written");
        serde_json::from_str(&text).expect("it is JSON")
    }

    fn git(&self, args: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.env_remove("GIT_DIR").arg("-C").arg(self.path("w"));
        let output = git.args(args).output().expect("git runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    /// Runs in the directory above `w`.
    async fn run(&self, ctl: &Ctl, args: &[&str]) -> Done {
        let mut command = ctl.command(args);
        done(command.current_dir(self.directory.path())).await
    }

    async fn ok(&self, ctl: &Ctl, args: &[&str]) -> String {
        let done = self.run(ctl, args).await;
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stdout
    }

    /// Builds `m.json` of `w`; what was told on stderr.
    async fn build(&self, ctl: &Ctl, args: &[&str]) -> String {
        let own = ["manifest", "build", "--root", "w", "--out", "m.json"];
        let done = self.run(ctl, &[&own[..], args].concat()).await;
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stderr
    }
}

/// No daemon is asked.
fn alone() -> Ctl {
    Ctl::new(&Dirs::new())
}

/// The paths of the entries, and what each may be used for.
fn entries(manifest: &Value) -> Vec<(&str, &str)> {
    let entries = manifest["entries"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let path = entry["path"].as_str().expect("a path");
            let access = entry["access"].as_str().expect("an access");
            (path, access.trim_start_matches("ACCESS_"))
        })
        .collect()
}

fn paths(manifest: &Value) -> Vec<&str> {
    entries(manifest)
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// A manifest in a file, with some of everything.
fn some_of_everything(project: &Project) -> Value {
    let hash = blake3::hash(b"// lib\n").to_hex().to_string();
    let manifest = json!({
        "manifestId": "m-1",
        "profileId": "p-1",
        "entries": [
            {"path": "src/lib.rs", "hash": hash, "access": "ACCESS_READ_WRITE", "size": "7"},
            {"path": "src/LIB.rs", "hash": hash, "access": "ACCESS_READ"},
        ],
        "trees": [{"path": "out", "access": "TREE_ACCESS_WRITE"}],
        "tools": ["TOOL_CLASS_READ", "TOOL_CLASS_WRITE", "TOOL_CLASS_EXECUTE"],
        "commands": [
            {"program": "cargo", "arguments": [{"literal": "test"}]},
            {"program": "xargs", "arguments": [{"anyNumberOf": {"text": {}}}]},
        ],
        "namedTools": [{"server": "docs", "name": "search"}],
        "network": [{"host": "example.org", "port": 443}],
        "models": ["small"],
        "artifacts": ["report"],
    });
    project.put("m.json", &manifest.to_string());
    manifest
}

#[tokio::test]
async fn a_manifest_is_shown_from_a_file_the_daemon_and_a_session() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    let build = ["--edit", "src", "--put", "--preset", "rust"];
    project.build(&ctl, &build).await;
    let own = ["manifest", "show", "m.json", "--entries"];
    let table = project.ok(&ctl, &own).await;
    let file = parsed(
        &project
            .ok(&ctl, &["--format", "json", "manifest", "show", "m.json"])
            .await,
    );
    let hash = file["manifestHash"].as_str().expect("a hash");
    for line in [
        "MANIFEST  workspace",
        "PROFILE   default",
        &format!("HASH      {hash}"),
        "FILES     4 (2 read, 2 read-write; 38 bytes)",
        "TOOLS     READ WRITE EXECUTE LIST_FILES SEARCH",
        "cargo (--version|-V)",
    ] {
        assert!(table.lines().any(|it| it == line), "{line} in {table}");
    }
    let listed = table.lines().find(|line| line.starts_with("src/lib.rs"));
    assert!(listed.unwrap().contains("  read-write  7  "), "{table}");
    assert_eq!(file["manifest"], project.read("m.json"));

    let root = project.text("w");
    let more = ["--consume", "--manifest", hash, "--workspace-root", &root];
    super::register(&daemon, "s1", &more).await;
    for from in [["--hash", hash], ["--session", "s1"]] {
        let args = [&["manifest", "show"], &from[..]].concat();
        let shown = ctl.json(&args).await;
        assert_eq!(shown, file, "{from:?}");
        let out = [&args[..], &["--out", "copy.json"]].concat();
        let said = project.ok(&ctl, &out).await;
        assert_eq!(said, format!("{hash}\n"));
        assert_eq!(project.read("copy.json"), project.read("m.json"));
    }
    let lines = ["--format", "jsonl", "manifest", "show", "--hash", hash];
    assert_eq!(ctl.ok(&lines).await.lines().count(), 1);
    let unknown = "0".repeat(64);
    for (args, code) in [
        (&["manifest", "show", "--hash", &unknown][..], 66),
        (&["manifest", "show", "--session", "nobody"], 66),
        (&["manifest", "show", "nowhere.json"], 66),
        (&["manifest", "show", "--hash", "short"], 64),
        (&["manifest", "show"], 64),
        (&["manifest", "show", "m.json", "--session", "s1"], 64),
    ] {
        let refused = project.run(&ctl, args).await;
        assert_eq!(refused.code, Some(code), "{args:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_manifest_is_refused_with_every_fault() {
    let (ctl, project) = (alone(), Project::new());
    let hash = "0".repeat(64);
    let bad = json!({
        "profileId": "p",
        "entries": [
            {"path": "/etc/passwd", "hash": hash, "access": "READ"},
            {"path": "caf\u{e9}", "hash": hash, "access": "READ"},
            {"path": "cafe\u{301}", "hash": hash, "access": "READ"},
            {"path": "a", "hash": "00", "access": "READ"},
        ],
        "trees": [{"path": ".", "access": "READ_WRITE"}],
        "commands": [{"program": "*"}],
        "network": [{"host": "*.example.org", "port": 0}],
    });
    project.put("bad.json", &bad.to_string());
    let show = ["--format", "json", "manifest", "show", "bad.json"];
    let refused = project.run(&ctl, &show).await;
    assert_eq!(refused.code, Some(65));
    let error = parsed(&refused.stderr);
    let fields = error["fieldViolations"].as_array().expect("fields");
    let fields: Vec<_> = fields
        .iter()
        .map(|it| it["field"].as_str().unwrap())
        .collect();
    for field in [
        "manifest_id",
        "entries[0].path",
        "entries[2].path",
        "entries[3].hash",
        "trees[0].path",
        "commands[0].program",
        "network[0].host",
        "network[0].port",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert_eq!(fields.len(), 8);
    for (text, says) in [
        ("", "is not JSON"),
        ("[]", "must be an object, not a list"),
        (
            r#"{"manifestId": 1}"#,
            "manifestId: must be text, not a number",
        ),
        (r#"{"entry": []}"#, "entry: is not known"),
        (
            r#"{"entries": [{"path": null}]}"#,
            "entries[0].path: must be text, not null",
        ),
        ("{\"a\": \"\u{0}", "is not JSON"),
    ] {
        project.put("bad.json", text);
        for command in ["show", "lint"] {
            let refused = project.run(&ctl, &["manifest", command, "bad.json"]).await;
            assert_eq!(refused.code, Some(65), "{text}: {refused:?}");
            assert!(refused.stderr.contains(says), "{text}: {refused:?}");
            assert!(refused.stdout.is_empty(), "{refused:?}");
        }
    }
    std::fs::write(project.path("bad.json"), b"\xff").unwrap();
    let refused = project.run(&ctl, &["manifest", "lint", "bad.json"]).await;
    assert!(refused.stderr.contains("is not UTF-8"), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_be_read_hides_no_other_fault() {
    let (ctl, project) = (alone(), Project::new());
    let hash = "0".repeat(64);
    let bad = json!({
        "manifestId": "m",
        "profileId": "p",
        "entries": [
            {"path": "a", "hash": "00", "access": "READ"},
            {"path": "b", "hash": hash, "access": "ACCESS_UNSPECIFIED"},
            {"path": "/x", "hash": hash, "access": "READ"},
        ],
        "trees": [{"path": ".", "access": "READ_WRITE"}],
        "commands": [{"program": ""}],
        "namedTools": [{"server": 7, "name": "n"}],
    });
    project.put("bad.json", &bad.to_string());
    let lint = ["--format", "json", "manifest", "lint", "bad.json"];
    let refused = project.run(&ctl, &lint).await;
    assert_eq!(refused.code, Some(65));
    let error = parsed(&refused.stderr);
    let fields = error["fieldViolations"].as_array().expect("fields");
    let mut fields: Vec<_> = fields
        .iter()
        .map(|it| it["field"].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    let expected = [
        "commands[0].program",
        "entries[0].hash",
        "entries[1].access",
        "entries[2].path",
        "namedTools[0].server",
        "trees[0].path",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn a_manifest_is_read_from_stdin() {
    let (ctl, project) = (alone(), Project::new());
    some_of_everything(&project);
    let mut command = ctl.command(&["manifest", "diff", "-", "m.json"]);
    let file = std::fs::File::open(project.path("m.json")).unwrap();
    let same = done(command.stdin(file).current_dir(project.path("."))).await;
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""));
    let both = project.run(&ctl, &["manifest", "diff", "-", "-"]).await;
    assert_eq!(both.code, Some(64), "{both:?}");
}

#[tokio::test]
async fn a_difference_is_a_line_and_exit_1() {
    let (ctl, project) = (alone(), Project::new());
    let old = some_of_everything(&project);
    let mut new = old.clone();
    new["entries"][0]["access"] = "ACCESS_READ".into();
    new["entries"][1]["path"] = "src/new.rs".into();
    new["trees"][0]["access"] = "TREE_ACCESS_READ_WRITE".into();
    new["tools"] = json!(["TOOL_CLASS_READ", "TOOL_CLASS_GIT"]);
    new["commands"][1]["program"] = "ls".into();
    new["network"][0]["port"] = 80.into();
    new["models"] = json!([]);
    project.put("new.json", &new.to_string());
    let hash = blake3::hash(b"// lib\n").to_hex().to_string();
    let done = project
        .run(&ctl, &["manifest", "diff", "m.json", "new.json"])
        .await;
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let expected = [
        "+ command ls {<text>}…".to_owned(),
        "- command xargs {<text>}…".to_owned(),
        format!("- entry src/LIB.rs  read {hash}"),
        format!("~ entry src/lib.rs  read-write {hash} 7 -> read {hash} 7"),
        format!("+ entry src/new.rs  read {hash}"),
        "- host example.org:443".to_owned(),
        "+ host example.org:80".to_owned(),
        "- model small".to_owned(),
        "- tool EXECUTE".to_owned(),
        "+ tool GIT".to_owned(),
        "- tool WRITE".to_owned(),
        "~ tree out  write -> read-write".to_owned(),
    ];
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines, expected);

    let args = ["--format", "json", "manifest", "diff", "m.json", "new.json"];
    let told = parsed(&project.run(&ctl, &args).await.stdout);
    assert_eq!(told["same"], false);
    let changes = told["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), expected.len());
    assert_eq!(
        changes[11],
        json!({"change": "changed", "kind": "tree", "name": "out", "old": "write", "new": "read-write"})
    );
    let args = ["--format", "jsonl", "manifest", "diff", "m.json", "m.json"];
    let told = parsed(&project.ok(&ctl, &args).await);
    assert_eq!(told, json!({"same": true, "changes": []}));

    // The order of the rules is part of a manifest, and no rule of its own.
    let mut turned = old;
    turned["commands"].as_array_mut().unwrap().reverse();
    project.put("new.json", &turned.to_string());
    let done = project
        .run(&ctl, &["manifest", "diff", "m.json", "new.json"])
        .await;
    assert_eq!(done.code, Some(1));
    assert!(done.stdout.contains("their order"), "{done:?}");
}

#[tokio::test]
async fn a_lint_warns_of_twins_wrappers_and_code_of_the_workspace() {
    let (ctl, project) = (alone(), Project::new());
    some_of_everything(&project);
    let warned = project.run(&ctl, &["manifest", "lint", "m.json"]).await;
    assert_eq!(warned.code, Some(0));
    for line in [
        "entry src/lib.rs differs from src/LIB.rs in case only: one file where case is ignored",
        "commands[0] runs code from the workspace: what cargo finds there decides",
        "commands[1] gives xargs free arguments: it can run any other program with them",
        "tools does not have NETWORK, although hosts are listed",
    ] {
        assert!(warned.stdout.lines().any(|it| it == line), "{warned:?}");
    }
    assert_eq!(warned.stdout.lines().count(), 6);
    assert_eq!(warned.stderr, "episodectl: 6 warnings\n");
    let strict = ["--format", "json", "manifest", "lint", "--strict", "m.json"];
    let strict = project.run(&ctl, &strict).await;
    assert_eq!(strict.code, Some(65));
    let warnings = parsed(&strict.stdout)["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(6));
    assert_eq!(warnings[0]["field"], "entry src/lib.rs");

    project.put("m.json", r#"{"manifestId": "m", "profileId": "p"}"#);
    let quiet = project
        .run(&ctl, &["manifest", "lint", "--strict", "m.json"])
        .await;
    assert_eq!(
        (quiet.code, quiet.stdout + &quiet.stderr),
        (Some(0), String::new())
    );
}

const CASES: &str = r#"
{"name": "read", "request": {"read": {"path": "src/lib.rs"}}, "verdict": "ALLOW", "judged": "/workspace/src/lib.rs"}
{"name": "miss", "request": {"read": {"path": "/etc/shadow"}}, "verdict": "DENY", "reason": "CONTEXT_MISS"}
{"name": "stat", "request": {"stat": {"path": "src/lib.rs"}}, "verdict": "ALLOW"}
{"name": "list", "request": {"list": {"path": "src"}}, "verdict": "DENY", "reason": "TOOL_NOT_ALLOWED"}
{"name": "search", "request": {"search": {"scope": "src", "recursive": true}}, "verdict": "DENY"}
{"name": "write", "request": {"write": {"path": "out/x"}}, "verdict": "ALLOW"}
{"name": "edit", "request": {"edit": {"path": "src/LIB.rs"}}, "verdict": "DENY", "mode": "hard_fail", "ends_session": true}
{"name": "delete", "request": {"delete": {"path": "out"}}, "verdict": "ALLOW"}
{"name": "mkdir", "request": {"mkdir": {"path": "out/d"}}, "verdict": "ALLOW"}
{"name": "rename", "request": {"rename": {"from": "out/a", "to": "/b"}}, "verdict": "WOULD_DENY", "mode": "audit", "ends_session": false}
{"name": "argv", "request": {"command": {"argv": ["cargo", "test"]}}, "verdict": "ALLOW"}
{"name": "line", "request": {"command": {"string": "cargo test; rm -rf x"}}, "verdict": "DENY", "reason": "COMMAND_NOT_ALLOWED"}
{"name": "environment", "request": {"command": {"argv": ["cargo", "test"], "env": {"A": "b"}}}, "verdict": "DENY"}
{"name": "directory", "request": {"command": {"argv": ["cargo", "test"], "cwd": "/"}}, "verdict": "DENY"}
{"name": "git", "request": {"git": {"arguments": ["push"]}}, "verdict": "DENY"}
{"name": "network", "request": {"network": {"host": "example.org", "port": 443}}, "verdict": "DENY", "reason": "TOOL_NOT_ALLOWED"}
{"name": "tool", "request": {"tool": {"server": "docs", "name": "search"}}, "verdict": "ALLOW"}
{"name": "inference", "request": {"inference": {"model": "small"}}, "verdict": "DENY"}
{"name": "artifact", "request": {"artifact": {"name": "report"}}, "verdict": "DENY"}
{"name": "nothing", "request": {}, "verdict": "DENY", "manifest": "m-1"}
"#;

#[tokio::test]
async fn cases_are_decided_and_one_that_is_not_as_it_says_is_exit_1() {
    let (ctl, project) = (alone(), Project::new());
    some_of_everything(&project);
    project.put("cases.jsonl", CASES);
    let test = ["manifest", "test", "m.json", "cases.jsonl"];
    let said = project.ok(&ctl, &test).await;
    assert_eq!(said, "20 of 20 cases are decided as they say\n");
    let json = [&["--format", "json"], &test[..]].concat();
    let told = parsed(&project.ok(&ctl, &json).await);
    assert_eq!(told, json!({"passed": 20, "failed": []}));

    for (from, to, what) in [
        (
            r#"{"path": "/etc/shadow"}}, "verdict": "DENY", "reason": "CONTEXT_MISS""#,
            r#"{"path": "/etc/shadow"}}, "verdict": "ALLOW""#,
            "miss: must be ALLOW, is DENY CONTEXT_MISS by default",
        ),
        (
            r#"{"argv": ["cargo", "test"]}}, "verdict": "ALLOW""#,
            r#"{"argv": ["cargo", "test"]}}, "verdict": "DENY""#,
            "argv: must be DENY, is ALLOW by commands[0]",
        ),
        (
            "COMMAND_NOT_ALLOWED",
            "INVALID_PATH",
            "line: must be DENY INVALID_PATH, is DENY COMMAND_NOT_ALLOWED by default: no rule is for rm",
        ),
        (
            "/workspace/src/lib.rs",
            "/src/lib.rs",
            "read: must judge /src/lib.rs, judges /workspace/src/lib.rs",
        ),
        (
            r#""ends_session": true"#,
            r#""ends_session": false"#,
            "edit: must not end the session, and does",
        ),
    ] {
        assert!(CASES.contains(from), "{from}");
        project.put("cases.jsonl", &CASES.replace(from, to));
        let failed = project.run(&ctl, &test).await;
        assert_eq!(failed.code, Some(1), "{failed:?}");
        let total = "19 of 20 cases are decided as they say";
        let lines: Vec<&str> = failed.stdout.lines().collect();
        assert_eq!(lines, [what, total], "{from}");
        let told = parsed(&project.run(&ctl, &json).await.stdout);
        let (name, what) = what.split_once(": ").unwrap();
        assert_eq!(told["failed"], json!([{"name": name, "what": what}]));
    }
    // The root is what the cases call it.
    let case =
        r#"{"name": "n", "request": {"read": {"path": "/p/src/lib.rs"}}, "verdict": "ALLOW"}"#;
    project.put("cases.jsonl", case);
    assert_eq!(project.run(&ctl, &test).await.code, Some(1));
    project
        .ok(&ctl, &[&test[..], &["--root", "/p"]].concat())
        .await;
}

#[tokio::test]
async fn a_malformed_case_is_an_error_that_names_its_line() {
    let (ctl, project) = (alone(), Project::new());
    some_of_everything(&project);
    let good = r#"{"name": "n", "request": {"read": {"path": "x"}}, "verdict": "DENY"}"#;
    for bad in [
        "{",
        "[]",
        r#"{"name": "n"}"#,
        r#"{"name": "n", "request": {"read": {"path": "x"}}, "verdict": "MAYBE"}"#,
        r#"{"name": "n", "request": {"reed": {"path": "x"}}, "verdict": "DENY"}"#,
        r#"{"name": "n", "request": {"read": {"path": "x", "hsah": ""}}, "verdict": "DENY"}"#,
        r#"{"name": "n", "request": {"read": {"path": "x", "hash": "00"}}, "verdict": "DENY"}"#,
        r#"{"name": "n", "request": {"read": {"path": "x"}, "stat": {"path": "x"}}, "verdict": "DENY"}"#,
        r#"{"name": "n", "request": {"network": {"host": "h", "port": 70000}}, "verdict": "DENY"}"#,
        r#"{"name": "n", "request": {}, "verdict": "DENY", "raeson": "CONTEXT_MISS"}"#,
    ] {
        project.put("cases.jsonl", &format!("{good}\n\n{bad}\n"));
        let args = ["manifest", "test", "m.json", "cases.jsonl"];
        let refused = project.run(&ctl, &args).await;
        assert_eq!(refused.code, Some(65), "{bad}: {refused:?}");
        assert!(
            refused.stderr.contains("cases.jsonl, line 3: "),
            "{bad}: {refused:?}"
        );
        assert!(refused.stdout.is_empty(), "{bad}: {refused:?}");
    }
    // To test nothing is no success.
    let other = good.replace("\"verdict\"", "\"manifest\": \"m-2\", \"verdict\"");
    for nothing in ["", "\n\n", &other] {
        project.put("cases.jsonl", nothing);
        let args = ["manifest", "test", "m.json", "cases.jsonl"];
        let refused = project.run(&ctl, &args).await;
        assert_eq!(refused.code, Some(65), "{nothing}: {refused:?}");
        assert!(
            refused.stderr.contains("no case for the manifest m-1"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_example_decisions_are_cases() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::new());
    let mut client = daemon.operator().await;
    for (id, passed) in [("m-1", 81), ("m-0", 1), ("m-2", 1)] {
        let session = register(&mut client, consuming(id, example(id))).await;
        let show = ["manifest", "show", "--session", &session.session_id];
        project
            .ok(&ctl, &[&show[..], &["--out", "m.json"]].concat())
            .await;
        let vectors = repository().join("tests/data/firewall.jsonl");
        let vectors = vectors.to_str().expect("it is text");
        let args = ["manifest", "test", "m.json", vectors, "--root", "/project"];
        let done = project.run(&ctl, &args).await;
        let said = format!("{passed} of {passed} cases are decided as they say\n");
        assert_eq!(
            (done.code, done.stdout),
            (Some(0), said),
            "{id}: {}",
            done.stderr
        );
        let others = format!(
            "episodectl: {} cases are for other manifests\n",
            83 - passed
        );
        assert_eq!(done.stderr, others);
    }
}

#[tokio::test]
async fn the_presets_are_listed_and_printed() {
    let (ctl, project) = (alone(), Project::rust());
    let table = ctl.ok(&["manifest", "presets"]).await;
    let names: Vec<&str> = table
        .lines()
        .skip(1)
        .map(|it| it.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["rust", "python", "node", "git-read"]);
    assert_eq!(ctl.json(&["manifest", "presets"]).await, json!(names));
    for name in names {
        let rules = ctl.json(&["manifest", "presets", name]).await;
        let lines = ctl.ok(&["manifest", "presets", name]).await;
        assert_eq!(rules.as_array().map(Vec::len), Some(lines.lines().count()));
        // What is printed is what is taken.
        project.put("rules.json", &rules.to_string());
        project.build(&ctl, &["--rules", "rules.json"]).await;
        let by_file = project.read("m.json");
        project.build(&ctl, &["--preset", name]).await;
        assert_eq!(project.read("m.json"), by_file, "{name}");
    }
    assert_eq!(
        ctl.run(&["manifest", "presets", "cobol"]).await.code,
        Some(64)
    );
}
