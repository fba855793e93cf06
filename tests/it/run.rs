//! `episodectl run` against the real daemon.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ctl, Daemon, Preload, Running, done};

mod confined;
mod ended;
mod terminal;

/// The command line of a run as session `s`, which a test can look at.
fn line<'a>(more: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    let own = ["run", "--work-id", "w", "--session-id", "s"];
    [&own, more, &["--"], command].concat()
}

fn start(daemon: &Daemon, more: &[&str], script: &str) -> Running {
    let ctl = Ctl::new(daemon.dirs());
    Running::start(&mut ctl.command(&line(more, &["sh", "-c", script])))
}

/// The session of the run, as the operator sees it.
async fn session(daemon: &Daemon) -> Value {
    let ctl = Ctl::new(daemon.dirs());
    ctl.json(&["session", "get", "s"]).await["session"].clone()
}

/// What is left of runs in the runtime directory.
fn left_behind(daemon: &Daemon) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.dirs().runtime()).expect("it is there");
    entries
        .map(|entry| {
            entry
                .expect("it is listed")
                .file_name()
                .into_string()
                .unwrap()
        })
        .filter(|name| name.starts_with("run-"))
        .collect()
}

#[tokio::test]
async fn the_session_ends_as_the_command_did() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for (number, (script, code, reason, classification)) in [
        ("exit 0", 0, "normal", "EXIT_CLASSIFICATION_SUCCESS"),
        ("exit 3", 3, "normal", "EXIT_CLASSIFICATION_FAILURE"),
        ("kill -SEGV $$", 139, "crash", "EXIT_CLASSIFICATION_FAILURE"),
        ("kill -TERM $$", 143, "crash", "EXIT_CLASSIFICATION_FAILURE"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("s{number}");
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
        let ran = ctl.run(&args).await;
        assert_eq!(ran.code, Some(code), "{script}: {ran:?}");
        let answer = ctl.json(&["session", "get", &id]).await;
        let session = &answer["session"];
        assert_eq!(session["episodeId"], format!("run-{id}"));
        let record = &session["termination"];
        assert_eq!(record["rationale"], reason, "{script}");
        assert_eq!(record["exitClassification"], classification, "{script}");
        assert_eq!(record["exitCode"], code, "{script}");
    }
    assert!(left_behind(&daemon).is_empty());
}

#[tokio::test]
async fn a_command_that_cannot_be_started_leaves_no_session() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for (program, code) in [
        ("/nowhere/tool", 127),
        ("no-such-tool", 127),
        ("/etc/passwd", 126),
    ] {
        let ran = ctl.run(&line(&[], &[program])).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains(program), "{ran:?}");
        assert_eq!(ctl.run(&["session", "get", "s"]).await.code, Some(66));
    }
    assert!(left_behind(&daemon).is_empty());
}

#[tokio::test]
async fn a_run_that_fails_before_the_start_is_125() {
    let mut daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let command = line(&["--exclusive", "--session-id", "t"], &["true"]);
    let first = start(&daemon, &[], "echo ready; read x").line().await;
    assert_eq!(first, "ready");
    let args = ["run", "--work-id", "w", "--exclusive", "--", "true"];
    let busy = ctl.run(&args).await;
    assert_eq!(busy.code, Some(125), "{busy:?}");
    assert!(busy.stderr.contains("WORK_BUSY"), "{busy:?}");
    daemon.kill9();
    let away = ctl.run(&line(&[], &["true"])).await;
    assert_eq!(away.code, Some(125), "{away:?}");
    assert_eq!(ctl.run(&command).await.code, Some(64), "given twice");
}

#[tokio::test]
async fn the_command_speaks_for_its_session_and_for_nothing_else() {
    let daemon = Daemon::start().await;
    let script = r#"
        stat -c %a "$EPISODE_HANDLE_FILE" "$(dirname "$EPISODE_HANDLE_FILE")"
        env | sort | grep ^EPISODE_ | cut -d= -f1
        episodectl --format jsonl session lookup --own
        cat "$EPISODE_HANDLE_FILE""#;
    let ctl = Ctl::new(daemon.dirs());
    let mut command = ctl.command(&line(&[], &["sh", "-c", script]));
    // What was given to the one who runs it must not reach the command.
    command.env("EPISODE_HANDLE", "H-00000000-0000-4000-8000-000000000000");
    let lease = daemon.dirs().root().join("lease");
    std::fs::write(&lease, "the-lease-of-the-one-who-runs-it").expect("it is written");
    let ran = done(command.env("EPISODE_LEASE_FILE", &lease)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[..2], ["600", "700"]);
    assert_eq!(
        lines[2..5],
        [
            "EPISODE_HANDLE_FILE",
            "EPISODE_SESSION_ID",
            "EPISODE_SOCKET"
        ]
    );
    let own: Value = serde_json::from_str(lines[5]).expect("it is JSON");
    assert_eq!(own["session"]["sessionId"], "s");
    assert_eq!(own["session"]["leaseState"], "LEASE_STATE_HELD");
    assert!(lines[6].starts_with("H-") && !ran.stderr.contains(lines[6]));
    assert!(!daemon.logs().contains(lines[6]));
    let mut dead = ctl.command(&["session", "heartbeat"]);
    assert_eq!(
        done(dead.env("EPISODE_HANDLE", lines[6])).await.code,
        Some(77)
    );
}

#[tokio::test]
async fn signals_go_on_to_the_command() {
    let daemon = Daemon::start().await;
    let script = r#"trap "echo one" USR1; trap "echo two; exit 0" USR2; echo ready
        while :; do read x; done"#;
    let mut run = start(&daemon, &[], script);
    assert_eq!(run.line().await, "ready");
    for (signal, said) in [(Signal::USR1, "one"), (Signal::USR2, "two")] {
        run.signal(signal);
        assert_eq!(run.line().await, said);
    }
    assert_eq!(run.exited().await.code, Some(0));
    let record = session(&daemon).await["termination"].clone();
    assert_eq!(record["exitClassification"], "EXIT_CLASSIFICATION_SUCCESS");
}

#[tokio::test]
async fn a_command_ended_by_a_signal_that_went_on_was_cancelled() {
    let daemon = Daemon::start().await;
    let mut run = start(&daemon, &[], "echo ready; read x");
    assert_eq!(run.line().await, "ready");
    run.signal(Signal::TERM);
    assert_eq!(run.exited().await.code, Some(143));
    let record = session(&daemon).await["termination"].clone();
    assert_eq!(
        record["exitClassification"],
        "EXIT_CLASSIFICATION_CANCELLED"
    );
    assert_eq!(
        (&record["rationale"], &record["exitCode"]),
        (&"normal".into(), &143.into())
    );
    assert!(left_behind(&daemon).is_empty());
}

#[tokio::test]
async fn heartbeats_outlast_the_idle_timeout_and_a_rotated_handle() {
    let daemon = Daemon::start().await;
    let script = "episodectl session rotate --discard-handle >&2; sleep 5; exit 7";
    let ran = start(&daemon, &["--idle", "2s"], script).end().await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert_eq!(session(&daemon).await["termination"]["rationale"], "normal");
}

#[tokio::test]
async fn the_help_of_run_tells_how_long_a_command_has_when_its_session_has_ended() {
    let daemon = Daemon::start().await;
    let help = Ctl::new(daemon.dirs()).ok(&["run", "--help"]).await;
    let at = help.find("--kill-after").expect("it is there");
    assert!(
        help[at..]
            .split("--on-miss")
            .next()
            .is_some_and(|of| of.contains("[default: 10s]"))
    );
}

/// A daemon that stands still answers nobody.
#[tokio::test]
async fn a_command_waits_no_longer_than_for_its_timeout() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    ctl.ok(&["--timeout", "1s", "session", "list"]).await;
    daemon.running().freeze();
    let late = ctl.run(&["--timeout", "1s", "session", "list"]);
    let late = tokio::time::timeout(Duration::from_secs(5), late).await;
    let late = late.expect("within five times its timeout");
    assert_ne!(late.code, Some(0), "{late:?}");
    assert!(late.stdout.is_empty(), "{late:?}");
}

#[tokio::test]
async fn what_was_ignored_at_the_start_stays_so_and_other_signals_are_passed_on() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    // What is ignored when a shell starts cannot be trapped, so nobody asks for more.
    let script = "trap 'echo alarm' ALRM; echo ready; until read x; do :; done; exit 7";
    let run = line(&[], &["sh", "-c", script]);
    let ignoring = r#"trap '' HUP; exec episodectl "$@""#;
    let mut command = ctl.other("sh");
    command.args(["-c", ignoring, "_"]).args(run);
    let mut run = Running::start(&mut command);
    assert_eq!(run.line().await, "ready");
    run.signal(Signal::HUP);
    run.signal(Signal::ALARM);
    assert_eq!(run.line().await, "alarm");
    run.write("over\n").await;
    assert_eq!(run.exited().await.code, Some(7));
    assert_eq!(session(&daemon).await["termination"]["exitCode"], 7);
}

/// Its timers run ten times as fast. What is promised within ten seconds is there
/// within five times that.
#[tokio::test]
async fn a_run_idles_out_after_a_minute_and_is_heard_of_every_ten_seconds() {
    let daemon = Daemon::start().await;
    let hurried = Preload::compile("transport/hurried.c");
    let ctl = Ctl::new(daemon.dirs());
    let mut command = ctl.command(&line(&[], &["sh", "-c", "read x"]));
    command.env("LD_PRELOAD", hurried.path()).env("HURRY", "10");
    let mut run = Running::start(&mut command);
    bound(&daemon).await;
    assert_eq!(session(&daemon).await["idleTimeout"], "60s");
    let at = async || session(&daemon).await["lastActivityTime"].clone();
    let beats = async {
        for _ in 0..2 {
            let before = at().await;
            while at().await == before {}
        }
    };
    let beaten = tokio::time::timeout(Duration::from_secs(2 * 5), beats).await;
    beaten.expect("it is heard of");
    run.write("over\n").await;
    assert_eq!(run.exited().await.code, Some(0));
}

#[tokio::test]
async fn a_command_that_ends_its_own_session_may_finish() {
    let daemon = Daemon::start().await;
    let script = "episodectl session terminate --tokens-consumed 5 >&2; echo over; read x; exit 7";
    let mut run = start(&daemon, &[], script);
    assert_eq!(run.line().await, "over");
    assert_eq!(run.end().await.code, Some(7));
    assert_eq!(session(&daemon).await["termination"]["tokensConsumed"], "5");
}

/// Waits until the run has bound its command.
async fn bound(daemon: &Daemon) {
    let args = ["session", "watch", "--from", "0", "--session-id", "s"];
    let mut watch = Running::start(&mut Ctl::new(daemon.dirs()).command(&args));
    while !watch.line().await.contains("  bound  ") {}
}

#[tokio::test]
async fn the_command_outlives_the_daemon_and_its_end_is_told_to_the_next_one() {
    let mut daemon = Daemon::start().await;
    let mut run = start(&daemon, &[], "echo ready; read x; echo $x; exit 4");
    assert_eq!(run.line().await, "ready");
    bound(&daemon).await;
    daemon.kill9();
    run.write("on it goes\n").await;
    assert_eq!(run.line().await, "on it goes");
    daemon.restart().await;
    let ran = run.exited().await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert_eq!(session(&daemon).await["termination"]["exitCode"], 4);
    assert!(left_behind(&daemon).is_empty());
}
