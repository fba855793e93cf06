//! The terminal, while a child of `run` has it.
//!
//! Owns the hand-over of the foreground. A child in a process group of its own
//! is in the background for the terminal: reading would stop it. So the child
//! gets the foreground, if `run` had it, and `run` takes it back at the end,
//! for whatever comes after it in the same script.
//!
//! Taking it back is done from the background, where the kernel stops a process
//! for trying, unless it ignores SIGTTOU. A shell sets that for a helper, which
//! is this program under another name.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::process::{Command, ExitCode};

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The helper's name, in the place of a command.
pub const HELPER: &str = "__foreground";

/// The foreground of the terminal on stdin, which a child gets when we have it.
#[derive(Debug)]
pub struct Foreground {
    own: Pid,
    child: Pid,
}

impl Foreground {
    /// Hands it over, if there is a terminal. In the background nothing is ours
    /// to give until the shell puts us in front.
    pub fn of(child: Pid) -> Option<Self> {
        if !io::stdin().is_terminal() || tcgetpgrp(io::stdin()).is_err() {
            return None;
        }
        let foreground = Self {
            own: getpgrp(),
            child,
        };
        foreground.give();
        Some(foreground)
    }

    /// Hands it over, if it is ours.
    pub fn give(&self) {
        if tcgetpgrp(io::stdin()) == Ok(self.own) {
            let _ = tcsetpgrp(io::stdin(), self.child);
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let is_childs = tcgetpgrp(io::stdin()) == Ok(self.child);
        if let (true, Ok(program)) = (is_childs, std::env::current_exe()) {
            let _ = Command::new("/bin/sh")
                .args(["-c", r#"trap "" TTOU; exec "$0" "$1" "$2""#])
                .arg(program)
                .arg(HELPER)
                .arg(self.own.as_raw_nonzero().to_string())
                .status();
        }
    }
}

/// The helper: gives the terminal on stdin to a process group.
pub fn take_back(group: &OsStr) -> ExitCode {
    let group = group.to_str().and_then(|text| text.parse().ok());
    match group.and_then(Pid::from_raw) {
        Some(group) if tcsetpgrp(io::stdin(), group).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
