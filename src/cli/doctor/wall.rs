//! Which walls hold on this host between an agent and the daemon.
//!
//! Says what is so and judges nothing: which walls are wanted is the user's choice.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{ANSWER, Check, State, worst};
use crate::cli::output::text::last_words;
use crate::cli::run::confine::{BWRAP, NAMESPACES, check_bubblewrap};

const OWN_UID: &str = "wall-own-uid";
const OTHER_UID: &str = "wall-other-uid";
const NAMESPACE: &str = "wall-namespace";
const FIREWALL: &str = "wall-firewall";

const NO_WALL: &str = "no wall: an agent that runs with the daemon's own uid can open operator.sock and agent.sock, \
     read every 0600 file and /proc/*/environ, and kill the daemon: file modes and handles are no wall against it";

/// Of a bubblewrap that failed.
const LAST_WORDS: usize = 256;

/// Whether a check says how it is with a wall.
pub(super) fn is_one(check: &Check) -> bool {
    [OWN_UID, OTHER_UID, NAMESPACE, FIREWALL].contains(&check.name)
}

/// Looks at all of them; `checks` are those of the sockets and their directories.
pub(super) async fn look(session_dir: Option<&Path>, checks: &[Check]) -> Vec<Check> {
    let namespace = match check_bubblewrap() {
        Ok(()) => namespace(try_bubblewrap().await.as_deref()),
        Err(_) => {
            "not here: there is no bubblewrap on PATH, which `run --confine` needs".to_owned()
        }
    };
    vec![
        Check::ok(OWN_UID, NO_WALL),
        Check::ok(OTHER_UID, other_uid(session_dir, worst(checks))),
        Check::ok(NAMESPACE, namespace),
        Check::ok(
            FIREWALL,
            "no wall: it judges what it is asked; a program that opens files without asking is not stopped by it",
        ),
    ]
}

fn other_uid(session_dir: Option<&Path>, state: State) -> String {
    if state == State::Failed {
        return "not known to hold: something failed above".to_owned();
    }
    let found = session_dir.and_then(|dir| fs::metadata(dir).ok());
    match found {
        None => {
            "holds: another uid (but root) cannot open agent.sock, and no episoded runs".to_owned()
        }
        Some(found) if found.mode() & 0o010 == 0 => {
            "holds: another uid (but root) can open none of the sockets".to_owned()
        }
        Some(found) => format!(
            "holds: another uid (but root) cannot open operator.sock and agent.sock; group {} can open session.sock, \
             which wants a session's own handle",
            found.gid()
        ),
    }
}

/// What bubblewrap said when it could not; none: it could.
async fn try_bubblewrap() -> Option<String> {
    let mut bubblewrap = Command::new(BWRAP);
    bubblewrap
        .args(NAMESPACES)
        .args([
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--",
            "true",
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match timeout(ANSWER, bubblewrap.output()).await {
        Ok(Ok(output)) if output.status.success() => None,
        Ok(Ok(output)) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".to_owned()),
    }
}

fn namespace(failed: Option<&str>) -> String {
    match failed {
        None => {
            "holds where it is used: `run --confine` gives a command a namespace that sees only \
                 the session directory, of what is the daemon's"
                .to_owned()
        }
        Some(said) => format!(
            "not here: bubblewrap makes no namespace: {}",
            last_words(said, LAST_WORDS)
        ),
    }
}
