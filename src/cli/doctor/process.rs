//! The agent's process, as /proc shows it: who can read it, whether it may leave a
//! core file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::Check;

const READABLE: &str = "agent-process";
const CORE: &str = "agent-core-dumps";

/// The line of /proc/PID/limits.
const CORE_LIMIT: &str = "Max core file size";

const RESTART: &str =
    "episodectl key stop, which forgets all keys; the next `key put` starts a sound one";

/// Whether there is such a process.
pub(super) fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Looks at both.
pub(super) fn look(pid: i32) -> Vec<Check> {
    let process = Path::new("/proc").join(pid.to_string());
    if !process.exists() {
        let what = format!("pid {pid} is not to be seen here");
        let mend = "run doctor in the agent's own pid namespace";
        return vec![Check::warning(READABLE, what, mend)];
    }
    let limits = fs::read_to_string(process.join("limits"));
    vec![readable(pid, &process.join("mem")), core(limits)]
}

/// Files of a process that may be dumped are its user's; of any other they are root's.
fn readable(pid: i32, memory: &PathBuf) -> Check {
    let uid = geteuid();
    if uid.is_root() {
        let what = format!("pid {pid}: root can read any process, this one too");
        return Check::ok(READABLE, what);
    }
    let uid = uid.as_raw();
    let is_ours = fs::metadata(memory).is_ok_and(|found| found.uid() == uid);
    if is_ours || File::open(memory).is_ok() {
        let what = format!("pid {pid}: every process of uid {uid} can read its memory");
        return Check::failed(READABLE, what, RESTART);
    }
    let what = format!("pid {pid}: other processes of uid {uid} cannot read its memory");
    Check::ok(READABLE, what)
}

fn core(limits: io::Result<String>) -> Check {
    let limits = match limits {
        Ok(limits) => limits,
        Err(error) => {
            let what = format!("its limits cannot be read: {error}");
            return Check::warning(CORE, what, "run doctor where /proc shows them");
        }
    };
    match hard_core_limit(&limits) {
        Some("0") => Check::ok(CORE, "none: RLIMIT_CORE is 0"),
        Some(limit) => Check::failed(CORE, format!("RLIMIT_CORE is {limit}"), RESTART),
        None => Check::warning(CORE, "its limits do not name RLIMIT_CORE", RESTART),
    }
}

fn hard_core_limit(limits: &str) -> Option<&str> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix(CORE_LIMIT))?;
    line.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::core;
    use crate::cli::doctor::State;

    #[test]
    fn only_no_core_file_at_all_is_well() {
        let head = "Limit                     Soft Limit  Hard Limit  Units\n";
        let of = |line: &str| core(Ok(format!("{head}{line}\n"))).state;
        assert_eq!(of("Max core file size  0  0  bytes"), State::Ok);
        assert_eq!(of("Max core file size  0  unlimited  bytes"), State::Failed);
        assert_eq!(of("Max core file size  4096  4096  bytes"), State::Failed);
        assert_eq!(of("Max processes  7  7  processes"), State::Warning);
        let unreadable = core(Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(unreadable.state, State::Warning);
    }
}
