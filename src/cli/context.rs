//! Which daemon a command talks to, and how.
//!
//! Owns the order in which a socket is found: `--socket`; for a command that
//! uses a handle `EPISODE_SOCKET`; `EPISODED_SOCKET`; the operator's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::CliError;
use super::output::{Format, Printer};
use crate::client::{Client, Handle};
use crate::paths::Env;

/// The socket a child of `run` finds its daemon at.
pub const EPISODE_SOCKET: &str = "EPISODE_SOCKET";
/// The socket an operator uses.
pub const OPERATOR_SOCKET_VAR: &str = "EPISODED_SOCKET";

/// The global options and the environment.
pub struct Context {
    /// The environment of this process.
    pub env: Env,
    /// Of results and errors.
    pub format: Format,
    socket: Option<PathBuf>,
    timeout: Duration,
}

impl Context {
    /// From the global options.
    pub fn new(env: Env, format: Format, socket: Option<PathBuf>, timeout: Duration) -> Self {
        Self {
            env,
            format,
            socket,
            timeout,
        }
    }

    /// Where the operator's calls go.
    pub fn operator_socket(&self) -> Result<PathBuf, CliError> {
        self.socket(&[OPERATOR_SOCKET_VAR])
    }

    /// The session socket of the daemon that serves the operator there; none if it
    /// may lie anywhere.
    pub fn session_socket_of(&self, operator: &Path) -> Option<PathBuf> {
        let ours = self.env.operator_socket().ok()?;
        let session = self.env.session_socket().ok()?;
        (operator == ours).then_some(session)
    }

    /// Where calls made with a session's own handle go.
    pub fn handle_socket(&self) -> Result<PathBuf, CliError> {
        self.socket(&[EPISODE_SOCKET, OPERATOR_SOCKET_VAR])
    }

    fn socket(&self, variables: &[&str]) -> Result<PathBuf, CliError> {
        let named = variables.iter().find_map(|name| self.env.var(name));
        match (&self.socket, named) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(path)) => Ok(path.into()),
            (None, None) => Ok(self.env.operator_socket()?),
        }
    }

    /// What `--socket` says.
    pub fn named_socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection as the operator.
    pub async fn operator(&self) -> Result<Client, CliError> {
        Ok(self.connect(self.operator_socket()?).await?)
    }

    /// A connection as the session of that handle.
    pub async fn session(&self, handle: Handle) -> Result<Client, CliError> {
        let client = self.connect(self.handle_socket()?).await?;
        Ok(client.with_handle(handle))
    }

    async fn connect(&self, socket: PathBuf) -> Result<Client, crate::client::ClientError> {
        let client = Client::connect(socket).await?;
        Ok(client.with_timeout(self.timeout))
    }

    /// The writer of results.
    pub fn printer(&self) -> Printer {
        Printer::stdout(self.format)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::Context;
    use crate::cli::output::Format;
    use crate::paths::Env;

    fn context(env: Env, socket: Option<&str>) -> Context {
        let socket = socket.map(PathBuf::from);
        Context::new(env, Format::Table, socket, Duration::from_secs(1))
    }

    #[test]
    fn the_socket_is_the_option_then_the_environment_then_the_default() {
        let bare = Env::new(1).with("XDG_RUNTIME_DIR", "/run/x");
        let operator = bare.clone().with("EPISODED_SOCKET", "/o.sock");
        let both = operator.clone().with("EPISODE_SOCKET", "/s.sock");
        for (env, option, for_operator, for_handle) in [
            (
                &bare,
                None,
                "/run/x/episoded/operator.sock",
                "/run/x/episoded/operator.sock",
            ),
            (&operator, None, "/o.sock", "/o.sock"),
            (&both, None, "/o.sock", "/s.sock"),
            (&both, Some("/a.sock"), "/a.sock", "/a.sock"),
        ] {
            let context = context(env.clone(), option);
            assert_eq!(context.operator_socket().unwrap(), Path::new(for_operator));
            assert_eq!(context.handle_socket().unwrap(), Path::new(for_handle));
        }
    }
}
