//! Calls with bodies that are not looked at, so that a client costs the same
//! whatever it calls.

use std::{io::ErrorKind::NotConnected, path::Path, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// The value of an `authorization` header.
pub type Authorization = MetadataValue<Ascii>;

/// An answer is far below this.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A connection to a Unix socket; waits a little for one that is not there yet.
pub async fn connect(socket: &Path) -> Channel {
    const ATTEMPTS: u32 = 5_000;
    for _ in 0..ATTEMPTS {
        if let Some(channel) = try_connect(socket).await {
            return channel;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nobody listens on {}", socket.display());
}

async fn try_connect(socket: &Path) -> Option<Channel> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        std::future::ready(stream.ok_or_else(|| std::io::Error::from(NotConnected)))
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.ok()
}

/// Calls one method over one connection. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
}

impl Caller {
    /// Calls `path`.
    pub fn new(channel: Channel, path: &'static str) -> Self {
        Self {
            grpc: Grpc::new(channel).max_decoding_message_size(MAX_ANSWER),
            path: PathAndQuery::from_static(path),
        }
    }

    /// One call, one answer.
    pub async fn call(
        &mut self,
        body: Bytes,
        authorization: Option<&Authorization>,
    ) -> Result<Bytes, Status> {
        self.ready().await?;
        let mut request = Request::new(body);
        if let Some(value) = authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        let answer = self.grpc.unary(request, self.path.clone(), Raw).await?;
        Ok(answer.into_inner())
    }

    /// One call, many answers.
    pub async fn stream(&mut self, body: Bytes) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let request = Request::new(body);
        let path = self.path.clone();
        let answer = self.grpc.server_streaming(request, path, Raw).await?;
        Ok(answer.into_inner())
    }

    /// Many calls of one stream, many answers.
    pub async fn exchange(
        &mut self,
        bodies: impl Stream<Item = Bytes> + Send + 'static,
        authorization: Option<&Authorization>,
    ) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let mut request = Request::new(bodies);
        if let Some(value) = authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        let path = self.path.clone();
        let answer = self.grpc.streaming(request, path, Raw).await?;
        Ok(answer.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
