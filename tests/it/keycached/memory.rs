//! What is left of a key in the agent's memory, and in files. Needs root, to
//! read another process's memory.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::agent::Agent;
use super::scan::{self, Found, Needle, Scan};
use super::wire::{Answer, GET, LONGEST_KEY, PUT, frame, put};
use super::{HANG, PAUSE, as_stranger, unique, until};
use crate::harness::need_root;

/// How soon a key that is forgotten must be gone.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long is looked for it, to say how long it took.
const LOOKING: Duration = Duration::from_secs(5);

/// Settings for either kind of memory. Only the second can be read at all, so only
/// there a search shows that a slot is wiped.
const KINDS: [&str; 2] = ["", "secret_memory = false\n"];

/// An agent that has a key which nobody else has.
struct Kept {
    agent: Agent,
    key: Vec<u8>,
    needle: Needle,
}

impl Kept {
    /// The key was put by one client and taken by another; both are gone.
    fn new(settings: &str, ttl: u64) -> Self {
        let agent = Agent::configured(settings);
        let key = unique(32);
        let put = agent.client().put("id", &key, "/some/path", ttl);
        assert_eq!(put, Answer::Ok);
        let needle = Needle::new(&key);
        Self { agent, key, needle }
    }

    fn scan(&self) -> Scan {
        scan::memory(self.agent.pid(), &self.needle)
    }

    /// There is the one copy that the cache keeps, where it can be read at all.
    #[track_caller]
    fn is_kept_once(&self) {
        let scan = self.scan();
        let copies = usize::from(!scan.secret);
        assert_eq!(scan.found.raw, copies, "{scan:?}");
        assert_eq!((scan.found.hex, scan.found.base64), (0, 0), "{scan:?}");
        assert!(!scan.secret || scan.unreadable > 0, "{scan:?}");
    }

    #[track_caller]
    fn is_gone(&self, since: Instant) {
        gone(&self.agent, &self.needle, since);
    }
}

/// Panics unless the agent's memory is clean a second after that at the latest,
/// and every file of its place too.
#[track_caller]
fn gone(agent: &Agent, needle: &Needle, since: Instant) {
    loop {
        let took = since.elapsed();
        let scan = scan::memory(agent.pid(), needle);
        if scan.found == Found::NOTHING {
            assert!(took <= AT_ONCE, "it is gone, but only after {took:?}");
            break;
        }
        assert!(took < LOOKING, "still there after {took:?}: {scan:?}");
        std::thread::sleep(PAUSE);
    }
    let written = scan::files(agent.place().root(), needle);
    assert_eq!(written, Found::NOTHING);
}

/// Whether it is gone after this was done to an agent that had given it out.
#[track_caller]
fn leaves_nothing(act: impl Fn(&Agent)) {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let kept = Kept::new(kind, 3_600);
        assert_eq!(kept.agent.client().get("id"), Answer::Key(kept.key.clone()));
        kept.is_kept_once();
        act(&kept.agent);
        kept.is_gone(Instant::now());
        assert_eq!(kept.agent.client().get("id"), Answer::Miss);
    }
}

#[test]
fn a_cached_key_is_in_memory_once_at_most() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let kept = Kept::new(kind, 3_600);
        kept.is_kept_once();
        for _ in 0..3 {
            let key = kept.agent.client().get("id");
            assert_eq!(key, Answer::Key(kept.key.clone()));
            kept.is_kept_once();
        }
        let mut open = kept.agent.client();
        assert_eq!(open.get("id"), Answer::Key(kept.key.clone()));
        assert_eq!(open.list().len(), 1);
        kept.is_kept_once();
        let written = scan::files(kept.agent.place().root(), &kept.needle);
        assert_eq!(written, Found::NOTHING);
    }
}

#[test]
fn forget_leaves_nothing() {
    leaves_nothing(|agent| assert_eq!(agent.client().forget("id"), Answer::Ok));
}

#[test]
fn forget_all_leaves_nothing() {
    leaves_nothing(|agent| assert_eq!(agent.client().forget_all(), Answer::Ok));
}

#[test]
fn a_replaced_key_leaves_nothing() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let kept = Kept::new(kind, 3_600);
        let other = unique(32);
        let mut client = kept.agent.client();
        client.keep("id", &other);
        kept.is_gone(Instant::now());
        assert_eq!(client.get("id"), Answer::Key(other.clone()));
        kept.is_gone(Instant::now());
        let scan = scan::memory(kept.agent.pid(), &Needle::new(&other));
        assert!(scan.found.raw <= usize::from(!scan.secret), "{scan:?}");
    }
}

#[test]
fn signals_leave_nothing() {
    for signal in [Signal::USR1, Signal::HUP] {
        leaves_nothing(|agent| {
            agent.signal(signal);
            let mut client = agent.client();
            until("it forgets", AT_ONCE, || client.list().is_empty());
        });
    }
}

#[test]
fn a_signal_alone_leaves_nothing() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        for signal in [Signal::USR1, Signal::HUP] {
            let kept = Kept::new(kind, 3_600);
            kept.agent.signal(signal);
            kept.is_gone(Instant::now());
            let mut client = kept.agent.client();
            until("it forgets", AT_ONCE, || client.list().is_empty());
        }
    }
}

/// Whether a key goes at its time beside those that this makes.
#[track_caller]
fn expires_beside<T>(clients: impl Fn(&Agent) -> T) {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let ttl = Duration::from_secs(1);
        let kept = Kept::new(kind, ttl.as_secs());
        kept.is_kept_once();
        let end = Instant::now() + ttl;
        let _clients = clients(&kept.agent);
        until("the time passes", HANG, || Instant::now() >= end);
        kept.is_gone(end);
        assert_eq!(kept.agent.client().get("id"), Answer::Miss);
    }
}

#[test]
fn an_expired_key_leaves_nothing_though_nobody_asks() {
    expires_beside(|_| ());
}

#[test]
fn an_expired_key_leaves_nothing_though_clients_stall() {
    let whole = frame(PUT, &put(b"other", &unique(64), b"/path", 60));
    expires_beside(|agent| {
        agent.client().keep("lasting", &unique(LONGEST_KEY));
        let stalled = (0..50).map(|number| {
            let mut client = agent.client();
            match number % 3 {
                0 => client.send(&whole[..whole.len() - 1]),
                1 => client.send(&frame(GET, b"lasting").repeat(64)),
                _ => client.send(b"PRI * HTTP/2.0\r\n"),
            }
            client
        });
        stalled.collect::<Vec<_>>()
    });
}

#[test]
fn a_put_that_was_broken_off_leaves_nothing() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let agent = Agent::configured(kind);
        let key = unique(64);
        let whole = frame(PUT, &put(b"id", &key, b"/some/path", 3_600));
        let sent = whole.len() - b"/some/path".len() - key.len() / 2;
        for request in [&whole[..sent], &whole[..whole.len() - 1]] {
            for vanishes in [true, false] {
                let mut client = agent.client();
                client.send(request);
                assert_eq!(agent.client().get("id"), Answer::Miss);
                if vanishes {
                    drop(client);
                    assert_eq!(agent.client().get("id"), Answer::Miss);
                } else {
                    client.finish(b"");
                }
                let now = Instant::now();
                gone(&agent, &Needle::new(&key[..key.len() / 2]), now);
                gone(&agent, &Needle::new(&key), Instant::now());
            }
        }
        assert!(agent.client().list().is_empty());
    }
}

#[test]
fn a_refused_put_leaves_nothing() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let agent = Agent::configured(kind);
        let key = unique(32);
        let needle = Needle::new(&key);
        let endless = put(b"id", &key, b"", u64::MAX);
        let mut longer = put(b"id", &key, b"", 60);
        longer.extend(b"more");
        for request in [frame(PUT, &endless), frame(PUT, &longer), frame(0x07, &key)] {
            agent.client().refused(&request);
            gone(&agent, &needle, Instant::now());
        }
    }
}

#[test]
fn a_key_that_nobody_fetches_to_the_end_leaves_nothing() {
    if !need_root() {
        return;
    }
    for kind in KINDS {
        let agent = Agent::configured(kind);
        let long = unique(LONGEST_KEY);
        agent.client().keep("id", &long);
        let needle = Needle::new(&long[long.len() - 32..]);
        let mut deaf = agent.client();
        deaf.send(&frame(GET, b"id").repeat(64));
        assert_eq!(agent.client().forget_all(), Answer::Ok);
        drop(deaf);
        gone(&agent, &needle, Instant::now());
    }
}

/// Names are no secrets; they stand for what a library may copy and let go.
#[test]
fn what_is_let_go_is_wiped_whoever_had_it() {
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    let path = String::from_utf8(scan::hex(&unique(150))).expect("digits are text");
    let needle = Needle::new(&path.as_bytes()[200..]);
    let mut client = agent.client();
    for _ in 0..3 {
        assert_eq!(client.put("id", b"key", &path, 60), Answer::Ok);
        assert_eq!(client.list(), [("id".to_owned(), path.clone())]);
    }
    let kept = scan::memory(agent.pid(), &needle);
    assert!(kept.found.raw > 0, "the control: {kept:?}");
    client.forget("id");
    drop(client);
    gone(&agent, &needle, Instant::now());
}

/// As smaps(5) shows them: locked, left out of dumps, wiped in children, not copied to
/// them.
#[test]
fn where_keys_lie_is_locked_left_out_of_dumps_and_of_children() {
    if !need_root() {
        return;
    }
    for (settings, wanted) in [
        ("", &["lo", "dd", "dc"][..]),
        ("secret_memory = false\n", &["lo", "dd", "wf"]),
    ] {
        let agent = Agent::configured(settings);
        agent.client().keep("id", &unique(32));
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", agent.pid()));
        let smaps = smaps.expect("root may read it");
        let flags = smaps
            .lines()
            .filter_map(|line| line.strip_prefix("VmFlags:"));
        let mut flags = flags.map(|flags| flags.split_whitespace().collect::<Vec<_>>());
        let is_it = |flags: Vec<&str>| wanted.iter().all(|flag| flags.contains(flag));
        assert!(flags.any(is_it), "{wanted:?}: {smaps}");
    }
}

#[test]
fn it_can_neither_dump_core_nor_gain_privileges() {
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{name}", agent.pid()));
        text.expect("root may read it")
    };
    let limits = read("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.expect("it is limited").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{words:?}");
    let status = read("status");
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    assert!(status.contains("\nUmask:\t0077\n"), "{status}");
}

#[test]
fn another_user_cannot_open_its_memory() {
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    let memory = format!("/proc/{}/mem", agent.pid());
    std::fs::File::open(&memory).expect("root may: the control");
    let denied = as_stranger(move || std::fs::File::open(memory).map(drop));
    let kind = denied.expect_err("it is closed to others").kind();
    assert_eq!(kind, std::io::ErrorKind::PermissionDenied);
}
