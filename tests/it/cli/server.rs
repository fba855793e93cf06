//! Start, stop, backup and export of a daemon.

use std::path::Path;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tokio::net::UnixListener;

use super::register;
use crate::harness::{Ctl, Daemon, Dirs};

#[tokio::test]
async fn a_daemon_is_started_once_and_stopped_once() {
    let dirs = Dirs::new();
    let ctl = Ctl::new(&dirs);
    let two = [["server", "start"]; 2];
    let (one, other) = tokio::join!(ctl.run(&two[0]), ctl.run(&two[1]));
    assert_eq!(
        (one.code, other.code),
        (Some(0), Some(0)),
        "{one:?} {other:?}"
    );
    let pid = ctl.json(&["server", "info"]).await["pid"].clone();
    let again = ctl.run(&["server", "start"]).await;
    assert!(
        again.code == Some(0) && again.stderr.contains("already running"),
        "{again:?}"
    );
    assert_eq!(ctl.json(&["server", "info"]).await["pid"], pid);

    ctl.ok(&["server", "stop"]).await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    let again = ctl.run(&["server", "stop"]).await;
    assert!(
        again.code == Some(0) && again.stderr.contains("not running"),
        "{again:?}"
    );
    ctl.ok(&["server", "start"]).await;
    assert_eq!(ctl.json(&["server", "info"]).await["incarnation"], "2");
    ctl.ok(&["server", "stop"]).await;
}

#[tokio::test]
async fn a_daemon_whose_socket_was_removed_is_not_said_to_be_stopped() {
    let daemon = Daemon::start().await;
    std::fs::remove_file(daemon.operator_socket()).expect("it is there");
    let failed = Ctl::new(daemon.dirs()).run(&["server", "stop"]).await;
    assert_eq!(failed.code, Some(69), "{failed:?}");
    assert!(failed.stderr.contains("only SIGTERM"), "{failed:?}");
    assert!(!failed.stderr.contains("not running"), "{failed:?}");
}

#[tokio::test]
async fn a_start_with_arguments_is_refused_while_a_daemon_runs() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let refused = ctl.run(&["server", "start", "--", "--log", "debug"]).await;
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(
        refused.stderr.contains("without these arguments"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_backup_is_not_written_over_the_files_of_a_daemon() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for name in ["registry.db", "registry.key", "copy.db"] {
        let file = daemon.dirs().state().join(name);
        let before = fs::read(&file).ok();
        let refused = ctl
            .run(&["backup", file.to_str().expect("it is text")])
            .await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(refused.stderr.contains("state directory"), "{refused:?}");
        assert_eq!(fs::read(&file).ok(), before);
    }
}

/// As after a `kill -9`: what was connected to goes away without a word.
#[tokio::test]
async fn a_daemon_that_is_about_to_be_gone_does_not_count_as_running() {
    let dirs = Dirs::new();
    let ctl = Ctl::new(&dirs);
    let old = UnixListener::bind(dirs.runtime().join("operator.sock")).expect("it listens");
    let goes = async {
        let (connection, _) = old.accept().await.expect("it is connected to");
        // It waits for an answer once it has asked.
        connection.readable().await.expect("it asks");
        drop((connection, old));
    };
    let (started, ()) = tokio::join!(ctl.run(&["server", "start"]), goes);
    assert!(
        started.code == Some(0) && started.stderr.contains("running at"),
        "{started:?}"
    );
    assert_eq!(ctl.json(&["server", "info"]).await["incarnation"], "1");
    ctl.ok(&["server", "stop"]).await;
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why() {
    let dirs = Dirs::new();
    fs::write(dirs.state().join("registry.db"), "no registry at all").expect("it is written");
    let failed = Ctl::new(&dirs).run(&["server", "start"]).await;
    assert_eq!(failed.code, Some(69), "{failed:?}");
    assert!(failed.stderr.contains("registry.db"), "{failed:?}");
    assert!(failed.stderr.contains("hint: its log is"), "{failed:?}");
}

#[tokio::test]
async fn the_log_tells_of_the_daemon_before_and_an_error_only_of_its_own() {
    let dirs = Dirs::new();
    let ctl = Ctl::new(&dirs);
    for _ in 0..2 {
        ctl.ok(&["server", "start"]).await;
        ctl.ok(&["server", "stop"]).await;
    }
    let log = dirs.runtime().join("episoded.log");
    let told = fs::read_to_string(&log).expect("it is there");
    for incarnation in ["incarnation=1 ", "incarnation=2 "] {
        assert!(told.contains(incarnation), "{told}");
    }
    fs::write(dirs.state().join("registry.db"), "no registry at all").expect("it is written");
    let failed = ctl.run(&["server", "start"]).await;
    assert!(failed.stderr.contains("registry.db"), "{failed:?}");
    assert!(!failed.stderr.contains("incarnation"), "{failed:?}");
}

#[tokio::test]
async fn a_backup_replaces_nothing_but_a_file() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let link = daemon.dirs().root().join("link");
    std::os::unix::fs::symlink("nowhere", &link).expect("it is made");
    for target in [Path::new("/dev/null"), &link, daemon.dirs().root()] {
        let ran = ctl.run(&["backup", target.to_str().expect("text")]).await;
        assert_eq!(ran.code, Some(64), "{target:?} {ran:?}");
    }
    assert!(link.is_symlink());
}

#[tokio::test]
async fn a_backup_of_a_running_daemon_serves_elsewhere() {
    let daemon = Daemon::start().await;
    let handle = register(&daemon, "s", &[]).await;
    let copy = daemon.dirs().root().join("copy.db");
    let args = ["backup", copy.to_str().expect("text")];
    let done = Ctl::new(daemon.dirs()).run(&args).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stdout.is_empty() && done.stderr.contains("registry.key"),
        "{done:?}"
    );
    let mode = fs::metadata(&copy)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let elsewhere = Dirs::new();
    let key = |dirs: &Dirs| dirs.state().join("registry.key");
    fs::copy(key(daemon.dirs()), key(&elsewhere)).expect("the key is copied");
    let restore = [std::ffi::OsStr::new("--restore"), copy.as_os_str()];
    let restored = Daemon::builder()
        .dirs(elsewhere)
        .args(restore)
        .start()
        .await;
    let ctl = Ctl::new(restored.dirs());
    let found = super::own(&ctl, &handle, &["session", "lookup", "--own"]).await;
    assert_eq!(found["session"]["sessionId"], "s");
}

#[tokio::test]
async fn an_export_holds_every_session_and_event() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for id in ["a", "b"] {
        register(&daemon, id, &[]).await;
    }
    ctl.ok(&["session", "terminate", "b"]).await;
    let text = ctl.ok(&["export", "--format", "table"]).await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let sessions = lines.iter().filter_map(|line| line.get("session"));
    let ids: Vec<_> = sessions
        .map(|session| session["sessionId"].clone())
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let revision = ctl.json(&["server", "info"]).await["revision"].clone();
    let events: Vec<_> = lines.iter().filter_map(|line| line.get("event")).collect();
    assert_eq!(events[0]["revision"], revision);
    assert_eq!(
        events.len().to_string(),
        revision.as_str().expect("a string")
    );
}
