//! Watching and waiting, across restarts of the daemon, and pipes that close.

use std::process::Stdio;

use serde_json::Value;

use super::{register, watching};
use crate::harness::{Ctl, Daemon, Running, within};

async fn event(watch: &mut Running) -> (u64, String) {
    let event: Value = serde_json::from_str(&watch.line().await).expect("it is JSON");
    let revision = event["revision"].as_str().expect("a string").parse();
    let kind = event["kind"].as_str().unwrap_or_default().to_owned();
    (revision.expect("a number"), kind)
}

#[tokio::test]
async fn a_watch_sees_each_event_once_whatever_happens_to_the_daemon() {
    let mut daemon = Daemon::start().await;
    let mut watch = watching(&Ctl::new(daemon.dirs()), &["--from", "0"]).await;
    // A watch that was never open does not outlive the daemon.
    let mut seen = vec![event(&mut watch).await];
    for id in ["a", "b", "c"] {
        register(&daemon, id, &[]).await;
        daemon.restart().await;
    }
    while seen
        .iter()
        .filter(|(_, kind)| kind == "EVENT_KIND_RESTARTED")
        .count()
        < 4
    {
        seen.push(event(&mut watch).await);
    }
    for kind in ["EVENT_KIND_CREATED", "EVENT_KIND_RESTARTED"] {
        let of_kind: Vec<_> = seen.iter().filter(|(_, found)| found == kind).collect();
        assert!(
            of_kind.windows(2).all(|two| two[0].0 < two[1].0),
            "{seen:?}"
        );
    }
    let created = seen.iter().filter(|(_, kind)| kind == "EVENT_KIND_CREATED");
    assert_eq!(created.count(), 3, "{seen:?}");
}

#[tokio::test]
async fn a_watch_can_begin_with_what_lives() {
    let daemon = Daemon::start().await;
    register(&daemon, "a", &["--label", "n=1"]).await;
    register(&daemon, "b", &["--label", "n=2"]).await;
    let args = ["--snapshot", "--label", "n=2"];
    let mut watch = watching(&Ctl::new(daemon.dirs()), &args).await;
    let first: Value = serde_json::from_str(&watch.line().await).expect("it is JSON");
    assert_eq!(first["snapshot"]["sessionId"], "b");
    let ctl = Ctl::new(daemon.dirs());
    ctl.ok(&["session", "stop", "a"]).await;
    ctl.ok(&["session", "stop", "b"]).await;
    assert_eq!(event(&mut watch).await.1, "EVENT_KIND_STOP_REQUESTED");
}

#[tokio::test]
async fn a_wait_ends_as_the_sessions_did() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for (id, classification) in [
        ("good", "success"),
        ("bad", "failure"),
        ("gone", "cancelled"),
    ] {
        register(&daemon, id, &[]).await;
        ctl.ok(&[
            "session",
            "terminate",
            id,
            "--classification",
            classification,
        ])
        .await;
    }
    register(&daemon, "removed", &[]).await;
    ctl.ok(&["session", "remove", "removed"]).await;
    for (ids, code) in [
        (&["good"][..], 0),
        (&["good", "good"], 0),
        (&["good", "bad", "gone"], 1),
        (&["good", "gone"], 3),
        (&["removed"], 3),
        (&["never-was"], 3),
    ] {
        let waited = ctl.run(&[&["session", "wait"], ids].concat()).await;
        assert_eq!(waited.code, Some(code), "{ids:?}: {waited:?}");
    }
}

#[tokio::test]
async fn a_wait_outlives_the_daemon() {
    let mut daemon = Daemon::start().await;
    for id in ["a", "b"] {
        register(&daemon, id, &[]).await;
    }
    let ctl = Ctl::new(daemon.dirs());
    let args = ["session", "wait", "a", "b", "--format", "jsonl"];
    let mut wait = Running::start(&mut ctl.command(&args));
    let end = |id| ["session", "terminate", id, "--classification", "success"];
    ctl.ok(&end("a")).await;
    assert!(wait.line().await.contains(r#""sessionId":"a""#));
    daemon.kill9();
    daemon.restart().await;
    ctl.ok(&end("b")).await;
    let done = wait.end().await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("waiting for the daemon"), "{done:?}");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = Daemon::start().await;
    register(&daemon, "a", &[]).await;
    let ctl = Ctl::new(daemon.dirs());
    for args in [
        &["session", "list"][..],
        &["export"],
        &["server", "info", "--format", "json"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["session", "watch", "--from", "0"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe is made");
        drop(reader);
        let mut command = ctl.command(args);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
        drop(command);
        let ended = child.expect("it starts").wait_with_output();
        let output = within(ended).await.expect("the child is ours");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).replace("hint", "");
        assert!(
            !stderr.contains("pipe") && !stderr.contains("panic"),
            "{stderr}"
        );
    }
}
