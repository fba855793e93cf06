//! The child and its process group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpgid, kill_process_group,
    test_kill_process_group, waitid,
};

use super::terminal::Foreground;
use crate::cli::secrets::{EPISODE_HANDLE, EPISODE_LEASE_FILE};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell has it.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code as u8,
            Self::Signal(signal) => 128 + signal as u8,
        }
    }
}

/// The running command: leader of a process group of its own.
///
/// Its process is reaped late, so that a daemon which starts after the child's
/// end, and before that end was told, still finds the process it was bound to.
pub struct Episode {
    child: Child,
    group: Pid,
    foreground: Option<Foreground>,
    /// The command is a child of this child, in a session of its own.
    is_confined: bool,
}

impl Episode {
    /// Starts it, in the foreground of the terminal if this process was there. What
    /// is confined is in another session than the terminal: its keys come to this
    /// process, which passes them on.
    ///
    /// What this process was given for itself is not handed on: a lease, and a
    /// handle that would outrank the child's own.
    pub fn spawn(
        command: &[OsString],
        environment: [(&str, OsString); 3],
        is_confined: bool,
    ) -> io::Result<Self> {
        let child = Command::new(&command[0])
            .args(&command[1..])
            .env_remove(EPISODE_HANDLE)
            .env_remove(EPISODE_LEASE_FILE)
            .envs(environment)
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        let episode = Self {
            child,
            group,
            foreground: Foreground::of(group).filter(|_| !is_confined),
            is_confined,
        };
        if episode.foreground.is_some() {
            // It may have read from the terminal, and been stopped, before it was its turn.
            episode.signal(Signal::CONT);
        }
        Ok(episode)
    }

    /// The child's process id.
    pub fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Whether there is a terminal, which may stop the child.
    pub fn has_terminal(&self) -> bool {
        self.foreground.is_some()
    }

    /// How the child ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        let status = self.status(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let signal = || status.terminating_signal().unwrap_or_default();
        Some(match status.exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(signal()),
        })
    }

    /// Lets go of a child that has ended, and of the terminal.
    pub fn reap(&mut self) {
        self.release_terminal();
        let _ = self.child.try_wait();
    }

    /// Takes the terminal back.
    pub fn release_terminal(&mut self) {
        self.foreground = None;
    }

    /// Sends a signal to the whole group, which may be gone. What confines a command
    /// would die of a signal and take the command with it at once; so only what
    /// must kill goes to it, and all else to the command itself.
    pub fn signal(&self, signal: Signal) {
        let inner = || confined_group(self.group);
        let inner = if self.is_confined && signal != Signal::KILL {
            inner()
        } else {
            None
        };
        let _ = kill_process_group(inner.unwrap_or(self.group), signal);
    }

    /// Whether anything of the group still runs. What has ended and was not waited for
    /// by whoever adopted it does not.
    pub fn is_group_alive(&self) -> bool {
        test_kill_process_group(self.group).is_ok() && is_any_running(self.group)
    }

    /// Whether the child was stopped since the last call.
    pub fn was_stopped(&self) -> bool {
        self.status(WaitIdOptions::STOPPED)
            .is_some_and(|status| status.stopped())
    }

    fn status(&self, what: WaitIdOptions) -> Option<WaitIdStatus> {
        waitid(WaitId::Pid(self.group), what | WaitIdOptions::NOHANG).ok()?
    }

    /// Goes on after a stop: in the foreground if this process is there again.
    pub fn resume(&self) {
        if let Some(foreground) = &self.foreground {
            foreground.give();
        }
        self.signal(Signal::CONT);
    }
}

/// The group of what runs confined: that of the first process in the namespace,
/// which has no handlers and so heeds no signal from outside but the last one.
fn confined_group(outer: Pid) -> Option<Pid> {
    let outer = outer.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
    let first = children.ok()?.split_whitespace().next()?.parse().ok()?;
    getpgid(Pid::from_raw(first)).ok()
}

impl Drop for Episode {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Whether a process of the group is more than an entry in the table.
fn is_any_running(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let group = group.as_raw_nonzero().get().to_string();
    processes.flatten().any(|process| {
        let is_process = process
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        is_process
            && std::fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| {
                // The name, in brackets, may hold anything.
                let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
                let mut fields = fields.split_whitespace();
                let (state, _parent, of) = (fields.next(), fields.next(), fields.next());
                of == Some(&group) && !matches!(state, Some("Z" | "X"))
            })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};

    use super::{Exit, Signal, is_any_running};

    #[test]
    fn a_process_that_nobody_waited_for_does_not_run() {
        let mut child = Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_child(&child);
        assert!(is_any_running(group));
        kill_process_group(group, Signal::KILL).unwrap();
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(group), ended).unwrap();
        assert!(!is_any_running(group), "it is only in the table");
        child.wait().unwrap();
    }

    #[test]
    fn exits_are_as_a_shell_has_them() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
    }
}
