//! Clients, requests with defaults, and what a refusal must hold.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use episoded::proto::session::session_service_client::SessionServiceClient;
use episoded::proto::session::{RegisterSessionRequest, Role};
use episoded::reason::{DOMAIN, Reason};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// The generated client, over a Unix socket.
pub type Client = SessionServiceClient<Channel>;

/// Guards against a hang; no promise is measured with it.
const HANG: Duration = Duration::from_secs(120);

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
pub fn registration(work_id: &str) -> RegisterSessionRequest {
    RegisterSessionRequest {
        work_id: work_id.to_owned(),
        role: Role::Implementer.into(),
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
