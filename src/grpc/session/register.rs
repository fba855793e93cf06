//! Registrations, one or many.

use std::pin::Pin;

use http::{Request, Response};
use hyper::body::Incoming;
use prost::{Message as _, encoding};
use tonic::{Status, body::Body, server::UnaryService};

use crate::{
    grpc::{
        answer::MAX_ANSWER,
        caller::Caller,
        convert::{request, show::Shower},
        direct,
        parts::{Answer, PartsCodec},
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

/// Fields of the answer: `RegisterSessionsResponse.results`, and in each of them
/// `RegisterSessionsResult.registered` or `.error`.
const RESULTS: u32 = 1;
const REGISTERED: u32 = 1;
const ERROR: u32 = 2;

/// Serves `RegisterSession`.
pub(in crate::grpc) fn serve(
    api: &SessionApi,
    max_request: usize,
    caller: Caller,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> {
    direct::unary(max_request, request, move |request| {
        api.register(request, &caller)
    })
}

/// Serves `RegisterSessions`, and encodes each session as it is shown: a thousand
/// that are kept until all are encoded cost more than the rest of the call.
pub(in crate::grpc) async fn serve_many(
    api: &SessionApi,
    max_request: usize,
    request: Request<Incoming>,
) -> Response<Body> {
    tonic::server::Grpc::new(PartsCodec::default())
        .max_decoding_message_size(max_request)
        .max_encoding_message_size(MAX_ANSWER)
        .unary(RegistersMany(api.clone()), request)
        .await
}

struct RegistersMany(SessionApi);

impl UnaryService<pb::RegisterSessionsRequest> for RegistersMany {
    type Response = Answer<pb::RegisterSessionsResponse>;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<pb::RegisterSessionsRequest>) -> Self::Future {
        let api = self.0.clone();
        Box::pin(async move {
            let caller = Caller::of(request.extensions())?.clone();
            let requests = request.into_inner().requests;
            Ok(tonic::Response::new(
                api.register_many(requests, &caller).await?,
            ))
        })
    }
}

impl SessionApi {
    /// Asks the writer at once; what is returned waits for its answer.
    pub(super) fn register<'a>(
        &'a self,
        request: pb::RegisterSessionRequest,
        caller: &Caller,
    ) -> impl Future<Output = Result<pb::RegisterSessionResponse, Refusal>> + use<'a> {
        let asked = request::register(request, &self.sessions, caller).map(|register| {
            let name = register.id.clone();
            (name, self.sessions.call(register, caller.wait()))
        });
        async move {
            let (name, answer) = asked?;
            let done = answer.await;
            let done = done.map_err(|error| error.into_refusal(name.as_str()))?;
            Ok(self.registration(&done))
        }
    }

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

    /// The results as they go out, each shortened if they must be.
    fn encode(&self, results: &[Result<Registered, Refusal>], shortened: bool) -> Vec<u8> {
        let (mut all, mut one) = (Vec::new(), Vec::new());
        for result in results {
            one.clear();
            match result {
                Ok(done) => {
                    let mut answer = self.registered(done);
                    if shortened {
                        shorten(&mut answer);
                    }
                    encoding::message::encode(REGISTERED, &answer, &mut one);
                }
                Err(refusal) => {
                    let error = item_error(refusal, shortened);
                    encoding::message::encode(ERROR, &error, &mut one);
                }
            }
            encoding::bytes::encode(RESULTS, &one, &mut all);
        }
        all
    }

    pub(super) async fn register_many(
        &self,
        requests: Vec<pb::RegisterSessionRequest>,
        caller: &Caller,
    ) -> Result<Answer<pb::RegisterSessionsResponse>, Refusal> {
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
            item.and_then(decide)
        });
        let results: Vec<_> = results.collect();
        let mut head = pb::RegisterSessionsResponse {
            results: Vec::new(),
            revision: self.sessions.revision().0,
            shortened: false,
            registry_id: self.registry_id(),
            node: self.node(),
        };
        let mut encoded = self.encode(&results, false);
        if head.encoded_len() + encoded.len() > MAX_ANSWER {
            head.shortened = true;
            encoded = self.encode(&results, true);
        }
        Ok(Answer {
            head,
            fields: vec![encoded.into()],
        })
    }
}

/// The status that an item would have had as a call of its own.
fn item_error(refusal: &Refusal, shortened: bool) -> pb::ItemError {
    let message = refusal.message();
    let end = if shortened {
        message.floor_char_boundary(MAX_SHORT_MESSAGE)
    } else {
        message.len()
    };
    pb::ItemError {
        code: refusal.reason().code(),
        reason: refusal.reason().as_str().to_owned(),
        message: message[..end].to_owned(),
        metadata: refusal.metadata().clone().into_iter().collect(),
    }
}

/// A thousand sessions so short, as many that were evicted, and a thousand errors
/// fit an answer whatever they are called.
fn shorten(answer: &mut pb::RegisterSessionResponse) {
    let sessions = answer.session.iter_mut().chain(&mut answer.evicted);
    sessions.for_each(Shower::shorten);
}
