//! `episoded.keycache.v1.KeyCacheService`.

use std::sync::Arc;

use hyper::body::Incoming;
use tonic::{Request, Response, Status, body::Body};

use super::{
    Begun,
    channels::Channels,
    fields,
    watch::{self, Events},
};
use crate::{
    agent::{
        activity::{Activity, ActivityError, Token},
        config::AgentConfig,
        keeper::{KeepError, Keeper},
        put::Put,
    },
    grpc::{
        convert::request::duration,
        direct,
        status::{Refusal, Violations, busy, internal},
    },
    keycache::{
        channel::{Agreement, NotSealed, Way},
        entry::LockboxId,
    },
    proto::keycache::{self as pb, key_cache_service_server::KeyCacheService},
    reason::Reason,
};

/// Entries of a page, and bytes of their names after which it ends.
const MAX_PAGE: usize = 1_000;
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// One connection's view of the cache.
pub(super) struct Api {
    pub(super) keeper: Arc<Keeper>,
    pub(super) channels: Arc<Channels>,
    pub(super) config: Arc<AgentConfig>,
    /// The process at the other end.
    pub(super) pid: i32,
}

/// Serves `GetKey`.
pub(super) async fn get(
    api: &Api,
    max_request: usize,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    direct::unary(max_request, request, async |request, _: Begun| {
        api.get(&request)
    })
    .await
}

impl Api {
    fn put(&self, request: pb::PutKeyRequest, begun: u64) -> Result<(), Refusal> {
        let mut bad = Violations::default();
        let id = fields::lockbox_id(&request.lockbox_id, &mut bad);
        fields::path(&request.path, &mut bad);
        let length = fields::sealed(&request.sealed_key, &mut bad);
        let keep = fields::keep(&request, &mut bad);
        let Some(id) = id.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let channel = self.channels.find(request.channel_id)?;
        let mut key = self.keeper.arena.take(length).ok_or_else(full)?;
        let (counter, sealed) = (request.counter, &request.sealed_key);
        channel
            .open(Way::Put, &id, counter, sealed, key.expose_mut())
            .map_err(|NotSealed| {
                let mut bad = Violations::default();
                let rule = "was not sealed for this channel, counter and lockbox, or came before";
                bad.add(Reason::MalformedMessage, "sealed_key", rule);
                bad.into_refusal()
            })?;
        let path = Some(request.path).filter(|path| !path.is_empty());
        let put = Put {
            id,
            key,
            path,
            keep,
        };
        self.keeper.put(put, begun).map_err(|error| match error {
            KeepError::Full => full(),
            KeepError::InvalidTtl => {
                let mut bad = Violations::default();
                bad.add(Reason::InvalidTtl, "ttl", "must end before the clock does");
                bad.into_refusal()
            }
            KeepError::Wiped => {
                let message = "all keys were forgotten while this one arrived, or the machine is about to sleep";
                Refusal::new(Reason::KeysWiped, message)
            }
        })
    }

    fn get(&self, request: &pb::GetKeyRequest) -> Result<pb::GetKeyResponse, Refusal> {
        let mut bad = Violations::default();
        let id = fields::lockbox_id(&request.lockbox_id, &mut bad);
        let id = id.ok_or_else(|| bad.into_refusal())?;
        let channel = self.channels.find(request.channel_id)?;
        let (mut cache, now) = self.keeper.cache();
        let Some(entry) = cache.get(&id, now) else {
            return Ok(pb::GetKeyResponse::default());
        };
        let sealed = channel.seal(Way::Get, &id, entry.key().expose());
        let sealed = sealed.map_err(|NotSealed| internal())?;
        Ok(pb::GetKeyResponse {
            hit: true,
            counter: sealed.counter,
            sealed_key: sealed.bytes,
        })
    }

    fn list(&self, request: &pb::ListKeysRequest) -> Result<pb::ListKeysResponse, Refusal> {
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let after = match &*request.page_token {
            "" => None,
            token => Some(unseal_token(token).ok_or_else(|| {
                Refusal::new(Reason::InvalidPageToken, "the page token is not of a list")
            })?),
        };
        let (cache, now) = self.keeper.cache();
        let mut entries = cache.list(after.as_ref(), now).peekable();
        let mut page = pb::ListKeysResponse::default();
        let mut bytes = 0;
        while page.keys.len() < size && bytes < MAX_PAGE_BYTES {
            let Some((id, entry)) = entries.next() else {
                break;
            };
            bytes += id.as_str().len() + entry.path().map_or(0, str::len);
            page.keys.push(fields::show_entry(id, entry, now));
        }
        if entries.peek().is_some()
            && let Some(last) = page.keys.last()
        {
            page.next_page_token = token(&last.lockbox_id);
        }
        Ok(page)
    }

    fn status(&self) -> pb::StatusResponse {
        let (cache, _) = self.keeper.cache();
        let idle = self.config.idle_exit.map(|limit| limit.as_millis());
        let sleep = self.keeper.sleep.seen();
        pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            uptime: Some(duration(self.keeper.uptime())),
            entries: u32::try_from(cache.len()).unwrap_or(u32::MAX),
            locked_bytes: self.keeper.arena.locked_bytes() as u64,
            memory: self.keeper.arena.kind().as_str().to_owned(),
            activities: self.keeper.activities.list().len() as u32,
            last_wipe: self.keeper.last_wipe().as_ref().map(fields::show_wipe),
            idle_exit: idle.map(|limit| duration(u64::try_from(limit).unwrap_or(u64::MAX))),
            sleep: Some(fields::show_sleep(sleep, self.config.sleep)),
        }
    }
}

fn full() -> Refusal {
    let message = "no room for another key: forget some, or wait until they expire";
    Refusal::new(Reason::CacheFull, message)
}

/// The list goes on behind this id.
fn token(id: &str) -> String {
    let digits = id.bytes().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn unseal_token(token: &str) -> Option<LockboxId> {
    let digits = token.as_bytes().chunks(2);
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let id: Vec<u8> = digits.map(byte).collect::<Option<_>>()?;
    LockboxId::parse(std::str::from_utf8(&id).ok()?).ok()
}

#[tonic::async_trait]
impl KeyCacheService for Api {
    async fn open_channel(
        &self,
        request: Request<pb::OpenChannelRequest>,
    ) -> Result<Response<pb::OpenChannelResponse>, Status> {
        let agreement = Agreement::new().map_err(|_| internal())?;
        let server_public_key = agreement.public().to_vec();
        let channel = agreement.as_server(&request.get_ref().client_public_key);
        let channel = channel.map_err(|_| {
            let mut bad = Violations::default();
            let rule = "must be an X25519 public key of 32 bytes";
            bad.add(Reason::MalformedMessage, "client_public_key", rule);
            bad.into_refusal()
        })?;
        Ok(Response::new(pb::OpenChannelResponse {
            server_public_key,
            channel_id: self.channels.add(channel)?,
        }))
    }

    async fn put_key(
        &self,
        request: Request<pb::PutKeyRequest>,
    ) -> Result<Response<pb::PutKeyResponse>, Status> {
        let begun = request.extensions().get::<Begun>().copied();
        let Begun(begun) = begun.ok_or_else(internal)?;
        self.put(request.into_inner(), begun)?;
        Ok(Response::new(pb::PutKeyResponse {}))
    }

    async fn get_key(
        &self,
        request: Request<pb::GetKeyRequest>,
    ) -> Result<Response<pb::GetKeyResponse>, Status> {
        Ok(Response::new(self.get(request.get_ref())?))
    }

    async fn forget_key(
        &self,
        request: Request<pb::ForgetKeyRequest>,
    ) -> Result<Response<pb::ForgetKeyResponse>, Status> {
        use pb::forget_key_request::Which;
        let mut bad = Violations::default();
        let forgotten = match &request.get_ref().which {
            Some(Which::LockboxId(id)) => {
                fields::lockbox_id(id, &mut bad).map_or(0, |id| u32::from(self.keeper.forget(&id)))
            }
            Some(Which::Path(path)) if !path.is_empty() => {
                u32::try_from(self.keeper.forget_path(path)).unwrap_or(u32::MAX)
            }
            Some(Which::Path(_)) | None => {
                let rule = "must be one of lockbox_id, path";
                bad.add(Reason::MalformedMessage, "which", rule);
                0
            }
        };
        if !bad.is_empty() {
            return Err(bad.into_refusal().into());
        }
        Ok(Response::new(pb::ForgetKeyResponse { forgotten }))
    }

    async fn forget_all(
        &self,
        _: Request<pb::ForgetAllRequest>,
    ) -> Result<Response<pb::ForgetAllResponse>, Status> {
        let forgotten = u32::try_from(self.keeper.wipe("asked by a client"));
        let forgotten = forgotten.unwrap_or(u32::MAX);
        Ok(Response::new(pb::ForgetAllResponse { forgotten }))
    }

    async fn list_keys(
        &self,
        request: Request<pb::ListKeysRequest>,
    ) -> Result<Response<pb::ListKeysResponse>, Status> {
        Ok(Response::new(self.list(request.get_ref())?))
    }

    async fn stop(
        &self,
        _: Request<pb::StopRequest>,
    ) -> Result<Response<pb::StopResponse>, Status> {
        // This call has begun: its connection ends after its answer.
        self.keeper.stop("stopped by a client");
        Ok(Response::new(pb::StopResponse {}))
    }

    async fn register_activity(
        &self,
        request: Request<pb::RegisterActivityRequest>,
    ) -> Result<Response<pb::RegisterActivityResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let kind = fields::activity_kind(request.kind, &mut bad);
        if request.pid <= 0 {
            bad.add(Reason::MalformedMessage, "pid", "must be 1 to 2147483647");
        }
        let Some(kind) = kind.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal().into());
        };
        let activity = Activity {
            pid: request.pid,
            kind,
        };
        let registered = self.keeper.activities.register(self.pid, activity);
        let token = registered.map_err(|error| match error {
            ActivityError::Full => busy(),
            ActivityError::NotYours => {
                let message = "no such process, or it is neither the caller nor its descendant";
                Refusal::new(Reason::ProcessNotFound, message)
            }
        })?;
        Ok(Response::new(pb::RegisterActivityResponse {
            token: token.0,
        }))
    }

    async fn unregister_activity(
        &self,
        request: Request<pb::UnregisterActivityRequest>,
    ) -> Result<Response<pb::UnregisterActivityResponse>, Status> {
        let request = request.get_ref();
        if let Ok(pid) = u32::try_from(request.pid) {
            self.keeper.activities.unregister(pid, Token(request.token));
        }
        Ok(Response::new(pb::UnregisterActivityResponse {}))
    }

    async fn list_activities(
        &self,
        _: Request<pb::ListActivitiesRequest>,
    ) -> Result<Response<pb::ListActivitiesResponse>, Status> {
        let activities = self.keeper.activities.list();
        let activities = activities.into_iter().map(fields::show_activity).collect();
        Ok(Response::new(pb::ListActivitiesResponse { activities }))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }

    type WatchCacheStream = Events;

    async fn watch_cache(
        &self,
        _: Request<pb::WatchCacheRequest>,
    ) -> Result<Response<Events>, Status> {
        Ok(Response::new(watch::events(&self.keeper)))
    }
}
