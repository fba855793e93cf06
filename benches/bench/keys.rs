//! The key cache: the real agent, over both of its doors.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use episoded::{
    client::keycache::{Keep, KeyCache},
    proto::keycache::{GetKeyRequest, OpenChannelRequest},
};
use prost::Message as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::time::Instant;

use super::{
    child,
    daemon::{alone, resident},
    echo::{self, Echo},
    home::Home,
    load::{BLOCK, Target},
    place,
    report::{Figure, Goal},
    stat::{self, Rounds},
};

/// Makes the bench a server that answers so many bytes with so many, over and over;
/// the path of its socket and both numbers follow.
pub const ARGUMENT: &str = "--serve-bytes";

const GET: &str = "/episoded.keycache.v1.KeyCacheService/GetKey";
const OPEN: &str = "/episoded.keycache.v1.KeyCacheService/OpenChannel";

const KEY: [u8; 32] = [7; 32];
/// Bytes of a lockbox id: those of a UUID.
const ID: &str = "0193a5c0-e2f0-7000-8000-000000000001";

const BLOCKS: usize = 60;
const WINDOW: Duration = Duration::from_secs(1);
const CLIENTS: usize = 64;
const WIPED: usize = 10_000;
const STALLED: usize = 1_000;
const STARTS: usize = 9;
/// Between two readings of the memory: keys that are put.
const FEW: usize = 10_000;
const MANY: usize = 90_000;

/// An agent that serves; killed when dropped.
struct Agent {
    home: Home,
    child: Child,
}

impl Agent {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(name: &str, config: &str) -> Self {
        let home = Home::new(name);
        let directory = home.runtime().join("agent");
        let file = home.runtime().join("agent.toml");
        std::fs::write(&file, format!("[agent]\n{config}")).expect("it is written");
        let environment = [
            ("LOCKBOX_SESSION_AGENT_DIR", directory.into_os_string()),
            ("LOCKBOX_AGENT_CONFIG", file.into_os_string()),
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_keycached"));
        let child = child::spawn_in(program, [] as [&str; 0], environment);
        let agent = Self { home, child };
        while UnixStream::connect(agent.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        agent
    }

    fn socket(&self) -> PathBuf {
        self.home.runtime().join("agent/agent.sock")
    }

    fn put_many(&self, ids: std::ops::Range<usize>) {
        let mut client = UnixStream::connect(self.socket()).expect("it accepts");
        for number in ids {
            let done = exchange(&mut client, &put(&format!("{number:036}")), 9);
            assert_eq!(done, frame(0x81, &[]), "it is kept");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of them.
pub fn figures() -> Vec<Figure> {
    let agent = Agent::start("keys", "");
    let echo = Echo::start(&agent.home);
    alone(echo::wait_until_it_answers(&echo));
    agent.put_many(0..100);
    let mut client = UnixStream::connect(agent.socket()).expect("it accepts");
    exchange(&mut client, &put(ID), 9);
    drop(client);
    let mut figures = over_grpc(&agent, &echo);
    drop((echo, agent));
    figures.push(over_lbx2());
    figures.extend(ends());
    figures.push(cold_start());
    figures.extend(memory());
    figures
}

fn over_grpc(agent: &Agent, echo: &Echo) -> Vec<Figure> {
    let request = GetKeyRequest {
        channel_id: 1,
        lockbox_id: ID.to_owned(),
        ..GetKeyRequest::default()
    };
    let body = Bytes::from(request.encode_to_vec());
    let real = body.clone();
    let mut get = Target::new(agent.socket(), GET, move || real.clone());
    let open = OpenChannelRequest {
        client_public_key: vec![9; 32],
    };
    get.opening = Some((OPEN, open.encode_to_vec().into()));
    let answer = get.once().len();
    assert!(answer > KEY.len(), "it is a hit");
    let like = echo::request_like(&body, answer);
    let floor = Target::new(echo.socket(), echo::UNARY, move || like.clone());
    assert_eq!(floor.once().len(), answer, "an echo answers as many bytes");
    let (mut real, mut bare) = (get.single(), floor.single());
    let latency = place::apart(&[agent.pid(), echo.pid()], || {
        Rounds::in_blocks(BLOCKS, || real.block(), &mut [&mut || bare.block()])
    });
    let first = Rounds::interleaved(
        || alone(first_call(&agent.socket())),
        || stat::median(&bare.block()),
    );
    let throughput = Rounds::interleaved(
        || get.throughput_of(CLIENTS, 1, WINDOW),
        || floor.throughput_of(CLIENTS, 1, WINDOW),
    );
    vec![
        Figure::of(
            "GetKey, 1 in flight, p50",
            "µs",
            &latency,
            Goal::RatioAtMost(1.4),
        ),
        Figure::of(
            "a client's first GetKey, connection and channel included, p50",
            "µs",
            &first,
            Goal::RatioAtMost(5.0),
        ),
        Figure::of(
            "GetKey, 64 clients",
            "calls/s",
            &throughput,
            Goal::RatioAtLeast(0.7),
        ),
    ]
}

/// The median of a block of clients that connect, agree and get.
async fn first_call(socket: &Path) -> f64 {
    let mut times = Vec::with_capacity(BLOCK);
    for _ in 0..BLOCK {
        let began = Instant::now();
        let cache = KeyCache::connect(socket).await.expect("it accepts");
        let key = cache.get(ID).await.expect("it is answered");
        times.push(stat::micros(began.elapsed()));
        assert_eq!(key.expect("it is there")[..], KEY);
    }
    stat::median(&times)
}

fn over_lbx2() -> Figure {
    let all = sched_getaffinity(None).expect("the kernel tells");
    let (here, there) = place::ends(&all);
    let only = |set: &CpuSet| sched_setaffinity(None, set).expect("it is one of ours");
    // What is started inherits it.
    only(&there);
    let agent = &Agent::start("keys", "");
    exchange(&mut connect(agent), &put(ID), 9);
    let (request, answer) = (frame(1, ID.as_bytes()), 9 + KEY.len());
    let socket = agent.home.runtime().join("bytes.sock");
    let numbers = [request.len().to_string(), answer.to_string()];
    let mut server = child::spawn(
        &child::itself(),
        [
            ARGUMENT.into(),
            socket.clone().into_os_string(),
            numbers[0].clone().into(),
            numbers[1].clone().into(),
        ],
    );
    only(&here);
    let mut bare = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut real = connect(agent);
    let block = |stream: &mut UnixStream| {
        let one = |_| {
            let began = Instant::now();
            exchange(stream, &request, answer);
            stat::micros(began.elapsed())
        };
        (0..BLOCK).map(one).collect()
    };
    let latency = Rounds::in_blocks(BLOCKS, || block(&mut real), &mut [&mut || block(&mut bare)]);
    let _ = server.kill();
    let _ = server.wait();
    sched_setaffinity(None, &all).expect("it was so before");
    Figure::of(
        "LBX2 get, 1 in flight, p50 (floor: a bare socket)",
        "µs",
        &latency,
        Goal::RatioAtMost(1.3),
    )
}

/// What the other process does. Ends with the process.
pub fn serve(socket: &Path, request: usize, answer: usize) {
    let listener = UnixListener::bind(socket).expect("the socket is bound");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection comes");
        std::thread::spawn(move || {
            let (mut request, answer) = (vec![0; request], vec![0; answer]);
            while stream.read_exact(&mut request).is_ok() {
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        });
    }
}

/// The ends of all keys at once.
fn ends() -> Vec<Figure> {
    let agent = Agent::start("keys", "");
    let (forget_all, mut client) = (frame(4, &[]), connect(&agent));
    let mut wipe = |put: bool| {
        if put {
            agent.put_many(0..WIPED);
        }
        let began = Instant::now();
        exchange(&mut client, &forget_all, 9);
        stat::millis(began.elapsed())
    };
    let wiped: Vec<f64> = (0..5).map(|_| wipe(true)).collect();
    let half = put(ID);
    let stalled: Vec<UnixStream> = (0..STALLED)
        .map(|_| {
            let mut client = connect(&agent);
            client.write_all(&half[..half.len() - 1]).expect("it reads");
            client
        })
        .collect();
    agent.put_many(0..100);
    let locked = wipe(false);
    drop(stalled);
    vec![
        Figure::new(
            "forgetting 10,000 keys",
            "ms",
            stat::median(&wiped),
            None,
            Goal::AtMost(50.0),
        ),
        Figure::new(
            "forgetting all keys beside 1,000 clients that stall in a put",
            "ms",
            locked,
            None,
            Goal::AtMost(100.0),
        ),
    ]
}

fn connect(agent: &Agent) -> UnixStream {
    UnixStream::connect(agent.socket()).expect("it accepts")
}

/// `episodectl key put` where there is no agent, from its start to its end.
fn cold_start() -> Figure {
    let home = Home::new("keys");
    let directory = home.runtime().join("agent");
    let run = |args: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_episodectl"))
            .args(args)
            .env_clear()
            .env("LOCKBOX_SESSION_AGENT_DIR", &directory)
            .env("LOCKBOX_SESSION_AGENT_LOG", home.runtime().join("log"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = stdin.write_all(&KEY);
        drop(stdin);
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{args:?}");
    };
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        run(&["key", "put", ID]);
        times.push(stat::millis(began.elapsed()));
        run(&["key", "stop"]);
    }
    Figure::new(
        "a cold start to the first put, by episodectl",
        "ms",
        stat::median(&times),
        None,
        Goal::AtMost(50.0),
    )
}

/// Memory that can be counted: that of memfd_secret is not in VmRSS.
fn memory() -> [Figure; 2] {
    let agent = Agent::start("keys", "secret_memory = false\n");
    let cache = || async {
        let cache = KeyCache::connect(agent.socket()).await.expect("it accepts");
        cache
            .put(ID, "", &KEY, Keep::default())
            .await
            .expect("kept");
    };
    alone(cache());
    let empty = resident(agent.child.id());
    agent.put_many(0..FEW);
    let few = resident(agent.child.id());
    agent.put_many(FEW..MANY);
    let many = resident(agent.child.id());
    let each = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
    [
        Figure::new(
            "memory of an agent with one key",
            "MiB",
            empty as f64 / (1024.0 * 1024.0),
            None,
            Goal::AtMost(12.0),
        ),
        Figure::new(
            "memory per key of 32 bytes, from 10,000 to 90,000",
            "bytes",
            each,
            None,
            Goal::AtMost(256.0),
        ),
    ]
}

/// An LBX2 frame.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [b"LBX2", &[kind][..], &length, payload].concat()
}

fn put(id: &str) -> Vec<u8> {
    let key = (KEY.len() as u32).to_le_bytes();
    let (path, ttl) = (0_u32.to_le_bytes(), 3_600_u64.to_le_bytes());
    let payload = [
        &(id.len() as u16).to_le_bytes(),
        id.as_bytes(),
        &key,
        &path,
        &ttl,
        &KEY,
    ];
    frame(2, &payload.concat())
}

/// A request and an answer of so many bytes.
fn exchange(stream: &mut UnixStream, request: &[u8], answer: usize) -> Vec<u8> {
    let mut bytes = vec![0; answer];
    stream.write_all(request).expect("it reads");
    stream.read_exact(&mut bytes).expect("it answers");
    bytes
}
