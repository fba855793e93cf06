//! The real daemon as a process, on real sockets.

use std::{
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use bytes::Bytes;
use episoded::proto::admin::{GetServerInfoRequest, admin_service_client::AdminServiceClient};
use tokio::time::Instant;

use super::{child, home::Home, raw};

/// Room for a million sessions and for what is measured besides.
const MAX_SESSIONS: &str = "4000000";

/// How long a start may take before the bench gives up.
const START: Duration = Duration::from_mins(2);

/// The status SERVING of grpc.health.v1, on the wire.
const SERVING: [u8; 2] = [0x08, 0x01];

/// A daemon and its directories; killed when dropped.
pub struct Daemon {
    home: Home,
    child: Child,
}

impl Daemon {
    /// A new registry, served.
    pub fn start(name: &str) -> Self {
        let home = Home::new(name);
        let config = home.runtime().join("config.toml");
        std::fs::write(&config, "").expect("an empty configuration is written");
        let child = spawn(&home);
        let daemon = Self { home, child };
        daemon.wait_until_serving();
        daemon
    }

    /// Kills it, starts it again on the same registry, and tells how long it took
    /// from the start of the process until it served.
    pub fn restart_after_kill(&mut self) -> Duration {
        self.kill();
        let started = Instant::now();
        self.child = spawn(&self.home);
        self.wait_until_serving();
        started.elapsed()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_serving(&self) {
        let socket = self.operator_socket();
        let serving = async {
            let channel = raw::connect(&socket).await;
            let mut health = raw::Caller::new(channel, "/grpc.health.v1.Health/Check");
            loop {
                let answer = health.call(Bytes::new(), None).await;
                if answer.is_ok_and(|answer| answer.as_ref() == SERVING) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let served = alone(async { tokio::time::timeout(START, serving).await });
        served.expect("the daemon serves in time");
    }

    /// Its directories.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where operators call.
    pub fn operator_socket(&self) -> PathBuf {
        self.home.runtime().join("operator.sock")
    }

    /// Where episodes call.
    pub fn session_socket(&self) -> PathBuf {
        self.home.runtime().join("session").join("session.sock")
    }

    /// Live sessions, as it says itself.
    pub async fn live(&self) -> u64 {
        let channel = raw::connect(&self.operator_socket()).await;
        let mut admin = AdminServiceClient::new(channel);
        let info = admin.get_server_info(GetServerInfoRequest {}).await;
        info.expect("the daemon tells about itself")
            .into_inner()
            .live_sessions
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that is in use, in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }
}

/// Memory of a process that is in use, in bytes.
pub fn resident(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
    number.expect("the kernel tells VmRSS") * 1024
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(home: &Home) -> Child {
    let config = home.runtime().join("config.toml");
    let arguments = [
        "--config".as_ref(),
        config.as_os_str(),
        "--runtime-dir".as_ref(),
        home.runtime().as_os_str(),
        "--state-dir".as_ref(),
        home.state().as_os_str(),
        "--log".as_ref(),
        "warn".as_ref(),
        "--max-sessions".as_ref(),
        MAX_SESSIONS.as_ref(),
    ];
    child::spawn(Path::new(env!("CARGO_BIN_EXE_episoded")), arguments)
}

/// Runs something on one thread.
pub fn alone<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}
