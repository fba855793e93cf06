//! `run --confine`: what a command could get at, and cannot.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::cli::firewall::Workspace;
use crate::harness::{Ctl, Daemon, Done, EPISODECTL, Running, done, need_command};

const ATTACK: &str = include_str!("attack.py");

/// What the command has of its own, whether or not it is confined.
const OWN: [&str; 4] = [
    "own handle",
    "own session",
    "own session.sock",
    "own workspace",
];

/// What it gets at when it is not confined, at least.
const WITHIN_REACH: [&str; 13] = [
    "reached a file descriptor of its parent",
    "reached a name of the daemon's",
    "reached a process outside",
    "reached another's handle by another process",
    "reached another's handle by its path",
    "reached another's session",
    "reached operator.sock by another process",
    "reached operator.sock by episodectl",
    "reached operator.sock by its path",
    "reached operator.sock by a symlink",
    "reached the place of session.sock",
    "reached the registry by a symlink",
    "reached the registry by its path",
];

/// Runs the attack in a workspace; each of its lines.
async fn attack(daemon: &Daemon, id: &str, more: &[&str]) -> (BTreeSet<String>, Done) {
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let victim = format!("victim-of-{id}");
    let handle = crate::cli::register(daemon, &victim, &[]).await;
    workspace.put("w/attack.py", ATTACK);
    std::fs::create_dir(workspace.path("w/bin")).expect("it is made");
    std::fs::copy(EPISODECTL, workspace.path("w/bin/episodectl")).expect("it is copied");
    let places = json!({
        "operator": daemon.operator_socket(),
        "registry": daemon.dirs().state().join("registry.db"),
        "handle": handle,
        "pid": std::process::id(),
        "session": victim,
    });
    let args = workspace.args("--consume");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let own = ["run", "--work-id", "w", "--session-id", id];
    let command = ["--", "python3", "attack.py"];
    let mut run = ctl.other("sh");
    // With a descriptor that is open by mistake.
    run.args(["-c", "exec 9</dev/null; exec episodectl \"$@\"", "sh"]);
    run.args([&own, &args[..], more, &command].concat());
    run.current_dir(workspace.path("w"));
    let ran = done(run.env("ATTACK", places.to_string())).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (ran.stdout.lines().map(str::to_owned).collect(), ran)
}

#[tokio::test]
async fn a_confined_command_gets_at_nothing_but_its_own() {
    if !need_command("bwrap") || !need_command("python3") {
        return;
    }
    let daemon = Daemon::start().await;
    assert!(daemon.dirs().state().join("registry.db").exists());
    let (confined, ran) = attack(&daemon, "confined", &["--confine"]).await;
    let again = OWN.map(|own| format!("inside another namespace: {own}"));
    let own: BTreeSet<String> = OWN.map(str::to_owned).into_iter().chain(again).collect();
    assert!(confined.is_subset(&own), "{confined:#?} {}", ran.stderr);
    for own in OWN {
        assert!(confined.contains(own), "{own}: {ran:?}");
    }
    let ctl = Ctl::new(daemon.dirs());
    let victim = ctl.json(&["session", "get", "victim-of-confined"]).await;
    assert_eq!(victim["session"]["status"], "SESSION_STATUS_ACTIVE");

    // The same without: the attack can reach what it tries to.
    let (free, ran) = attack(&daemon, "free", &[]).await;
    for reached in WITHIN_REACH.into_iter().chain(OWN) {
        assert!(free.contains(reached), "{reached}: {ran:?}");
    }
}

#[tokio::test]
async fn a_confined_command_ends_as_it_does_without() {
    if !need_command("bwrap") {
        return;
    }
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let args = workspace.args("--consume");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let own = ["run", "--work-id", "w", "--confine", "--session-id"];
    let line = |id: &'static str, command: &[&'static str]| {
        [&own[..], &[id], &args, &["--"], command].concat()
    };
    workspace.put("w/data", "no program");
    for (id, command, code) in [
        ("a", &["sh", "-c", "exit 3"][..], 3),
        ("b", &["sh", "-c", "kill -TERM $$"], 143),
        ("c", &["no-such-program"], 127),
        ("d", &["/nowhere/program"], 127),
        ("e", &["/etc/shadow"], 127),
        ("f", &["./data"], 126),
    ] {
        let ran = ctl.run(&line(id, command)).await;
        assert_eq!(ran.code, Some(code), "{command:?} {ran:?}");
    }
    let mut nowhere = ctl.command(&line("g", &["true"]));
    let ran = done(nowhere.env("PATH", "/nonexistent")).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");

    // It is asked, and has its time.
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    for (id, ended_by_session) in [("s", true), ("t", false)] {
        let command = ["sh", "-c", script];
        let mut running = Running::start(&mut ctl.command(&line(id, &command)));
        assert_eq!(running.line().await, "ready");
        if ended_by_session {
            ctl.ok(&["session", "terminate", id]).await;
        } else {
            running.signal(rustix::process::Signal::TERM);
        }
        assert_eq!(running.line().await, "asked");
        let code = if ended_by_session { 124 } else { 9 };
        assert_eq!(running.end().await.code, Some(code));
    }
}

#[tokio::test]
async fn what_the_daemon_says_is_its_own_is_guarded_wherever_it_lies() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let manifest = workspace.path("m.json");
    let (manifest, state) = (manifest.to_str().expect("text"), daemon.dirs().state());
    let socket = daemon.operator_socket();
    let args = [
        "--socket",
        socket.to_str().expect("text"),
        "run",
        "--work-id",
        "w",
        "--consume",
    ];
    let root = [
        "--workspace-root",
        state.to_str().expect("text"),
        "--manifest",
        manifest,
    ];
    let line = [&args[..], &root, &["--confine", "--", "true"]].concat();
    let mut command = ctl.command(&line);
    let elsewhere = tempfile::tempdir().expect("a directory");
    command
        .env_remove("EPISODED_STATE_DIR")
        .env("HOME", elsewhere.path());
    let ran = done(&mut command).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("is the daemon's"), "{ran:?}");
}

#[tokio::test]
async fn a_workspace_that_holds_what_is_the_daemons_is_refused() {
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let manifest = workspace.path("m.json");
    let manifest = manifest.to_str().expect("it is text");
    let refused = async |root: &Path, more: &[&str]| {
        let root = root.to_str().expect("it is text");
        let own = ["run", "--work-id", "w", "--session-id", "s", "--consume"];
        let firewall = [
            "--manifest",
            manifest,
            "--workspace-root",
            root,
            "--confine",
        ];
        let ran = ctl
            .run(&[&own, &firewall[..], more, &["--", "true"]].concat())
            .await;
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.stderr.contains("is the daemon's"), "{ran:?}");
        let unknown = ctl.run(&["session", "get", "s"]).await;
        assert_ne!(unknown.code, Some(0), "no session is left: {unknown:?}");
    };
    refused(daemon.dirs().root(), &[]).await;
    refused(&daemon.dirs().state(), &[]).await;
    refused(Path::new("/"), &[]).await;
    let runtime = daemon.dirs().runtime();
    let runtime = runtime.to_str().expect("it is text");
    refused(&workspace.path("w"), &["--confine-read", runtime]).await;
}

#[tokio::test]
async fn a_confined_command_writes_in_its_workspace() {
    if !need_command("bwrap") {
        return;
    }
    let daemon = Daemon::start().await;
    let (ctl, workspace) = (Ctl::new(daemon.dirs()), Workspace::new());
    let args = workspace.args("--consume");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let readable = Path::new(EPISODECTL).parent().expect("it has one");
    let own = ["run", "--work-id", "w", "--confine", "--confine-read"];
    let readable = [readable.to_str().expect("it is text")];
    let script =
        "echo 'new' > made && episodectl check read src/main.rs && test ! -w /usr && exit 7";
    let command = ["--", "sh", "-c", script];
    let line = [&own, &readable[..], &args, &command].concat();
    let ran = done(&mut ctl.command(&line)).await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stdout.starts_with("ALLOW "), "{ran:?}");
    let made = std::fs::read_to_string(workspace.path("w/made"));
    assert_eq!(made.expect("it was written"), "new\n");
}
