//! What answers like an agent, and says of itself what a test wants.

use std::os::unix::net::UnixListener;

use episoded::proto::keycache::key_cache_service_server::{KeyCacheService, KeyCacheServiceServer};
use episoded::proto::keycache::{self as pb, StatusResponse};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::home::Home;

/// See the module.
struct Impostor(StatusResponse);

/// Serves in the place of `home`'s agent until the runtime ends.
pub fn serve(home: &Home, listener: UnixListener, status: StatusResponse) {
    let lock = home.directory().join("agent.lock");
    std::fs::write(lock, format!("{}\n", std::process::id())).expect("it is written");
    listener.set_nonblocking(true).expect("it can be polled");
    let listener = tokio::net::UnixListener::from_std(listener).expect("the runtime takes it");
    let service = KeyCacheServiceServer::new(Impostor(status));
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
}

/// Answers `Status`, and refuses the methods that no test needs.
macro_rules! answers_status_only {
    ($($method:ident: $request:ident -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl KeyCacheService for Impostor {
            type WatchCacheStream = tokio_stream::Pending<Result<pb::WatchCacheResponse, Status>>;

            async fn status(
                &self,
                _: Request<pb::StatusRequest>,
            ) -> Result<Response<StatusResponse>, Status> {
                Ok(Response::new(self.0.clone()))
            }

            async fn watch_cache(
                &self,
                _: Request<pb::WatchCacheRequest>,
            ) -> Result<Response<Self::WatchCacheStream>, Status> {
                Err(Status::unimplemented("no test needs it"))
            }

            $(
                async fn $method(
                    &self,
                    _: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    Err(Status::unimplemented("no test needs it"))
                }
            )*
        }
    };
}

answers_status_only! {
    open_channel: OpenChannelRequest -> OpenChannelResponse;
    put_key: PutKeyRequest -> PutKeyResponse;
    get_key: GetKeyRequest -> GetKeyResponse;
    forget_key: ForgetKeyRequest -> ForgetKeyResponse;
    forget_all: ForgetAllRequest -> ForgetAllResponse;
    list_keys: ListKeysRequest -> ListKeysResponse;
    stop: StopRequest -> StopResponse;
    register_activity: RegisterActivityRequest -> RegisterActivityResponse;
    unregister_activity: UnregisterActivityRequest -> UnregisterActivityResponse;
    list_activities: ListActivitiesRequest -> ListActivitiesResponse;
}
