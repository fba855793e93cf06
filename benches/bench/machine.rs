//! What the figures were measured on.

use std::{fmt, path::Path, process::Command};

use serde_json::{Value, json};

/// See the module.
#[derive(Debug)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    filesystem: String,
    rustc: String,
    commit: String,
    /// Load average of a minute before the run: what else the machine did.
    load: String,
    /// Live sessions in the figures that speak of many.
    sessions: u64,
}

impl Machine {
    /// This one; `state` is where the registries lie.
    pub fn here(state: &Path, sessions: u64) -> Self {
        Self {
            cpu: cpu().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            filesystem: filesystem(state).unwrap_or_else(unknown),
            rustc: output("rustc", &["--version"]).unwrap_or_else(unknown),
            commit: commit().unwrap_or_else(unknown),
            load: std::fs::read_to_string("/proc/loadavg").map_or_else(
                |_| unknown(),
                |text| text.split(' ').next().unwrap_or_default().to_owned(),
            ),
            sessions,
        }
    }

    /// Whether what is written there is ever on a disk.
    pub fn has_disk(&self) -> bool {
        !["tmpfs", "ramfs"]
            .iter()
            .any(|memory| self.filesystem.starts_with(memory))
    }

    /// As an object.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "filesystem": self.filesystem,
            "rustc": self.rustc,
            "commit": self.commit,
            "load": self.load,
            "sessions": self.sessions,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            kernel,
            filesystem,
            rustc,
            commit,
            ..
        } = self;
        writeln!(f, "{cpu}, {cores} cores, Linux {kernel}, {filesystem}")?;
        write!(f, "{rustc}, commit {commit}, load {}", self.load)
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}

/// Type and source of the mount that a directory lies on.
fn filesystem(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let on = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (source, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(point)
            .then(|| (point.len(), format!("{kind} on {source}")))
    });
    // Of mounts on one point the last is on top.
    on.max_by_key(|(length, _)| *length).map(|(_, name)| name)
}

fn commit() -> Option<String> {
    let head = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() {
        head
    } else {
        head + " with changes"
    })
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
