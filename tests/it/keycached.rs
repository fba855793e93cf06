//! The real `keycached` on its real socket: what it answers byte for byte, what
//! it keeps, what is left of a key in its memory, how it starts and ends.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

mod activation;
mod agent;
mod auto_unlock;
mod bus;
mod cache;
mod controls;
mod ctl;
mod desktop;
mod doctor;
mod frames;
mod handed;
mod home;
mod impostor;
mod life;
mod log;
mod memory;
mod owned;
mod places;
mod python;
mod refusals;
mod rpc;
mod scan;
mod settings;
mod sleep;
mod wire;

/// Guards against a hang; no promise is measured with it.
const HANG: Duration = Duration::from_mins(1);

/// Longer than any single answer takes, on a busy machine too.
const PROMPT: Duration = Duration::from_secs(5);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// A user that owns nothing here.
const STRANGER: u32 = 47_114;

/// Waits until it holds; panics when it does not in that time.
fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Looks again and again for that long; panics once it does not hold.
fn throughout(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < time {
        let since = started.elapsed();
        assert!(holds(), "{what}: no longer after {since:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Bytes that nobody else has, none of them zero.
fn unique(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    for byte in &mut bytes {
        *byte = (*byte).max(1);
    }
    bytes
}

/// Runs the work in a thread of its own that belongs to [`STRANGER`].
fn as_stranger<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let thread = std::thread::spawn(move || {
        let user = rustix::fs::Uid::from_raw(STRANGER);
        let group = rustix::fs::Gid::from_raw(STRANGER);
        set_thread_groups(&[]).expect("root drops its groups");
        set_thread_res_gid(group, group, group).expect("root changes its group");
        set_thread_res_uid(user, user, user).expect("root becomes somebody else");
        work()
    });
    thread.join().expect("the other user does not panic")
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("the mode is changed");
}
