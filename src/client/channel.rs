//! The transport: HTTP/2 over a Unix socket.
//!
//! Owns how a connection is made. The channel makes a new one for the next
//! call after the old one broke, so a client outlives restarts of the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::ClientError;

/// The authority of every call. Sockets have no host; this is what most
/// clients send for one.
pub(super) const AUTHORITY: &str = "http://localhost";

/// Connects once, so that an absent daemon is found out here.
pub(super) async fn connect(socket: &Arc<Path>) -> Result<Channel, ClientError> {
    let path: PathBuf = socket.to_path_buf();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static(AUTHORITY)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ClientError::of_connection(&error, socket))
}
