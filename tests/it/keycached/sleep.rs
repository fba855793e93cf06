//! The machine's sleep, against a real bus: what is held, what is forgotten and who
//! is ended, in which order.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use episoded::client::KeyCache;
use episoded::proto::keycache as pb;
use rustix::process::Signal;
use tokio::time::Instant;

use super::agent::{Agent, Place};
use super::bus::Bus;
use super::scan::{self, Found, Needle};
use super::wire::{Answer, GET, LONGEST_KEY, PUT, REGISTER, activity, frame, put};
use super::{HANG, throughout, unique, until};
use crate::harness::{need_root, skip_anywhere};

/// Longer than an inhibitor takes to come or go.
const A_WHILE: Duration = Duration::from_millis(500);

/// Half a second is promised, and as much again for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Three seconds are promised; logind waits for five.
const PATIENCE: Duration = Duration::from_secs(4);

const ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

fn on(bus: &Bus, settings: &str) -> Place {
    Place::configured(settings).with(ADDRESS, bus.address().into())
}

/// An agent whom that bus tells of sleep.
fn watching(bus: &Bus, settings: &str) -> Agent {
    let agent = Agent::at(on(bus, settings));
    becomes(bus, &["delay"]);
    agent
}

#[track_caller]
fn becomes(bus: &Bus, inhibitors: &[&str]) {
    until("the inhibitors change", HANG, || {
        bus.inhibitors() == inhibitors
    });
}

fn status(bus: &Bus, agent: &Agent) -> pb::SleepStatus {
    let socket = agent.place().socket();
    let status = bus.wait(async { KeyCache::connect(socket).await?.status().await });
    status.expect("it answers").sleep.expect("it is told")
}

/// A program; killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new(script: &str) -> Self {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", script]).stdin(Stdio::null());
        Self(shell.stdout(Stdio::null()).spawn().expect("it starts"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const OPEN: u8 = 2;

#[test]
fn sleep_is_delayed_from_start_to_end() {
    let Some(bus) = Bus::new() else { return };
    let mut agent = watching(&bus, "");
    let told = status(&bus, &agent);
    assert_eq!(told.watch(), pb::SuspendWatch::Watching);
    assert!(told.delays_sleep && !told.holds_off_sleep, "{told:?}");
    assert!(told.prevent_sleep && told.terminate_on_suspend);
    assert_eq!(told.why, "");
    assert_eq!(agent.client().stop(), Answer::Ok);
    assert_eq!(agent.exited(), Some(0));
    becomes(&bus, &[]);
}

#[test]
fn sleep_is_held_off_while_a_secret_is_in_hand() {
    let Some(bus) = Bus::new() else { return };
    let agent = watching(&bus, "");
    let mut client = agent.client();
    let own = std::process::id();
    let one = client.register(own, OPEN);
    becomes(&bus, &["block", "delay"]);
    assert!(status(&bus, &agent).holds_off_sleep);
    let two = client.register(own, OPEN);
    client.unregister(own, one);
    throughout("it is held off for the other", A_WHILE, || {
        bus.inhibitors() == ["block", "delay"]
    });
    client.unregister(own, two);
    becomes(&bus, &["delay"]);

    let mut program = Sleeper::new("exec sleep 600");
    client.register(program.pid(), OPEN);
    becomes(&bus, &["block", "delay"]);
    program.0.kill().expect("it is ours");
    program.0.wait().expect("it ends");
    becomes(&bus, &["delay"]);
    assert!(!status(&bus, &agent).holds_off_sleep);
}

#[test]
fn sleep_is_not_held_off_against_the_configuration_or_the_environment() {
    let Some(bus) = Bus::new() else { return };
    let off = on(&bus, "prevent_sleep = true\n").with("LOCKBOX_AGENT_PREVENT_SLEEP", "off".into());
    for place in [on(&bus, "suspend_inhibit = false\n"), off] {
        let agent = Agent::at(place);
        becomes(&bus, &["delay"]);
        agent.client().register(std::process::id(), OPEN);
        throughout("sleep is only delayed", A_WHILE, || {
            bus.inhibitors() == ["delay"]
        });
        assert!(!status(&bus, &agent).prevent_sleep);
    }
}

#[test]
fn an_environment_that_says_neither_yes_nor_no_is_refused() {
    for name in [
        "LOCKBOX_AGENT_PREVENT_SLEEP",
        "LOCKBOX_AGENT_TERMINATE_ON_SUSPEND",
    ] {
        let place = Place::new().with(name, "maybe".into());
        assert_eq!(place.refused(), 78);
        assert!(place.said().contains(name), "{}", place.said());
    }
}

#[test]
fn keys_are_forgotten_then_programs_ended_then_the_machine_may_sleep() {
    let Some(bus) = Bus::new() else { return };
    let agent = watching(&bus, "");
    let mut client = agent.client();
    client.keep("id", b"key");
    let mut meek = Sleeper::new("exec sleep 600");
    // Holds the sleep up for as long as it is let.
    let mut stubborn = Sleeper::new("trap '' TERM; while :; do sleep 1; done");
    let mut bystander = Sleeper::new("exec sleep 600");
    client.register(meek.pid(), OPEN);
    client.register(stubborn.pid(), OPEN);
    let over = client.register(bystander.pid(), OPEN);
    client.unregister(bystander.pid(), over);
    becomes(&bus, &["block", "delay"]);

    let announced = Instant::now();
    bus.sleep(true);
    until("keys are forgotten", AT_ONCE, || client.list().is_empty());
    assert_eq!(bus.inhibitors(), ["block", "delay"], "not before");
    until("the meek one ends", HANG, || !meek.runs());
    assert!(stubborn.runs());
    assert_eq!(bus.inhibitors(), ["block", "delay"]);
    let refused = agent
        .client()
        .refused(&frame(PUT, &put(b"new", b"key", b"", 60)));
    assert!(refused.starts_with("wiped: "), "{refused}");
    let late = activity(bystander.pid(), OPEN);
    let refused = agent.client().refused(&frame(REGISTER, &late));
    assert!(refused.starts_with("wiped: "), "{refused}");
    assert_eq!(status(&bus, &agent).watch(), pb::SuspendWatch::Asleep);

    becomes(&bus, &[]);
    assert!(announced.elapsed() < PATIENCE, "{:?}", announced.elapsed());
    assert!(!stubborn.runs() && bystander.runs());
    agent
        .client()
        .refused(&frame(PUT, &put(b"new", b"key", b"", 60)));

    bus.sleep(false);
    becomes(&bus, &["delay"]);
    agent.client().keep("new", b"key");
    assert_eq!(agent.client().get("id"), Answer::Miss);
    assert!(bystander.runs());
    let said = agent.place().said();
    assert!(said.contains("the machine goes to sleep"), "{said}");
}

/// Starts a program with that very pid, which must be free; none if another was faster
/// each time, or if the kernel does not let us.
fn with_pid(pid: u32) -> Option<Sleeper> {
    for _ in 0..100 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let program = Sleeper::new("exec sleep 600");
        if program.pid() == pid {
            return Some(program);
        }
    }
    None
}

#[test]
fn a_pid_that_is_used_again_is_not_hit() {
    let Some(bus) = Bus::new() else { return };
    let agent = watching(&bus, "");
    let registered = Sleeper::new("exec sleep 600");
    let pid = registered.pid();
    agent.client().register(pid, OPEN);
    becomes(&bus, &["block", "delay"]);
    // It must not see that one has ended before another has its pid.
    agent.signal(Signal::STOP);
    drop(registered);
    let Some(mut bystander) = with_pid(pid) else {
        agent.signal(Signal::CONT);
        return skip_anywhere("no program can be started with a pid that was used");
    };
    bus.sleep(true);
    agent.signal(Signal::CONT);
    becomes(&bus, &[]);
    assert!(bystander.runs());
}

#[test]
fn programs_live_on_if_so_configured_and_are_no_longer_protected() {
    let Some(bus) = Bus::new() else { return };
    let file = on(&bus, "terminate_on_suspend = false\n");
    let variable = on(&bus, "terminate_on_suspend = true\n")
        .with("LOCKBOX_AGENT_TERMINATE_ON_SUSPEND", "0".into());
    for place in [file, variable] {
        let agent = Agent::at(place);
        becomes(&bus, &["delay"]);
        let mut program = Sleeper::new("exec sleep 600");
        let mut client = agent.client();
        client.keep("id", b"key");
        client.register(program.pid(), OPEN);
        becomes(&bus, &["block", "delay"]);
        bus.sleep(true);
        becomes(&bus, &[]);
        assert!(program.runs());
        assert_eq!(client.get("id"), Answer::Miss);
        // Awake again, it is protected again.
        bus.sleep(false);
        becomes(&bus, &["block", "delay"]);
        assert!(program.runs());
    }
}

#[test]
fn clients_that_stall_keep_neither_a_key_nor_the_machine_awake() {
    const STALLED: usize = 100;
    let Some(bus) = Bus::new() else { return };
    if !need_root() {
        return;
    }
    for settings in ["", "secret_memory = false\n"] {
        let agent = watching(&bus, settings);
        let key = unique(LONGEST_KEY);
        let needle = Needle::new(&key[key.len() - 32..]);
        agent.client().keep("id", &key);
        let whole = frame(PUT, &put(b"other", &key, b"/path", 60));
        let stalled: Vec<_> = (0..STALLED)
            .map(|number| {
                let mut client = agent.client();
                match number % 3 {
                    0 => client.send(&whole[..whole.len() - 1]),
                    1 => client.send(&frame(GET, b"id").repeat(64)),
                    _ => client.send(b"LBX2\x01"),
                }
                client
            })
            .collect();
        bus.sleep(true);
        becomes(&bus, &[]);
        assert!(agent.client().list().is_empty());
        drop(stalled);
        let scan = scan::memory(agent.pid(), &needle);
        assert_eq!(scan.found, Found::NOTHING, "{scan:?}");
        bus.sleep(false);
    }
}

#[test]
fn a_bus_that_comes_later_is_found_and_one_that_goes_is_told() {
    let Some(mut bus) = Bus::absent() else { return };
    let agent = Agent::at(on(&bus, ""));
    until("it is told", HANG, || !status(&bus, &agent).why.is_empty());
    assert_eq!(status(&bus, &agent).watch(), pb::SuspendWatch::Absent);
    agent.client().keep("id", b"key");
    bus.start();
    becomes(&bus, &["delay"]);
    bus.stop();
    until("it is told", HANG, || {
        status(&bus, &agent).watch() == pb::SuspendWatch::Absent
    });
    let told = status(&bus, &agent);
    assert!(!told.delays_sleep && !told.why.is_empty(), "{told:?}");
    bus.start();
    becomes(&bus, &["delay"]);
    bus.start_logind();
    becomes(&bus, &["delay"]);
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));
    bus.sleep(true);
    becomes(&bus, &[]);
    assert_eq!(agent.client().get("id"), Answer::Miss);
}

#[test]
fn a_bus_lost_in_sleep_does_not_close_the_cache_for_good() {
    let Some(mut bus) = Bus::new() else { return };
    let agent = watching(&bus, "");
    bus.sleep(true);
    becomes(&bus, &[]);
    bus.stop();
    until("it is told", HANG, || {
        status(&bus, &agent).watch() == pb::SuspendWatch::Absent
    });
    agent.client().keep("id", b"key");
}

#[test]
fn sleep_that_was_announced_before_the_start_counts() {
    let Some(bus) = Bus::new() else { return };
    bus.sleep(true);
    let agent = Agent::at(on(&bus, ""));
    until("it is told", HANG, || {
        status(&bus, &agent).watch() == pb::SuspendWatch::Asleep
    });
    assert_eq!(bus.inhibitors(), [""; 0]);
    bus.sleep(false);
    becomes(&bus, &["delay"]);
}

#[test]
fn a_block_that_is_refused_is_told_and_keys_are_kept_all_the_same() {
    let Some(bus) = Bus::new() else { return };
    let agent = watching(&bus, "");
    bus.refuse(&["block"]);
    let mut client = agent.client();
    let own = std::process::id();
    let token = client.register(own, OPEN);
    until("it is told", HANG, || {
        status(&bus, &agent).why.contains("not for you")
    });
    assert_eq!(bus.inhibitors(), ["delay"]);
    client.keep("id", b"key");
    client.unregister(own, token);
    until("it is over", HANG, || status(&bus, &agent).why.is_empty());
    bus.refuse(&[]);
    client.register(own, OPEN);
    becomes(&bus, &["block", "delay"]);
}

#[test]
fn a_delay_that_is_refused_is_told_and_sleep_is_heard_all_the_same() {
    let Some(bus) = Bus::new() else { return };
    bus.refuse(&["delay"]);
    let agent = Agent::at(on(&bus, ""));
    until("it is told", HANG, || {
        status(&bus, &agent).why.contains("not for you")
    });
    let told = status(&bus, &agent);
    assert_eq!(told.watch(), pb::SuspendWatch::Watching);
    assert!(!told.delays_sleep, "{told:?}");
    let mut client = agent.client();
    client.keep("id", b"key");
    bus.sleep(true);
    until("keys are forgotten", HANG, || client.list().is_empty());
    bus.refuse(&[]);
    bus.sleep(false);
    becomes(&bus, &["delay"]);
    assert_eq!(status(&bus, &agent).why, "");
}

#[test]
fn a_bus_of_the_network_or_of_a_program_is_not_tried() {
    let Some(bus) = Bus::absent() else { return };
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is bound");
    listener.set_nonblocking(true).expect("it is set");
    let port = listener.local_addr().expect("it has one").port();
    let place = Place::new();
    let trace = place.root().join("ran");
    let program = format!("unixexec:path=/usr/bin/touch,argv1={}", trace.display());
    for address in [format!("tcp:host=127.0.0.1,port={port}"), program] {
        let agent = Agent::at(Place::new().with(ADDRESS, address.into()));
        until("it is told", HANG, || !status(&bus, &agent).why.is_empty());
        let why = status(&bus, &agent).why;
        assert!(why.contains("must be a unix: address"), "{why}");
    }
    listener.accept().expect_err("nobody has come");
    assert!(!trace.exists());
}
