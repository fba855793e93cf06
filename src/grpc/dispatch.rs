//! The way of every call: which method, from whom, until when.
//!
//! One dispatcher serves a socket. It refuses what the policy has no row for,
//! finds the session of a handle, sets the deadline, passes the call on, and
//! gives tonic's own errors their reason.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{sync::SetOnce, time::Instant};
use tonic::{Code, Status, body::Body};
use tracing::debug;

use crate::{
    reason::Reason,
    secret::HandleDigest,
    session::{
        index::HandleMatch,
        service::Sessions,
        state::{Peer, Socket},
    },
};

use super::{
    answer::{self, AnswerBody},
    caller::{Caller, Own},
    policy::{self, Common, Method, OnSession, Ours, Service},
    services::{Ready, Services},
    status::{self, Refusal, handle_not_accepted},
};

/// Calls in progress at once, whatever they are about; more are refused. A call is
/// in progress until its answer begins, and holds a few kilobytes until then.
const MAX_IN_PROGRESS: usize = 16 * 1024;

/// Bytes of a refused call's message that are waited for: what a client may send
/// before it hears anything.
const MAX_DISCARDED: usize = 64 * 1024;

/// How long the rest of a refused call's message is waited for.
const DISCARD_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of an authorization value that are looked at.
const MAX_AUTHORIZATION: usize = 128;

/// See the module.
pub struct Dispatcher {
    services: Services,
    socket: Socket,
    call_timeout: Duration,
    in_progress: AtomicUsize,
    draining: SetOnce<()>,
}

/// Counts a call while it lasts.
struct InProgress<'a>(&'a AtomicUsize);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that may go on.
enum Admitted<'a> {
    /// To one of our services, from a known caller.
    Ours {
        service: Ours,
        ready: &'a Ready,
        caller: Caller,
        timeout: Option<Duration>,
    },
    /// To a service that every server has, from anybody.
    Common(Common),
}

impl Dispatcher {
    /// Dispatches the calls of one socket. `call_timeout` bounds every call that
    /// answers once.
    pub fn new(services: Services, socket: Socket, call_timeout: Duration) -> Self {
        Self {
            services,
            socket,
            call_timeout,
            in_progress: AtomicUsize::new(0),
            draining: SetOnce::new(),
        }
    }

    /// The services behind it.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Refuses new calls from now on.
    pub fn drain(&self) {
        let _ = self.draining.set(());
    }

    /// Answers one call. The future has room for little, and is the same size for
    /// every call: what is rare is boxed, and so is what each service does.
    pub fn call(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<AnswerBody>> + Send + use<> {
        let (dispatcher, peer) = (Arc::clone(self), Arc::clone(peer));
        async move {
            let Some(_counted) = dispatcher.count() else {
                return Box::pin(turn_away(request, status::busy())).await;
            };
            let Some(method) = policy::find(request.uri().path()) else {
                return Box::pin(turn_away(request, status::unknown_method())).await;
            };
            let waited = match dispatcher.services.ready() {
                Some(_) => Duration::ZERO,
                None => Box::pin(dispatcher.wait_for_recovery(method, request.headers())).await,
            };
            let admitted = dispatcher.admit(method, &peer, request.headers(), waited);
            let (answer, timeout) = match admitted {
                Ok(Admitted::Ours {
                    service,
                    ready,
                    caller,
                    timeout,
                }) => (ready.call(service, caller, request), timeout),
                Ok(Admitted::Common(service)) => {
                    (dispatcher.services.call_common(service, request), None)
                }
                Err(refusal) => return Box::pin(turn_away(request, refusal)).await,
            };
            let answered = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, answer).await,
                None => Ok(answer.await),
            };
            let response = match answered {
                Ok(response) => give_reason(response),
                Err(_) => status::late().into_http(),
            };
            let code = response.headers().get("grpc-status");
            let (uid, pid) = (peer.uid, peer.pid);
            debug!(method = method.path, uid, pid, ?code, "call");
            response.map(AnswerBody::from)
        }
    }

    /// Counts one more call, unless there are as many as may be.
    fn count(&self) -> Option<InProgress<'_>> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let counted = InProgress(&self.in_progress);
        (before < MAX_IN_PROGRESS).then_some(counted)
    }

    /// A call that comes while the registry is recovered waits for it, at most until
    /// its deadline: under socket activation the first call is what starts the
    /// daemon. How long it waited.
    async fn wait_for_recovery(&self, method: &Method, headers: &HeaderMap) -> Duration {
        let arrived = Instant::now();
        if matches!(method.service, Service::Ours(_)) {
            let patience = self.timeout(method, headers).unwrap_or(self.call_timeout);
            tokio::select! {
                () = self.services.recovered() => {}
                () = self.draining.wait() => {}
                () = tokio::time::sleep(patience) => {}
            }
        }
        arrived.elapsed()
    }

    fn admit(
        &self,
        method: &Method,
        peer: &Arc<Peer>,
        headers: &HeaderMap,
        waited: Duration,
    ) -> Result<Admitted<'_>, Refusal> {
        self.check_socket(method)?;
        let service = match method.service {
            Service::Ours(service) => service,
            Service::Common(service) => return Ok(Admitted::Common(service)),
        };
        let ready = self.services.ready().ok_or_else(status::not_serving)?;
        if self.draining.get().is_some() {
            return Err(status::not_serving());
        }
        let timeout = self.timeout(method, headers);
        let timeout = timeout.map(|timeout| timeout.saturating_sub(waited));
        if timeout.is_some_and(|left| left.is_zero()) {
            return Err(status::late());
        }
        let sessions = ready.sessions();
        let own = self.identify(method, sessions, headers)?;
        let deadline = timeout.map(|timeout| {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 2);
            sessions.now().awake + millis
        });
        let caller = Caller {
            peer: Arc::clone(peer),
            own,
            deadline,
        };
        Ok(Admitted::Ours {
            service,
            ready,
            caller,
            timeout,
        })
    }

    fn check_socket(&self, method: &Method) -> Result<(), Refusal> {
        let served = match (self.socket, method.on_session) {
            (Socket::Session, OnSession::Refused) => {
                let message = "this method is served on operator.sock only";
                return Err(Refusal::new(Reason::OperatorOnly, message));
            }
            (Socket::Session, OnSession::IfConfigured) => self.services.has_reflection(),
            _ => true,
        };
        if served {
            Ok(())
        } else {
            Err(status::unknown_method())
        }
    }

    /// The session of the handle that came with a call. On session.sock there
    /// must be one.
    fn identify(
        &self,
        method: &Method,
        sessions: &Sessions,
        headers: &HeaderMap,
    ) -> Result<Option<Own>, Refusal> {
        let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) if self.socket == Socket::Session => return Err(handle_not_accepted()),
            (None, _) => return Ok(None),
            (Some(value), None) => value.as_bytes(),
            (Some(_), Some(_)) => return Err(handle_not_accepted()),
        };
        let digest = sessions.digest_presented(bearer(value));
        if let Some(view) = sessions.use_handle(&digest) {
            return Ok(Some(Own {
                digest,
                view: Some(view),
            }));
        }
        if method.repeats_rotation && is_replaced(sessions, &digest) {
            return Ok(Some(Own { digest, view: None }));
        }
        Err(handle_not_accepted())
    }

    /// The shorter of the caller's deadline and ours; none for a stream.
    fn timeout(&self, method: &Method, headers: &HeaderMap) -> Option<Duration> {
        if !method.unary {
            return None;
        }
        let asked = headers
            .get("grpc-timeout")
            .and_then(|value| grpc_timeout(value.as_bytes()));
        Some(asked.map_or(self.call_timeout, |asked| asked.min(self.call_timeout)))
    }
}

/// Answers a call that does not go on.
async fn turn_away(request: Request<Incoming>, refusal: Refusal) -> Response<AnswerBody> {
    discard(request.into_body()).await;
    refusal.into_http().map(AnswerBody::from)
}

/// Reads what a refused call still sends. A stream that is answered before it
/// was read is reset by h2, and each frame that comes for it after that counts as
/// an error: 64 of them would end the connection with all its calls.
pub(crate) async fn discard(mut body: Incoming) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if bytes > MAX_DISCARDED {
                return;
            }
        }
    };
    // What comes later than that is for h2 to judge.
    let _ = tokio::time::timeout(DISCARD_DEADLINE, read).await;
}

fn is_replaced(sessions: &Sessions, digest: &HandleDigest) -> bool {
    matches!(sessions.by_handle(digest), Some(HandleMatch::Replaced(_)))
}

/// What stands behind `Bearer `; whatever else came takes the same way and is
/// not a handle.
pub(crate) fn bearer(value: &[u8]) -> &[u8] {
    let value = &value[..value.len().min(MAX_AUTHORIZATION)];
    match value.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest,
        _ => b"",
    }
}

/// A number of at most eight digits and a unit.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Errors that tonic made itself come without a reason: they get theirs.
pub(crate) fn give_reason(response: Response<Body>) -> Response<Body> {
    match answer::bare(response.headers()) {
        Some(bare) => reason_for(&bare).into_http(),
        None => response,
    }
}

/// The reason that an error without one has.
pub(super) fn reason_for(bare: &Status) -> Refusal {
    if is_gone(bare) {
        debug!(message = bare.message(), "the client went away");
        return cancelled();
    }
    match bare.code() {
        Code::OutOfRange if bare.message().contains("encoded message") => Refusal::new(
            Reason::MessageTooLarge,
            "the answer is over 4 MiB; a change that it tells of has happened",
        ),
        Code::OutOfRange | Code::ResourceExhausted => Refusal::new(
            Reason::MessageTooLarge,
            "the message is over the limit of this socket",
        ),
        Code::Internal | Code::InvalidArgument | Code::Unknown
            if bare.message().contains("decode") || bare.message().contains("compress") =>
        {
            Refusal::new(Reason::MalformedMessage, "the message cannot be decoded")
        }
        Code::Internal if bare.message().starts_with("Missing request message") => {
            Refusal::new(Reason::MalformedMessage, "the call has no message")
        }
        Code::Unimplemented if bare.message().contains("ompress") => {
            let message = "compressed messages are not accepted";
            Refusal::new(Reason::MalformedMessage, message)
        }
        Code::NotFound => Refusal::new(Reason::MethodUnknown, "no such service"),
        Code::Unimplemented => status::unknown_method(),
        Code::Cancelled => cancelled(),
        Code::DeadlineExceeded => status::late(),
        code => {
            tracing::error!(?code, message = bare.message(), "status without a reason");
            status::internal()
        }
    }
}

fn cancelled() -> Refusal {
    Refusal::new(Reason::Cancelled, "the call was cancelled")
}

/// Whether the error is that no more of the request will come: its stream was
/// reset, or its connection ended. tonic says so only in its message, and gives it
/// whichever code.
fn is_gone(bare: &Status) -> bool {
    let message = bare.message();
    message.starts_with("h2 protocol error") || message.starts_with("error reading a body")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bearer, grpc_timeout, reason_for};
    use crate::reason::Reason;
    use tonic::{Code, Status};

    #[test]
    fn a_client_that_went_away_cancelled_its_call_whichever_way() {
        for (code, message) in [
            (
                Code::Unknown,
                "h2 protocol error: error reading a body from connection",
            ),
            (
                Code::Internal,
                "h2 protocol error: error reading a body from connection",
            ),
            (Code::Unavailable, "error reading a body from connection"),
        ] {
            let refusal = reason_for(&Status::new(code, message));
            assert_eq!(refusal.reason(), Reason::Cancelled, "{code:?}");
        }
        let empty = reason_for(&Status::internal("Missing request message."));
        assert_eq!(empty.reason(), Reason::MalformedMessage);
        let bug = reason_for(&Status::unknown("something else"));
        assert_eq!(bug.reason(), Reason::Internal);
    }

    #[test]
    fn only_a_bearer_value_is_a_handle() {
        assert_eq!(bearer(b"Bearer H-1"), b"H-1");
        assert_eq!(bearer(b"bearer H-1"), b"H-1");
        for bad in ["", "H-1", "Basic H-1", "Bearer", "BearerH-1"] {
            assert_eq!(bearer(bad.as_bytes()), b"", "{bad}");
        }
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(grpc_timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            grpc_timeout(b"99999999H"),
            Some(Duration::from_hours(99_999_999))
        );
        for bad in ["", "m", "1", "123456789S", "-1S", "1x"] {
            assert_eq!(grpc_timeout(bad.as_bytes()), None, "{bad}");
        }
    }
}
