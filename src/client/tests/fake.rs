//! A daemon of few words on a real socket: what it answers is set by the test.
//!
//! Each start runs on a runtime of its own, so that stopping it cuts every
//! connection at once, as a crash does.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::proto::admin as admin_pb;
use crate::proto::admin::admin_service_server::{AdminService, AdminServiceServer};
use crate::proto::session as pb;
use crate::proto::session::session_service_server::{SessionService, SessionServiceServer};

/// What one watch is answered with: messages, then an error, the end, or silence.
pub enum Script {
    Then(Vec<pb::WatchSessionsResponse>, Status),
    End(Vec<pb::WatchSessionsResponse>),
    Stay(Vec<pb::WatchSessionsResponse>),
    Refuse(Status),
}

#[derive(Default)]
pub struct State {
    /// The metadata of the last call.
    pub authorization: Option<String>,
    pub timeout: Option<String>,
    /// What GetSession answers.
    pub get: Option<Result<pb::Session, Status>>,
    /// How long it thinks first.
    pub thinks: Duration,
    /// The watches to come, and the requests of those that came.
    pub scripts: VecDeque<Script>,
    pub watches: Vec<pb::WatchSessionsRequest>,
}

pub struct Fake {
    directory: TempDir,
    pub state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Fake {
    pub fn new() -> Self {
        let mut fake = Self {
            directory: tempfile::tempdir().unwrap(),
            state: Arc::default(),
            runtime: None,
        };
        fake.start();
        fake
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("operator.sock")
    }

    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        drop(guard);
        let (sender, connections) = mpsc::channel(1);
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let _ = sender.send(Ok::<_, std::io::Error>(connection)).await;
            }
        });
        let service = Service(Arc::clone(&self.state));
        let server = Server::builder()
            .add_service(SessionServiceServer::new(service.clone()))
            .add_service(AdminServiceServer::new(service));
        runtime.spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
        self.runtime = Some(runtime);
    }

    /// Cuts every connection and leaves the socket file behind.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread of its own, because a runtime may not wait inside another.
            let shutdown = move || runtime.shutdown_timeout(Duration::from_secs(5));
            std::thread::spawn(shutdown).join().unwrap();
        }
    }

    pub fn script(&self, script: Script) {
        self.state.lock().scripts.push_back(script);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of this test"))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SessionService for Service {
    type WatchSessionsStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchSessionsResponse, Status>> + Send>>;

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Answer<pb::GetSessionResponse> {
        let (answer, thinks) = {
            let mut state = self.0.lock();
            let value = |name| {
                let value = request.metadata().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            state.authorization = value("authorization");
            state.timeout = value("grpc-timeout");
            (state.get.clone(), state.thinks)
        };
        tokio::time::sleep(thinks).await;
        let session = answer.unwrap_or_else(|| Ok(pb::Session::default()))?;
        Ok(Response::new(pb::GetSessionResponse {
            session: Some(session),
        }))
    }

    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        let script = {
            let mut state = self.0.lock();
            state.watches.push(request.into_inner());
            state.scripts.pop_front()
        };
        let (messages, last, stays) = match script.unwrap_or(Script::Stay(Vec::new())) {
            Script::Refuse(status) => return Err(status),
            Script::Then(messages, status) => (messages, Some(Err(status)), false),
            Script::End(messages) => (messages, None, false),
            Script::Stay(messages) => (messages, None, true),
        };
        let (sender, receiver) = mpsc::channel(messages.len() + 1);
        for message in messages.into_iter().map(Ok).chain(last) {
            sender.try_send(message).unwrap();
        }
        if stays {
            tokio::spawn(async move { sender.closed().await });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn register_session(
        &self,
        _: Request<pb::RegisterSessionRequest>,
    ) -> Answer<pb::RegisterSessionResponse> {
        unused()
    }
    async fn register_sessions(
        &self,
        _: Request<pb::RegisterSessionsRequest>,
    ) -> Answer<pb::RegisterSessionsResponse> {
        unused()
    }
    async fn lookup_session(
        &self,
        _: Request<pb::LookupSessionRequest>,
    ) -> Answer<pb::LookupSessionResponse> {
        unused()
    }
    async fn list_sessions(
        &self,
        _: Request<pb::ListSessionsRequest>,
    ) -> Answer<pb::ListSessionsResponse> {
        unused()
    }
    async fn bind_episode(
        &self,
        _: Request<pb::BindEpisodeRequest>,
    ) -> Answer<pb::BindEpisodeResponse> {
        unused()
    }
    async fn renew_lease(
        &self,
        _: Request<pb::RenewLeaseRequest>,
    ) -> Answer<pb::RenewLeaseResponse> {
        unused()
    }
    async fn rotate_handle(
        &self,
        _: Request<pb::RotateHandleRequest>,
    ) -> Answer<pb::RotateHandleResponse> {
        unused()
    }
    async fn update_session(
        &self,
        _: Request<pb::UpdateSessionRequest>,
    ) -> Answer<pb::UpdateSessionResponse> {
        unused()
    }
    async fn heartbeat_session(
        &self,
        _: Request<pb::HeartbeatSessionRequest>,
    ) -> Answer<pb::HeartbeatSessionResponse> {
        unused()
    }
    async fn request_stop(
        &self,
        _: Request<pb::RequestStopRequest>,
    ) -> Answer<pb::RequestStopResponse> {
        unused()
    }
    async fn terminate_session(
        &self,
        _: Request<pb::TerminateSessionRequest>,
    ) -> Answer<pb::TerminateSessionResponse> {
        unused()
    }
    async fn terminate_sessions(
        &self,
        _: Request<pb::TerminateSessionsRequest>,
    ) -> Answer<pb::TerminateSessionsResponse> {
        unused()
    }
    async fn remove_session(
        &self,
        _: Request<pb::RemoveSessionRequest>,
    ) -> Answer<pb::RemoveSessionResponse> {
        unused()
    }
    async fn list_events(
        &self,
        _: Request<pb::ListEventsRequest>,
    ) -> Answer<pb::ListEventsResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl AdminService for Service {
    type BackupStream =
        Pin<Box<dyn Stream<Item = Result<admin_pb::BackupResponse, Status>> + Send>>;

    async fn get_server_info(
        &self,
        _: Request<admin_pb::GetServerInfoRequest>,
    ) -> Answer<admin_pb::GetServerInfoResponse> {
        Ok(Response::new(admin_pb::GetServerInfoResponse {
            revision: 40,
            registry_id: "r".to_owned(),
            ..admin_pb::GetServerInfoResponse::default()
        }))
    }
    async fn backup(&self, _: Request<admin_pb::BackupRequest>) -> Answer<Self::BackupStream> {
        unused()
    }
    async fn shutdown(
        &self,
        _: Request<admin_pb::ShutdownRequest>,
    ) -> Answer<admin_pb::ShutdownResponse> {
        unused()
    }
}
