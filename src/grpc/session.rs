//! `episoded.session.v1.SessionService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    proto::session::{self as pb, session_service_server::SessionService},
    reason::Reason,
    secret::Handle,
    session::{
        error::{CallError, RegisterError},
        filter::EventFilter,
        index::View,
        limits::MAX_ITEMS,
        operation::{
            Operation,
            bind::Bind,
            register::{Register, RegisterMany, Registered},
            rotate::Rotate,
            terminate::{Remove, Terminate},
            update::RequestStop,
        },
        recovery,
        service::Sessions,
        state::{Revision, Seq},
    },
};

use super::{
    caller::Caller,
    convert::{
        fields,
        request::{self, EndingFields},
        show::{self, Shower},
    },
    status::{IntoRefusal, Refusal, Violations, no_session},
    token::{self, Position},
    watch,
};

/// Bytes of sessions in one page, well below the largest message.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct SessionApi {
    pub(super) sessions: Sessions,
    pub(super) node: Arc<str>,
    pub(super) draining: tokio::sync::watch::Receiver<bool>,
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
        }
    }

    pub(super) fn shower(&self) -> Shower<'_> {
        Shower {
            node: &self.node,
            registry_id: self.sessions.registry_id().as_str(),
            index: self.sessions.index(),
        }
    }

    fn show(&self, view: &View) -> Option<pb::Session> {
        Some(self.shower().session(view))
    }

    /// Waits for the writer; `name` is what the caller called the session.
    async fn call<O>(&self, operation: O, caller: &Caller, name: &str) -> Result<O::Answer, Status>
    where
        O: Operation,
        O::Error: IntoRefusal,
    {
        let answer = self.sessions.call(operation, caller.deadline).await;
        answer.map_err(|error| error.into_refusal(name).into())
    }

    fn registered(&self, done: &Registered) -> pb::RegisterSessionResponse {
        pb::RegisterSessionResponse {
            session: Some(self.shower().session_with(&done.view, done.handle.as_ref())),
            evicted: done
                .evicted
                .iter()
                .filter_map(|view| self.show(view))
                .collect(),
            revision: done.revision.0,
            handle_withheld: done.handle.is_none(),
        }
    }

    fn lookup(&self, request: pb::LookupSessionRequest, caller: &Caller) -> Result<View, Refusal> {
        use pb::lookup_session_request::Key;
        let mut bad = Violations::default();
        let ended = request.include_terminated;
        let (live, last, name) = match request.key {
            Some(Key::Own(true)) => return caller.own_view().cloned(),
            Some(_) if caller.own.is_some() => {
                let message = "a handle reaches its own session only";
                return Err(Refusal::new(Reason::OperatorOnly, message));
            }
            Some(Key::WorkId(text)) => {
                let Some(work) = fields::work_id(&text, &mut bad) else {
                    return Err(bad.into_refusal());
                };
                let last = self.sessions.last_ended_of_work(&work);
                (self.sessions.by_work(&work), last, format!("work {text}"))
            }
            Some(Key::EpisodeId(text)) => {
                if fields::episode_id(&text, &mut bad).is_none() {
                    return Err(bad.into_refusal());
                }
                let last = self.sessions.last_ended_of_episode(&text);
                (
                    self.sessions.by_episode(&text),
                    last,
                    format!("episode {text}"),
                )
            }
            Some(Key::Own(false)) | None => {
                let rule = "must be one of own (true), work_id, episode_id";
                bad.add(Reason::MalformedMessage, "key", rule);
                return Err(bad.into_refusal());
            }
        };
        match (live, last) {
            (Some(live), _) => Ok(live),
            (None, Some(last)) if ended => Ok(last),
            (None, last) => Err(not_live(&name, last.as_ref())),
        }
    }

    fn list(&self, request: pb::ListSessionsRequest) -> Result<pb::ListSessionsResponse, Refusal> {
        let mut bad = Violations::default();
        let registry = self.sessions.registry_id();
        let wire = request.filter.unwrap_or_default();
        let seal = prost::Message::encode_to_vec(&wire);
        let limit = request::page_size(request.page_size, &mut bad);
        let Some(filter) = request::filter(wire, &mut bad).filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let at = match request.page_token.as_str() {
            "" => Position {
                first_revision: self.sessions.revision().0,
                last: 0,
            },
            token => token::open("sessions", registry, &seal, token)?,
        };
        let page = self.sessions.list(&filter, Seq(at.last), limit);
        let mut next = page.next;
        let mut bytes = 0;
        let mut sessions = Vec::with_capacity(page.views.len());
        let shower = self.shower();
        for view in &page.views {
            let shown = shower.session(view);
            bytes += prost::Message::encoded_len(&shown);
            if bytes > MAX_PAGE_BYTES && !sessions.is_empty() {
                next = Some(Seq(view.session.seq.0 - 1));
                break;
            }
            sessions.push(shown);
        }
        let seal_next = |last: Seq| {
            let at = Position { last: last.0, ..at };
            token::seal("sessions", registry, &seal, at)
        };
        Ok(pb::ListSessionsResponse {
            sessions,
            next_page_token: next.map(seal_next).unwrap_or_default(),
            revision: at.first_revision,
            registry_id: registry.as_str().to_owned(),
        })
    }

    fn item(&self, parsed: Result<Registered, Refusal>) -> pb::RegisterSessionsResult {
        use pb::register_sessions_result::Result as Item;
        let result = match parsed {
            Ok(done) => Item::Registered(self.registered(&done)),
            Err(refusal) => Item::Error(pb::ItemError {
                code: refusal.reason().code(),
                reason: refusal.reason().as_str().to_owned(),
                message: refusal.message().to_owned(),
                metadata: refusal.metadata().clone().into_iter().collect(),
            }),
        };
        pb::RegisterSessionsResult {
            result: Some(result),
        }
    }

    async fn register_many(
        &self,
        requests: Vec<pb::RegisterSessionRequest>,
        caller: &Caller,
    ) -> Result<pb::RegisterSessionsResponse, Refusal> {
        if requests.is_empty() || requests.len() > MAX_ITEMS {
            let mut bad = Violations::default();
            bad.add(Reason::MalformedMessage, "requests", "must be 1 to 1,000");
            return Err(bad.into_refusal());
        }
        let mut good = Vec::with_capacity(requests.len());
        let mut parsed = Vec::with_capacity(requests.len());
        for item in requests {
            parsed.push(match request::register(item, &self.sessions, caller) {
                Ok(register) => {
                    good.push(register);
                    let name = good
                        .last()
                        .map_or("", |register: &Register| register.id.as_str());
                    Ok(name.to_owned())
                }
                Err(refusal) => Err(refusal),
            });
        }
        let decided = if good.is_empty() {
            Vec::new()
        } else {
            let answer = self
                .sessions
                .call(RegisterMany(good), caller.deadline)
                .await;
            answer.map_err(|error: CallError<_>| error.into_refusal(""))?
        };
        let mut decided = decided.into_iter();
        let results = parsed.into_iter().map(|item| {
            let decide = |name: String| {
                let decided = decided.next().unwrap_or(Err(RegisterError::Exists));
                decided.map_err(|error| error.into_refusal(&name))
            };
            self.item(item.and_then(decide))
        });
        let results = results.collect();
        let revision = self.sessions.revision().0;
        Ok(pb::RegisterSessionsResponse { results, revision })
    }

    async fn events(
        &self,
        request: pb::ListEventsRequest,
    ) -> Result<pb::ListEventsResponse, Refusal> {
        let mut bad = Violations::default();
        let registry = self.sessions.registry_id();
        let seal = request
            .filter
            .as_ref()
            .map(prost::Message::encode_to_vec)
            .unwrap_or_default();
        let limit = request::page_size(request.page_size, &mut bad);
        let filter: Option<EventFilter> = request::event_filter(request.filter, &mut bad);
        let Some(filter) = filter.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let at = match request.page_token.as_str() {
            "" => {
                let newest = self.sessions.revision().0;
                Position {
                    first_revision: newest,
                    last: newest + 1,
                }
            }
            token => token::open("events", registry, &seal, token)?,
        };
        let page = self
            .sessions
            .history(filter, Revision(at.last), limit)
            .await;
        let page = page.map_err(|error| error.into_refusal(""))?;
        let mut next = page.next;
        let mut bytes = 0;
        let mut events = Vec::with_capacity(page.events.len());
        let shower = self.shower();
        for event in &page.events {
            let shown = shower.event(event);
            bytes += prost::Message::encoded_len(&shown);
            if bytes > MAX_PAGE_BYTES && !events.is_empty() {
                next = Some(Revision(event.revision.0 + 1));
                break;
            }
            events.push(shown);
        }
        let seal_next = |last: Revision| {
            let at = Position { last: last.0, ..at };
            token::seal("events", registry, &seal, at)
        };
        Ok(pb::ListEventsResponse {
            events,
            next_page_token: next.map(seal_next).unwrap_or_default(),
            registry_id: registry.as_str().to_owned(),
        })
    }
}

/// Nothing live of that name; tells the last there was.
fn not_live(name: &str, last: Option<&View>) -> Refusal {
    let Some(last) = last else {
        return Refusal::new(Reason::SessionNotFound, format!("no session of {name}"))
            .about("session", name);
    };
    let session = &last.session;
    let rationale = session
        .record()
        .map_or("", |record| record.reason.rationale());
    let message = format!(
        "no live session of {name}; the last, {}, has ended",
        session.id()
    );
    Refusal::new(Reason::SessionNotFound, message)
        .about("session", name)
        .with("last_session_id", session.id())
        .with("last_rationale", rationale)
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
        let register = request::register(request.into_inner(), &self.sessions, &caller)?;
        let name = register.id.clone();
        let done = self.call(register, &caller, name.as_str()).await?;
        Ok(Response::new(self.registered(&done)))
    }

    async fn register_sessions(
        &self,
        request: Request<pb::RegisterSessionsRequest>,
    ) -> Result<Response<pb::RegisterSessionsResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answer = self
            .register_many(request.into_inner().requests, &caller)
            .await?;
        Ok(Response::new(answer))
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
            session: self.show(&view),
        }))
    }

    async fn lookup_session(
        &self,
        request: Request<pb::LookupSessionRequest>,
    ) -> Result<Response<pb::LookupSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let view = self.lookup(request.into_inner(), &caller)?;
        Ok(Response::new(pb::LookupSessionResponse {
            session: self.show(&view),
        }))
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
            session: self.show(&view),
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
            session: done.view.and_then(|view| self.show(&view)),
            revision: done.revision.0,
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
            session: self.show(&view),
        }))
    }

    async fn heartbeat_session(
        &self,
        request: Request<pb::HeartbeatSessionRequest>,
    ) -> Result<Response<pb::HeartbeatSessionResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let counters = request::totals(request.counters);
        let view = match caller.target(&request.session_id)? {
            crate::session::batch::Target::Own(_) => caller.own_view()?.clone(),
            crate::session::batch::Target::Named(id) => {
                let view = self
                    .sessions
                    .by_id(&id)
                    .ok_or_else(|| no_session(id.as_str()))?;
                if !view.session.is_active() {
                    let ended = crate::session::error::TargetError::Terminated(view.session);
                    return Err(ended.into_refusal(id.as_str()).into());
                }
                view
            }
        };
        let heard = self.sessions.heartbeat(view.session.seq, counters);
        let view = heard.ok_or_else(super::status::handle_not_accepted)?;
        let session = &view.session;
        Ok(Response::new(pb::HeartbeatSessionResponse {
            status: show::status(session.status()).into(),
            stop_requested: session.stop_requested(),
            expire_time: session
                .expires
                .map(|deadline| show::timestamp(deadline.wall)),
            idle_timeout: session
                .idle
                .map(|idle| request::duration(idle.get().into())),
            last_activity_time: Some(show::timestamp(view.live.last_wall)),
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
            session: self.show(&view),
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
            session: self.show(&done.view),
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
            session: self.show(&view),
        }))
    }

    type WatchSessionsStream = watch::Stream;

    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        Ok(Response::new(watch::begin(self, request.into_inner())?))
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
