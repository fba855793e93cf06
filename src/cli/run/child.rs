//! The child and its process group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};
use tokio::process::{Child, Command};

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

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

/// The running command: leader of a process group of its own.
pub struct Episode {
    child: Child,
    group: Pid,
    foreground: Option<Foreground>,
}

impl Episode {
    /// Starts it, in the foreground of the terminal if this process was there.
    ///
    /// What this process was given for itself is not handed on: a lease, and a
    /// handle that would outrank the child's own.
    pub fn spawn(command: &[OsString], environment: [(&str, OsString); 3]) -> io::Result<Self> {
        let child = Command::new(&command[0])
            .args(&command[1..])
            .env_remove(EPISODE_HANDLE)
            .env_remove(EPISODE_LEASE_FILE)
            .envs(environment)
            .process_group(0)
            .spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = pid.ok_or_else(|| io::Error::other("the child has no pid"))?;
        let episode = Self {
            child,
            group,
            foreground: Foreground::of(group),
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

    /// Waits for the child's end.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        self.child.wait().await.map(Exit::from)
    }

    /// Sends a signal to the whole group, which may be gone.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether anything of the group is left.
    pub fn is_group_alive(&self) -> bool {
        test_kill_process_group(self.group).is_ok()
    }

    /// Whether the child was stopped since the last call.
    pub fn was_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::Pid(self.group), options);
        matches!(status, Ok(Some(status)) if status.stopped())
    }

    /// Goes on after a stop: in the foreground if this process is there again.
    pub fn resume(&self) {
        if let Some(foreground) = &self.foreground {
            foreground.give();
        }
        self.signal(Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::Exit;

    #[test]
    fn exits_are_as_a_shell_has_them() {
        assert_eq!(Exit::from(ExitStatus::from_raw(3 << 8)), Exit::Code(3));
        assert_eq!(Exit::from(ExitStatus::from_raw(9)).code(), 137);
    }
}
