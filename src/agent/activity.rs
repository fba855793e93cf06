//! Programs that have a secret in hand.
//!
//! An activity is registered for a process and ends with it, whether or not anybody
//! says so: the process is held by a pidfd, so a pid that is used again is another
//! process, and never signalled. Refuses a process that is neither the caller nor
//! its descendant.

use std::{collections::HashMap, fs, os::fd::OwnedFd, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Activities at most.
const MAX_ACTIVITIES: usize = 1024;

/// Generations between a caller and its descendant that are looked at.
const MAX_GENERATIONS: usize = 64;

/// Between two looks whether processes that were signalled have ended.
const LOOK: Duration = Duration::from_millis(10);

/// How long a process that was killed may take to be gone.
const KILLED: Duration = Duration::from_millis(500);

/// What is done with the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A vault is unlocked.
    Unlock,
    /// A lockbox is opened.
    Open,
    /// Secrets go into an environment.
    Env,
    /// Secrets go into a form.
    Form,
    /// A recovery.
    Recovery,
    /// A vault is changed.
    Vault,
}

impl Kind {
    /// As LBX2 numbers them.
    pub fn parse(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Unlock,
            2 => Self::Open,
            3 => Self::Env,
            4 => Self::Form,
            5 => Self::Recovery,
            6 => Self::Vault,
            _ => return None,
        })
    }
}

/// Who registered can unregister. Never zero, and not to be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// An activity is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityError {
    /// There is no such process, or it is not the caller's.
    NotYours,
    /// There are too many.
    Full,
    /// The machine is about to sleep.
    Sleeping,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Its process.
    pub pid: i32,
    /// What it does.
    pub kind: Kind,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Activities {
    held: Mutex<HashMap<Token, Held>>,
    /// Whether there are any.
    any: watch::Sender<bool>,
}

#[derive(Debug)]
struct Held {
    activity: Activity,
    process: Arc<OwnedFd>,
}

impl Activities {
    /// Registers a process that `caller` is, or descends to.
    pub fn register(&self, caller: i32, activity: Activity) -> Result<Token, ActivityError> {
        let pid = Pid::from_raw(activity.pid).ok_or(ActivityError::NotYours)?;
        // Held before its ancestors are looked at: what is looked at is what is held.
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => ActivityError::Full,
            _ => ActivityError::NotYours,
        })?;
        if !descends(activity.pid, caller) {
            return Err(ActivityError::NotYours);
        }
        let process = Arc::new(process);
        let held = Held { activity, process };
        let mut all = self.held.lock();
        if all.len() >= MAX_ACTIVITIES {
            return Err(ActivityError::Full);
        }
        loop {
            let number = getrandom::u64().map_err(|_| ActivityError::Full)?;
            let token = Token(number);
            if number != 0 && !all.contains_key(&token) {
                all.insert(token, held);
                self.tell(&all);
                return Ok(token);
            }
        }
    }

    /// Ends those whose process has ended.
    pub fn prune(&self) {
        let mut all = self.held.lock();
        all.retain(|_, held| !has_ended(&held.process));
        self.tell(&all);
    }

    /// Ends one; another pid or token changes nothing.
    pub fn unregister(&self, pid: u32, token: Token) {
        let mut all = self.held.lock();
        let is_it = |held: &Held| u32::try_from(held.activity.pid) == Ok(pid);
        if all.get(&token).is_some_and(is_it) {
            all.remove(&token);
            self.tell(&all);
        }
    }

    fn tell(&self, all: &HashMap<Token, Held>) {
        let any = !all.is_empty();
        self.any
            .send_if_modified(|known| std::mem::replace(known, any) != any);
    }

    /// Turns true with the first of them and false with the last.
    pub fn any(&self) -> watch::Receiver<bool> {
        self.any.subscribe()
    }

    /// Asks all their processes to end, and kills those that have not by then; says
    /// how many there were.
    pub async fn terminate(&self, grace: Duration) -> usize {
        let processes: Vec<Arc<OwnedFd>> = {
            let all = self.held.lock();
            let held = all.values().filter(|held| !has_ended(&held.process));
            held.map(|held| Arc::clone(&held.process)).collect()
        };
        signal_all(&processes, Signal::TERM);
        if timeout(grace, ends(&processes)).await.is_err() {
            signal_all(&processes, Signal::KILL);
            let _ = timeout(KILLED, ends(&processes)).await;
        }
        self.prune();
        processes.len()
    }

    /// All of them.
    pub fn list(&self) -> Vec<Activity> {
        self.held
            .lock()
            .values()
            .map(|held| held.activity)
            .collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }
}

/// One that has ended cannot be signalled any more: its pidfd stays its own.
fn signal_all(processes: &[Arc<OwnedFd>], signal: Signal) {
    for process in processes {
        let _ = pidfd_send_signal(process, signal);
    }
}

/// Waits until all have ended.
async fn ends(processes: &[Arc<OwnedFd>]) {
    while !processes.iter().all(|process| has_ended(process)) {
        sleep(LOOK).await;
    }
}

/// A pidfd is readable once its process has ended.
fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut polled, Some(&at_once)), Ok(ready) if ready > 0)
}

/// Whether `pid` is `ancestor` or one of its descendants.
fn descends(pid: i32, ancestor: i32) -> bool {
    let mut at = pid;
    for _ in 0..MAX_GENERATIONS {
        if at == ancestor {
            return true;
        }
        match parent(at) {
            Some(parent) if parent > 0 => at = parent,
            _ => return false,
        }
    }
    false
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Activities, Activity, ActivityError, Kind, descends, parent};

    fn sleeper() -> std::process::Child {
        let mut sleep = std::process::Command::new("sleep");
        sleep.arg("60").spawn().unwrap()
    }

    #[test]
    fn an_activity_ends_with_its_process_or_when_its_owner_says_so() {
        let (own, all) = (std::process::id() as i32, Activities::default());
        let mut child = sleeper();
        let of = |pid| Activity {
            pid,
            kind: Kind::Open,
        };
        let pid = child.id();
        all.register(own, of(pid as i32)).unwrap();
        let token = all.register(own, of(own)).unwrap();
        all.unregister(pid, token);
        all.unregister(std::process::id(), super::Token(token.0 ^ 1));
        all.prune();
        assert_eq!(all.held.lock().len(), 2, "all three changed nothing");
        child.kill().unwrap();
        child.wait().unwrap();
        all.prune();
        assert_eq!(all.held.lock().len(), 1);
        all.unregister(std::process::id(), token);
        assert!(all.is_empty());
        for stranger in [pid as i32, 1, i32::MAX] {
            let refused = all.register(own, of(stranger));
            assert_eq!(refused, Err(ActivityError::NotYours), "{stranger}");
        }
    }

    #[test]
    fn a_child_descends_and_a_parent_does_not() {
        let own = std::process::id() as i32;
        let mut child = sleeper();
        let pid = child.id() as i32;
        assert_eq!(parent(pid), Some(own));
        assert!(descends(pid, own) && descends(own, own) && descends(own, 1));
        assert!(!descends(own, pid));
        assert!(!descends(i32::MAX, own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descends(pid, own));
    }
}
