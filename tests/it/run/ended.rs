//! A run whose session is ended, or asked to stop, by somebody else.

use std::path::Path;

use super::{Ctl, Daemon, left_behind, session, start};

#[tokio::test]
async fn a_command_whose_session_was_ended_is_ended_too() {
    let daemon = Daemon::start().await;
    let mut run = start(
        &daemon,
        &[],
        "trap 'echo term; exit 9' TERM; echo ready; read x",
    );
    assert_eq!(run.line().await, "ready");
    Ctl::new(daemon.dirs())
        .ok(&["session", "terminate", "s"])
        .await;
    assert_eq!(run.line().await, "term");
    let ran = run.exited().await;
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(ran.stderr.contains("session was ended"), "{ran:?}");
    assert_eq!(
        session(&daemon).await["termination"]["rationale"],
        "operator"
    );
    assert!(left_behind(&daemon).is_empty());
}

#[tokio::test]
async fn what_does_not_end_is_killed_with_everything_it_started() {
    let daemon = Daemon::start().await;
    let script = "trap '' TERM; sleep 1000 & echo $$; echo $!; while :; do wait; done";
    let mut run = start(&daemon, &["--kill-after", "100ms"], script);
    let pids = [run.line().await, run.line().await];
    Ctl::new(daemon.dirs())
        .ok(&["session", "terminate", "s"])
        .await;
    let ran = run.exited().await;
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(ran.stderr.contains("SIGKILL"), "{ran:?}");
    for pid in pids {
        assert!(!runs(&pid), "{pid} still runs");
    }
}

#[tokio::test]
async fn a_group_is_killed_after_its_leader_has_ended() {
    let daemon = Daemon::start().await;
    let script = "trap 'exit 0' TERM; (trap '' TERM; exec sleep 1000 >&2) & echo $!; read x";
    let mut run = start(&daemon, &["--kill-after", "100ms"], script);
    let pid = run.line().await;
    Ctl::new(daemon.dirs())
        .ok(&["session", "terminate", "s"])
        .await;
    assert_eq!(run.exited().await.code, Some(124));
    assert!(!runs(&pid), "{pid} still runs");
}

#[tokio::test]
async fn a_requested_stop_ends_the_command_and_its_session_is_cancelled() {
    let daemon = Daemon::start().await;
    for (script, code, classification) in [
        ("echo ready; read x", 143, "EXIT_CLASSIFICATION_CANCELLED"),
        (
            "trap 'exit 0' TERM; echo ready; read x",
            0,
            "EXIT_CLASSIFICATION_SUCCESS",
        ),
    ] {
        let daemon_dirs = Ctl::new(daemon.dirs());
        let id = format!("s{code}");
        let args = [
            "run",
            "--work-id",
            "w",
            "--session-id",
            &id,
            "--",
            "sh",
            "-c",
            script,
        ];
        let mut run = super::Running::start(&mut daemon_dirs.command(&args));
        assert_eq!(run.line().await, "ready");
        daemon_dirs.ok(&["session", "stop", &id]).await;
        assert_eq!(run.exited().await.code, Some(code), "{script}");
        let answer = daemon_dirs.json(&["session", "get", &id]).await;
        let record = &answer["session"]["termination"];
        assert_eq!(record["exitClassification"], classification, "{script}");
    }
}

#[tokio::test]
async fn an_end_while_nobody_could_see_it_is_seen_afterwards() {
    let mut daemon = Daemon::start().await;
    let mut run = start(&daemon, &[], "echo ready; read x");
    assert_eq!(run.line().await, "ready");
    daemon.restart().await;
    Ctl::new(daemon.dirs())
        .ok(&["session", "terminate", "s"])
        .await;
    assert_eq!(run.exited().await.code, Some(124));
}

#[tokio::test]
async fn a_daemon_that_terminates_at_a_restart_ends_the_command() {
    let builder = Daemon::builder().args(["--recovery", "terminate"]);
    let mut daemon = builder.start().await;
    let mut run = start(&daemon, &[], "echo ready; exec sleep 1000");
    assert_eq!(run.line().await, "ready");
    daemon.kill9();
    daemon.restart().await;
    let ran = run.exited().await;
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert_eq!(
        session(&daemon).await["termination"]["rationale"],
        "daemon_restart"
    );
}

/// Whether the process runs; one that has ended and was not yet reaped does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
