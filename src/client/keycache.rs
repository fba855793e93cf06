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
use super::{Client, ClientError, DEFAULT_TIMEOUT, Stream};
use crate::keycache::channel::{Agreement, Channel, TAG, Way};
use crate::keycache::entry::LockboxId;
use crate::proto::keycache as pb;
use crate::proto::keycache::key_cache_service_client::KeyCacheServiceClient;
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
        let id = parse_id(lockbox_id)?;
        let expiry = if keep.absolute {
            pb::Expiry::Absolute
        } else {
            pb::Expiry::Sliding
        };
        let mut refused = None;
        loop {
            let sealing = self.sealing(refused.as_ref()).await?;
            let sealed = sealing.channel.seal(Way::Put, &id, key);
            let sealed = sealed.map_err(|_| self.cannot("seal"))?;
            let request = self.client.unary(pb::PutKeyRequest {
                channel_id: sealing.id,
                counter: sealed.counter,
                sealed_key: sealed.bytes,
                lockbox_id: lockbox_id.to_owned(),
                path: path.to_owned(),
                ttl: keep.ttl,
                expiry: expiry.into(),
                max_lifetime: keep.max_lifetime,
            });
            match self.client.answer(self.service().put_key(request).await) {
                Err(error) if refused.is_none() && is_unknown(&error) => refused = Some(sealing),
                done => return done.map(drop),
            }
        }
    }

    /// The key of that id, if it is there.
    pub async fn get(&self, lockbox_id: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ClientError> {
        let id = parse_id(lockbox_id)?;
        let mut refused = None;
        let (sealing, answer) = loop {
            let sealing = self.sealing(refused.as_ref()).await?;
            let request = self.client.unary(pb::GetKeyRequest {
                channel_id: sealing.id,
                lockbox_id: lockbox_id.to_owned(),
            });
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

    /// The channel of this connection, another than `but`: after a reconnect the agent
    /// knows none.
    async fn sealing(&self, but: Option<&Arc<Sealing>>) -> Result<Arc<Sealing>, ClientError> {
        let mut open = self.sealing.lock().await;
        let is_refused = |known: &Arc<Sealing>| but.is_some_and(|but| Arc::ptr_eq(known, but));
        if let Some(known) = open.as_ref().filter(|known| !is_refused(known)) {
            return Ok(Arc::clone(known));
        }
        let agreement = Agreement::new().map_err(|_| self.cannot("open"))?;
        let request = self.client.unary(pb::OpenChannelRequest {
            client_public_key: agreement.public().to_vec(),
        });
        let answer = self.service().open_channel(request).await;
        let answer = self.client.answer(answer)?;
        let channel = agreement.as_client(&answer.server_public_key);
        let sealing = Arc::new(Sealing {
            channel: channel.map_err(|_| self.cannot("open"))?,
            id: answer.channel_id,
        });
        *open = Some(Arc::clone(&sealing));
        Ok(sealing)
    }

    fn cannot(&self, what: &str) -> ClientError {
        let socket = self.client.socket.display();
        let message = format!("cannot {what} what goes between us and {socket}");
        ClientError::of_caller(Reason::Internal, message)
    }

    /// Forgets the key of that id; how many there were.
    pub async fn forget(&self, lockbox_id: &str) -> Result<u32, ClientError> {
        self.forget_which(pb::forget_key_request::Which::LockboxId(lockbox_id.into()))
            .await
    }

    /// Forgets all keys at that path; how many there were.
    pub async fn forget_path(&self, path: &str) -> Result<u32, ClientError> {
        self.forget_which(pb::forget_key_request::Which::Path(path.into()))
            .await
    }

    async fn forget_which(&self, which: pb::forget_key_request::Which) -> Result<u32, ClientError> {
        let request = self
            .client
            .unary(pb::ForgetKeyRequest { which: Some(which) });
        let answer = self.client.answer(self.service().forget_key(request).await);
        Ok(answer?.forgotten)
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

fn is_unknown(error: &ClientError) -> bool {
    error.reason == Some(Reason::ChannelUnknown)
}

fn parse_id(text: &str) -> Result<LockboxId, ClientError> {
    LockboxId::parse(text).map_err(|error| {
        let message = format!("lockbox_id {error}");
        ClientError::of_caller(Reason::MalformedMessage, message)
    })
}
