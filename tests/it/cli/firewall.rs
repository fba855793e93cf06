//! The context firewall from the command line.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::own;
use crate::harness::{Ctl, Daemon, Done, Running, done, within};

/// A workspace with a manifest beside it.
pub struct Workspace {
    directory: tempfile::TempDir,
}

impl Workspace {
    /// `src/main.rs` may be read and written, `out` written.
    pub fn new() -> Self {
        let workspace = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        workspace.put("w/src/main.rs", "fn main() {}\n");
        workspace.put("w/src/lib.rs", "// lib\n");
        let hash = blake3::hash(b"fn main() {}\n").to_hex().to_string();
        let manifest = json!({
            "manifestId": "m-1",
            "profileId": "p-1",
            "entries": [{"path": "src/main.rs", "hash": hash, "access": "ACCESS_READ_WRITE"}],
            "trees": [{"path": "out", "access": "TREE_ACCESS_WRITE"}],
            "tools": ["TOOL_CLASS_READ", "TOOL_CLASS_WRITE", "TOOL_CLASS_EXECUTE",
                "TOOL_CLASS_LIST_FILES", "TOOL_CLASS_SEARCH"],
            "commands": [{"program": "cargo", "arguments": [{"literal": "test"}]}],
            "namedTools": [{"server": "docs", "name": "search"}],
        });
        workspace.put("m.json", &manifest.to_string());
        workspace
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }

    pub fn args(&self, mode: &str) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().expect("it is text").to_owned();
        let (manifest, root) = (text(self.path("m.json")), text(self.path("w")));
        [mode, "--manifest", &manifest, "--workspace-root", &root]
            .map(str::to_owned)
            .to_vec()
    }
}

async fn register(daemon: &Daemon, workspace: &Workspace, id: &str, mode: &str) -> String {
    let args = workspace.args(mode);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    super::register(daemon, id, &args).await
}

/// Runs a command as the session of that handle file.
async fn with(ctl: &Ctl, handle: &str, args: &[&str]) -> Done {
    done(ctl.command(args).env("EPISODE_HANDLE_FILE", handle)).await
}

#[tokio::test]
async fn a_check_says_in_one_line_and_its_exit_code() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let handle = register(&daemon, &workspace, "s1", "--consume").await;
    let path = workspace.path("w/src/main.rs");
    let path = path.to_str().unwrap();
    let allowed = with(&ctl, &handle, &["check", "read", "src/main.rs"]).await;
    let line = format!("ALLOW {path} (entry src/main.rs) pinned\n");
    assert_eq!((allowed.code, allowed.stdout), (Some(0), line));
    for args in [
        &["check", "exec", "--", "cargo", "test"][..],
        &[
            "check",
            "exec",
            "--line",
            "cargo test && cargo test > out/log 2>&1",
        ],
        &["check", "tool", "docs", "search"],
        &["check", "write", "out/x"],
    ] {
        let done = with(&ctl, &handle, args).await;
        assert_eq!(done.code, Some(0), "{args:?} {done:?}");
    }
    let explained = with(
        &ctl,
        &handle,
        &[
            "check",
            "--explain",
            "exec",
            "--line",
            "cargo test; rm -rf /",
        ],
    )
    .await;
    assert_eq!(explained.code, Some(77));
    assert_eq!(
        explained.stdout,
        "DENY COMMAND_NOT_ALLOWED cargo test; rm -rf / (default) - no rule is for rm\n"
    );
    let denied = with(
        &ctl,
        &handle,
        &["--format", "json", "check", "write", "/etc/x"],
    )
    .await;
    assert_eq!(denied.code, Some(77));
    let verdict: Value = serde_json::from_str(&denied.stdout).unwrap();
    assert_eq!(verdict["reason"], "DENIAL_REASON_WRITE_PATH_NOT_ALLOWED");
    assert_eq!(verdict["sessionEnded"], true);

    // Explained again, by the operator.
    let id = verdict["decisionId"].as_str().unwrap();
    let why = ctl.ok(&["why", id]).await;
    for line in [
        &format!("Decision     {id}\n"),
        "Denied       WRITE_PATH_NOT_ALLOWED\n",
        "Request      write /etc/x\n",
        "Because      nothing in the manifest allows it\n",
        "To allow it  a READ_WRITE entry or a writable tree",
        "Session      s1\n",
    ] {
        assert!(why.contains(line), "{line} in {why}");
    }
    let unknown = ctl.run(&["why", "D-00000000000000000"]).await;
    assert_eq!(unknown.code, Some(66), "{unknown:?}");
    assert_eq!(ctl.run(&["why", "nonsense"]).await.code, Some(64));
}

#[tokio::test]
async fn lines_of_requests_are_decided_in_order_on_one_connection() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let handle = register(&daemon, &workspace, "s1", "--consume").await;
    let mut command = ctl.command(&["--format", "jsonl", "check", "--jsonl"]);
    let mut running = Running::start(command.env("EPISODE_HANDLE_FILE", &handle));
    for (line, decision) in [
        (r#"{"read":{"path":"src/main.rs"}}"#, "DECISION_ALLOW"),
        (r#"{"write":{"path":"out/x"}}"#, "DECISION_ALLOW"),
        (r"{nonsense", "DECISION_DENY"),
        (
            r#"{"command":{"argv":{"words":["cargo","test"]}}}"#,
            "DECISION_ALLOW",
        ),
        (r#"{"read":{"path":"secret"}}"#, "DECISION_DENY"),
    ] {
        running.write(&format!("{line}\n")).await;
        let verdict: Value = serde_json::from_str(&running.line().await).unwrap();
        assert_eq!(verdict["decision"], decision, "{line}");
    }
    assert_eq!(running.end().await.code, Some(77));
}

#[tokio::test]
async fn a_hook_denies_what_is_denied_and_what_it_cannot_read() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let handle = register(&daemon, &workspace, "s1", "--audit").await;
    let root = workspace.path("w");
    let enforced = register(&daemon, &workspace, "s2", "--consume").await;
    let ask = async |handle: &str, event: &str| {
        let mut command = ctl.command(&["check", "hook", "--for", "claude-code"]);
        let mut running = Running::start(command.env("EPISODE_HANDLE_FILE", handle));
        running.write(event).await;
        running.end().await
    };
    let event = |tool: &str, input: Value| {
        json!({"hook_event_name": "PreToolUse", "cwd": root, "tool_name": tool, "tool_input": input}).to_string()
    };
    for allowed in [
        event("Read", json!({"file_path": root.join("src/main.rs")})),
        event("Bash", json!({"command": "cargo test"})),
        event("mcp__docs__search", json!({"q": "x"})),
    ] {
        let done = ask(&enforced, &allowed).await;
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (Some(0), ""),
            "{allowed}"
        );
    }
    // A hook cannot see to it that only what is listed is shown.
    for (tool, input) in [
        ("Grep", json!({"pattern": "."})),
        (
            "Grep",
            json!({"pattern": ".", "path": "src", "glob": "lib.rs"}),
        ),
        ("Glob", json!({"pattern": "**/*.rs"})),
        ("LS", json!({"path": root})),
    ] {
        let narrowed = event(tool, input);
        let done = ask(&enforced, &narrowed).await;
        assert_eq!(done.code, Some(2), "{narrowed}");
        assert!(done.stderr.contains("only what is listed"), "{done:?}");
    }
    let listed = event("Grep", json!({"pattern": ".", "path": "src/main.rs"}));
    assert_eq!(ask(&enforced, &listed).await.code, Some(0));
    let explain = ["check", "--explain", "hook", "--for", "claude-code"];
    let mut command = ctl.command(&explain);
    let mut running = Running::start(command.env("EPISODE_HANDLE_FILE", &enforced));
    running
        .write(&event("Read", json!({"file_path": "/etc/shadow"})))
        .await;
    assert_eq!(running.end().await.code, Some(2), "and ends nothing");
    // A mistake in the agent's settings does not let it go on.
    for mistake in [
        &["check", "hook", "--for", "claude"][..],
        &["check", "hook"],
    ] {
        let done = with(&ctl, &enforced, mistake).await;
        assert_eq!(done.code, Some(2), "{mistake:?} {done:?}");
    }
    for unreadable in ["", "{", "[]", "{\"tool_name\": \"Read\"}"] {
        let done = ask(&enforced, unreadable).await;
        assert_eq!(done.code, Some(2), "{unreadable}");
        assert!(done.stderr.contains("denied"), "{done:?}");
    }
    let secret = event("Bash", json!({"command": "cat /etc/shadow"}));
    assert_eq!(
        ask(&handle, &secret).await.code,
        Some(0),
        "an audit refuses nothing"
    );
    let done = ask(&enforced, &secret).await;
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("COMMAND_NOT_ALLOWED"), "{done:?}");
    // The session has ended: nothing is allowed any more.
    let done = ask(&enforced, &event("Bash", json!({"command": "cargo test"}))).await;
    assert_eq!(done.code, Some(2));
    let nobody = ask("/nonexistent/handle", &event("TodoWrite", json!({}))).await;
    assert_eq!(nobody.code, Some(2));
}

#[tokio::test]
async fn a_file_is_printed_as_the_manifest_has_it() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let handle = register(&daemon, &workspace, "s1", "--consume").await;
    let done = with(&ctl, &handle, &["cat", "src/main.rs"]).await;
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), "fn main() {}\n")
    );
    workspace.put("w/src/main.rs", "changed");
    let done = with(&ctl, &handle, &["cat", "src/main.rs"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (Some(77), ""));
    assert!(
        done.stderr.contains("not as the manifest has it"),
        "{done:?}"
    );
}

/// The one refinement that is pending.
/// The refinement of a session that waits for an answer, if there is one.
async fn pending(ctl: &Ctl, session: &str) -> Value {
    let args = ["refine", "list", "--state", "pending", "--session", session];
    ctl.json(&args).await["refinements"][0].clone()
}

#[tokio::test]
async fn a_miss_is_listed_watched_answered_and_refused() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let mut watch = Running::start(&mut ctl.command(&["--format", "jsonl", "refine", "watch"]));
    let handle = register(&daemon, &workspace, "s1", "--consume").await;
    let missed = with(&ctl, &handle, &["check", "read", "src/lib.rs"]).await;
    assert!(missed.stdout.contains("CONTEXT_MISS"), "{missed:?}");
    let told: Value = serde_json::from_str(&watch.line().await).unwrap();
    let asked = pending(&ctl, "s1").await;
    assert_eq!(told["refinement"], asked);
    let id = asked["refinementId"].as_str().unwrap();
    assert!(
        asked["missedPath"]
            .as_str()
            .unwrap()
            .ends_with("w/src/lib.rs")
    );

    let next = daemon.dirs().root().join("next");
    let (next, root) = (next.to_str().unwrap(), workspace.path("w"));
    let root = root.to_str().unwrap();
    let reissue = [
        "refine",
        "reissue",
        id,
        "--root",
        root,
        "--handle-out",
        next,
    ];
    let nothing_added = ctl.run(&reissue).await;
    assert_eq!(nothing_added.code, Some(64), "{nothing_added:?}");
    let directory = ctl.run(&[&reissue[..], &["--add", "src"]].concat()).await;
    assert_eq!(directory.code, Some(66), "{directory:?}");
    // The path as the refinement has it, absolute.
    let missed = asked["missedPath"].as_str().unwrap();
    ctl.ok(&[&reissue[..], &["--add", missed]].concat()).await;
    let session = own(&ctl, next, &["session", "lookup", "--own"]).await;
    assert_eq!(session["session"]["predecessorSessionId"], "s1");
    assert_eq!(
        with(&ctl, next, &["cat", "src/lib.rs"]).await.stdout,
        "// lib\n"
    );
    let late = ctl.run(&["refine", "decline", id]).await;
    assert_eq!(late.code, Some(6), "{late:?}");

    let handle = register(&daemon, &workspace, "s3", "--consume").await;
    with(&ctl, &handle, &["check", "read", "secret"]).await;
    let id = pending(&ctl, "s3").await["refinementId"].clone();
    let declined = ctl
        .json(&["refine", "decline", id.as_str().unwrap(), "--reason", "no"])
        .await;
    assert_eq!(declined["declineReason"], "no");
    let table = ctl.ok(&["refine", "list"]).await;
    assert!(
        table.contains("answered by") && table.contains("declined"),
        "{table}"
    );
}

/// A run in the workspace.
fn run(ctl: &Ctl, workspace: &Workspace, more: &[&str], script: &str) -> Running {
    let own = ["run", "--work-id", "w"];
    let args = workspace.args("--consume");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let line = [&own[..], &args, more, &["--", "sh", "-c", script]].concat();
    Running::start(ctl.command(&line).current_dir(workspace.path("w")))
}

#[tokio::test]
async fn a_run_that_misses_is_stopped_or_waits_for_its_successor() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let survives = ["--on-miss", "wait", "--on-denial", "continue"];
    let refused = run(&ctl, &workspace, &survives, "true").end().await;
    assert_eq!(refused.code, Some(125), "{refused:?}");
    let stopped = run(
        &ctl,
        &workspace,
        &[],
        "episodectl check read src/lib.rs; sleep 60",
    );
    assert_eq!(stopped.end().await.code, Some(124));

    // The child asks again with whatever handle it finds, until it is allowed.
    let script = "until episodectl check read src/lib.rs; do sleep 0.1; done; exit 5";
    let waits = run(
        &ctl,
        &workspace,
        &["--on-miss", "wait", "--session-id", "t"],
        script,
    );
    let asked = within(async {
        loop {
            let asked = pending(&ctl, "t").await;
            if asked.is_object() {
                return asked;
            }
        }
    })
    .await;
    let root = workspace.path("w");
    let args = ["refine", "reissue", asked["refinementId"].as_str().unwrap()];
    let more = [
        "--add",
        "src/lib.rs",
        "--root",
        root.to_str().unwrap(),
        "--handle-out",
    ];
    let handle = daemon.dirs().root().join("coordinators");
    let handle = handle.to_str().unwrap();
    ctl.ok(&[&args[..], &more, &[handle, "--session-id", "u"]].concat())
        .await;
    assert_eq!(waits.end().await.code, Some(5));
    let ended = ctl.json(&["session", "get", "u"]).await["session"].clone();
    assert_eq!(ended["termination"]["exitCode"], 5, "{ended}");
    assert_eq!(ended["predecessorSessionId"], "t");
    assert_eq!(ended["episodeId"], "run-t");
}
