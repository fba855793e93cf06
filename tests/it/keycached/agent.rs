//! `keycached` as a child process.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wire::Client;
use super::{HANG, until};
use crate::harness::Dirs;

pub const KEYCACHED: &str = env!("CARGO_BIN_EXE_keycached");

/// Where agents live: a temporary directory with everything of theirs in it.
pub struct Place {
    dirs: Dirs,
    environment: Vec<(&'static str, OsString)>,
}

impl Place {
    /// One with an empty configuration; the agent's directory is yet to be made.
    pub fn new() -> Self {
        Self::configured("")
    }

    pub fn configured(text: &str) -> Self {
        let place = Self {
            dirs: Dirs::new(),
            environment: Vec::new(),
        };
        let text = format!("[agent]\n{text}");
        std::fs::write(place.config(), text).expect("the configuration is written");
        place
    }

    /// Agents get this variable too.
    pub fn with(mut self, name: &'static str, value: OsString) -> Self {
        self.environment.push((name, value));
        self
    }

    pub fn root(&self) -> &Path {
        self.dirs.root()
    }

    pub fn directory(&self) -> PathBuf {
        self.root().join("agent")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory().join("agent.sock")
    }

    pub fn lock(&self) -> PathBuf {
        self.directory().join("agent.lock")
    }

    pub fn log(&self) -> PathBuf {
        self.root().join("agent.log")
    }

    pub fn config(&self) -> PathBuf {
        self.root().join("config.toml")
    }

    /// The directory, made by somebody else.
    pub fn make_directory(&self, mode: u32) {
        std::fs::create_dir(self.directory()).expect("a directory is made");
        super::chmod(&self.directory(), mode);
    }

    /// Everything that agents here have said: their log and their output.
    pub fn said(&self) -> String {
        let read = |path| std::fs::read(path).unwrap_or_default();
        let all = [read(self.log()), read(self.output())].concat();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Their standard output and error.
    pub fn output(&self) -> PathBuf {
        self.root().join("output")
    }

    /// The variables of an agent here.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all = vec![
            ("LOCKBOX_SESSION_AGENT_DIR", self.directory().into()),
            ("LOCKBOX_SESSION_AGENT_LOG", self.log().into()),
            ("LOCKBOX_AGENT_CONFIG", self.config().into()),
        ];
        all.extend(self.environment.iter().cloned());
        all
    }

    /// Starts one process, whether or not it will serve.
    pub fn spawn(&self) -> Process {
        self.start(Command::new(KEYCACHED).stdin(Stdio::null()))
    }

    /// The same as a supervisor does it, with that as descriptors 3 and 4, of which
    /// `count` are said to be sockets.
    pub fn spawn_with(&self, handed: [OwnedFd; 2], count: &str) -> Process {
        let [first, second] = handed;
        let script = r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec "$0""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, KEYCACHED]).stdin(first);
        let output = self.open_output();
        let child = shell
            .env_clear()
            .envs(self.environment())
            .env("LISTEN_FDS", count)
            .stdout(second)
            .stderr(output)
            .spawn()
            .expect("a shell starts");
        Process { child }
    }

    fn open_output(&self) -> File {
        let output = File::options()
            .append(true)
            .create(true)
            .open(self.output());
        output.expect("it is made")
    }

    /// Starts a program as an agent here.
    pub fn start(&self, program: &mut Command) -> Process {
        let output = self.open_output();
        let child = program
            .env_clear()
            .envs(self.environment())
            .stdout(output.try_clone().expect("a file has two writers"))
            .stderr(output)
            .spawn()
            .expect("the program starts");
        Process { child }
    }

    /// Starts one process that will not serve; its exit code.
    pub fn refused(&self) -> i32 {
        let code = self.spawn().exited();
        code.unwrap_or_else(|| panic!("a signal ended it: {}", self.said()))
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }
}

/// One process, killed and reaped when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is signalled");
    }

    pub fn runs(&mut self) -> bool {
        let status = self.child.try_wait();
        status.expect("the child is ours").is_none()
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn exited(&mut self) -> Option<i32> {
        self.exited_within(HANG)
    }

    pub fn exited_within(&mut self, limit: Duration) -> Option<i32> {
        until("the agent ends", limit, || !self.runs());
        let status = self.child.wait();
        status.expect("the child is ours").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent that serves, and its place.
pub struct Agent {
    process: Process,
    place: Place,
}

impl Agent {
    pub fn start() -> Self {
        Self::at(Place::new())
    }

    pub fn configured(text: &str) -> Self {
        Self::at(Place::configured(text))
    }

    /// Starts one there and waits until it accepts.
    pub fn at(place: Place) -> Self {
        let process = place.spawn();
        Self::of(process, place)
    }

    /// Waits until the process accepts.
    pub fn of(mut process: Process, place: Place) -> Self {
        until("the agent accepts", HANG, || {
            assert!(process.runs(), "it ended: {}", place.said());
            UnixStream::connect(place.socket()).is_ok()
        });
        Self { process, place }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn exited(&mut self) -> Option<i32> {
        self.process.exited()
    }

    /// Kills it as a crash would, and reaps it; its place is as it lies.
    pub fn killed(self) -> Place {
        drop(self.process);
        self.place
    }

    /// A connection of its own.
    pub fn client(&self) -> Client {
        self.place.client()
    }
}
