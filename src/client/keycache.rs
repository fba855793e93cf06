//! The key cache: a connection to agent.sock.
//!
//! Owns the check that the agent is the caller's own before anything is sent, and
//! the channel that seals keys on their way, one for each connection. A key in
//! this process is in memory that is wiped when it is let go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;
use zeroize::Zeroizing;

use super::channel::AUTHORITY;
use super::{Client, ClientError, DEFAULT_TIMEOUT, Handle, Stream};
use crate::keycache::channel::{Agreement, Channel, TAG, Way};
use crate::keycache::entry::LockboxId;
use crate::proto::keycache::key_cache_service_client::KeyCacheServiceClient;
use crate::proto::keycache::{self as pb, forget_key_request::Which};
use crate::reason::Reason;

type Service = KeyCacheServiceClient<tonic::transport::Channel>;

/// A connection to a key cache. Cheap to clone; clones share the connection and its
/// channel.
#[derive(Debug, Clone)]
pub struct KeyCache {
    client: Client,
    sealing: Arc<Mutex<Option<Arc<Sealing>>>>,
}

/// A channel that is open.
#[derive(Debug)]
struct Sealing {
    channel: Channel,
    id: u32,
}

/// How a key is kept. The default is the agent's: sliding, 15 minutes, 8 hours at
/// most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    /// From the put and, unless `absolute`, from each hit.
    pub ttl: Option<prost_types::Duration>,
    /// A hit prolongs nothing.
    pub absolute: bool,
    /// From the put, however many hits; zero: without end.
    pub max_lifetime: Option<prost_types::Duration>,
}

impl KeyCache {
    /// Connects to the agent at that path; fails when none accepts there, and when
    /// it is another user's.
    pub async fn connect(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket: Arc<Path> = socket.into().into();
        let path = Arc::clone(&socket);
        let connector = service_fn(move |_: Uri| own(Arc::clone(&path)));
        let channel = Endpoint::from_static(AUTHORITY)
            .connect_with_connector(connector)
            .await
            .map_err(|error| ClientError::of_connection(&error, &socket))?;
        Ok(Self {
            client: Client {
                channel,
                socket,
                timeout: DEFAULT_TIMEOUT,
                handle: None,
            },
            sealing: Arc::default(),
        })
    }

    /// The same connection with another deadline for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.client.timeout = timeout;
        self
    }

    fn service(&self) -> Service {
        KeyCacheServiceClient::new(self.client.channel.clone())
    }

    /// Keeps a key of 1 to 65,536 bytes under an id.
    pub async fn put(
        &self,
        lockbox_id: &str,
        path: &str,
        key: &[u8],
        keep: Keep,
    ) -> Result<(), ClientError> {
        let expiry = if keep.absolute {
            pb::Expiry::Absolute
        } else {
            pb::Expiry::Unspecified
        };
        let request = pb::PutKeyRequest {
            lockbox_id: lockbox_id.to_owned(),
            path: path.to_owned(),
            ttl: keep.ttl,
            expiry: expiry.into(),
            max_lifetime: keep.max_lifetime,
            ..pb::PutKeyRequest::default()
        };
        self.send(request, key).await
    }

    /// Gives a key of 1 to 65,536 bytes to the session of an episode, and to nobody
    /// else: until its time, its uses or the session are over.
    pub async fn grant(
        &self,
        lockbox_id: &str,
        key: &[u8],
        owner: pb::Owner,
    ) -> Result<(), ClientError> {
        let request = pb::PutKeyRequest {
            lockbox_id: lockbox_id.to_owned(),
            owner: Some(owner),
            ..pb::PutKeyRequest::default()
        };
        self.send(request, key).await
    }

    /// Seals a key into a put that lacks it.
    async fn send(&self, mut request: pb::PutKeyRequest, key: &[u8]) -> Result<(), ClientError> {
        let id = parse_id(&request.lockbox_id)?;
        let mut refused = None;
        loop {
            let sealing = self.sealing(refused.as_ref()).await?;
            let sealed = sealing.channel.seal(Way::Put, &id, key);
            let sealed = sealed.map_err(|_| self.cannot("seal"))?;
            request.channel_id = sealing.id;
            request.counter = sealed.counter;
            request.sealed_key = sealed.bytes;
            let request = self.client.unary(request.clone());
            match self.client.answer(self.service().put_key(request).await) {
                Err(error) if refused.is_none() && is_unknown(&error) => refused = Some(sealing),
                done => return done.map(drop),
            }
        }
    }

    /// The same connection speaking for the session of that handle: [`Self::get`]
    /// answers what that session owns, and nothing else is answered.
    #[must_use]
    pub fn with_handle(mut self, handle: Handle) -> Self {
        self.client = self.client.with_handle(handle);
        self
    }

    /// The key of that id, if it is there.
    pub async fn get(&self, lockbox_id: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ClientError> {
        let id = parse_id(lockbox_id)?;
        let mut request = pb::GetKeyRequest {
            lockbox_id: lockbox_id.to_owned(),
            ..pb::GetKeyRequest::default()
        };
        let mut refused = None;
        let (sealing, answer) = loop {
            let mut open = self.sealing.lock().await;
            let Some(sealing) = known(open.as_ref(), refused.as_ref()) else {
                break self.get_first(&mut open, request).await?;
            };
            drop(open);
            request.channel_id = sealing.id;
            let request = self.client.unary(request.clone());
            match self.client.answer(self.service().get_key(request).await) {
                Err(error) if refused.is_none() && is_unknown(&error) => refused = Some(sealing),
                done => break (sealing, done?),
            }
        };
        if !answer.hit {
            return Ok(None);
        }
        let length = answer.sealed_key.len().saturating_sub(TAG);
        let mut key = Zeroizing::new(vec![0; length]);
        sealing
            .channel
            .open(Way::Get, &id, answer.counter, &answer.sealed_key, &mut key)
            .map_err(|_| self.cannot("open"))?;
        Ok(Some(key))
    }

    /// Opens the channel with the first get: one way instead of two.
    async fn get_first(
        &self,
        open: &mut Option<Arc<Sealing>>,
        mut request: pb::GetKeyRequest,
    ) -> Result<(Arc<Sealing>, pb::GetKeyResponse), ClientError> {
        let agreement = Agreement::new().map_err(|_| self.cannot("open"))?;
        request.channel_id = 0;
        request.client_public_key = agreement.public().to_vec();
        let request = self.client.unary(request);
        let answer = self.client.answer(self.service().get_key(request).await)?;
        let sealing = self.agree(agreement, &answer.server_public_key, answer.channel_id)?;
        *open = Some(Arc::clone(&sealing));
        Ok((sealing, answer))
    }

    /// The channel of this connection, another than `but`: after a reconnect the agent
    /// knows none.
    async fn sealing(&self, but: Option<&Arc<Sealing>>) -> Result<Arc<Sealing>, ClientError> {
        let mut open = self.sealing.lock().await;
        if let Some(known) = known(open.as_ref(), but) {
            return Ok(known);
        }
        let agreement = Agreement::new().map_err(|_| self.cannot("open"))?;
        let request = self.client.unary(pb::OpenChannelRequest {
            client_public_key: agreement.public().to_vec(),
        });
        let answer = self.service().open_channel(request).await;
        let answer = self.client.answer(answer)?;
        let sealing = self.agree(agreement, &answer.server_public_key, answer.channel_id)?;
        *open = Some(Arc::clone(&sealing));
        Ok(sealing)
    }

    fn agree(
        &self,
        agreement: Agreement,
        server_public_key: &[u8],
        id: u32,
    ) -> Result<Arc<Sealing>, ClientError> {
        let channel = agreement.as_client(server_public_key);
        let channel = channel.map_err(|_| self.cannot("open"))?;
        Ok(Arc::new(Sealing { channel, id }))
    }

    fn cannot(&self, what: &str) -> ClientError {
        let socket = self.client.socket.display();
        let message = format!("cannot {what} what goes between us and {socket}");
        ClientError::of_caller(Reason::Internal, message)
    }

    /// Forgets the key of that id; how many there were.
    pub async fn forget(&self, lockbox_id: &str) -> Result<u32, ClientError> {
        self.forget_which(Which::LockboxId(lockbox_id.into()), "")
            .await
    }

    /// Takes back a key of that id that a session owns; how many there were.
    pub async fn revoke(&self, lockbox_id: &str, session_id: &str) -> Result<u32, ClientError> {
        self.forget_which(Which::LockboxId(lockbox_id.into()), session_id)
            .await
    }

    /// Forgets all keys at that path; how many there were.
    pub async fn forget_path(&self, path: &str) -> Result<u32, ClientError> {
        self.forget_which(Which::Path(path.into()), "").await
    }

    async fn forget_which(&self, which: Which, session_id: &str) -> Result<u32, ClientError> {
        let request = self.client.unary(pb::ForgetKeyRequest {
            which: Some(which),
            session_id: session_id.to_owned(),
        });
        let answer = self.client.answer(self.service().forget_key(request).await);
        Ok(answer?.forgotten)
    }

    /// Says that a process, the caller's own or a descendant, has a secret in hand; how
    /// to say that it no longer has. Ends with the process.
    pub async fn begin_activity(
        &self,
        pid: u32,
        kind: pb::ActivityKind,
    ) -> Result<u64, ClientError> {
        let request = self.client.unary(pb::RegisterActivityRequest {
            pid: i32::try_from(pid).unwrap_or(0),
            kind: kind.into(),
        });
        let answer = self.service().register_activity(request).await;
        Ok(self.client.answer(answer)?.token)
    }

    /// Says that it no longer has.
    pub async fn end_activity(&self, pid: u32, token: u64) -> Result<(), ClientError> {
        let request = self.client.unary(pb::UnregisterActivityRequest {
            pid: i32::try_from(pid).unwrap_or(0),
            token,
        });
        let answer = self.service().unregister_activity(request).await;
        self.client.answer(answer).map(drop)
    }

    /// Who has a secret in hand.
    pub async fn activities(&self) -> Result<Vec<pb::Activity>, ClientError> {
        let request = self.client.unary(pb::ListActivitiesRequest {});
        let answer = self.service().list_activities(request).await;
        Ok(self.client.answer(answer)?.activities)
    }

    /// Forgets all keys; how many there were.
    pub async fn forget_all(&self) -> Result<u32, ClientError> {
        let request = self.client.unary(pb::ForgetAllRequest {});
        let answer = self.client.answer(self.service().forget_all(request).await);
        Ok(answer?.forgotten)
    }

    /// Everything that is kept, but for the keys.
    pub async fn list(&self) -> Result<Vec<pb::CachedKey>, ClientError> {
        let mut keys = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = self.client.unary(pb::ListKeysRequest {
                page_size: 0,
                page_token,
            });
            let page = self
                .client
                .answer(self.service().list_keys(request).await)?;
            keys.extend(page.keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// What the agent is and holds.
    pub async fn status(&self) -> Result<pb::StatusResponse, ClientError> {
        let request = self.client.unary(pb::StatusRequest {});
        self.client.answer(self.service().status(request).await)
    }

    /// Forgets all keys and ends the agent.
    pub async fn stop(&self) -> Result<(), ClientError> {
        let request = self.client.unary(pb::StopRequest {});
        let answer = self.client.answer(self.service().stop(request).await);
        answer.map(|_| ())
    }

    /// What happens to the cache from now on.
    pub async fn watch(&self) -> Result<Stream<pb::WatchCacheResponse>, ClientError> {
        let mut service = self.service();
        let request = self.client.open(pb::WatchCacheRequest {});
        self.client.opened(service.watch_cache(request)).await
    }
}

/// A connection to an agent of this user; another's is told nothing.
async fn own(socket: Arc<Path>) -> io::Result<TokioIo<UnixStream>> {
    let stream = UnixStream::connect(&*socket).await?;
    if stream.peer_cred()?.uid() != geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(TokioIo::new(stream))
}

/// The channel that is open, if it is another than the one that was refused.
fn known(open: Option<&Arc<Sealing>>, but: Option<&Arc<Sealing>>) -> Option<Arc<Sealing>> {
    let is_refused = |known: &Arc<Sealing>| but.is_some_and(|but| Arc::ptr_eq(known, but));
    open.filter(|known| !is_refused(known)).cloned()
}

fn is_unknown(error: &ClientError) -> bool {
    error.reason == Some(Reason::ChannelUnknown)
}

fn parse_id(text: &str) -> Result<LockboxId, ClientError> {
    LockboxId::parse(text).map_err(|error| {
        let message = format!("lockbox_id {error}");
        ClientError::of_caller(Reason::MalformedMessage, message)
    })
}
