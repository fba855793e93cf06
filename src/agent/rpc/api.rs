//! `episoded.keycache.v1.KeyCacheService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Begun, Presented, fields,
    watch::{self, Events},
};
use crate::{
    agent::{
        activity::{Activity, ActivityError, Token},
        channels::Channels,
        config::AgentConfig,
        keeper::Keeper,
    },
    grpc::{
        convert::request::duration,
        status::{Refusal, Violations, busy, internal},
    },
    proto::keycache::{self as pb, key_cache_service_server::KeyCacheService},
    reason::Reason,
};

/// One connection's view of the cache.
pub(super) struct Api {
    pub(super) keeper: Arc<Keeper>,
    pub(super) channels: Arc<Channels>,
    pub(super) config: Arc<AgentConfig>,
    /// Connections of other users so far.
    pub(super) peers_refused: u64,
    /// The process at the other end.
    pub(super) pid: i32,
}

impl Api {
    fn status(&self) -> pb::StatusResponse {
        let (cache, _) = self.keeper.cache();
        let idle = self.config.idle_exit.map(|limit| limit.as_millis());
        let sleep = self.keeper.sleep.seen();
        pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            uptime: Some(duration(self.keeper.uptime())),
            entries: u32::try_from(cache.len()).unwrap_or(u32::MAX),
            owned: u32::try_from(cache.grants.len()).unwrap_or(u32::MAX),
            locked_bytes: self.keeper.arena.locked_bytes() as u64,
            memory: self.keeper.arena.kind().as_str().to_owned(),
            activities: self.keeper.activities.list().len() as u32,
            last_wipe: self.keeper.last_wipe().as_ref().map(fields::show_wipe),
            idle_exit: idle.map(|limit| duration(u64::try_from(limit).unwrap_or(u64::MAX))),
            peers_refused: self.peers_refused,
            sleep: Some(fields::show_sleep(sleep, self.config.sleep)),
        }
    }
}

#[tonic::async_trait]
impl KeyCacheService for Api {
    async fn open_channel(
        &self,
        request: Request<pb::OpenChannelRequest>,
    ) -> Result<Response<pb::OpenChannelResponse>, Status> {
        let opened = self.open_channel(&request.get_ref().client_public_key)?;
        Ok(Response::new(pb::OpenChannelResponse {
            server_public_key: opened.server_public_key,
            channel_id: opened.id,
        }))
    }

    async fn put_key(
        &self,
        request: Request<pb::PutKeyRequest>,
    ) -> Result<Response<pb::PutKeyResponse>, Status> {
        let begun = request.extensions().get::<Begun>().copied();
        let begun = begun.ok_or_else(internal)?;
        self.put(request.into_inner(), begun).await?;
        Ok(Response::new(pb::PutKeyResponse {}))
    }

    async fn get_key(
        &self,
        request: Request<pb::GetKeyRequest>,
    ) -> Result<Response<pb::GetKeyResponse>, Status> {
        let presented = request.extensions().get::<Presented>().cloned();
        let presented = presented.ok_or_else(internal)?;
        Ok(Response::new(self.get(request.get_ref(), presented).await?))
    }

    async fn forget_key(
        &self,
        request: Request<pb::ForgetKeyRequest>,
    ) -> Result<Response<pb::ForgetKeyResponse>, Status> {
        let forgotten = self.forget(request.get_ref())?;
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
        let registered = self.keeper.begin_activity(self.pid, activity);
        let token = registered.map_err(|error| match error {
            ActivityError::Full => busy(),
            ActivityError::Sleeping => {
                Refusal::new(Reason::KeysWiped, "the machine is about to sleep")
            }
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
