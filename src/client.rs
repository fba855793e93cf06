//! The typed client of the daemon: what the CLI and Rust users go through.
//!
//! Owns one connection to one socket, which comes back by itself when the
//! daemon does, the deadline of each call, and the credential that goes with
//! it. [`session`], [`firewall`] and [`admin`] hold the calls, [`follow`] a watch that
//! survives restarts. Every failure is a [`ClientError`]; nothing is retried
//! here but the connection, because only the caller knows what may be repeated.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

pub mod admin;
mod channel;
pub mod error;
pub mod firewall;
pub mod follow;
pub mod keycache;
pub mod secret;
pub mod session;

pub use error::{ClientError, FieldViolation, Origin};
pub use follow::{Follow, Start, Update};
pub use keycache::KeyCache;
pub use secret::{Handle, Lease, SecretError};

/// Deadline of a call when nothing else is asked for: the daemon's own.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a daemon. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    socket: Arc<Path>,
    timeout: Duration,
    handle: Option<Arc<Handle>>,
}

impl Client {
    /// Connects to the socket at that path; fails when no daemon accepts there.
    pub async fn connect(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket: Arc<Path> = socket.into().into();
        let channel = channel::connect(&socket).await?;
        Ok(Self {
            channel,
            socket,
            timeout: DEFAULT_TIMEOUT,
            handle: None,
        })
    }

    /// The same connection with another deadline for each call. Streams have
    /// one for their opening only.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same connection speaking for the session of that handle.
    #[must_use]
    pub fn with_handle(mut self, handle: Handle) -> Self {
        self.handle = Some(Arc::new(handle));
        self
    }

    /// The socket this client is connected to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn bearer(&self) -> Option<MetadataValue<Ascii>> {
        self.handle.as_deref().map(Handle::bearer)
    }

    /// A request of a unary call: credential and deadline in its metadata.
    fn unary<T>(&self, message: T) -> Request<T> {
        let mut request = self.open(message);
        request.set_timeout(self.timeout);
        request
    }

    /// A request that opens a stream, which has no deadline.
    fn open<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = self.bearer() {
            request.metadata_mut().insert("authorization", bearer);
        }
        request
    }

    fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, ClientError> {
        answer
            .map(Response::into_inner)
            .map_err(|status| ClientError::of_status(&status, &self.socket))
    }

    /// Waits for a stream to open, as long as for any call.
    async fn opened<T>(
        &self,
        opening: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Stream<T>, ClientError> {
        let opened = tokio::time::timeout(self.timeout, opening)
            .await
            .map_err(|_| ClientError::timed_out(&self.socket))?;
        let messages = self.answer(opened)?;
        Ok(Stream {
            messages,
            socket: Arc::clone(&self.socket),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.socket)
            .field("timeout", &self.timeout)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// The messages of a server stream.
#[derive(Debug)]
pub struct Stream<T> {
    messages: Streaming<T>,
    socket: Arc<Path>,
}

impl<T> Stream<T> {
    /// The next message; `None` when the daemon ended the stream in order.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        self.messages
            .message()
            .await
            .map_err(|status| ClientError::of_status(&status, &self.socket))
    }
}

#[cfg(test)]
mod tests;
