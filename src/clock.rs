//! Time, read in one place.
//!
//! Owns the three clocks a decision may need and the identity of the boot they
//! belong to. Everything else takes a [`Now`] as an argument, so that a test can
//! move time. All times are whole milliseconds.
//!
//! - `boot` is `CLOCK_BOOTTIME`: it counts while the machine sleeps. Absolute
//!   deadlines are decided on it.
//! - `awake` is `CLOCK_MONOTONIC`: it stands still while the machine sleeps.
//!   Silence is measured on it, because a sleeping daemon hears nothing.
//! - `wall` is `CLOCK_REALTIME`: for people, and for deadlines across a reboot.

use std::{fmt, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// One reading of the clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since boot, sleep included.
    pub boot: u64,
    /// Since boot, sleep excluded.
    pub awake: u64,
    /// Since the Unix epoch.
    pub wall: u64,
}

impl Now {
    /// How long the machine has slept since it booted.
    pub fn slept(&self) -> Duration {
        Duration::from_millis(self.boot.saturating_sub(self.awake))
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Reads all clocks.
    fn now(&self) -> Now;
    /// Which boot `Now::boot` and `Now::awake` count from.
    fn boot_id(&self) -> BootId;
}

/// The kernel's random id of one boot.
#[derive(Clone, PartialEq, Eq)]
pub struct BootId(Arc<str>);

impl BootId {
    /// Wraps an id that was read or stored before.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as the kernel writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: BootId,
}

impl SystemClock {
    /// Reads the boot id once; it cannot change under a running process.
    pub fn new() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            boot_id: BootId::new(text.trim()),
        })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            boot: millis(ClockId::Boottime),
            awake: millis(ClockId::Monotonic),
            wall: millis(ClockId::Realtime),
        }
    }

    fn boot_id(&self) -> BootId {
        self.boot_id.clone()
    }
}

/// A time before the epoch reads as the epoch.
fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::{Clock, SystemClock};

    #[test]
    fn the_boot_clock_is_never_behind_the_awake_clock() {
        let clock = SystemClock::new().unwrap();
        let now = clock.now();
        assert!(now.boot + 1 >= now.awake);
        assert!(now.wall > 1_600_000_000_000);
        assert_eq!(clock.boot_id().as_str().len(), 36);
    }
}
