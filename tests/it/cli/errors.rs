//! What a user is told, and the exit code.

use serde_json::Value;

use super::register;
use crate::harness::{Ctl, Daemon, Dirs, done, need_root};

#[tokio::test]
async fn every_failure_has_its_exit_code_and_a_hint() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    register(&daemon, "live", &[]).await;
    register(&daemon, "ended", &[]).await;
    ctl.ok(&["session", "terminate", "ended"]).await;
    for (code, reason, line) in [
        (66, "SESSION_NOT_FOUND", "session get nobody"),
        (6, "SESSION_TERMINATED", "session stop ended"),
        (75, "STALE_ETAG", "session stop live --etag 1"),
        (65, "REVISION_UNKNOWN", "session watch --from 999999"),
        (
            65,
            "SESSION_EXISTS",
            "session register --work-id w --role reviewer --session-id live --discard-handle",
        ),
        (
            6,
            "WORK_BUSY",
            "session register --work-id w --role reviewer --exclusive --discard-handle",
        ),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let failed = ctl.run(&args).await;
        assert_eq!(failed.code, Some(code), "{line}: {failed:?}");
        assert!(failed.stdout.is_empty(), "{line}: {failed:?}");
        assert!(failed.stderr.contains(reason), "{line}: {failed:?}");
        assert!(failed.stderr.contains("\nhint: "), "{line}: {failed:?}");
    }
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let line = "--format json session register --work-id a/b --role reviewer --session-id ? --discard-handle";
    let failed = ctl.run(&line.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(failed.code, Some(65));
    let error: Value = serde_json::from_str(&failed.stderr).expect("one object");
    let members: Vec<_> = error.as_object().expect("an object").keys().collect();
    assert_eq!(
        members,
        ["code", "fieldViolations", "message", "metadata", "reason"]
    );
    assert_eq!(error["code"], "INVALID_ARGUMENT");
    let fields = error["fieldViolations"].as_array().expect("fields");
    assert_eq!(fields.len(), 2, "{error}");
}

#[tokio::test]
async fn a_wrong_command_line_is_64_and_nothing_on_stdout() {
    let dirs = Dirs::new();
    let ctl = Ctl::new(&dirs);
    for line in [
        "",
        "session",
        "sesion list",
        "session list --limit x",
        "session list --format yaml",
        "session lookup",
        "session lookup --own --work-id w",
        "session heartbeat",
        "session update s",
        "session terminate --dry-run",
        "session renew",
        "session terminate --work-id w --exit-code 3",
        "session register --work-id w --role painter --discard-handle",
        "session register --work-id w --role reviewer",
        "session register --work-id w --role reviewer --discard-handle --label broken",
        "session register --work-id w --role reviewer --discard-handle --label a=1 --label a=2",
        "session register --work-id w --role reviewer --discard-handle --ttl 5",
        "session register --work-id w --role reviewer --discard-handle --ttl 5m --expire-at 2030-01-01T00:00:00Z",
        "run --work-id w",
        "session register --work-id w --role reviewer --discard-handle --session-id ''",
        "session renew '' --lease-file lease",
        "session terminate ''",
        "session history ''",
    ] {
        let words = line.split_whitespace();
        let args: Vec<_> = words.map(|word| word.trim_matches('\'')).collect();
        let failed = ctl.run(&args).await;
        assert_eq!(failed.code, Some(64), "{line}: {failed:?}");
        assert!(failed.stdout.is_empty(), "{line}: {failed:?}");
        assert!(!failed.stderr.is_empty(), "{line}");
    }
}

#[tokio::test]
async fn no_daemon_is_69_and_how_to_start_it() {
    let dirs = Dirs::new();
    let failed = Ctl::new(&dirs).run(&["session", "list"]).await;
    assert_eq!(failed.code, Some(69), "{failed:?}");
    assert!(
        failed.stderr.contains("systemctl --user start episoded"),
        "{failed:?}"
    );
    let json = Ctl::new(&dirs)
        .run(&["server", "info", "--format", "json"])
        .await;
    let error: Value = serde_json::from_str(&json.stderr).expect("one object");
    assert_eq!(
        (&error["code"], &error["reason"]),
        (&"UNAVAILABLE".into(), &Value::Null)
    );
}

#[tokio::test]
async fn a_daemon_of_another_user_is_said_to_be_one() {
    if !need_root() {
        return;
    }
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let mut command = ctl.command(&["session", "list"]);
    let refused = done(command.uid(54321).gid(54321)).await;
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert!(refused.stderr.contains("PEER_MISMATCH"), "{refused:?}");
}

#[tokio::test]
async fn the_handle_decides_the_socket_and_a_bad_one_is_77() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let handle = register(&daemon, "s", &[]).await;
    for (socket, code) in [(daemon.session_socket(), 0), ("/nowhere".into(), 69)] {
        let mut command = ctl.command(&["session", "lookup", "--own"]);
        command.env("EPISODE_HANDLE_FILE", &handle);
        assert_eq!(
            done(command.env("EPISODE_SOCKET", socket)).await.code,
            Some(code)
        );
    }
    ctl.ok(&["session", "rotate", "s", "--discard-handle"])
        .await;
    let mut command = ctl.command(&["session", "heartbeat"]);
    let refused = done(command.env("EPISODE_HANDLE_FILE", &handle)).await;
    assert_eq!(refused.code, Some(77));
    assert!(
        refused.stderr.contains("HANDLE_NOT_ACCEPTED"),
        "{refused:?}"
    );
}
