//! episoded: its two sockets, and whether it answers on them.

use std::path::{Path, PathBuf, absolute};

use super::ask::{Silence, ask};
use super::place::{Kind, Wanted, nowhere};
use super::{ANSWER, Check, State, version};
use crate::cli::context::{Context, OPERATOR_SOCKET_VAR};
use crate::client::{Client, ClientError};
use crate::paths::{RUNTIME_DIR_VAR, SESSION_DIR_VAR};
use crate::proto::admin::GetServerInfoResponse;
use crate::reason::Reason;

const DIRECTORY: &str = "daemon-directory";
/// Whether it answers operators.
const DAEMON: &str = "daemon";
const VERSION: &str = "daemon-version";
/// Whether it answers episodes.
const SESSION: &str = "daemon-session";

const RESTART: &str = "episodectl server stop; episodectl server start";
const WEDGED: &str =
    "kill -CONT its process if it was stopped, else end it and run episodectl server start";

/// What was found.
#[derive(Default)]
pub(super) struct Daemon {
    pub checks: Vec<Check>,
    /// Where session.sock lies, if it is there.
    pub session_dir: Option<PathBuf>,
}

/// Looks at all of it.
pub(super) async fn look(context: &Context) -> Daemon {
    let mut daemon = Daemon::default();
    let variable = context.env.var(OPERATOR_SOCKET_VAR).map(Path::new);
    let named = context.named_socket().or(variable);
    let place = match named {
        // The kernel takes it as it is.
        Some(path) => Ok(absolute(path).unwrap_or_else(|_| path.to_owned())),
        None => context.env.operator_socket(),
    };
    match place {
        Ok(operator) => daemon.at(context, &operator, named.is_some()).await,
        Err(error) => {
            let check = nowhere(DIRECTORY, RUNTIME_DIR_VAR, &error);
            daemon.checks.push(check);
        }
    }
    daemon
}

impl Daemon {
    async fn at(&mut self, context: &Context, operator: &Path, named: bool) {
        let wanted = |name, kind, modes| Wanted {
            name,
            kind,
            modes,
            variable: RUNTIME_DIR_VAR,
            named,
        };
        let dir = operator.parent().unwrap_or(operator);
        let directory = wanted(DIRECTORY, Kind::Directory, &[0o700]).look(dir);
        let goes_on = directory.is_right || !directory.is_there;
        self.checks.push(directory.check);
        if !goes_on {
            return;
        }
        let socket = wanted("operator-socket", Kind::Socket, &[0o600]).look(operator);
        self.checks.push(socket.check);
        let asked = match (socket.is_there, socket.is_right) {
            (true, false) => return,
            (false, _) => Err(Silence::Nobody),
            (true, true) => ask(async || connect(operator).await?.server_info().await).await,
        };
        let usual = context.session_socket_of(operator);
        let session = match &asked {
            Ok(info) => Some(PathBuf::from(&info.session_socket)),
            Err(_) => usual,
        };
        self.operator(operator, &asked);
        if let Some(session) = session {
            self.session(&session, named, &asked).await;
        }
    }

    fn operator(&mut self, socket: &Path, asked: &Result<GetServerInfoResponse, Silence>) {
        match asked {
            Ok(info) => self.checks.extend([
                Check::ok(
                    DAEMON,
                    format!(
                        "pid {} answers, {} live sessions",
                        info.pid, info.live_sessions
                    ),
                ),
                version(VERSION, &info.version, RESTART),
            ]),
            Err(Silence::Nobody) => {
                let what = format!("no episoded runs at {}", socket.display());
                let check = Check::warning(DAEMON, what, "episodectl server start");
                self.checks.push(check);
            }
            Err(silence) => self.checks.push(silent(DAEMON, socket, silence)),
        }
    }

    async fn session(
        &mut self,
        socket: &Path,
        named: bool,
        operator: &Result<GetServerInfoResponse, Silence>,
    ) {
        let wanted = |name, kind, modes| Wanted {
            name,
            kind,
            modes,
            variable: SESSION_DIR_VAR,
            named,
        };
        let dir = socket.parent().unwrap_or(socket);
        let directory = wanted("session-directory", Kind::Directory, &[0o700, 0o710]).look(dir);
        let seen = wanted("session-socket", Kind::Socket, &[0o660, 0o600]).look(socket);
        let is_right = directory.is_right && seen.is_right;
        self.checks.extend([directory.check, seen.check]);
        if is_right {
            self.session_dir = Some(dir.to_owned());
        }
        // One that is wedged is waited for once.
        let is_asked = is_right && matches!(operator, Ok(_) | Err(Silence::Nobody));
        let answer = if is_asked {
            Some(ask(async || connect(socket).await?.is_serving().await).await)
        } else {
            None
        };
        let check = match (operator, answer) {
            (Ok(_), Some(answer)) => Some(session(socket, &answer)),
            (Err(Silence::Nobody), Some(Ok(_))) => Some(orphan(socket)),
            (Ok(_), None) if !seen.is_there => Some(gone(socket)),
            _ => None,
        };
        self.checks.extend(check);
    }
}

async fn connect(socket: &Path) -> Result<Client, ClientError> {
    Ok(Client::connect(socket).await?.with_timeout(ANSWER))
}

fn session(socket: &Path, answer: &Result<bool, Silence>) -> Check {
    match answer {
        Ok(true) => Check::ok(SESSION, "it serves episodes"),
        Ok(false) => Check::warning(SESSION, "it does not serve yet", "look again in a moment"),
        Err(Silence::Nobody) => gone(socket),
        Err(silence) => silent(SESSION, socket, silence),
    }
}

/// The daemon runs, and this socket of its is no more.
fn gone(socket: &Path) -> Check {
    let what = format!("episoded runs, and nobody answers at {}", socket.display());
    Check::failed(SESSION, what, RESTART)
}

/// It runs without the socket by which it could be stopped.
fn orphan(socket: &Path) -> Check {
    let shown = socket.display();
    let what = format!("a daemon answers at {shown} whose other socket was removed");
    let mend = "end it with SIGTERM, then episodectl server start";
    Check::failed(SESSION, what, mend)
}

fn silent(name: &'static str, socket: &Path, silence: &Silence) -> Check {
    let Silence::Other(error) = silence else {
        let (shown, limit) = (socket.display(), ANSWER.as_secs());
        let what = format!("{shown}: no answer within {limit} s");
        return Check::failed(name, what, WEDGED);
    };
    let (state, mend) = match error.reason {
        Some(Reason::PeerMismatch) => (
            State::Failed,
            "use your own daemon, or have your uid added to operator_uids (session_uids for session.sock)",
        ),
        Some(_) if error.is_transient() => (State::Warning, "look again in a moment"),
        _ => (State::Failed, WEDGED),
    };
    Check::new(name, state, error.message.clone(), mend)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Silence, session};
    use crate::cli::doctor::State;

    #[test]
    fn a_session_socket_that_nobody_answers_failed_and_one_that_waits_did_not() {
        let of = |answer| session(Path::new("/s"), &answer).state;
        assert_eq!(of(Ok(true)), State::Ok);
        assert_eq!(of(Ok(false)), State::Warning);
        assert_eq!(of(Err(Silence::Nobody)), State::Failed);
        assert_eq!(of(Err(Silence::Late)), State::Failed);
    }
}
