//! Manifests of real trees, and verified reads of real files.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use episoded::proto::{
    firewall as pb, manifest as manifest_pb,
    session::{
        FirewallMode, RegisterSessionRequest, RegisterSessionResponse,
        register_session_request::Manifest as WireManifest,
    },
};
use prost::Message as _;
use tokio::time::Instant;

use super::{
    daemon::{Daemon, alone},
    echo::{self, Echo},
    home::Home,
    raw::{Authorization, Caller, connect},
    report::{Figure, Goal},
    shape,
    stat::{self, Rounds},
};

const READ: &str = "/episoded.firewall.v1.FirewallService/ReadFile";

/// Files of the tree, and bytes in each.
const FILES: usize = 10_000;
const FILE: usize = 16 * 1024;

/// Bytes of the file that is read.
const LARGE: usize = 1024 * 1024;

const READS: usize = 20;

/// All figures.
pub fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    if Command::new("b3sum").arg("--version").output().is_ok() {
        figures.push(building());
    } else {
        eprintln!("manifest build is not measured: its floor is b3sum, `apt-get install b3sum`");
    }
    figures.extend(reading());
    figures
}

fn content(number: usize, length: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(31) ^ number) as u8;
    (0..length).map(byte).collect()
}

/// `episodectl manifest build` beside bare hashing of the same files.
fn building() -> Figure {
    let home = Home::new("build");
    let root = home.state().join("tree");
    let mut paths = Vec::with_capacity(FILES);
    for number in 0..FILES {
        let path = root.join(format!("d{:02}/f{number:05}", number % 100));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("it is made");
        std::fs::write(&path, content(number, FILE)).expect("it is written");
        paths.push(path);
    }
    let out = home.state().join("m.json");
    let rounds = Rounds::interleaved(|| rate(|| build(&root, &out)), || rate(|| b3sum(&paths)));
    let name = "manifest build, 10,000 files of 16 KiB (floor: b3sum of the same)";
    Figure::of(name, "files/s", &rounds, Goal::RatioAtLeast(0.7))
}

fn rate(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    FILES as f64 / started.elapsed().as_secs_f64()
}

fn build(root: &Path, out: &Path) {
    let _ = std::fs::remove_file(out);
    let built = Command::new(env!("CARGO_BIN_EXE_episodectl"))
        .args(["manifest", "build", "--root"])
        .arg(root)
        .arg("--out")
        .arg(out)
        .output()
        .expect("it starts");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

/// The program that people hash trees with, on as many threads as it likes.
fn b3sum(paths: &[PathBuf]) {
    let hashed = Command::new("b3sum").args(paths).output();
    let hashed = hashed.expect("it starts");
    assert!(hashed.status.success(), "it reads them all");
}

/// `ReadFile` beside reading and hashing the same file, and beside a bare server that
/// answers with as many bytes from memory.
fn reading() -> Vec<Figure> {
    let daemon = Daemon::start("reading");
    let echo = Echo::start(daemon.home());
    alone(echo::wait_until_it_answers(&echo));
    let root = daemon.home().state().join("workspace");
    std::fs::create_dir_all(&root).expect("it is made");
    let file = root.join("large");
    let bytes = content(1, LARGE);
    std::fs::write(&file, &bytes).expect("it is written");
    let entry = manifest_pb::Entry {
        path: "large".to_owned(),
        hash: blake3::hash(&bytes).as_bytes().to_vec(),
        access: manifest_pb::Access::Read.into(),
        size: Some(LARGE as u64),
        ..manifest_pb::Entry::default()
    };
    let (plain, answered) = alone(async {
        let handle = register(&daemon, &root, entry).await;
        let mut caller = Caller::new(connect(&daemon.session_socket()).await, READ);
        let mut sender = Caller::new(connect(echo.socket()).await, echo::EXCHANGE);
        let like = echo::request_like(&[0; 64], LARGE);
        let (mut plain, mut answered) = (Rounds::default(), Rounds::default());
        for _ in 0..stat::ROUNDS {
            let (mut served, mut bare, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..READS {
                sent.push(throughput(receive(&mut sender, like.clone(), None).await));
                served.push(throughput(read(&mut caller, &handle).await));
                let started = Instant::now();
                let content = std::fs::read(&file).expect("it is read");
                std::hint::black_box(blake3::hash(&content));
                bare.push(throughput(started.elapsed()));
            }
            plain.push(stat::median(&served), stat::median(&bare));
            answered.push(stat::median(&served), stat::median(&sent));
        }
        (plain, answered)
    });
    let goal = Goal::RatioAtLeast(0.5);
    vec![
        Figure::of(
            "ReadFile of 1 MiB (floor: plain read and hash)",
            "MiB/s",
            &plain,
            goal,
        ),
        Figure::of(
            "ReadFile of 1 MiB (floor: a bare server with it in memory)",
            "MiB/s",
            &answered,
            goal,
        ),
    ]
}

fn throughput(time: Duration) -> f64 {
    LARGE as f64 / 1024.0 / 1024.0 / time.as_secs_f64()
}

async fn register(daemon: &Daemon, root: &Path, entry: manifest_pb::Entry) -> Authorization {
    let manifest = manifest_pb::Manifest {
        manifest_id: "m".to_owned(),
        profile_id: "p".to_owned(),
        entries: vec![entry],
        tools: vec![1],
        ..manifest_pb::Manifest::default()
    };
    let request = RegisterSessionRequest {
        mode: FirewallMode::Consume.into(),
        manifest: Some(WireManifest::InlineManifest(manifest.into())),
        workspace_root: "/workspace".to_owned(),
        host_root: root.to_str().expect("it is text").to_owned(),
        ..shape::registration(0)
    };
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, shape::REGISTER);
    let answer = caller.call(request.encode_to_vec().into(), None).await;
    let answer = RegisterSessionResponse::decode(answer.expect("it is registered"));
    let session = answer.ok().and_then(|answer| answer.session);
    let handle = session.expect("it has the session").ephemeral_handle;
    format!("Bearer {handle}")
        .parse()
        .expect("a handle is a header")
}

/// How long one read takes.
async fn read(caller: &mut Caller, handle: &Authorization) -> Duration {
    let request = pb::ReadFileRequest {
        path: "large".to_owned(),
        ..pb::ReadFileRequest::default()
    };
    receive(caller, request.encode_to_vec().into(), Some(handle)).await
}

/// How long all of an answer takes to come.
async fn receive(caller: &mut Caller, body: Bytes, handle: Option<&Authorization>) -> Duration {
    let started = Instant::now();
    let parts = caller.exchange(tokio_stream::iter([body]), handle).await;
    let mut parts = parts.expect("the read opens");
    let mut length = 0;
    while let Some(part) = parts.message().await.expect("the read goes on") {
        length += part.len();
    }
    let time = started.elapsed();
    assert!(length >= LARGE, "all of it came");
    time
}
