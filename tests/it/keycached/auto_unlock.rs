//! `episodectl key auto-unlock`, with a real secret store on a bus of its own.

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::json;
use tokio::time::Instant;

use super::desktop::{Desktop, need_desktop};
use super::home::{Home, said};
use super::scan::{self, Found, Needle};
use super::{chmod, unique};

/// A key that is no text.
fn odd_key() -> Vec<u8> {
    [&b"\0\xff\xfe\n"[..], &unique(48), b"\xc3\n"].concat()
}

fn verb<'a>(verb: &'a str, id: &'a str) -> [&'a str; 4] {
    ["key", "auto-unlock", verb, id]
}

#[track_caller]
fn enable(home: &Home, id: &str, key: &[u8]) {
    let output = home.fed(&verb("enable", id), key);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b""[..]));
}

fn get(home: &Home, id: &str) -> Output {
    home.run(&["key", "get", id, "--out", "-"])
}

/// Its code, what it said on stderr, and nothing on stdout.
#[track_caller]
fn refused(output: &Output) -> (Option<i32>, String) {
    assert_eq!(output.stdout, b"", "{output:?}");
    (output.status.code(), said(output))
}

fn status(home: &Home) -> serde_json::Value {
    home.json(&["key", "auto-unlock", "status"])
}

#[test]
fn an_enabled_key_comes_back_after_every_way_to_forget_it() {
    if !need_desktop() {
        return;
    }
    let mut desktop = Desktop::new();
    let key = odd_key();
    assert_eq!(get(&desktop.home, "box").status.code(), Some(66));
    enable(&desktop.home, "box", &key);
    for forget in [
        &["key", "sessions"][..],
        &["key", "lock-all"],
        &["key", "lock", "box"],
        &["key", "forget", "box"],
        &["vault", "sessions", "lock-all"],
        &["key", "stop"],
    ] {
        desktop.home.ok(forget);
        let output = get(&desktop.home, "box");
        assert_eq!(output.stdout, key, "{forget:?}: {output:?}");
    }
    let kept = desktop.home.json(&["key", "sessions"]);
    assert_eq!(kept["keys"][0]["lockboxId"], "box", "{kept}");
    desktop.home.ok(&["key", "lock-all"]);
    desktop.log_in();
    assert_eq!(get(&desktop.home, "box").stdout, key, "at the next login");
    assert_eq!(get(&desktop.home, "other").status.code(), Some(66));
}

#[test]
fn enabling_again_stores_another_key_in_place_of_the_first() {
    if !need_desktop() {
        return;
    }
    let desktop = Desktop::new();
    let home = &desktop.home;
    enable(home, "box", b"the first");
    assert_eq!(get(home, "box").stdout, b"the first");
    let long = unique(65_536);
    enable(home, "box", &long);
    assert_eq!(desktop.stored("box"), 1);
    assert_eq!(get(home, "box").stdout, b"the first", "the agent has it");
    home.ok(&["key", "lock-all"]);
    assert_eq!(get(home, "box").stdout, long);
    home.shell("printf third >in; $CTL vault sessions auto-unlock enable box --fd 3 3<in");
    home.ok(&["key", "lock-all"]);
    assert_eq!(get(home, "box").stdout, b"third");
}

#[test]
fn what_is_disabled_stays_stored_and_is_not_asked_for() {
    if !need_desktop() {
        return;
    }
    let desktop = Desktop::new();
    let home = &desktop.home;
    enable(home, "box", b"the key");
    home.ok(&verb("disable", "box"));
    let (code, message) = refused(&get(home, "box"));
    assert_eq!(code, Some(66), "{message}");
    assert!(message.contains("no key of box is kept\n"), "{message}");
    assert_eq!(desktop.stored("box"), 1);
    let again = home.run(&["vault", "sessions", "auto-unlock", "disable", "box"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(said(&again), "episodectl: box was not enabled\n");
    enable(home, "box", b"another");
    assert_eq!(get(home, "box").stdout, b"another");
}

#[test]
fn what_is_forgotten_is_no_longer_in_the_store() {
    if !need_desktop() {
        return;
    }
    let desktop = Desktop::new();
    let home = &desktop.home;
    enable(home, "box", b"the key");
    enable(home, "other", b"other key");
    assert_eq!((desktop.stored("box"), desktop.stored("other")), (1, 1));
    let output = home.run(&verb("forget", "box"));
    assert_eq!(
        said(&output),
        "episodectl: 1 key removed from the secret store\n"
    );
    assert_eq!((desktop.stored("box"), desktop.stored("other")), (0, 1));
    let again = home.run(&["vault", "sessions", "auto-unlock", "forget", "box"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(said(&again), "episodectl: no such key was stored\n");
    assert_eq!(get(home, "box").status.code(), Some(66));
    let left = [json!({"lockboxId": "other", "enabled": true, "stored": true})];
    assert_eq!(status(home)["lockboxes"], json!(left));
    assert_eq!(get(home, "other").stdout, b"other key");
}

#[test]
fn status_says_what_is_enabled_and_what_is_stored() {
    if !need_desktop() {
        return;
    }
    let desktop = Desktop::new();
    let home = &desktop.home;
    let nothing = json!({"store": "UNLOCKED", "problem": null, "lockboxes": []});
    assert_eq!(status(home), nothing);
    for id in ["a", "b", "c"] {
        enable(home, id, b"the key");
    }
    home.ok(&verb("disable", "b"));
    // Behind our back, as its own manager would.
    let list = home.root().join("config/lockbox/auto-unlock.json");
    let before = std::fs::read(&list).unwrap();
    home.ok(&verb("forget", "c"));
    std::fs::write(&list, before).unwrap();
    let lockbox =
        |id, enabled, stored| json!({"lockboxId": id, "enabled": enabled, "stored": stored});
    let lockboxes = [
        lockbox("a", true, true),
        lockbox("b", false, true),
        lockbox("c", true, false),
    ];
    assert_eq!(status(home)["lockboxes"], json!(lockboxes));
    let line = home.ok(&["--format", "jsonl", "key", "auto-unlock", "status"]);
    assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
    let same: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(same, status(home));
    let table = home.ok(&["vault", "sessions", "auto-unlock", "status"]);
    let table = String::from_utf8(table).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    let expected: [&[&str]; 6] = [
        &["Secret", "store", "unlocked"],
        &[],
        &["LOCKBOX", "AUTO-UNLOCK", "KEY"],
        &["a", "enabled", "stored"],
        &["b", "disabled", "stored"],
        &["c", "enabled", "missing"],
    ];
    assert_eq!(rows, expected, "{table}");
    let (code, message) = refused(&get(home, "c"));
    assert_eq!(code, Some(66), "{message}");
    assert!(message.contains("the secret store has none"), "{message}");
}

#[test]
fn without_a_store_only_what_needs_it_fails_and_says_so() {
    if !need_desktop() {
        return;
    }
    let mut desktop = Desktop::new();
    enable(&desktop.home, "box", b"the key");
    desktop.log_out();
    without_a_store(&desktop.home, "no store");
    desktop.log_in();
    assert_eq!(desktop.stored("box"), 1, "it could not be removed");
    enable(&desktop.home, "box", b"the key");
    let home = desktop.end_bus();
    without_a_store(&home, "no bus");
}

fn without_a_store(home: &Home, why: &str) {
    let lockbox = |enabled| json!([{"lockboxId": "box", "enabled": enabled, "stored": null}]);
    let shown = status(home);
    assert_eq!(shown["store"], "UNREACHABLE", "{why}");
    assert!(shown["problem"].is_string(), "{why}: {shown}");
    assert_eq!(shown["lockboxes"], lockbox(true), "{why}");
    let missed = get(home, "other");
    assert_eq!(missed.status.code(), Some(66), "{why}: {missed:?}");
    for output in [
        get(home, "box"),
        home.fed(&verb("enable", "other"), b"key"),
        home.run(&verb("forget", "box")),
    ] {
        let (code, message) = refused(&output);
        assert_eq!(code, Some(69), "{why}: {message}");
        assert!(
            message.contains("the secret store cannot be reached"),
            "{why}: {message}"
        );
        assert!(
            message.contains("hint: run this inside"),
            "{why}: {message}"
        );
    }
    assert_eq!(
        status(home)["lockboxes"],
        lockbox(false),
        "{why}: restrictive"
    );
    assert_eq!(get(home, "box").status.code(), Some(66), "{why}");
    home.ok(&verb("disable", "box"));
}

#[test]
fn a_locked_store_is_not_opened_and_gives_nothing() {
    if !need_desktop() {
        return;
    }
    let mut desktop = Desktop::new();
    enable(&desktop.home, "box", b"the key");
    desktop.lock();
    let home = &desktop.home;
    let lockbox = json!([{"lockboxId": "box", "enabled": true, "stored": true}]);
    let locked = json!({"store": "LOCKED", "problem": null, "lockboxes": lockbox});
    assert_eq!(status(home), locked);
    for output in [
        get(home, "box"),
        home.fed(&verb("enable", "box"), b"another"),
        home.fed(&verb("enable", "new"), b"another"),
    ] {
        let (code, message) = refused(&output);
        assert_eq!(code, Some(75), "{message}");
        assert!(message.contains("the secret store is locked"), "{message}");
        assert!(message.contains("hint: unlock it"), "{message}");
    }
    assert_eq!(status(home), locked, "still, and nothing has changed");
    let (code, message) = refused(&home.run(&verb("forget", "box")));
    assert_eq!(code, Some(75), "{message}");
    assert_eq!(get(home, "box").status.code(), Some(66));
    desktop.log_in();
    assert_eq!(desktop.stored("box"), 1);
    desktop.home.ok(&verb("forget", "box"));
    assert_eq!(desktop.stored("box"), 0);
}

/// The bus is one that takes connections and never answers.
#[test]
fn only_an_enabled_lockbox_costs_a_word_with_the_bus() {
    let home = Home::new();
    let socket = home.root().join("run/silent");
    let bus = UnixListener::bind(&socket).unwrap();
    bus.set_nonblocking(true).unwrap();
    let address = format!("unix:path={}", socket.display());
    let home = home.with("DBUS_SESSION_BUS_ADDRESS", address);
    let list = home.root().join("config/lockbox/auto-unlock.json");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    let text = r#"{"lockboxes": {"box": "enabled", "not": "disabled"}}"#;
    std::fs::write(&list, text).unwrap();
    chmod(&list, 0o600);
    let began = Instant::now();
    for id in ["never", "not"] {
        assert_eq!(get(&home, id).status.code(), Some(66), "{id}");
    }
    home.put("box", b"kept");
    assert_eq!(get(&home, "box").stdout, b"kept");
    home.ok(&verb("disable", "never"));
    assert!(began.elapsed() < Duration::from_secs(2));
    let nobody = bus.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);

    home.ok(&["key", "lock-all"]);
    let asked = home.run(&["--timeout", "300ms", "key", "get", "box", "--out", "-"]);
    let (code, message) = refused(&asked);
    assert_eq!(code, Some(75), "{message}");
    assert!(
        message.contains("no answer from the secret store in 300ms"),
        "{message}"
    );
    bus.accept().expect("now it was asked");
}

#[test]
fn a_list_that_others_can_change_or_that_is_none_unlocks_nothing() {
    let home = Home::new();
    let list = home.root().join("config/lockbox/auto-unlock.json");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::write(&list, r#"{"lockboxes": {"box": "enabled"}}"#).unwrap();
    for (mode, text, code, says) in [
        (
            0o620,
            r#"{"lockboxes": {"box": "enabled"}}"#,
            73,
            "mode 0600",
        ),
        (0o600, "box = true", 65, "is no list of auto-unlock"),
    ] {
        std::fs::write(&list, text).unwrap();
        chmod(&list, mode);
        for output in [
            get(&home, "box"),
            home.fed(&verb("enable", "other"), b"key"),
            home.run(&verb("disable", "box")),
        ] {
            let (was, message) = refused(&output);
            assert_eq!(was, Some(code), "{message}");
            assert!(message.contains(says), "{message}");
        }
        assert_eq!(std::fs::read_to_string(&list).unwrap(), text);
    }
    home.put("box", b"kept");
    assert_eq!(get(&home, "box").stdout, b"kept", "it is not even read");
}

#[test]
fn what_is_no_key_is_not_stored() {
    if !need_desktop() {
        return;
    }
    let desktop = Desktop::new();
    let (home, long) = (&desktop.home, vec![1; 65_537]);
    for (args, input, code) in [
        (&verb("enable", "box")[..], &[][..], 65),
        (&verb("enable", "box"), &long, 65),
        (&verb("enable", ""), b"key", 65),
        (&[&verb("enable", "box")[..], &["key"]].concat(), b"", 64),
        (
            &[&verb("enable", "box")[..], &["--fd", "77"]].concat(),
            b"",
            64,
        ),
    ] {
        let output = home.fed(args, input);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
    let line = "$CTL key auto-unlock enable box </dev/tty";
    let mut terminal = home.other("script");
    let output = terminal.args(["-qec", line, "/dev/null"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert_eq!(desktop.stored("box"), 0);
    assert_eq!(status(home)["lockboxes"], json!([]));
}

#[test]
fn a_stored_key_is_in_no_file_and_in_nothing_that_is_said() {
    if !need_desktop() {
        return;
    }
    let mut desktop = Desktop::new();
    let key = odd_key();
    let needle = Needle::new(&key);
    enable(&desktop.home, "box", &key);
    assert_eq!(get(&desktop.home, "box").stdout, key);
    desktop.home.ok(&["key", "lock-all"]);
    let mut outputs = vec![desktop.home.run(&["key", "auto-unlock", "status"])];
    desktop.lock();
    outputs.push(get(&desktop.home, "box"));
    outputs.push(desktop.home.fed(&verb("enable", "box"), &key));
    outputs.push(desktop.home.run(&verb("forget", "box")));
    desktop.log_in();
    outputs.push(desktop.home.fed(&verb("enable", "box"), &key));
    assert_eq!(desktop.stored("box"), 1);
    assert!(desktop.kept().exists());
    for output in &outputs {
        assert_eq!(needle.count(&output.stdout), Found::NOTHING, "{output:?}");
        assert_eq!(needle.count(&output.stderr), Found::NOTHING, "{output:?}");
    }
    let home = &desktop.home;
    assert_eq!(scan::files(home.root(), &needle), Found::NOTHING);
    home.shell("$CTL key get box --out - > out");
    assert_eq!(
        scan::files(home.root(), &needle).raw,
        1,
        "it would be found"
    );
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert_eq!(needle.count(&line), Found::NOTHING);
    }
    if geteuid().is_root() {
        let scan = scan::memory(home.pid(), &needle);
        assert!(scan.found.raw <= 1, "as after a put: {scan:?}");
    }
}
