//! What the host gives: memory that can be locked, the system bus, clocks.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::clock::{Clock as _, Now, SystemClock};
use crate::keycache::arena::MAX_LOCKED;
use crate::paths::Env;
use crate::proto::keycache as pb;

const MEMORY: &str = "memory-limit";
const BUS: &str = "bus";
const CLOCK: &str = "clock";

const BUS_ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// Where the D-Bus specification has it.
const BUS_SOCKET: &str = "/var/run/dbus/system_bus_socket";

/// The start of 2024 in milliseconds: older than any of these programs.
const PLAUSIBLE: u64 = 1_704_067_200_000;

const MIB: u64 = 1024 * 1024;

/// Looks at all of it.
pub(super) fn look(env: &Env, sleep: Option<&pb::SleepStatus>) -> Vec<Check> {
    let clock = SystemClock::new().map(|clock| clock.now());
    let clock = clock.map_err(|error| error.to_string());
    vec![
        memory(getrlimit(Resource::Memlock).maximum),
        bus(env, sleep),
        clock.map_or_else(
            |error| Check::warning(CLOCK, format!("no boot id: {error}"), "mount /proc"),
            |now| clocks(&now),
        ),
    ]
}

/// An agent raises its limit to the hard one.
fn memory(limit: Option<u64>) -> Check {
    let most = MAX_LOCKED as u64;
    let text = |bytes: u64| match bytes % MIB {
        0 => format!("{} MiB", bytes / MIB),
        _ => format!("{bytes} bytes"),
    };
    match limit {
        Some(limit) if limit < most => Check::warning(
            MEMORY,
            format!(
                "an agent started here locks {} at most, not {}",
                text(limit),
                text(most)
            ),
            format!(
                "set `hard memlock {}` in /etc/security/limits.conf, and log in again",
                most / 1024
            ),
        ),
        _ => Check::ok(
            MEMORY,
            format!("an agent started here may lock {}", text(most)),
        ),
    }
}

/// What an agent hears is known better than what lies there.
fn bus(env: &Env, sleep: Option<&pb::SleepStatus>) -> Check {
    use pb::SuspendWatch::{Asleep, Watching};
    if sleep.is_some_and(|sleep| matches!(sleep.watch(), Watching | Asleep)) {
        return Check::ok(BUS, "the agent hears logind on the system bus");
    }
    let named = env
        .var(BUS_ADDRESS)
        .map(|address| address.to_string_lossy());
    let path = match &named {
        None => Some(PathBuf::from(BUS_SOCKET)),
        Some(address) => unix_path(address),
    };
    let Some(path) = path else {
        let what = format!("{BUS_ADDRESS} names no path of a Unix socket");
        return Check::warning(BUS, what, format!("set {BUS_ADDRESS} to unix:path=…"));
    };
    if is_socket(&path) {
        return Check::ok(BUS, format!("{} is there", path.display()));
    }
    let what = format!("no system bus at {}: nobody tells of sleep", path.display());
    Check::warning(BUS, what, "start dbus and systemd-logind")
}

/// The path in the first address of a D-Bus list.
fn unix_path(address: &str) -> Option<PathBuf> {
    let keys = address.split(';').next()?.strip_prefix("unix:")?;
    let mut keys = keys.split(',');
    keys.find_map(|key| key.strip_prefix("path="))
        .map(PathBuf::from)
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn clocks(now: &Now) -> Check {
    if now.wall < PLAUSIBLE {
        let what = "the wall clock is before 2024: deadlines across a reboot are wrong";
        return Check::warning(CLOCK, what, "timedatectl set-ntp true");
    }
    let whole = |millis: u64| Duration::from_secs(millis / 1000);
    let (up, slept) = (whole(now.boot), now.slept().as_secs());
    Check::ok(CLOCK, format!("up {up:?}, of which asleep {slept}s"))
}

#[cfg(test)]
mod tests {
    use super::{bus, clocks, memory, unix_path};
    use crate::cli::doctor::State;
    use crate::clock::Now;
    use crate::paths::Env;
    use crate::proto::keycache as pb;

    #[test]
    fn less_memory_than_an_agent_may_lock_is_a_warning() {
        assert_eq!(memory(None).state, State::Ok);
        assert_eq!(memory(Some(16 << 20)).state, State::Ok);
        let less = memory(Some(8 << 20));
        assert_eq!(less.state, State::Warning);
        assert!(less.what.contains("8 MiB at most"), "{less:?}");
        assert!(less.mend.contains("memlock 16384"), "{less:?}");
    }

    #[test]
    fn the_path_of_a_bus_is_read_from_its_address() {
        let path = |address| unix_path(address).map(|path| path.display().to_string());
        assert_eq!(path("unix:path=/a").as_deref(), Some("/a"));
        assert_eq!(path("unix:guid=0,path=/a;tcp:").as_deref(), Some("/a"));
        assert_eq!(path("unix:abstract=a"), None);
        assert_eq!(path("tcp:host=a,path=/a"), None);
    }

    #[test]
    fn a_bus_that_the_agent_hears_is_there_whatever_we_see() {
        let env = Env::new(1).with("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        assert_eq!(bus(&env, None).state, State::Warning);
        let heard = pb::SleepStatus {
            watch: pb::SuspendWatch::Watching.into(),
            ..pb::SleepStatus::default()
        };
        assert_eq!(bus(&env, Some(&heard)).state, State::Ok);
    }

    #[test]
    fn a_clock_of_long_ago_is_a_warning() {
        let now = |wall| Now {
            boot: 10_000,
            awake: 7_000,
            wall,
        };
        assert_eq!(clocks(&now(0)).state, State::Warning);
        let well = clocks(&now(1_800_000_000_000));
        assert_eq!(well.state, State::Ok);
        assert!(well.what.contains("asleep 3s"), "{well:?}");
    }
}
