//! `episodectl` as a child process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Dirs, within};

/// The program.
pub const EPISODECTL: &str = env!("CARGO_BIN_EXE_episodectl");

/// The command line of `episodectl` for the daemon of these directories, with
/// nothing else in its environment.
pub struct Ctl {
    runtime: PathBuf,
    state: PathBuf,
}

impl Ctl {
    pub fn new(dirs: &Dirs) -> Self {
        Self {
            runtime: dirs.runtime(),
            state: dirs.state(),
        }
    }

    /// The command, to be changed before it runs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.other(EPISODECTL);
        command.args(args);
        command
    }

    /// Another program in the same environment, killed with the test.
    pub fn other(&self, program: impl AsRef<OsStr>) -> Command {
        let directory = Path::new(EPISODECTL).parent().expect("it lies in one");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("EPISODED_RUNTIME_DIR", &self.runtime)
            .env("EPISODED_STATE_DIR", &self.state)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Done {
        done(&mut self.command(args)).await
    }

    /// Runs it to its end, which must be exit 0; its stdout.
    pub async fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args).await;
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stdout
    }

    /// Runs it to its end, which must be exit 0; its answer.
    pub async fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(&[&["--format", "json"], args].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub async fn done(command: &mut Command) -> Done {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = within(command.output()).await.expect("the program starts");
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A command that runs beside the test.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("it is piped")).lines(),
            child,
        }
    }

    /// The next line on its stdout.
    pub async fn line(&mut self) -> String {
        let line = within(self.stdout.next_line()).await.expect("it is text");
        line.expect("it says something more")
    }

    /// Writes on its stdin.
    pub async fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        let written = within(stdin.write_all(text.as_bytes())).await;
        written.expect("it takes input");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.expect("it runs"), signal).expect("it is signalled");
    }

    /// Closes its stdin and waits for its end; the rest of what it said.
    pub async fn end(mut self) -> Done {
        self.stdin = None;
        self.exited().await
    }

    /// Waits for its end; the rest of what it said.
    pub async fn exited(mut self) -> Done {
        within(async {
            let mut stderr = String::new();
            let piped = self.child.stderr.as_mut().expect("it is piped");
            let (mut stdout, mut lines) = (String::new(), self.stdout);
            let read = async {
                while let Ok(Some(line)) = lines.next_line().await {
                    stdout.push_str(&line);
                    stdout.push('\n');
                }
            };
            let (_, ()) = tokio::join!(piped.read_to_string(&mut stderr), read);
            let status = self.child.wait().await.expect("the child is ours");
            Done {
                code: status.code(),
                stdout,
                stderr,
            }
        })
        .await
    }
}
