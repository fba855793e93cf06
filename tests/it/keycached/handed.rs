//! `episodectl key` handing keys on: to a program, to an episode, to neither.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Output, Stdio};

use episoded::client::KeyCache;

use super::bus::Bus;
use super::home::{Home, said};
use super::{HANG, until};
use crate::harness::{Daemon, normal_end, register, registration};

/// A home whose commands find that daemon.
fn home_of(daemon: &Daemon) -> Home {
    let runtime = daemon.dirs().runtime().display().to_string();
    Home::new().with("EPISODED_RUNTIME_DIR", runtime)
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(said(output).contains(says), "{output:?}");
}

#[tokio::test]
async fn a_key_is_granted_to_an_episode_used_up_and_taken_back() {
    let daemon = Daemon::start().await;
    let home = home_of(&daemon);
    let session = register(&mut daemon.operator().await, registration("w")).await;
    let (id, handle) = (&*session.session_id, &*session.ephemeral_handle);
    let grant = |more: &[&str]| {
        let all = [
            &["key", "grant", "box", "--session", id, "--for", "30m"],
            more,
        ]
        .concat();
        home.run(&all)
    };
    let own = || {
        let mut get = home.command(&["key", "get", "box", "--own", "--out", "-"]);
        get.env("EPISODE_HANDLE", handle).output().unwrap()
    };
    ends(&own(), 66, "no key of box is kept");
    assert!(
        !home.is_running(),
        "an agent that were started would have none"
    );
    ends(&grant(&[]), 66, "no key of box is kept");
    home.put("box", b"the cached key");
    ends(&grant(&["--uses", "2"]), 0, "");
    assert_eq!(own().stdout, b"the cached key");
    let table = String::from_utf8(home.ok(&["key", "sessions"])).unwrap();
    assert!(table.contains(&format!("{id} (1 more uses)")), "{table}");
    assert_eq!(own().stdout, b"the cached key");
    ends(&own(), 66, "no key of box is kept");
    let json = home.json(&["key", "status"]);
    assert_eq!(
        (&json["entries"], &json["owned"]),
        (&1.into(), &serde_json::Value::Null)
    );

    let script = format!("printf piped | $CTL key grant box --session {id} --for 1h --fd 0");
    home.shell(&script);
    assert_eq!(own().stdout, b"piped");
    let without = home.run(&["key", "get", "box", "--own", "--out", "-"]);
    ends(&without, 64, "EPISODE_HANDLE");
    ends(
        &home.run(&["key", "revoke", "box", "--session", id]),
        0,
        "1 key forgotten",
    );
    ends(&own(), 66, "no key of box is kept");

    let ended = daemon
        .operator()
        .await
        .terminate_session(normal_end(id))
        .await;
    ended.unwrap();
    ends(&grant(&[]), 6, "the session has ended");
    ends(&own(), 77, "handle");
}

#[tokio::test]
async fn a_credential_of_a_unit_is_granted_and_nothing_else_by_that_name() {
    let daemon = Daemon::start().await;
    let home = home_of(&daemon);
    let session = register(&mut daemon.operator().await, registration("w")).await;
    let credentials = home.root().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("box"), b"of the unit").unwrap();
    std::fs::write(home.root().join("secret"), b"of nobody").unwrap();
    let id = &*session.session_id;
    let grant = |name: &str| {
        let args = ["key", "grant", "box", "--session", id, "--for", "1h"];
        let mut grant = home.command(&[&args[..], &["--credential", name]].concat());
        grant
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .output()
            .unwrap()
    };
    ends(&grant("box"), 0, "");
    for (name, code) in [("../secret", 64), ("other", 66), ("", 64), (".", 64)] {
        ends(&grant(name), code, "");
    }
    let args = ["key", "grant", "box", "--session", id, "--for", "1h"];
    let outside = home.run(&[&args[..], &["--credential", "box"]].concat());
    ends(&outside, 66, "LoadCredential=");
    let mut get = home.command(&["key", "get", "box", "--own", "--out", "-"]);
    let got = get
        .env("EPISODE_HANDLE", &session.ephemeral_handle)
        .output();
    assert_eq!(got.unwrap().stdout, b"of the unit");
}

#[tokio::test]
async fn a_grant_to_nobody_or_for_too_long_or_without_episoded_is_refused() {
    let daemon = Daemon::start().await;
    let home = home_of(&daemon);
    home.put("box", b"key");
    let grant = |home: &Home, id: &str, time: &str| {
        home.run(&["key", "grant", "box", "--session", id, "--for", time])
    };
    ends(&grant(&home, "nobody", "30m"), 66, "nobody");
    let session = register(&mut daemon.operator().await, registration("w")).await;
    ends(&grant(&home, &session.session_id, "25h"), 65, "expire_time");
    assert_eq!(
        home.json(&["key", "status"])["owned"],
        serde_json::Value::Null
    );
    let alone = Home::new();
    alone.put("box", b"key");
    ends(&grant(&alone, "nobody", "30m"), 69, "episoded cannot say");
}

/// Nothing is at the end of stdin, and there is no terminal to ask.
#[test]
fn a_key_that_was_put_once_is_asked_for_by_no_later_command() {
    let home = Home::new();
    home.put("box", b"key");
    for _ in 0..3 {
        assert_eq!(home.ok(&["key", "get", "box", "--out", "-"]), b"key");
        assert_eq!(home.ok(&["key", "exec", "box", "--", "cat"]), b"key");
    }
    assert_eq!(home.json(&["key", "sessions"])["keys"][0]["hits"], "6");
}

/// A descriptor that the caller did not open may be one of our own.
#[test]
fn a_key_goes_into_no_descriptor_that_the_caller_did_not_open() {
    let home = Home::new();
    home.put("box", b"key");
    // What the caller of the test has open is not ours, either.
    let said = home.shell(
        "for n in {3..15}; do eval \"exec $n>&-\"; done
        for n in {3..15}; do
            $CTL key get box --out fd:$n 2>&1 && echo taken || echo $?
            $CTL key put box --fd $n 2>&1 && echo taken || echo $?
        done | grep -c -x -e 64; true",
    );
    assert_eq!(said, "26\n");
    let mut shell = home.other("bash");
    let closed = shell
        .args(["-c", "$CTL key get box --out - >&-"])
        .output()
        .unwrap();
    ends(&closed, 73, "it is closed");
    home.shell("$CTL key get box --out - >/dev/null");
    assert_eq!(home.json(&["key", "sessions"])["keys"][0]["hits"], "1");
}

#[test]
fn programs_are_told_as_an_object_what_people_are_told_in_words() {
    let home = Home::new();
    let json = |args: &[&str]| home.json(args);
    for args in [
        &["key", "forget", "box"][..],
        &["key", "lock", "box"],
        &["key", "lock-all"],
        &["key", "revoke", "box", "--session", "s"],
    ] {
        assert_eq!(json(args), serde_json::json!({"forgotten": 0}), "{args:?}");
    }
    assert_eq!(json(&["key", "stop"]), serde_json::json!({}));
    assert!(!home.is_running());
    let put = home.fed(&["--format", "jsonl", "key", "put", "box"], b"key");
    assert_eq!(put.stdout, b"{}\n");
    assert_eq!(
        json(&["key", "lock", "box"]),
        serde_json::json!({"forgotten": 1})
    );
    assert_eq!(
        json(&["key", "lock-all"]),
        serde_json::json!({"forgotten": 0})
    );
    assert_eq!(json(&["key", "stop"]), serde_json::json!({}));
}

#[test]
fn a_program_becomes_the_command_with_the_key_on_its_stdin() {
    let home = Home::new();
    let key = super::unique(65_536);
    home.put("box", &key);
    assert_eq!(home.ok(&["key", "exec", "box", "--", "cat"]), key);
    let script = "echo $$; exit 7";
    let mut exec = home.command(&["key", "exec", "box", "--", "sh", "-c", script]);
    let child = exec.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, format!("{pid}\n").as_bytes());
    let killed = home.run(&["key", "exec", "box", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(15));
    ends(
        &home.run(&["key", "exec", "none", "--", "true"]),
        66,
        "no key of none",
    );
    ends(
        &home.run(&["key", "exec", "box", "--", "/no/such"]),
        127,
        "/no/such",
    );
    ends(
        &home.run(&["key", "exec", "box", "--", "/etc"]),
        126,
        "/etc",
    );
    ends(&home.run(&["key", "exec", "box"]), 64, "PROGRAM");
    let left = activities(&home);
    assert!(left.is_empty(), "those that failed have not: {left:?}");
}

/// The pids that have a secret in hand.
fn activities(home: &Home) -> Vec<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let listed = runtime.unwrap().block_on(async {
        let cache = KeyCache::connect(home.socket()).await?;
        cache.activities().await
    });
    listed
        .unwrap()
        .into_iter()
        .map(|activity| activity.pid)
        .collect()
}

#[test]
fn a_command_has_a_secret_in_hand_while_it_does_and_a_program_only_if_asked() {
    let Some(bus) = Bus::new() else { return };
    let home = Home::new().with("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    home.put("box", &super::unique(60_000));
    until("it watches", HANG, || bus.inhibitors() == ["delay"]);
    // A reader that takes its time: the key is in hand.
    let mut get = home.command(&["key", "get", "box", "--out", "-"]);
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4_096).unwrap();
    let mut get = get.stdout(writer).spawn().unwrap();
    until("the command says so", HANG, || {
        activities(&home) == [get.id() as i32]
    });
    until("the machine is kept awake", HANG, || {
        bus.inhibitors() == ["block", "delay"]
    });
    drop(reader);
    assert_eq!(get.wait().unwrap().code(), Some(73));
    until("it is over", HANG, || bus.inhibitors() == ["delay"]);

    for (option, held) in [(&[][..], false), (&["--stay-awake"][..], true)] {
        let args = [
            &["key", "exec", "box"],
            option,
            &["--", "sh", "-c", "read x; exec sleep 60"],
        ];
        let mut program = home.command(&args.concat()).spawn().unwrap();
        let is_sleep = || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", program.id()));
            name.is_ok_and(|name| name == "sleep\n")
        };
        until("the program runs", HANG, is_sleep);
        let wanted: &[i32] = if held { &[program.id() as i32] } else { &[] };
        assert_eq!(activities(&home), wanted);
        program.kill().unwrap();
        program.wait().unwrap();
        until("it is over", HANG, || activities(&home).is_empty());
    }
}
