//! The context firewall: decisions in process, over a call, over a stream; what a
//! session under it takes; how fast a miss ends one.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use episoded::{
    firewall::{
        decide::{Request, Scope, decide},
        manifest::{Access, Draft, DraftEntry, Manifest, ToolClass},
        path::AbsolutePath,
    },
    proto::{
        firewall as pb, manifest as manifest_pb,
        session::{
            FirewallMode, RegisterSessionRequest, RegisterSessionResponse, RegisterSessionsRequest,
            register_session_request::Manifest as WireManifest,
        },
    },
};
use hashbrown::HashMap;
use prost::Message as _;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    daemon::{Daemon, alone},
    echo::{self, Echo},
    load::Target,
    place,
    raw::{Authorization, Caller, connect},
    report::{Figure, Goal},
    shape::{self, Numbers},
    stat::{self, Rounds},
};

const CHECK: &str = "/episoded.firewall.v1.FirewallService/CheckToolRequest";
const CHECKS: &str = "/episoded.firewall.v1.FirewallService/CheckToolRequests";
const PUT: &str = "/episoded.firewall.v1.FirewallService/PutManifest";

/// Entries of the manifest.
const ENTRIES: usize = 10_000;

/// Requests on their way.
const DEPTH: usize = 64;

const BLOCKS: usize = 60;
const WINDOW: Duration = Duration::from_secs(1);

/// Decisions that are timed together.
const DECISIONS: usize = 1_000;

/// Misses in a round.
const MISSES: usize = 300;

/// Sessions in a batch.
const BATCH: u64 = 1_000;

fn path(number: usize) -> String {
    format!(
        "src/module_{:02}/part_{:02}/file_{number:05}.rs",
        number % 40,
        number % 7
    )
}

/// All figures.
pub fn figures(sessions: u64) -> Vec<Figure> {
    let mut figures = vec![in_process()];
    figures.extend(served());
    figures.push(memory(sessions / 5));
    figures.push(misses());
    figures
}

fn manifest() -> Manifest {
    let entry = |number| DraftEntry {
        path: path(number),
        hash: vec![7; 32],
        access: Access::Read,
        stable_id: String::new(),
        size: Some(1),
    };
    let draft = Draft {
        manifest_id: "bench".to_owned(),
        profile_id: "bench".to_owned(),
        entries: (0..ENTRIES).map(entry).collect(),
        tools: ToolClass::ALL.to_vec(),
        ..Draft::default()
    };
    draft.build(ENTRIES).expect("the manifest is valid")
}

/// One decision, beside a look into a map.
fn in_process() -> Figure {
    let manifest = manifest();
    let root = AbsolutePath::parse("/work/project").expect("it is absolute");
    let scope = Scope {
        manifest: &manifest,
        root: &root,
        lifted: &[],
    };
    let asked = |number: usize| format!("/work/project/{}", path(number * 7919 % ENTRIES));
    let requests: Vec<Request> = (0..DECISIONS)
        .map(|number| Request::Read {
            path: asked(number),
            hash: None,
        })
        .collect();
    let map: HashMap<String, usize> = (0..ENTRIES).map(|n| (asked(n), n)).collect();
    let paths: Vec<String> = (0..DECISIONS).map(asked).collect();
    let rounds = Rounds::in_blocks(
        BLOCKS,
        || {
            vec![each(|at| {
                let decision = decide(&scope, black_box(&requests[at]));
                assert!(black_box(decision).outcome.is_ok());
            })]
        },
        &mut [&mut || {
            vec![each(|at| {
                black_box(map.get(black_box(&paths[at])));
            })]
        }],
    );
    let name = "one decision in process, 10,000 entries, p50 (floor: a map's)";
    Figure::of(name, "µs", &rounds, Goal::AtMost(1.0))
}

/// Microseconds of each of many.
fn each(mut one: impl FnMut(usize)) -> f64 {
    let started = Instant::now();
    (0..DECISIONS).for_each(&mut one);
    stat::micros(started.elapsed()) / DECISIONS as f64
}

/// Stores the manifest; its hash.
async fn put(daemon: &Daemon) -> Vec<u8> {
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, PUT);
    let whole = manifest_pb::Manifest::from(&manifest());
    let head = manifest_pb::Manifest {
        entries: Vec::new(),
        ..whole.clone()
    };
    let rest = whole
        .entries
        .chunks(1_000)
        .map(|entries| manifest_pb::Manifest {
            entries: entries.to_vec(),
            ..manifest_pb::Manifest::default()
        });
    let parts = std::iter::once(head).chain(rest).map(|part| {
        let part = pb::PutManifestRequest { part: Some(part) };
        Bytes::from(part.encode_to_vec())
    });
    let parts: Vec<Bytes> = parts.collect();
    let answers = caller.exchange(tokio_stream::iter(parts), None).await;
    let answer = answers.expect("it is stored").message().await;
    let answer = answer.expect("it is stored").expect("there is an answer");
    let answer = pb::PutManifestResponse::decode(answer).expect("it is an answer");
    assert_eq!(answer.entries as usize, ENTRIES, "all of it");
    answer.manifest_hash
}

fn consuming(number: u64, hash: &[u8]) -> RegisterSessionRequest {
    RegisterSessionRequest {
        mode: FirewallMode::Consume.into(),
        manifest: Some(WireManifest::ManifestHash(hash.to_vec())),
        workspace_root: format!("/worktrees/{number:07}/project"),
        ..shape::registration(number)
    }
}

async fn handle_of(daemon: &Daemon, request: RegisterSessionRequest) -> Authorization {
    let mut caller = Caller::new(connect(&daemon.operator_socket()).await, shape::REGISTER);
    let answer = caller.call(request.encode_to_vec().into(), None).await;
    let answer = RegisterSessionResponse::decode(answer.expect("it is registered"));
    let session = answer.ok().and_then(|answer| answer.session);
    let handle = session.expect("it has the session").ephemeral_handle;
    format!("Bearer {handle}")
        .parse()
        .expect("a handle is a header")
}

fn check_of(path: String) -> Bytes {
    let read = pb::Read {
        path,
        hash: Vec::new(),
    };
    let request = pb::CheckToolRequestRequest {
        session_id: String::new(),
        tool: Some(pb::ToolRequest {
            request: Some(pb::tool_request::Request::Read(read)),
        }),
    };
    request.encode_to_vec().into()
}

/// A check over a call, and over a stream.
fn served() -> Vec<Figure> {
    let daemon = Daemon::start("firewall");
    let echo = Echo::start(daemon.home());
    alone(echo::wait_until_it_answers(&echo));
    let handle = alone(async {
        let hash = put(&daemon).await;
        handle_of(&daemon, consuming(0, &hash)).await
    });
    let handles: Arc<[Authorization]> = Arc::new([handle.clone()]);
    let body = check_of(path(4_711));
    let real = body.clone();
    let mut check = Target::new(daemon.session_socket(), CHECK, move || real.clone());
    check.handles = Arc::clone(&handles);
    let answer = check.once().len();
    let like = echo::request_like(&body, answer);
    let same = like.clone();
    let mut floor = Target::new(echo.socket(), echo::UNARY, move || same.clone());
    floor.handles = handles;
    assert_eq!(floor.once().len(), answer, "an echo answers as many bytes");
    let (mut one, mut bare) = (check.single(), floor.single());
    let latency = place::apart(&[daemon.pid(), echo.pid()], || {
        Rounds::in_blocks(BLOCKS, || one.block(), &mut [&mut || bare.block()])
    });
    let streamed = || stream(&daemon.session_socket(), CHECKS, &body, Some(&handle));
    let unary = Rounds::interleaved(streamed, || deep(&check, &handle));
    let bare = Rounds::interleaved(streamed, || {
        stream(echo.socket(), echo::EXCHANGE, &like, None)
    });
    vec![
        Figure::of(
            "CheckToolRequest, 1 in flight, p50",
            "µs",
            &latency,
            Goal::RatioAtMost(1.15),
        ),
        Figure::of(
            "CheckToolRequests, 64 deep (floor: unary, 64 deep)",
            "verdicts/s",
            &unary,
            Goal::RatioAtLeast(5.0),
        ),
        Figure::of(
            "CheckToolRequests, 64 deep (floor: bare stream)",
            "verdicts/s",
            &bare,
            Goal::RatioAtLeast(0.2),
        ),
    ]
}

/// Answers a second on one stream with [`DEPTH`] requests on their way.
fn stream(
    socket: &std::path::Path,
    path: &'static str,
    body: &Bytes,
    handle: Option<&Authorization>,
) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut caller = Caller::new(connect(socket).await, path);
        let (requests, receiver) = tokio::sync::mpsc::channel(DEPTH);
        for _ in 0..DEPTH {
            requests.send(body.clone()).await.expect("there is room");
        }
        let answers = caller.exchange(ReceiverStream::new(receiver), handle).await;
        let mut answers = answers.expect("the stream opens");
        let mut counted = async |window: Duration| {
            let (started, mut count) = (Instant::now(), 0_u64);
            while started.elapsed() < window {
                let answer = answers.message().await.expect("the stream goes on");
                black_box(answer.expect("the stream does not end"));
                requests.send(body.clone()).await.expect("there is room");
                count += 1;
            }
            count as f64 / started.elapsed().as_secs_f64()
        };
        counted(WINDOW / 5).await;
        counted(WINDOW).await
    })
}

/// Answers a second of unary calls with [`DEPTH`] on their way on one connection.
fn deep(target: &Target, handle: &Authorization) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let caller = Caller::new(connect(&target.socket).await, target.path);
        let answered = Arc::new(AtomicU64::new(0));
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..DEPTH {
            let (mut caller, answered) = (caller.clone(), Arc::clone(&answered));
            let (body, handle) = (Arc::clone(&target.body), handle.clone());
            loops.spawn(async move {
                loop {
                    let answer = caller.call(body(), Some(&handle)).await;
                    black_box(answer.expect("a call is answered"));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(WINDOW / 5).await;
        let (before, started) = (answered.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(WINDOW).await;
        let count = answered.load(Ordering::Relaxed) - before;
        count as f64 / started.elapsed().as_secs_f64()
    })
}

/// Bytes that a session takes under a firewall, above a plain one.
fn memory(sessions: u64) -> Figure {
    let taken = |is_consuming: bool| {
        let daemon = Daemon::start("memory");
        let hash = alone(put(&daemon));
        let numbers = Numbers::default();
        let register = |up_to: u64| {
            alone(async {
                let socket = daemon.operator_socket();
                let mut caller = Caller::new(connect(&socket).await, shape::REGISTER_MANY);
                while numbers.taken() < up_to {
                    let first = numbers.take(BATCH);
                    let one = |number| {
                        if is_consuming {
                            consuming(number, &hash)
                        } else {
                            shape::registration(number)
                        }
                    };
                    let requests = (first..first + BATCH).map(one).collect();
                    let body = RegisterSessionsRequest { requests }.encode_to_vec();
                    caller
                        .call(body.into(), None)
                        .await
                        .expect("they are registered");
                }
            });
            std::thread::sleep(Duration::from_millis(500));
            daemon.resident()
        };
        let none = daemon.resident();
        let many = register(sessions);
        assert_eq!(
            alone(daemon.live()),
            numbers.taken(),
            "every item succeeded"
        );
        many.saturating_sub(none) as f64 / numbers.taken() as f64
    };
    let middle = |is_consuming| stat::median(&[(); 3].map(|()| taken(is_consuming)));
    let (guarded, plain) = (middle(true), middle(false));
    let name = "memory of a CONSUME session above a plain one";
    Figure::new(name, "bytes", guarded - plain, None, Goal::AtMost(200.0))
}

/// How long a miss takes to a durable end, beside a durable registration.
fn misses() -> Figure {
    let daemon = Daemon::start("misses");
    let numbers = Numbers::default();
    let rounds = alone(async {
        let hash = put(&daemon).await;
        let operator = connect(&daemon.operator_socket()).await;
        let mut register = Caller::new(operator, shape::REGISTER);
        let mut check = Caller::new(connect(&daemon.session_socket()).await, CHECK);
        let mut rounds = Rounds::default();
        for _ in 0..stat::ROUNDS {
            let (mut missed, mut registered) = (Vec::new(), Vec::new());
            for _ in 0..MISSES {
                let body = consuming(numbers.take(1), &hash).encode_to_vec();
                let started = Instant::now();
                let answer = register
                    .call(body.into(), None)
                    .await
                    .expect("it is registered");
                registered.push(stat::micros(started.elapsed()));
                let answer = RegisterSessionResponse::decode(answer).expect("an answer");
                let handle = answer.session.expect("a session").ephemeral_handle;
                let handle = format!("Bearer {handle}").parse().expect("a header");
                let started = Instant::now();
                let verdict = check
                    .call(check_of("missing".to_owned()), Some(&handle))
                    .await;
                missed.push(stat::micros(started.elapsed()));
                let verdict = pb::CheckToolRequestResponse::decode(verdict.expect("a verdict"));
                let verdict = verdict.ok().and_then(|answer| answer.verdict);
                assert!(
                    verdict.is_some_and(|verdict| verdict.session_ended),
                    "it ended"
                );
            }
            rounds.push(
                stat::percentile(&mut missed, 0.99),
                stat::percentile(&mut registered, 0.99),
            );
        }
        rounds
    });
    let name = "CONTEXT_MISS to durable termination, p99 (floor: durable register p99)";
    Figure::of(name, "µs", &rounds, Goal::RatioAtMost(3.0))
}
