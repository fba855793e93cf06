//! `episodectl` against the real daemon.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Ctl, Daemon, Dirs, Running, done};

mod errors;
pub mod firewall;
mod manifest;
mod secrets;
mod server;
mod streams;

/// Registers a session by name; the path of its handle file.
pub async fn register(daemon: &Daemon, session_id: &str, more: &[&str]) -> String {
    let handle = daemon.dirs().root().join(format!("handle-{session_id}"));
    let handle = handle.to_str().expect("it is text").to_owned();
    let args = ["session", "register", "--role", "reviewer", "--work-id"];
    let named = ["w", "--session-id", session_id, "--handle-out", &handle];
    let ctl = Ctl::new(daemon.dirs());
    ctl.ok(&[&args, &named[..], more].concat()).await;
    handle
}

/// Runs a command as the session of that handle file; its answer.
async fn own(ctl: &Ctl, handle: &str, args: &[&str]) -> Value {
    let args = [&["--format", "json"], args].concat();
    let mut command = ctl.command(&args);
    let done = done(command.env("EPISODE_HANDLE_FILE", handle)).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).expect("it is JSON")
}

#[tokio::test]
async fn a_session_from_its_registration_to_its_record() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let more = ["--label", "team=blue", "--idle", "5m", "--ttl", "1h"];
    let handle = register(&daemon, "s1", &more).await;

    let session = &ctl.json(&["session", "get", "s1"]).await["session"];
    assert_eq!(session["role"], "ROLE_REVIEWER");
    assert_eq!(session["labels"]["team"], "blue");
    assert_eq!(session["idleTimeout"], "300s");
    assert_eq!(session["status"], "SESSION_STATUS_ACTIVE");

    let bound = ["session", "bind", "s1", "--episode-id", "e1"];
    assert_eq!(ctl.json(&bound).await["session"]["episodeId"], "e1");
    let beat = ["session", "heartbeat", "--tool-calls", "7"];
    let beaten = own(&ctl, &handle, &beat).await;
    assert_eq!(beaten["status"], "SESSION_STATUS_ACTIVE");

    for key in [["--work-id", "w"], ["--episode-id", "e1"]] {
        let found = ctl.json(&[&["session", "lookup"], &key[..]].concat()).await;
        assert_eq!(found["session"]["sessionId"], "s1", "{key:?}");
    }
    let found = own(&ctl, &handle, &["session", "lookup", "--own"]).await;
    assert_eq!(found["session"]["counters"]["toolCalls"], "7");

    let update = [
        "session",
        "update",
        "s1",
        "--label",
        "phase=two",
        "--no-idle",
        "--no-deadline",
    ];
    let updated = &ctl.json(&update).await["session"];
    assert_eq!(updated["labels"], serde_json::json!({"phase": "two"}));
    assert!(updated.get("idleTimeout").is_none() && updated.get("expireTime").is_none());

    let stopped = ctl.json(&["session", "stop", "s1"]).await;
    assert_eq!(stopped["session"]["stopRequested"], true);
    let end = [
        "session",
        "terminate",
        "--exit-code",
        "3",
        "--tokens-consumed",
        "9",
    ];
    let record = &own(&ctl, &handle, &end).await["session"]["termination"];
    assert_eq!(record["reason"], "TERMINATION_REASON_NORMAL");
    assert_eq!(record["exitClassification"], "EXIT_CLASSIFICATION_FAILURE");
    assert_eq!(record["tokensConsumed"], "9");
    assert_eq!(record["counters"]["toolCalls"], "7");

    let history = ctl.json(&["session", "history", "s1"]).await;
    let kinds: Vec<_> = history["events"]
        .as_array()
        .expect("events")
        .iter()
        .collect();
    let kinds: Vec<_> = kinds
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    for (at, kind) in [
        (0, "EVENT_KIND_TERMINATED"),
        (kinds.len() - 1, "EVENT_KIND_CREATED"),
    ] {
        assert_eq!(kinds[at], kind, "{kinds:?}");
    }
}

#[tokio::test]
async fn a_registration_can_be_taken_back_until_it_is_used() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    register(&daemon, "s1", &[]).await;
    ctl.ok(&["session", "remove", "s1"]).await;
    assert_eq!(ctl.run(&["session", "get", "s1"]).await.code, Some(66));
    let handle = register(&daemon, "s2", &[]).await;
    own(&ctl, &handle, &["session", "heartbeat"]).await;
    let refused = ctl.run(&["session", "remove", "s2"]).await;
    assert_eq!(refused.code, Some(6));
    assert!(refused.stderr.contains("hint: "), "{refused:?}");
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_every_format() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for (id, label) in [("a", "n=1"), ("b", "n=2"), ("c", "n=1")] {
        register(&daemon, id, &["--label", label]).await;
    }
    ctl.ok(&["session", "terminate", "c"]).await;

    let whole = ctl.json(&["session", "list"]).await;
    assert_eq!(whole["sessions"].as_array().map(Vec::len), Some(3));
    assert!(whole["revision"].is_string(), "{whole}");
    let lines = [
        "session", "list", "--format", "jsonl", "--label", "n=1", "--status", "active",
    ];
    let lines = ctl.ok(&lines).await;
    let [line] = lines.lines().collect::<Vec<_>>()[..] else {
        panic!("one line: {lines}");
    };
    let session: Value = serde_json::from_str(line).expect("it is JSON");
    assert_eq!(session["sessionId"], "a");
    let table = ctl.ok(&["session", "list", "--limit", "2"]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.starts_with("SESSION  WORK  ROLE      STATUS"),
        "{table}"
    );
}

#[tokio::test]
async fn a_lease_ends_what_it_holds_and_survives_a_restart() {
    let mut daemon = Daemon::start().await;
    let lease = daemon.dirs().root().join("lease");
    let lease = lease.to_str().expect("it is text").to_owned();
    register(
        &daemon,
        "a",
        &["--new-lease-file", &lease, "--lease-holder", "blue"],
    )
    .await;
    register(&daemon, "b", &["--lease-file", &lease]).await;
    register(&daemon, "free", &[]).await;
    daemon.restart().await;
    let ctl = Ctl::new(daemon.dirs());
    let state = async |id| ctl.json(&["session", "get", id]).await["session"]["leaseState"].clone();
    assert_eq!(state("a").await, "LEASE_STATE_REVOKED");
    let renewed = ctl
        .json(&["session", "renew", "--lease-file", &lease])
        .await;
    assert_eq!(renewed["renewed"], "2");
    assert_eq!(state("b").await, "LEASE_STATE_HELD");

    let end = ["session", "terminate", "--lease", "--lease-file", &lease];
    let would = ctl.json(&[&end[..], &["--dry-run"]].concat()).await;
    assert_eq!(would["sessionIds"], serde_json::json!(["b", "a"]));
    let ended = ctl.json(&end).await;
    assert_eq!(ended["sessionIds"], would["sessionIds"]);
    let live = ctl
        .ok(&["session", "list", "--status", "active", "--format", "jsonl"])
        .await;
    assert_eq!(live.lines().count(), 1, "{live}");
}

#[tokio::test]
async fn completions_and_manual_pages_come_out_of_the_commands() {
    let dirs = Dirs::new();
    let ctl = Ctl::new(&dirs);
    for shell in ["bash", "zsh", "fish"] {
        assert!(ctl.ok(&["completions", shell]).await.contains("terminate"));
    }
    assert!(ctl.ok(&["man"]).await.contains(".TH episodectl"));
    let pages = dirs.root().join("man");
    ctl.ok(&["man", pages.to_str().expect("it is text")]).await;
    assert!(pages.join("episodectl-session-register.1").exists());
}

/// Whether a text of a file occurs in another text.
fn holds(text: &str, secret_file: &Path) -> bool {
    let secret = std::fs::read_to_string(secret_file).expect("it is written");
    assert!(secret.trim().len() > 30, "it is a secret");
    text.contains(secret.trim())
}

/// A watch that has begun: its first line is there.
async fn watching(ctl: &Ctl, args: &[&str]) -> Running {
    Running::start(&mut ctl.command(&[&["session", "watch", "--format", "jsonl"], args].concat()))
}
