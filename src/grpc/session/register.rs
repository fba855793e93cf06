//! Registrations, one or many.

use prost::Message as _;

use crate::{
    grpc::{
        answer::MAX_ANSWER,
        caller::Caller,
        convert::{request, show::Shower},
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

/// Bytes of an item's error in an answer that must be shortened.
const MAX_SHORT_MESSAGE: usize = 512;

impl SessionApi {
    fn registered(&self, done: &Registered) -> pb::RegisterSessionResponse {
        pb::RegisterSessionResponse {
            session: Some(self.shower().session_with(&done.view, done.handle.as_ref())),
            evicted: done.evicted.iter().map(|view| self.show(view)).collect(),
            revision: done.revision.0,
            handle_withheld: done.handle.is_none(),
            shortened: false,
        }
    }

    /// The answer to one registration, shortened if it must be.
    pub(super) fn registration(&self, done: &Registered) -> pb::RegisterSessionResponse {
        let mut answer = self.registered(done);
        if answer.encoded_len() > MAX_ANSWER {
            shorten(&mut answer);
            answer.shortened = true;
        }
        answer
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
        let mut answer = pb::RegisterSessionsResponse {
            results: results.collect(),
            revision: self.sessions.revision().0,
            shortened: false,
            registry_id: self.registry_id(),
            node: self.node(),
        };
        if answer.encoded_len() > MAX_ANSWER {
            answer.results.iter_mut().for_each(shorten_result);
            answer.shortened = true;
        }
        Ok(answer)
    }
}

/// A thousand sessions so short, as many that were evicted, and a thousand errors
/// fit an answer whatever they are called.
fn shorten(answer: &mut pb::RegisterSessionResponse) {
    let sessions = answer.session.iter_mut().chain(&mut answer.evicted);
    sessions.for_each(Shower::shorten);
}

fn shorten_result(result: &mut pb::RegisterSessionsResult) {
    use pb::register_sessions_result::Result as Item;
    match &mut result.result {
        Some(Item::Registered(answer)) => shorten(answer),
        Some(Item::Error(error)) => {
            let end = error.message.floor_char_boundary(MAX_SHORT_MESSAGE);
            error.message.truncate(end);
        }
        None => {}
    }
}
