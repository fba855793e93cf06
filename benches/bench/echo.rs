//! The floor of every call: a bare tonic server in a process of its own.
//!
//! Stock settings, its own message types, nothing looked up, nothing stored. The
//! bench runs itself again with [`ARGUMENT`] to get one.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    process::Child,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::BoxFuture,
    server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::{append::Append, child, home::Home, raw};

/// Makes the bench the echo server; the path of its socket follows.
pub const ARGUMENT: &str = "--serve-echo";

/// Answers once.
pub const UNARY: &str = "/bench.v1.Echo/Unary";

/// Answers once a row as long as the request is durable: commits on the thread that
/// the call came in on, and keeps no deadline.
pub const DURABLE: &str = "/bench.v1.Echo/Durable";

/// Answers every [`TICK`] for ever.
pub const STREAM: &str = "/bench.v1.Echo/Stream";

/// Answers every message of a stream, in order.
pub const EXCHANGE: &str = "/bench.v1.Echo/Exchange";

/// Ticks are the multiples of this on the monotonic clock, so that all streams
/// answer at the same moments.
pub const TICK: Duration = Duration::from_millis(5);

/// A call of any size that asks for an answer of any size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoRequest {
    #[prost(bytes = "vec", tag = "1")]
    payload: Vec<u8>,
    /// Bytes of the answer's payload.
    #[prost(uint32, tag = "2")]
    answer: u32,
}

/// As many bytes as were asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoResponse {
    #[prost(bytes = "vec", tag = "1")]
    payload: Vec<u8>,
    /// When a stream's answer was made: nanoseconds on the monotonic clock.
    #[prost(fixed64, tag = "2")]
    at: u64,
}

/// A body that is as long as `real` and asks for an answer of `answer` bytes.
/// Holds a part of `real`, so that making both costs the same.
pub fn request_like(real: &[u8], answer: usize) -> Bytes {
    let mut request = EchoRequest {
        payload: real.to_vec(),
        answer: payload_of(answer),
    };
    let surplus = request.encoded_len() - real.len().min(request.encoded_len());
    request.payload.truncate(real.len().saturating_sub(surplus));
    request.encode_to_vec().into()
}

/// Bytes of payload in an answer of `total` bytes.
fn payload_of(total: usize) -> u32 {
    let mut payload = total;
    while payload > 0 && (payload + 1 + prost::length_delimiter_len(payload)) > total {
        payload -= 1;
    }
    payload as u32
}

/// A running echo server; ends when dropped.
pub struct Echo {
    child: Child,
    socket: PathBuf,
}

impl Echo {
    /// Starts one with its socket in `home`.
    pub fn start(home: &Home) -> Self {
        let socket = home.runtime().join("echo.sock");
        let arguments = [
            ARGUMENT.as_ref(),
            socket.as_os_str(),
            home.state().as_os_str(),
        ];
        let child = child::spawn(&child::itself(), arguments);
        Self { child, socket }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does. Ends with the process.
pub fn serve(socket: &Path, state: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).expect("the socket is bound");
        Server::builder()
            .add_service(EchoService {
                state: state.into(),
                rows: Arc::default(),
            })
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .expect("the server serves");
    });
}

/// Nanoseconds on the monotonic clock, the same in every process.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[derive(Clone)]
struct EchoService {
    state: Arc<Path>,
    /// Made by the first call that needs it.
    rows: Arc<OnceLock<Mutex<Append>>>,
}

impl NamedService for EchoService {
    const NAME: &'static str = "bench.v1.Echo";
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                STREAM => grpc.server_streaming(Ticking, request).await,
                EXCHANGE => grpc.streaming(Exchanging, request).await,
                DURABLE => grpc.unary(Appending(service), request).await,
                _ => grpc.unary(Answering, request).await,
            })
        })
    }
}

struct Answering;

impl UnaryService<EchoRequest> for Answering {
    type Response = EchoResponse;
    type Future = BoxFuture<Response<EchoResponse>, Status>;

    fn call(&mut self, request: Request<EchoRequest>) -> Self::Future {
        Box::pin(async move {
            Ok(Response::new(EchoResponse {
                payload: vec![0; request.get_ref().answer as usize],
                at: 0,
            }))
        })
    }
}

struct Appending(EchoService);

impl UnaryService<EchoRequest> for Appending {
    type Response = EchoResponse;
    type Future = BoxFuture<Response<EchoResponse>, Status>;

    fn call(&mut self, request: Request<EchoRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let request = request.into_inner();
            let open = || Mutex::new(Append::open(&service.state, request.encoded_len()));
            let rows = service.rows.get_or_init(open);
            rows.lock().expect("no commit panics").commit(1);
            Ok(Response::new(EchoResponse {
                payload: vec![0; request.answer as usize],
                at: 0,
            }))
        })
    }
}

struct Exchanging;

impl StreamingService<EchoRequest> for Exchanging {
    type Response = EchoResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<EchoRequest>>) -> Self::Future {
        let answers = request.into_inner().map(|message| {
            let payload = vec![0; message?.answer as usize];
            Ok(EchoResponse { payload, at: 0 })
        });
        Box::pin(async move { Ok(Response::new(Box::pin(answers) as Self::ResponseStream)) })
    }
}

struct Ticking;

impl ServerStreamingService<EchoRequest> for Ticking {
    type Response = EchoResponse;
    type ResponseStream = ReceiverStream<Result<EchoResponse, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<EchoRequest>) -> Self::Future {
        let (answers, stream) = mpsc::channel(2);
        tokio::spawn(tick(request.into_inner().answer as usize, answers));
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(stream))) })
    }
}

/// Answers at every tick until nobody listens.
async fn tick(bytes: usize, answers: mpsc::Sender<Result<EchoResponse, Status>>) {
    let tick = TICK.as_nanos() as u64;
    let mut at = monotonic();
    loop {
        at = at - at % tick + tick;
        tokio::time::sleep(Duration::from_nanos(at.saturating_sub(monotonic()))).await;
        let payload = vec![0; bytes];
        let answer = EchoResponse { payload, at };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

/// The moment in a stream's answer: its last field, which has eight bytes.
pub fn moment_of(answer: &Bytes) -> u64 {
    let tail = answer.last_chunk().expect("an echo tells the moment");
    u64::from_le_bytes(*tail)
}

/// One connection and call that proves that it serves.
pub async fn wait_until_it_answers(echo: &Echo) {
    let mut caller = raw::Caller::new(raw::connect(echo.socket()).await, UNARY);
    let answer = caller.call(request_like(&[0; 64], 32), None).await;
    assert_eq!(answer.map(|answer| answer.len()).ok(), Some(32), "as asked");
}
