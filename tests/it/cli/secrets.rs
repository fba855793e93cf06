//! Handles and leases never reach an argument, a terminal or an output that
//! was not named for them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{holds, register};
use crate::harness::{Ctl, Daemon, EPISODECTL, Running, done};

const REGISTER: [&str; 6] = [
    "session",
    "register",
    "--role",
    "reviewer",
    "--work-id",
    "w",
];

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

#[tokio::test]
async fn no_output_holds_a_handle_or_a_lease() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let handle = daemon.dirs().root().join("handle");
    let lease = daemon.dirs().root().join("lease");
    let [handle_text, lease_text] = [&handle, &lease].map(|path| path.to_str().expect("text"));
    let places = ["--handle-out", handle_text, "--new-lease-file", lease_text];
    let mut said = String::new();
    for format in ["table", "json", "jsonl"] {
        let named = ["--format", format, "--session-id", format];
        if format != "table" {
            fs::remove_file(&lease).expect("it was made");
        }
        let args = [&REGISTER[..], &places, &named].concat();
        let done = ctl.run(&args).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        said += &(done.stdout + &done.stderr);
        assert_eq!((mode(&handle), mode(&lease)), (0o600, 0o600));
        for args in [
            vec!["session", "get", format],
            vec!["session", "list"],
            vec!["session", "history"],
            vec!["export"],
            vec!["session", "renew", format, "--lease-file", lease_text],
            vec!["session", "rotate", format, "--handle-out", handle_text],
        ] {
            let done = ctl.run(&[&args[..], &["--format", format]].concat()).await;
            assert_eq!(done.code, Some(0), "{done:?}");
            said += &(done.stdout + &done.stderr);
        }
        assert!(!holds(&said, &handle) && !holds(&said, &lease));
    }
    for name in ["ephemeralHandle", "leaseId", "H-"] {
        assert!(!said.contains(name), "{name} in {said}");
    }
    assert!(!holds(&daemon.logs(), &handle) && !holds(&daemon.logs(), &lease));
}

#[tokio::test]
async fn a_handle_goes_where_it_is_told() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let piped = ctl
        .ok(&[&REGISTER[..], &["--handle-out", "-"]].concat())
        .await;
    assert!(
        piped.starts_with("H-") && piped.lines().count() == 1,
        "a handle and no more"
    );

    let script = r#""$0" session rotate s --handle-out fd:3 3>"$1""#;
    register(&daemon, "s", &[]).await;
    let file = daemon.dirs().root().join("by-descriptor");
    let mut shell = ctl.other("sh");
    let rotated = done(shell.args(["-c", script, EPISODECTL]).arg(&file)).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let mut own = ctl.command(&["session", "lookup", "--own"]);
    assert_eq!(
        done(own.env("EPISODE_HANDLE_FILE", &file)).await.code,
        Some(0)
    );

    let handle = fs::read_to_string(&file).expect("it is text");
    let mut beat = Running::start(&mut ctl.command(&["session", "heartbeat", "--handle-stdin"]));
    beat.write(&handle).await;
    assert_eq!(beat.end().await.code, Some(0));
}

#[tokio::test]
async fn a_terminal_is_no_place_for_a_secret() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    for line in [
        "session register --work-id w --role reviewer --handle-out -",
        "session heartbeat --handle-stdin",
        "session renew --lease-stdin",
    ] {
        let mut script = ctl.other("script");
        script.args(["-qec", &format!("{EPISODECTL} {line}"), "/dev/null"]);
        let refused = done(&mut script).await;
        assert_eq!(refused.code, Some(64), "{line}: {refused:?}");
        assert!(refused.stdout.contains("terminal"), "{line}: {refused:?}");
    }
    let live = ctl.json(&["server", "info"]).await;
    assert_eq!(live.get("liveSessions"), None, "nothing was registered");
}

#[tokio::test]
async fn a_refused_registration_leaves_no_file_behind() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    register(&daemon, "s", &[]).await;
    let directory = daemon.dirs().root().join("files");
    fs::create_dir(&directory).expect("a directory is made");
    let path = |name| directory.join(name).to_str().expect("text").to_owned();
    let (handle, lease) = (path("handle"), path("lease"));
    let places = ["--handle-out", &handle, "--new-lease-file", &lease];
    let args = [&REGISTER[..], &places, &["--session-id", "s"]].concat();
    assert_eq!(ctl.run(&args).await.code, Some(65));
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
}

#[tokio::test]
async fn a_handle_that_is_in_use_is_not_given_again() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let again = ["--request-id", "r1"];
    let first = register(&daemon, "s", &again).await;
    let second = register(&daemon, "s", &again).await;
    let mut own = ctl.command(&["session", "heartbeat"]);
    assert_eq!(
        done(own.env("EPISODE_HANDLE_FILE", &second)).await.code,
        Some(0)
    );
    let before = fs::read_to_string(&first).expect("it is text");
    let named = ["--session-id", "s", "--handle-out", &first];
    let withheld = ctl.run(&[&REGISTER[..], &named, &again].concat()).await;
    assert_eq!(withheld.code, Some(6), "{withheld:?}");
    assert!(withheld.stderr.contains("session rotate s"), "{withheld:?}");
    assert_eq!(fs::read_to_string(&first).expect("it is text"), before);
}

/// A handle is given once: who takes it must be there.
#[tokio::test]
async fn a_handle_that_cannot_be_delivered_is_an_error() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let register = "episodectl session register --role reviewer --work-id w --session-id";
    let script = |id: &str, out: &str| format!("{register} {id} --handle-out {out}");
    // Who was to read is gone.
    let piped = format!("exec 4> >(true); wait $!; {} >&4", script("gone", "-"));
    for (script, code, says) in [
        (piped, 73, "rotate"),
        (
            format!("{} >&-", script("closed", "-")),
            64,
            "--discard-handle",
        ),
        (
            format!("{} >/dev/null", script("null", "-")),
            64,
            "--discard-handle",
        ),
        (
            format!("{} 3>/dev/full", script("full", "fd:3")),
            73,
            "rotate",
        ),
    ] {
        let mut command = ctl.other("bash");
        let ran = done(command.args(["-c", &script])).await;
        assert_eq!(ran.code, Some(code), "{script}: {ran:?}");
        assert!(ran.stderr.contains(says), "{script}: {ran:?}");
    }
    for (id, is_there) in [("gone", true), ("closed", false), ("null", false)] {
        let got = ctl.run(&["session", "get", id]).await;
        assert_eq!(got.code == Some(0), is_there, "{id}: {got:?}");
    }
}
