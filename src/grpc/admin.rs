//! `episoded.admin.v1.AdminService`.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::{io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    clock::BootId,
    proto::admin::{self as pb, admin_service_server::AdminService},
    reason::Reason,
    session::{service::Sessions, store::ReadError},
};

use super::{
    authorised::Authorised,
    caller::Caller,
    convert::{request::duration, show::timestamp},
    status::{IntoRefusal, Refusal},
};

/// Pages copied between two commits: about a millisecond.
const BACKUP_PAGES: u32 = 64;

/// Bytes of the copy in one answer.
const CHUNK: usize = 256 * 1024;

/// What the daemon is, besides its registry.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When it started, since the epoch.
    pub started: u64,
    /// This boot.
    pub boot_id: BootId,
    /// The host.
    pub node: Arc<str>,
    /// Where a copy of the registry may be made, privately.
    pub state_dir: PathBuf,
    /// Connections at most.
    pub max_connections: u64,
    /// Where operators connect.
    pub operator_socket: PathBuf,
    /// Where sessions connect.
    pub session_socket: PathBuf,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    sessions: Sessions,
    facts: Arc<Facts>,
    stop: Arc<tokio::sync::Notify>,
    backing_up: Arc<tokio::sync::Semaphore>,
}

impl AdminApi {
    /// Serves this daemon; `stop` asks it to drain and stop.
    pub fn new(sessions: Sessions, facts: Facts, stop: Arc<tokio::sync::Notify>) -> Self {
        let backing_up = Arc::new(tokio::sync::Semaphore::new(1));
        Self {
            sessions,
            facts: Arc::new(facts),
            stop,
            backing_up,
        }
    }

    fn info(&self) -> pb::GetServerInfoResponse {
        let info = self.sessions.info();
        let facts = &self.facts;
        let millis = |d: std::time::Duration| duration(u64::try_from(d.as_millis()).unwrap_or(0));
        pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: info.schema,
            start_time: Some(timestamp(facts.started)),
            boot_id: facts.boot_id.as_str().to_owned(),
            node: facts.node.to_string(),
            registry_id: info.registry_id.as_str().to_owned(),
            incarnation: info.incarnation,
            live_sessions: info.live,
            terminated_sessions: info.terminated,
            early_purges: info.tally.early_purges,
            revision: info.revision.0,
            compacted_revision: info.tally.compacted.0,
            request_ids_since: Some(timestamp(info.tally.request_ids_since)),
            limits: Some(pb::ServerLimits {
                max_sessions: info.limits.max_sessions as u64,
                max_terminated: info.limits.max_terminated as u64,
                default_ttl: Some(millis(info.limits.default_ttl)),
                terminated_ttl: Some(millis(info.limits.terminated_ttl)),
                event_retention: Some(millis(info.limits.event_retention)),
                max_events: info.limits.max_events,
                max_connections: facts.max_connections,
            }),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            operator_socket: facts.operator_socket.to_string_lossy().into_owned(),
            session_socket: facts.session_socket.to_string_lossy().into_owned(),
            state_dir: facts.state_dir.to_string_lossy().into_owned(),
        }
    }
}

type Chunks = mpsc::Sender<Result<pb::BackupResponse, Status>>;

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info()))
    }

    type BackupStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::BackupResponse, Status>> + Send>>;

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let alone = Arc::clone(&self.backing_up).try_acquire_owned();
        let alone =
            alone.map_err(|_| Refusal::new(Reason::BackupRunning, "a backup runs already"))?;
        let (chunks, stream) = mpsc::channel(2);
        let sessions = self.sessions.clone();
        let to = self.facts.state_dir.join("registry.backup-in-progress");
        tokio::spawn(async move {
            let _alone = alone;
            let done = back_up(&sessions, &to, &chunks).await;
            sessions.backup_end().await;
            let _ = tokio::fs::remove_file(&to).await;
            if let Err(refusal) = done {
                let _ = chunks.send(Err(refusal.into())).await;
            }
        });
        let chunks = ReceiverStream::new(stream);
        let chunks = Authorised::new(&self.sessions, &caller, chunks);
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn shutdown(
        &self,
        _request: Request<pb::ShutdownRequest>,
    ) -> Result<Response<pb::ShutdownResponse>, Status> {
        self.stop.notify_one();
        Ok(Response::new(pb::ShutdownResponse {}))
    }
}

fn unreadable(error: &std::io::Error) -> Refusal {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "copy of the registry not read"
    );
    Refusal::new(
        Reason::StoreFailed,
        "the copy of the registry cannot be read",
    )
}

fn damaged(error: &ReadError) -> Refusal {
    let error = error as &dyn std::error::Error;
    tracing::error!(error, "copy of the registry is not whole");
    let message = "the registry is damaged, and so would its copy be: keep the last good backup";
    Refusal::new(Reason::StoreFailed, message)
}

/// Copies the registry into a private file between commits, then streams it.
async fn back_up(sessions: &Sessions, to: &PathBuf, chunks: &Chunks) -> Result<(), Refusal> {
    let _ = tokio::fs::remove_file(to).await;
    sessions
        .backup_begin(to.clone())
        .await
        .map_err(|error| error.into_refusal(""))?;
    loop {
        let step = sessions.backup_step(BACKUP_PAGES).await;
        let step = step.map_err(|error| error.into_refusal(""))?;
        let progress = pb::BackupResponse {
            chunk: Bytes::new(),
            pages_copied: step.copied,
            pages_total: step.total,
        };
        if chunks.send(Ok(progress)).await.is_err() {
            return Ok(());
        }
        if step.copied >= step.total {
            break;
        }
    }
    sessions.backup_end().await;
    let check = sessions.copy_check().await;
    let check = check.map_err(|error| error.into_refusal(""))?;
    let copy = to.clone();
    let checked = tokio::task::spawn_blocking(move || check(&copy)).await;
    if let Ok(Err(error)) | Err(error) = checked.map_err(|error| ReadError::Failed(error.into())) {
        return Err(damaged(&error));
    }
    let mut file = tokio::fs::File::open(to)
        .await
        .map_err(|error| unreadable(&error))?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut part = (&mut file).take(CHUNK as u64);
        part.read_to_end(&mut chunk)
            .await
            .map_err(|error| unreadable(&error))?;
        if chunk.is_empty() {
            return Ok(());
        }
        let chunk = pb::BackupResponse {
            chunk: chunk.into(),
            ..Default::default()
        };
        if chunks.send(Ok(chunk)).await.is_err() {
            return Ok(());
        }
    }
}
