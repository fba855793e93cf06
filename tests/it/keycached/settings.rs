//! Its configuration file, and when it leaves by itself.

use std::time::Duration;

use super::agent::{Agent, Place};
use super::home::Home;
use super::places::is_there;
use super::wire::{Answer, Client, PUT, frame, put};
use super::{HANG, STRANGER, as_stranger, throughout, until};
use crate::harness::need_root;

/// Longer than an idle agent stays when a second is its limit.
const LONG: Duration = Duration::from_secs(3);

#[test]
fn a_configuration_that_is_not_understood_is_refused() {
    for text in [
        "idle_exit = \"soon\"\n",
        "idle_exit = 600\n",
        "allow_unlocked_memory = \"yes\"\n",
        "no key at all\n",
    ] {
        let place = Place::configured(text);
        assert_ne!(place.refused(), 0, "{text}");
        assert!(!is_there(&place.socket()));
    }
}

#[test]
fn an_unknown_setting_is_refused_by_its_name() {
    let place = Place::configured("idle_exit = \"600s\"\nno_such_key = true\n");
    assert_ne!(place.refused(), 0);
    assert!(place.said().contains("no_such_key"), "{}", place.said());
    assert!(!is_there(&place.socket()));
}

#[test]
fn no_key_is_kept_for_longer_than_the_configuration_says() {
    let agent = Agent::configured("max_ttl = \"1s\"\n");
    let mut client = agent.client();
    client.keep("id", b"key");
    until("it expires", HANG, || client.list().is_empty());
}

/// A pipe that nobody writes to, and a file without an end.
#[test]
fn a_configuration_that_is_no_plain_file_is_refused_at_once() {
    let place = Place::new();
    for target in ["pipe", "/dev/zero"] {
        std::fs::remove_file(place.config()).expect("it was there");
        if target == "pipe" {
            let owner = rustix::fs::Mode::RUSR;
            let kind = rustix::fs::FileType::Fifo;
            let made = rustix::fs::mknodat(rustix::fs::CWD, place.config(), kind, owner, 0);
            made.expect("a pipe is made");
        } else {
            std::os::unix::fs::symlink(target, place.config()).expect("a link is made");
        }
        assert_eq!(place.refused(), 78, "{target}");
    }
    assert!(place.said().contains("no plain file"), "{}", place.said());
}

#[test]
fn a_configuration_that_is_named_and_missing_is_refused() {
    let place = Place::new();
    std::fs::remove_file(place.config()).expect("it was there");
    assert_ne!(place.refused(), 0);
    assert!(!is_there(&place.socket()));
}

#[test]
fn every_setting_is_taken() {
    for idle_exit in ["600s", "never"] {
        let text = format!("allow_unlocked_memory = true\nidle_exit = \"{idle_exit}\"\n");
        let agent = Agent::configured(&text);
        assert!(agent.client().list().is_empty());
    }
}

/// Panics unless it is still there long after an idle one would have left.
#[track_caller]
fn stays(agent: &mut Agent) {
    throughout("the agent stays", LONG, || agent.process().runs());
}

#[track_caller]
fn leaves(agent: &mut Agent) {
    assert_eq!(agent.exited(), Some(0), "{}", agent.place().said());
    assert!(!is_there(&agent.place().socket()));
}

const ONE_SECOND: &str = "idle_exit = \"1s\"\n";

#[test]
fn an_idle_one_leaves_by_itself() {
    leaves(&mut Agent::configured(ONE_SECOND));
}

#[test]
fn one_that_never_leaves_stays() {
    stays(&mut Agent::configured("idle_exit = \"never\"\n"));
}

#[test]
fn one_that_keeps_a_key_stays_until_it_is_forgotten() {
    let mut agent = Agent::configured(ONE_SECOND);
    agent.client().keep("id", b"key");
    stays(&mut agent);
    assert_eq!(agent.client().forget("id"), Answer::Ok);
    leaves(&mut agent);
}

#[test]
fn one_that_keeps_a_key_stays_until_it_expires() {
    let mut agent = Agent::configured(ONE_SECOND);
    assert_eq!(agent.client().put("id", b"key", "", 2), Answer::Ok);
    leaves(&mut agent);
}

#[test]
fn one_with_an_activity_stays_until_that_is_over() {
    let mut agent = Agent::configured(ONE_SECOND);
    let pid = std::process::id();
    let mut client = agent.client();
    let (token, other) = (client.register(pid, 3), client.register(pid, 4));
    assert_ne!(token, other);
    assert_eq!(client.unregister(pid, other), Answer::Ok);
    let wrong = [token ^ 1, other, 0, u64::MAX];
    for wrong in wrong.into_iter().filter(|wrong| *wrong != token) {
        assert_eq!(client.unregister(pid, wrong), Answer::Ok, "{wrong}");
    }
    assert_eq!(client.unregister(pid + 1, token), Answer::Ok);
    assert_eq!(client.unregister(1, token), Answer::Ok);
    drop(client);
    stays(&mut agent);
    let mut client = agent.client();
    assert_eq!(client.unregister(pid, token), Answer::Ok);
    drop(client);
    leaves(&mut agent);
}

/// Runs `episodectl key put` as somebody who may lock no memory; what it said.
fn put_without_locked_memory(home: &Home) -> std::process::Output {
    by_a_stranger(
        home,
        "ulimit -l 0; printf key | $CTL --format json key put box",
    )
}

/// Everything of that home belongs to an ordinary user from now on: root may always
/// lock memory.
fn give_away(home: &Home) {
    let given = std::process::Command::new("chown")
        .args(["-R", &format!("{STRANGER}:{STRANGER}")])
        .arg(home.root())
        .status();
    assert!(given.expect("chown is there").success());
}

fn by_a_stranger(home: &Home, script: &str) -> std::process::Output {
    let mut shell = home.other("setpriv");
    shell.args(["--reuid", "47114", "--regid", "47114", "--clear-groups"]);
    let output = shell.args(["bash", "-c", script]).output();
    output.expect("setpriv is there")
}

#[test]
fn without_locked_memory_no_key_is_kept_and_that_is_said() {
    if !need_root() {
        return;
    }
    let home = Home::new();
    let root = home.root().to_owned();
    give_away(&home);
    let output = put_without_locked_memory(&home);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("\"SECURE_MEMORY_UNAVAILABLE\""), "{said}");
    assert!(said.contains("RLIMIT_MEMLOCK"), "{said}");
    let socket = home.socket();
    let (got, kept, refused) = as_stranger(move || {
        let mut client = Client::connect(&socket);
        let (got, kept) = (client.get("box"), client.list());
        (
            got,
            kept,
            client.refused(&frame(PUT, &put(b"id", b"key", b"", 60))),
        )
    });
    assert_eq!((got, kept), (Answer::Miss, Vec::new()));
    assert!(
        refused.starts_with("full: no memory can be locked"),
        "{refused}"
    );
    let socket = home.socket();
    as_stranger(move || assert_eq!(Client::connect(&socket).stop(), Answer::Ok));

    let config = root.join("config/lockbox");
    std::fs::create_dir_all(&config).expect("it is made");
    let allowed = "[agent]\nallow_unlocked_memory = true\n";
    std::fs::write(config.join("config.toml"), allowed).expect("it is written");
    until("the agent has gone", HANG, || !home.is_running());
    let output = put_without_locked_memory(&home);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let socket = home.socket();
    let got = as_stranger(move || {
        let mut client = Client::connect(&socket);
        let got = client.get("box");
        client.stop();
        got
    });
    assert_eq!(got, Answer::Key(b"key".to_vec()));
}

#[test]
fn as_much_memory_is_locked_as_the_limit_allows_and_what_is_there_stays() {
    if !need_root() {
        return;
    }
    let home = Home::new();
    give_away(&home);
    // Room for three of the largest keys.
    let script = "ulimit -l 256
        for id in 1 2 3 4; do head -c 65536 /dev/zero | $CTL key put $id; echo $?; done
        for id in 1 2 3; do $CTL key get $id --out - | wc -c; done
        $CTL key forget 2; head -c 65536 /dev/zero | $CTL key put 4; echo $?
        $CTL key stop";
    let output = by_a_stranger(&home, script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<_> = said.split_whitespace().collect();
    let wanted = ["0", "0", "0", "75", "65536", "65536", "65536", "0"];
    assert_eq!(words, wanted, "{output:?}");
    let refused = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(refused.contains("no room for another key"), "{refused}");
}
