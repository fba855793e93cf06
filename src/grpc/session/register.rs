//! Registrations, one or many.

use crate::{
    grpc::{
        caller::Caller,
        convert::request,
        status::{IntoRefusal, Refusal, Violations, internal},
    },
    proto::session as pb,
    reason::Reason,
    session::{
        error::CallError,
        limits::MAX_ITEMS,
        operation::register::{Register, RegisterMany, Registered},
    },
};

use super::SessionApi;

impl SessionApi {
    pub(super) fn registered(&self, done: &Registered) -> pb::RegisterSessionResponse {
        pb::RegisterSessionResponse {
            session: Some(self.shower().session_with(&done.view, done.handle.as_ref())),
            evicted: done.evicted.iter().map(|view| self.show(view)).collect(),
            revision: done.revision.0,
            handle_withheld: done.handle.is_none(),
        }
    }

    pub(super) fn item(&self, parsed: Result<Registered, Refusal>) -> pb::RegisterSessionsResult {
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

    pub(super) async fn register_many(
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
            let answer = self.sessions.call(RegisterMany(good), caller.wait()).await;
            answer.map_err(|error: CallError<_>| error.into_refusal(""))?
        };
        let mut decided = decided.into_iter();
        let results = parsed.into_iter().map(|item| {
            let decide = |name: String| match decided.next() {
                Some(decided) => decided.map_err(|error| error.into_refusal(&name)),
                None => Err(internal()),
            };
            self.item(item.and_then(decide))
        });
        let results = results.collect();
        let revision = self.sessions.revision().0;
        Ok(pb::RegisterSessionsResponse { results, revision })
    }
}
