//! The agent of the key cache: its directory, its socket, what it says of itself.
//!
//! It is asked only where its lock names a process that lives. Behind a socket of
//! systemd the question alone would start it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::ask::{Silence, ask};
use super::place::{Kind, Wanted, nowhere};
use super::{ANSWER, Check, process, version};
use crate::cli::context::Context;
use crate::client::KeyCache;
use crate::paths::{AGENT_DIR_VAR, AGENT_LOCK, AGENT_SOCKET, socket_path};
use crate::proto::keycache as pb;

const DIRECTORY: Wanted = Wanted {
    name: "agent-directory",
    kind: Kind::Directory,
    modes: &[0o700],
    variable: AGENT_DIR_VAR,
    named: false,
};

const SOCKET: Wanted = Wanted {
    name: "agent-socket",
    kind: Kind::Socket,
    modes: &[0o600],
    variable: AGENT_DIR_VAR,
    named: false,
};

/// Whether it answers.
const AGENT: &str = "agent";
const MEMORY: &str = "agent-memory";
const INHIBITOR: &str = "agent-inhibitor";

/// A pid and a newline.
const PID_BYTES: u64 = 16;

/// What was found.
#[derive(Default)]
pub(super) struct Agent {
    pub checks: Vec<Check>,
    /// What an agent that answers knows of the machine's sleep.
    pub sleep: Option<pb::SleepStatus>,
}

/// Looks at all of it.
pub(super) async fn look(context: &Context) -> Agent {
    let mut agent = Agent::default();
    let place = context.env.agent_dir();
    let place = place.and_then(|dir| Ok((socket_path(&dir, AGENT_SOCKET)?, dir)));
    let (socket, dir) = match place {
        Ok(place) => place,
        Err(error) => {
            let check = nowhere(DIRECTORY.name, AGENT_DIR_VAR, &error);
            agent.checks.push(check);
            return agent;
        }
    };
    let directory = DIRECTORY.look(&dir);
    let goes_on = directory.is_right || !directory.is_there;
    agent.checks.push(directory.check);
    if goes_on {
        agent.at(&dir, &socket).await;
    }
    agent
}

impl Agent {
    async fn at(&mut self, dir: &Path, path: &Path) {
        let socket = SOCKET.look(path);
        self.checks.push(socket.check);
        let pid = socket.is_right.then(|| holder(&dir.join(AGENT_LOCK)));
        let Some(pid) = pid.flatten() else {
            if socket.is_right || !socket.is_there {
                self.checks.push(none());
            }
            return;
        };
        let asked = ask(async || {
            let cache = KeyCache::connect(path).await?;
            cache.with_timeout(ANSWER).status().await
        });
        match asked.await {
            Ok(status) => self.answered(status),
            Err(Silence::Nobody) => self.checks.push(none()),
            Err(silence) => self.checks.push(silent(path, pid, &silence)),
        }
    }

    fn answered(&mut self, status: pb::StatusResponse) {
        let mend = "episodectl key stop, which forgets all keys; the next `key put` starts yours";
        self.checks.extend([
            Check::ok(AGENT, format!("pid {} answers", status.pid)),
            version("agent-version", &status.version, mend),
            memory(&status),
        ]);
        self.checks.extend(process::look(status.pid));
        self.checks.extend(status.sleep.as_ref().map(inhibitor));
        self.sleep = status.sleep;
    }
}

/// The process that holds the lock of the agent's directory, if it lives.
fn holder(lock: &Path) -> Option<u32> {
    // NONBLOCK: what somebody put there must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(lock, flags, Mode::empty()).ok()?;
    let mut text = String::new();
    let mut file = File::from(file).take(PID_BYTES);
    file.read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim_end().parse().ok()?;
    process::is_there(pid).then_some(pid)
}

fn none() -> Check {
    Check::ok(AGENT, "no agent runs; `episodectl key put` starts it")
}

fn silent(path: &Path, pid: u32, silence: &Silence) -> Check {
    let what = match silence {
        Silence::Other(error) => error.message.clone(),
        Silence::Late | Silence::Nobody => {
            let limit = ANSWER.as_secs();
            format!(
                "{}: no answer within {limit} s from pid {pid}",
                path.display()
            )
        }
    };
    let mend = format!(
        "kill -CONT {pid} if it was stopped, else kill -KILL {pid}: all keys are forgotten, the next `key put` starts another"
    );
    Check::failed(AGENT, what, mend)
}

fn memory(status: &pb::StatusResponse) -> Check {
    let (kind, bytes) = (&status.memory, status.locked_bytes);
    if kind == "unlocked" {
        let what = "unlocked: keys may be written to swap";
        let mend = "raise RLIMIT_MEMLOCK, take allow_unlocked_memory out of the configuration, and run episodectl key stop";
        return Check::warning(MEMORY, what, mend);
    }
    if kind == "none" {
        let what = "no memory can be locked: no key is kept";
        let mend = "raise RLIMIT_MEMLOCK (ulimit -l), and run episodectl key stop";
        return Check::failed(MEMORY, what, mend);
    }
    Check::ok(MEMORY, format!("{kind}, {bytes} bytes"))
}

/// Whether the machine waits for the agent before it sleeps.
fn inhibitor(sleep: &pb::SleepStatus) -> Check {
    let why = match &*sleep.why {
        "" => String::new(),
        why => format!(": {why}"),
    };
    let allow = "let polkit allow the user to inhibit sleep";
    match sleep.watch() {
        pb::SuspendWatch::Asleep => Check::ok(
            INHIBITOR,
            "the machine is about to sleep: keys are forgotten",
        ),
        pb::SuspendWatch::Watching if !sleep.delays_sleep => {
            let what = format!("sleep is announced, and does not wait for the agent{why}");
            Check::warning(INHIBITOR, what, allow)
        }
        pb::SuspendWatch::Watching if !why.is_empty() => {
            let what = format!("sleep waits for the agent, and is not held off{why}");
            Check::warning(INHIBITOR, what, allow)
        }
        pb::SuspendWatch::Watching => Check::ok(INHIBITOR, "sleep waits until keys are forgotten"),
        pb::SuspendWatch::Absent | pb::SuspendWatch::Unspecified => {
            let what = format!("sleep is seen afterwards only, by the clocks{why}");
            let mend = "start dbus and systemd-logind: the agent tries again by itself";
            Check::warning(INHIBITOR, what, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{inhibitor, memory};
    use crate::cli::doctor::State;
    use crate::proto::keycache as pb;

    fn sleep(watch: pb::SuspendWatch, delays_sleep: bool, why: &str) -> State {
        let status = pb::SleepStatus {
            watch: watch.into(),
            why: why.to_owned(),
            delays_sleep,
            ..pb::SleepStatus::default()
        };
        let check = inhibitor(&status);
        assert!(check.what.contains(why), "{check:?}");
        assert_eq!(check.mend.is_empty(), check.state == State::Ok, "{check:?}");
        check.state
    }

    #[test]
    fn sleep_that_does_not_wait_is_a_warning_with_its_cause() {
        use pb::SuspendWatch::{Absent, Asleep, Unspecified, Watching};
        assert_eq!(sleep(Watching, true, ""), State::Ok);
        assert_eq!(sleep(Asleep, false, ""), State::Ok);
        assert_eq!(sleep(Watching, true, "polkit says no"), State::Warning);
        assert_eq!(sleep(Watching, false, "polkit says no"), State::Warning);
        assert_eq!(sleep(Absent, false, "no logind"), State::Warning);
        assert_eq!(sleep(Unspecified, false, ""), State::Warning);
    }

    #[test]
    fn memory_that_may_be_swapped_is_a_warning() {
        let of = |kind: &str| {
            let status = pb::StatusResponse {
                memory: kind.to_owned(),
                ..pb::StatusResponse::default()
            };
            memory(&status).state
        };
        assert_eq!(of("memfd_secret"), State::Ok);
        assert_eq!(of("mlock"), State::Ok);
        assert_eq!(of("unlocked"), State::Warning);
    }
}
