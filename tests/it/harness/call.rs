//! Clients, requests with defaults, and what a refusal must hold.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use episoded::proto::session as pb;
use episoded::proto::session::session_service_client::SessionServiceClient;
use episoded::reason::{DOMAIN, Reason};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// The generated client, over a Unix socket.
pub type Client = SessionServiceClient<Channel>;

/// Guards against a hang; no promise is measured with it.
const HANG: Duration = Duration::from_mins(2);

/// The future's output; panics when it hangs.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future)
        .await
        .expect("nothing hangs")
}

/// A connection to the socket.
pub async fn connect(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    within(Endpoint::from_static("http://localhost").connect_with_connector(connector))
        .await
        .unwrap_or_else(|error| panic!("{} answers: {error:?}", socket.display()))
}

/// The request with the handle in its metadata.
pub fn bearer<T>(message: T, handle: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {handle}");
    request.metadata_mut().insert(
        "authorization",
        value.parse().expect("a handle is printable"),
    );
    request
}

/// A registration with only what is mandatory.
pub fn registration(work_id: &str) -> pb::RegisterSessionRequest {
    pb::RegisterSessionRequest {
        work_id: work_id.to_owned(),
        role: pb::Role::Implementer.into(),
        ..Default::default()
    }
}

/// Registers it; the session with its handle.
pub async fn register(client: &mut Client, request: pb::RegisterSessionRequest) -> pb::Session {
    let answer = client.register_session(request).await;
    let answer = answer.expect("it is registered").into_inner();
    answer.session.expect("the answer holds it")
}

/// The session of that id, live or remembered.
pub async fn get(client: &mut Client, id: &str) -> Result<pb::Session, Refusal> {
    let request = pb::GetSessionRequest {
        session_id: id.to_owned(),
    };
    match client.get_session(request).await {
        Ok(answer) => Ok(answer.into_inner().session.expect("the answer holds it")),
        status => Err(refusal(status)),
    }
}

/// What a lookup finds.
pub async fn find(
    client: &mut Client,
    request: impl tonic::IntoRequest<pb::LookupSessionRequest>,
) -> Result<pb::Session, Refusal> {
    match client.lookup_session(request).await {
        Ok(answer) => Ok(answer.into_inner().session.expect("the answer holds it")),
        status => Err(refusal(status)),
    }
}

/// A lookup of the caller's own session.
pub fn own(handle: &str) -> Request<pb::LookupSessionRequest> {
    let key = Some(pb::lookup_session_request::Key::Own(true));
    let request = pb::LookupSessionRequest {
        key,
        include_terminated: false,
    };
    bearer(request, handle)
}

/// A lookup of the newest live session of a work id.
pub fn of_work(work_id: &str) -> pb::LookupSessionRequest {
    let key = pb::lookup_session_request::Key::WorkId(work_id.to_owned());
    pb::LookupSessionRequest {
        key: Some(key),
        include_terminated: false,
    }
}

/// The end of a session that went well.
pub fn normal_end(id: &str) -> pb::TerminateSessionRequest {
    pb::TerminateSessionRequest {
        session_id: id.to_owned(),
        reason: pb::TerminationReason::Normal.into(),
        exit_classification: pb::ExitClassification::Success.into(),
        exit_code: Some(0),
        ..Default::default()
    }
}

/// A failed call, taken apart.
#[derive(Debug)]
pub struct Refusal {
    pub code: Code,
    pub reason: String,
    pub metadata: HashMap<String, String>,
    pub fields: Vec<String>,
    pub message: String,
}

impl Refusal {
    /// The status, taken apart; none if it did not come from the daemon.
    pub fn of(status: &Status) -> Option<Self> {
        let mut infos = Vec::new();
        let mut fields = Vec::new();
        for detail in status.get_error_details_vec() {
            match detail {
                ErrorDetail::ErrorInfo(info) => infos.push(info),
                ErrorDetail::BadRequest(bad) => {
                    fields.extend(bad.field_violations.into_iter().map(|one| one.field));
                }
                _ => {}
            }
        }
        let [info] = <[_; 1]>::try_from(infos).ok()?;
        (info.domain == DOMAIN).then(|| Self {
            code: status.code(),
            reason: info.reason,
            metadata: info.metadata,
            fields,
            message: status.message().to_owned(),
        })
    }

    /// Panics unless it is this reason, with this reason's code.
    pub fn expect(self, reason: Reason) -> Self {
        assert_eq!(
            (self.reason.as_str(), self.code as i32),
            (reason.as_str(), reason.code()),
            "{self:?}"
        );
        self
    }
}

/// The refusal of a call that must not be answered: exactly one `ErrorInfo` of
/// our domain.
pub fn refusal<T: Debug>(result: Result<Response<T>, Status>) -> Refusal {
    let status = result.expect_err("the call is refused");
    Refusal::of(&status)
        .unwrap_or_else(|| panic!("exactly one ErrorInfo of {DOMAIN} in {status:?}"))
}

#[test]
#[should_panic(expected = "the call is refused")]
fn an_answer_where_a_refusal_is_due_is_noticed() {
    refusal(Ok(Response::new(())));
}

#[test]
#[should_panic(expected = "exactly one ErrorInfo")]
fn a_refusal_without_a_reason_is_noticed() {
    refusal::<()>(Err(Status::not_found("no details")));
}
