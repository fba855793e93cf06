//! `episoded.session.v1.SessionService`.

mod lookup;
mod pages;
mod register;

use std::{pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt};

use tonic::{Request, Response, Status};

use crate::{
    proto::session::{self as pb, session_service_server::SessionService},
    reason::Reason,
    secret::Handle,
    session::{
        batch::Target,
        error::{ResumeError, TargetError},
        index::View,
        operation::{
            Operation,
            bind::Bind,
            rotate::Rotate,
            terminate::{Remove, Terminate},
            update::RequestStop,
        },
        recovery,
        service::Sessions,
        state::Revision,
    },
};

pub(super) use lookup::serve as lookup;
pub(super) use register::{serve as register, serve_many as register_many};

use super::{
    caller::Caller,
    convert::{
        fields,
        request::{self, EndingFields},
        show::{self, Shower},
    },
    status::{IntoRefusal, Refusal, Violations, handle_not_accepted, no_session},
    watch::{self, Beats},
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct SessionApi {
    pub(super) sessions: Sessions,
    pub(super) node: Arc<str>,
    pub(super) draining: tokio::sync::watch::Receiver<bool>,
    pub(super) beats: Arc<Beats>,
}

impl SessionApi {
    /// Serves these sessions.
    pub fn new(
        sessions: Sessions,
        node: &str,
        draining: tokio::sync::watch::Receiver<bool>,
    ) -> Self {
        Self {
            sessions,
            node: node.into(),
            draining,
            beats: Arc::default(),
        }
    }

    pub(super) fn shower(&self) -> Shower<'_> {
        Shower {
            node: &self.node,
            registry_id: self.sessions.registry_id().as_str(),
            index: self.sessions.index(),
            manifests: self.sessions.manifests(),
        }
    }

    /// The identity of the registry, as answers carry it.
    pub(super) fn registry_id(&self) -> String {
        self.sessions.registry_id().as_str().to_owned()
    }

    /// The host, as answers carry it.
    pub(super) fn node(&self) -> String {
        self.node.to_string()
    }

    /// Where a watch begins: after that revision of that registry (empty: whichever
    /// this is), or now.
    pub(super) fn cursor(
        &self,
        registry_id: &str,
        after: Option<u64>,
    ) -> Result<Revision, Refusal> {
        if !registry_id.is_empty() && registry_id != self.sessions.registry_id().as_str() {
            return Err(ResumeError::RegistryChanged.into_refusal(""));
        }
        let Some(after) = after.map(Revision) else {
            return Ok(self.sessions.revision());
        };
        let resumed = self.sessions.check_resume(after);
        resumed.map_err(|error| error.into_refusal(""))?;
        Ok(after)
    }

    fn show(&self, view: &View) -> pb::Session {
        self.shower().session(view)
    }

    /// Asks the writer at once; what is returned waits for its answer. `name` is what
    /// the caller called the session.
    fn call<'a, O>(
        &'a self,
        operation: O,
        caller: &Caller,
        name: &'a str,
    ) -> impl Future<Output = Result<O::Answer, Refusal>> + use<'a, O>
    where
        O: Operation,
        O::Error: IntoRefusal,
    {
        let answer = self.sessions.call(operation, caller.wait());
        async move { answer.await.map_err(|error| error.into_refusal(name)) }
    }
}

fn refused(bad: Violations) -> Status {
    bad.into_refusal().into()
}

#[tonic::async_trait]
impl SessionService for SessionApi {
    async fn register_session(
        &self,
        request: Request<pb::RegisterSessionRequest>,
    ) -> Result<Response<pb::RegisterSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answer = self.register(request.into_inner(), &caller).await?;
        Ok(Response::new(answer))
    }

    // The dispatcher takes `session::register_many` instead, which encodes each
    // session as it is shown.
    async fn register_sessions(
        &self,
        request: Request<pb::RegisterSessionsRequest>,
    ) -> Result<Response<pb::RegisterSessionsResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let requests = request.into_inner().requests;
        let answer = self.register_many(requests, &caller).await?;
        Ok(Response::new(answer.into_message()?))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let id = request.into_inner().session_id;
        let mut bad = Violations::default();
        let parsed = fields::session_id("session_id", &id, &mut bad);
        let parsed = parsed.ok_or_else(|| refused(bad))?;
        let view = self
            .sessions
            .by_id(&parsed)
            .ok_or_else(|| no_session(&id))?;
        Ok(Response::new(pb::GetSessionResponse {
            session: Some(self.show(&view)),
        }))
    }

    async fn lookup_session(
        &self,
        request: Request<pb::LookupSessionRequest>,
    ) -> Result<Response<pb::LookupSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        Ok(Response::new(self.lookup(request.into_inner(), &caller)?))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner())?))
    }

    async fn bind_episode(
        &self,
        request: Request<pb::BindEpisodeRequest>,
    ) -> Result<Response<pb::BindEpisodeResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let target = caller.target(&request.session_id)?;
        let mut bad = Violations::default();
        let episode = fields::episode_id(&request.episode_id, &mut bad);
        let request_id = fields::request_id(&request.request_id, &mut bad);
        let etag = fields::etag(&request.etag, &mut bad);
        let episode = episode
            .filter(|_| bad.is_empty())
            .ok_or_else(|| refused(bad))?;
        let process = match request.pid {
            None => None,
            Some(pid) => Some(recovery::process(pid).ok_or_else(|| no_process(pid))?),
        };
        let call = caller.call(request_id, || request::body_of(&self.sessions, &request));
        let bind = Bind {
            target,
            episode,
            process,
            etag,
            call,
        };
        let view = self.call(bind, &caller, &request.session_id).await?;
        Ok(Response::new(pb::BindEpisodeResponse {
            session: Some(self.show(&view)),
        }))
    }

    async fn renew_lease(
        &self,
        request: Request<pb::RenewLeaseRequest>,
    ) -> Result<Response<pb::RenewLeaseResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let name = request.session_id.clone();
        let renew = request::renew(request, &self.sessions, &caller)?;
        let done = self.call(renew, &caller, &name).await?;
        Ok(Response::new(pb::RenewLeaseResponse {
            renewed: done.count,
            session: done.view.as_ref().map(|view| self.show(view)),
            revision: done.revision.0,
            registry_id: self.registry_id(),
            node: self.node(),
        }))
    }

    async fn rotate_handle(
        &self,
        request: Request<pb::RotateHandleRequest>,
    ) -> Result<Response<pb::RotateHandleResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let target = caller.target(&request.session_id)?;
        let mut bad = Violations::default();
        let request_id = fields::request_id(&request.request_id, &mut bad);
        let etag = fields::etag(&request.etag, &mut bad);
        if !bad.is_empty() {
            return Err(refused(bad));
        }
        let handle = Handle::random();
        let digest = self.sessions.digest_handle(&handle);
        let call = caller.call(request_id, || request::body_of(&self.sessions, &request));
        let rotate = Rotate {
            target,
            handle,
            digest,
            etag,
            call,
        };
        let done = self.call(rotate, &caller, &request.session_id).await?;
        let session = self.shower().session_with(&done.view, Some(&done.handle));
        Ok(Response::new(pb::RotateHandleResponse {
            session: Some(session),
        }))
    }

    async fn update_session(
        &self,
        request: Request<pb::UpdateSessionRequest>,
    ) -> Result<Response<pb::UpdateSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let name = request.session_id.clone();
        let update = request::update(request, &self.sessions, &caller)?;
        let view = self.call(update, &caller, &name).await?;
        Ok(Response::new(pb::UpdateSessionResponse {
            session: Some(self.show(&view)),
        }))
    }

    async fn heartbeat_session(
        &self,
        request: Request<pb::HeartbeatSessionRequest>,
    ) -> Result<Response<pb::HeartbeatSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let counters = request::totals(request.counters);
        let (view, is_own) = match caller.target(&request.session_id)? {
            Target::Own(_) => (caller.own_view()?.clone(), true),
            Target::Named(id) => {
                let view = self.sessions.by_id(&id);
                (view.ok_or_else(|| no_session(id.as_str()))?, false)
            }
        };
        let heard = self.sessions.heartbeat(view.session.seq, counters);
        let view = heard.ok_or_else(|| {
            if is_own {
                return handle_not_accepted();
            }
            TargetError::Terminated(view.session).into_refusal(&request.session_id)
        })?;
        let session = &view.session;
        Ok(Response::new(pb::HeartbeatSessionResponse {
            status: show::status(session.status()).into(),
            stop_requested: session.stop_requested(),
            expire_time: session
                .expires
                .map(|deadline| show::timestamp(deadline.wall.get())),
            idle_timeout: session
                .idle
                .map(|idle| request::duration(idle.get().into())),
            last_activity_time: Some(show::timestamp(view.live.last_wall)),
            registry_id: self.registry_id(),
            node: self.node(),
        }))
    }

    async fn request_stop(
        &self,
        request: Request<pb::RequestStopRequest>,
    ) -> Result<Response<pb::RequestStopResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let target = caller.target(&request.session_id)?;
        let mut bad = Violations::default();
        let etag = fields::etag(&request.etag, &mut bad);
        if !bad.is_empty() {
            return Err(refused(bad));
        }
        let stop = RequestStop {
            target,
            etag,
            call: caller.unnamed(),
        };
        let view = self.call(stop, &caller, &request.session_id).await?;
        Ok(Response::new(pb::RequestStopResponse {
            session: Some(self.show(&view)),
        }))
    }

    async fn terminate_session(
        &self,
        request: Request<pb::TerminateSessionRequest>,
    ) -> Result<Response<pb::TerminateSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let target = caller.target(&request.session_id)?;
        let mut bad = Violations::default();
        let etag = fields::etag(&request.etag, &mut bad);
        let ending = EndingFields {
            reason: request.reason,
            exit_classification: request.exit_classification,
            exit_code: request.exit_code,
            tokens_consumed: request.tokens_consumed,
            detail: request.detail,
            counters: request.counters,
        };
        let ending = request::ending(ending, &mut bad).filter(|_| bad.is_empty());
        let ending = ending.ok_or_else(|| refused(bad))?;
        let terminate = Terminate {
            target,
            ending,
            etag,
            call: caller.unnamed(),
        };
        let done = self.call(terminate, &caller, &request.session_id).await?;
        Ok(Response::new(pb::TerminateSessionResponse {
            session: Some(self.show(&done.view)),
            already_terminated: done.already,
        }))
    }

    async fn terminate_sessions(
        &self,
        request: Request<pb::TerminateSessionsRequest>,
    ) -> Result<Response<pb::TerminateSessionsResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let many = request::terminate_many(request.into_inner(), &self.sessions, &caller)?;
        let done = self.call(many, &caller, "").await?;
        Ok(Response::new(pb::TerminateSessionsResponse {
            session_ids: done
                .views
                .iter()
                .map(|view| view.session.id().to_owned())
                .collect(),
            remaining: done.remaining,
            revision: done.revision.0,
            registry_id: self.registry_id(),
            node: self.node(),
        }))
    }

    async fn remove_session(
        &self,
        request: Request<pb::RemoveSessionRequest>,
    ) -> Result<Response<pb::RemoveSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let target = caller.target(&request.session_id)?;
        let mut bad = Violations::default();
        let etag = fields::etag(&request.etag, &mut bad);
        if !bad.is_empty() {
            return Err(refused(bad));
        }
        let remove = Remove {
            target,
            etag,
            call: caller.unnamed(),
        };
        let view = self.call(remove, &caller, &request.session_id).await?;
        Ok(Response::new(pb::RemoveSessionResponse {
            session: Some(self.show(&view)),
        }))
    }

    type WatchSessionsStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchSessionsResponse, Status>> + Send>>;

    // The dispatcher takes `watch::serve` instead, which shares encoded events.
    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answers = watch::begin(self, &caller, request.into_inner())?;
        Ok(Response::new(Box::pin(
            answers.map(|answer| answer?.into_message()),
        )))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        Ok(Response::new(self.events(request.into_inner()).await?))
    }
}

fn no_process(pid: i32) -> Refusal {
    Refusal::new(
        Reason::ProcessNotFound,
        format!("no process {pid} in the daemon's namespace"),
    )
    .about("process", &pid.to_string())
}
