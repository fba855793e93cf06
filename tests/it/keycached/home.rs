//! A user's own places, and `episodectl` in them.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::chmod;
use crate::harness::{Dirs, EPISODECTL};

/// Where a user's agent would be; ends it, if a command started one.
pub struct Home {
    dirs: Dirs,
    /// What its commands have in their environment besides the places.
    more: Vec<(&'static str, String)>,
}

impl Home {
    pub fn new() -> Self {
        let home = Self {
            dirs: Dirs::new(),
            more: Vec::new(),
        };
        std::fs::create_dir_all(home.directory().parent().unwrap()).unwrap();
        chmod(home.directory().parent().unwrap(), 0o700);
        home
    }

    /// The same with that in the environment of its commands.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    pub fn root(&self) -> &Path {
        self.dirs.root()
    }

    pub fn directory(&self) -> PathBuf {
        self.root().join("run/lockbox")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory().join("agent.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.root().join("state/lockbox/agent.log")
    }

    pub fn is_running(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(EPISODECTL);
        command
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.root().join("run"))
            .env("XDG_STATE_HOME", self.root().join("state"))
            .env("XDG_CONFIG_HOME", self.root().join("config"))
            .env("LOCKBOX_SYSLOG_SOCKET", self.root().join("syslog"))
            .envs(self.more.iter().map(|(name, value)| (name, value)))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Another program in the environment of [`Home::command`].
    pub fn other(&self, program: &str) -> Command {
        let mut other = Command::new(program);
        let known = self.command(&[]);
        let known = known.get_envs();
        other
            .env_clear()
            .envs(known.filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", "/usr/bin:/bin")
            .env("CTL", EPISODECTL)
            .current_dir(self.root());
        other
    }

    /// What a script says, which must end well.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let mut bash = self.other("timeout");
        let output = bash.args(["20", "bash", "-ec", script]).output();
        let output = output.expect("bash is there");
        assert_eq!(output.status.code(), Some(0), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// Runs it to its end, which must be exit 0; its stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        output.stdout
    }

    /// Runs it with that on its stdin.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may end without reading.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    #[track_caller]
    pub fn put(&self, id: &str, key: &[u8]) {
        let output = self.fed(&["key", "put", id], key);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b""[..]));
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(&[&["--format", "json"], args].concat());
        serde_json::from_slice(&text).expect("it is JSON")
    }

    pub fn pid(&self) -> u32 {
        let pid = self.json(&["key", "status"])["pid"].as_u64();
        u32::try_from(pid.expect("it has one")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.run(&["key", "stop"]);
    }
}

/// What it said on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
