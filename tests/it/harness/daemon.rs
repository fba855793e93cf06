//! The real daemon as a child process.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, PipeReader};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use episoded::proto::admin::admin_service_client::AdminServiceClient;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{Client, Dirs, connect, within};

/// What the log thread sends to the notify socket when the output closes.
const OUTPUT_CLOSED: &[u8] = b"HARNESS_OUTPUT_CLOSED";

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub logs: String,
}

impl Exit {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// How to start a daemon.
pub struct Builder {
    dirs: Dirs,
    arguments: Vec<OsString>,
    wrapper: Vec<OsString>,
}

impl Builder {
    /// Appends arguments to the defaults.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Uses these directories instead of fresh ones.
    pub fn dirs(mut self, dirs: Dirs) -> Self {
        self.dirs = dirs;
        self
    }

    pub fn directories(&self) -> &Dirs {
        &self.dirs
    }

    /// Writes a configuration file and uses it.
    pub fn config(self, text: &str) -> Self {
        let path = configuration(&self.dirs);
        std::fs::write(&path, text).expect("the configuration is written");
        self.args([OsStr::new("--config"), path.as_os_str()])
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Daemon {
        let mut daemon = self.stopped();
        daemon.restart().await;
        daemon
    }

    /// Prepares everything and starts nothing.
    pub fn stopped(self) -> Daemon {
        Daemon {
            builder: self,
            child: None,
        }
    }

    /// Starts one process, whether or not it will serve.
    pub fn spawn(&self) -> Spawned {
        Spawned::new(Path::new(env!("CARGO_BIN_EXE_episoded")), self)
    }
}

fn configuration(dirs: &Dirs) -> PathBuf {
    dirs.root().join("config.toml")
}

/// A daemon and its directories.
pub struct Daemon {
    builder: Builder,
    child: Option<Spawned>,
}

impl Daemon {
    pub fn builder() -> Builder {
        Builder {
            dirs: Dirs::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// A daemon with every default, serving.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn dirs(&self) -> &Dirs {
        &self.builder.dirs
    }

    /// From the next start on the program runs under this command, which must
    /// become it in the same process; nothing: by itself.
    pub fn wrap(&mut self, wrapper: Vec<OsString>) {
        self.builder.wrapper = wrapper;
    }

    /// How it is started, to start more of the same.
    pub fn builder_ref(&self) -> &Builder {
        &self.builder
    }

    pub fn operator_socket(&self) -> PathBuf {
        self.dirs().runtime().join("operator.sock")
    }

    /// Where session.sock lies unless `--session-dir` says otherwise.
    pub fn session_socket(&self) -> PathBuf {
        self.dirs().runtime().join("session/session.sock")
    }

    /// A client of operator.sock, on a connection of its own.
    pub async fn operator(&self) -> Client {
        Client::new(connect(&self.operator_socket()).await)
    }

    /// A client of session.sock, on a connection of its own.
    pub async fn session(&self) -> Client {
        Client::new(connect(&self.session_socket()).await)
    }

    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(connect(&self.operator_socket()).await)
    }

    /// Kills it as a crash would, and reaps it. What it held is as it lies.
    pub fn kill9(&mut self) {
        self.child = None;
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) -> &mut Spawned {
        self.child = None;
        self.child.insert(self.builder.spawn())
    }

    /// Kills it if it runs, starts it again, waits until it serves.
    pub async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Waits until the process that was started serves.
    pub async fn ready(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        if let Err(exit) = child.ready().await {
            panic!("the daemon ended instead of serving: {exit:?}");
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn sigterm(&mut self) -> Exit {
        let mut child = self.child.take().expect("the daemon runs");
        child.signal(rustix::process::Signal::TERM);
        child.exited().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> Exit {
        self.child.take().expect("the daemon runs").exited().await
    }

    /// Writes another configuration file in the place of the one it started with.
    pub fn configure(&self, text: &str) {
        let path = configuration(self.dirs());
        std::fs::write(path, text).expect("the configuration is written");
    }

    /// Has it read its configuration again, and waits until it has.
    pub async fn reload(&mut self) {
        self.running().signal(rustix::process::Signal::HUP);
        self.ready().await;
    }

    /// Waits until the running process has written that.
    pub async fn logged(&self, text: &str) {
        self.logged_so(|all| all.contains(text)).await;
    }

    /// Waits until what the running process has written is so; all of it.
    pub async fn logged_so(&self, is_so: impl Fn(&str) -> bool) -> String {
        let mut output = self.running().output.clone();
        let written = within(output.wait_for(|all| is_so(all))).await;
        written.expect("the daemon runs").clone()
    }

    /// What the running process has written so far.
    pub fn logs(&self) -> String {
        self.running().logs()
    }

    pub fn running(&self) -> &Spawned {
        self.child.as_ref().expect("the daemon runs")
    }
}

/// One process, killed and reaped when dropped.
pub struct Spawned {
    child: Child,
    notify: UnixDatagram,
    _notify_path: tempfile::TempPath,
    output: watch::Receiver<String>,
}

impl Spawned {
    fn new(program: &Path, builder: &Builder) -> Self {
        let Builder {
            dirs,
            arguments,
            wrapper,
        } = builder;
        let (socket, notify_path) = tempfile::Builder::new()
            .prefix("n-")
            .make_in(dirs.root(), |path| StdDatagram::bind(path))
            .expect("a notify socket is bound")
            .into_parts();
        socket.set_nonblocking(true).expect("it can be polled");
        let (reader, writer) = std::io::pipe().expect("a pipe is made");
        let mut words = wrapper
            .iter()
            .map(OsString::as_os_str)
            .chain([program.as_os_str()]);
        let first = words.next().expect("there is a program");
        let child = Command::new(first)
            .args(words)
            .arg("--runtime-dir")
            .arg(dirs.runtime())
            .arg("--state-dir")
            .arg(dirs.state())
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a pipe has two writers"))
            .stderr(writer)
            .spawn()
            .expect("the program starts");
        let output = collect(reader, notify_path.to_path_buf());
        Self {
            child,
            notify: UnixDatagram::from_std(socket).expect("the runtime takes the socket"),
            _notify_path: notify_path,
            output,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn logs(&self) -> String {
        self.output.borrow().clone()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is signalled");
    }

    /// Stops it in its tracks; over when none of its threads runs.
    pub fn freeze(&self) {
        use rustix::process::{Pid, Signal, WaitOptions, waitpid};
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED)
            .expect("the child is ours")
            .expect("waiting is not cut short");
        assert!(status.stopped(), "{status:?}");
    }

    /// Waits until it says READY; its exit, if it ends instead.
    pub async fn ready(&mut self) -> Result<(), Exit> {
        if within(self.notified(b"READY=1")).await {
            Ok(())
        } else {
            Err(self.reap())
        }
    }

    /// Waits until it has ended by itself.
    pub async fn exited(&mut self) -> Exit {
        within(self.notified(b"no such state")).await;
        self.reap()
    }

    /// True once the state was sent, false once the output closed without it.
    async fn notified(&self, state: &[u8]) -> bool {
        let mut message = [0; 4096];
        loop {
            let length = self.notify.recv(&mut message).await.expect("it receives");
            let mut lines = message[..length].split(|byte| *byte == b'\n');
            if lines.any(|line| line == state) {
                return true;
            }
            if &message[..length] == OUTPUT_CLOSED {
                return false;
            }
        }
    }

    fn reap(&mut self) -> Exit {
        let status = self.child.wait().expect("the child is ours");
        Exit {
            status,
            logs: self.logs(),
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the output in a thread, and says on the notify socket when it
/// closes: the one signal that cannot be missed.
fn collect(reader: PipeReader, notify_path: PathBuf) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            sender.send_modify(|all| all.push_str(&String::from_utf8_lossy(&line)));
            line.clear();
        }
        drop(sender);
        if let Ok(socket) = StdDatagram::unbound() {
            let _ = socket.send_to(OUTPUT_CLOSED, notify_path);
        }
    });
    receiver
}
