//! The calls of `episoded.session.v1.SessionService`.

use super::{Client, ClientError, Stream};
use crate::proto::session as pb;
use crate::proto::session::session_service_client::SessionServiceClient;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, ClientError> {
                    let mut service = SessionServiceClient::new(self.channel.clone());
                    self.answer(service.$name(self.unary(request)).await)
                }
            )*
        }
    };
}

calls! {
    /// Registers a session; take the handle out with [`super::Handle::take`].
    register_session(RegisterSessionRequest) -> RegisterSessionResponse;
    /// Registers up to 1,000 sessions in one commit.
    register_sessions(RegisterSessionsRequest) -> RegisterSessionsResponse;
    /// One session by its id.
    get_session(GetSessionRequest) -> GetSessionResponse;
    /// The caller's own session, or that of a work or episode id.
    lookup_session(LookupSessionRequest) -> LookupSessionResponse;
    /// One page of sessions.
    list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    /// Writes back the episode id and process.
    bind_episode(BindEpisodeRequest) -> BindEpisodeResponse;
    /// Shows a lease.
    renew_lease(RenewLeaseRequest) -> RenewLeaseResponse;
    /// Replaces the handle.
    rotate_handle(RotateHandleRequest) -> RotateHandleResponse;
    /// Changes labels, deadline or idle timeout.
    update_session(UpdateSessionRequest) -> UpdateSessionResponse;
    /// Says that the episode is alive.
    heartbeat_session(HeartbeatSessionRequest) -> HeartbeatSessionResponse;
    /// Asks the episode to stop.
    request_stop(RequestStopRequest) -> RequestStopResponse;
    /// Ends a session.
    terminate_session(TerminateSessionRequest) -> TerminateSessionResponse;
    /// Ends up to 1,000 sessions.
    terminate_sessions(TerminateSessionsRequest) -> TerminateSessionsResponse;
    /// Takes a registration back.
    remove_session(RemoveSessionRequest) -> RemoveSessionResponse;
    /// One page of past events, newest first.
    list_events(ListEventsRequest) -> ListEventsResponse;
}

impl Client {
    /// Opens one watch; [`super::Follow`] is the one that comes back.
    pub async fn watch_sessions(
        &self,
        request: pb::WatchSessionsRequest,
    ) -> Result<Stream<pb::WatchSessionsResponse>, ClientError> {
        let mut service = SessionServiceClient::new(self.channel.clone());
        self.opened(service.watch_sessions(self.open(request)))
            .await
    }
}
