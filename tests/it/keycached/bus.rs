//! A system bus of a test's own, with a logind that does what it is told.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::runtime::Runtime;
use zbus::zvariant::DynamicType;
use zbus::{Address, Connection, connection::Builder};

use super::{HANG, until};
use crate::harness::{Dirs, need_command, need_python_module, repository};

const LOGIND: &str = "org.freedesktop.login1";

/// Ends it and its children when dropped.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.process_group(0).spawn().expect("it starts"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the module.
pub struct Bus {
    dirs: Dirs,
    runtime: Runtime,
    daemon: Option<Program>,
    logind: Option<Program>,
    connection: Option<Connection>,
}

impl Bus {
    /// A bus that runs, with a logind; none if this machine has neither.
    pub fn new() -> Option<Self> {
        let mut bus = Self::absent()?;
        bus.start();
        Some(bus)
    }

    /// A bus that is yet to start.
    pub fn absent() -> Option<Self> {
        if !need_command("dbus-daemon") || !need_python_module("dbusmock") {
            return None;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Some(Self {
            dirs: Dirs::new(),
            runtime: runtime.expect("a runtime is made"),
            daemon: None,
            logind: None,
            connection: None,
        })
    }

    fn socket(&self) -> PathBuf {
        self.dirs.root().join("bus")
    }

    /// As DBUS_SYSTEM_BUS_ADDRESS has it.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    pub fn start(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let mut daemon = Command::new("dbus-daemon");
        daemon
            .args(["--session", "--nofork", "--nosyslog", "--nopidfile"])
            .arg(format!("--address={}", self.address()))
            // It wants more descriptors than we may have, and says so.
            .stderr(Stdio::null());
        self.daemon = Some(Program::start(&mut daemon));
        let connection = self.runtime.block_on(connect(self.address()));
        self.connection = Some(connection);
        self.start_logind();
    }

    pub fn stop(&mut self) {
        self.connection = None;
        self.logind = None;
        self.daemon = None;
    }

    pub fn start_logind(&mut self) {
        self.logind = None;
        self.until_owned(false);
        let mut logind = Command::new("/usr/bin/python3");
        logind
            .args(["-m", "dbusmock", "--system", "-t"])
            .arg(repository().join("tests/tools/logind.py"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        self.logind = Some(Program::start(&mut logind));
        self.until_owned(true);
    }

    fn until_owned(&self, wanted: bool) {
        until("logind comes or goes", HANG, || {
            let (bus, owner) = ("org.freedesktop.DBus", "NameHasOwner");
            self.ask::<bool>(bus, "/org/freedesktop/DBus", bus, owner, &LOGIND) == wanted
        });
    }

    fn ask<T>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl serde::Serialize + DynamicType),
    ) -> T
    where
        T: for<'a> serde::Deserialize<'a> + zbus::zvariant::Type,
    {
        let connection = self.connection.as_ref().expect("the bus runs");
        let asked = connection.call_method(Some(destination), path, Some(interface), method, body);
        let answer = self.runtime.block_on(asked).expect("it answers");
        answer.body().deserialize().expect("it answers so")
    }

    /// Says that the machine will sleep, or is awake again.
    pub fn sleep(&self, begins: bool) {
        self.tell("Sleep", &begins);
    }

    /// The modes of inhibitors that are refused from now on.
    pub fn refuse(&self, modes: &[&str]) {
        self.tell("Refuse", &modes);
    }

    fn tell(&self, method: &str, what: &(impl serde::Serialize + DynamicType)) {
        self.ask::<()>(
            LOGIND,
            "/org/freedesktop/login1",
            "test.Logind",
            method,
            what,
        );
    }

    /// The modes of the inhibitors that are held, in order.
    pub fn inhibitors(&self) -> Vec<String> {
        type Held = (String, String, String, String, u32, u32);
        let interface = "org.freedesktop.login1.Manager";
        let path = "/org/freedesktop/login1";
        let held: Vec<Held> = self.ask(LOGIND, path, interface, "ListInhibitors", &());
        let mut modes: Vec<_> = held
            .into_iter()
            .map(|(what, who, why, mode, ..)| {
                assert_eq!((&*what, &*who), ("sleep", "keycached"), "{why}");
                mode
            })
            .collect();
        modes.sort();
        modes
    }

    /// Runs it to its end.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

async fn connect(address: String) -> Connection {
    let started = tokio::time::Instant::now();
    loop {
        let address: Address = address.parse().expect("it is an address");
        let connecting = Builder::address(address).expect("it is one").build();
        match connecting.await {
            Ok(connection) => return connection,
            Err(error) => assert!(started.elapsed() < HANG, "no bus: {error}"),
        }
        tokio::time::sleep(super::PAUSE).await;
    }
}
