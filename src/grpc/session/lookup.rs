//! Finding a session by what it is known by.

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::{
    grpc::{
        caller::Caller,
        convert::fields,
        direct,
        status::{Refusal, Violations},
    },
    proto::session as pb,
    reason::Reason,
    session::index::View,
};

use super::SessionApi;

/// Serves `LookupSession`.
pub(in crate::grpc) fn serve(
    api: &SessionApi,
    max_request: usize,
    caller: Caller,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> {
    direct::unary(max_request, request, async move |request| {
        api.lookup(request, &caller)
    })
}

impl SessionApi {
    pub(super) fn lookup(
        &self,
        request: pb::LookupSessionRequest,
        caller: &Caller,
    ) -> Result<pb::LookupSessionResponse, Refusal> {
        let view = self.find(request, caller)?;
        let session = Some(self.show(&view));
        Ok(pb::LookupSessionResponse { session })
    }

    fn find(&self, request: pb::LookupSessionRequest, caller: &Caller) -> Result<View, Refusal> {
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
