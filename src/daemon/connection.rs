//! One connection: from an accepted stream to served calls.
//!
//! Owns the limits of HTTP/2. A connection whose client does not say what it
//! speaks within five seconds is closed; so is one that speaks something else.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::watch,
};
use tracing::debug;

use crate::{
    authority::AuthorityRepair,
    grpc::{answer::AnswerBody, dispatch::Dispatcher},
    session::state::{self, Peer},
};

use super::{guard, listen::Socket};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The preface and the header of the SETTINGS frame behind it.
const OPENING: usize = PREFACE.len() + 9;
/// A client on the same machine has sent its opening long before.
const OPENING_DEADLINE: Duration = Duration::from_secs(5);
/// Calls in progress on one connection.
const MAX_STREAMS: u32 = 128;
/// Streams that were reset before they were taken: a flood of them ends the
/// connection.
const MAX_PENDING_RESETS: usize = 16;
/// Streams reset for an error of the client's.
const MAX_ERROR_RESETS: usize = 64;
/// Bytes of the headers of one call.
const MAX_HEADERS: u32 = 8 * 1024;
/// A silent client is asked whether it is there, and given time to answer.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The process at the other end, as sessions and events name it.
pub(super) fn peer(peer: guard::Peer, socket: Socket) -> Arc<Peer> {
    Arc::new(Peer {
        uid: peer.uid,
        pid: i32::try_from(peer.pid).unwrap_or(0),
        program: peer.program.into(),
        socket: match socket {
            Socket::Operator => state::Socket::Operator,
            Socket::Session => state::Socket::Session,
        },
    })
}

/// Serves a connection until it ends. After `draining` turns true it finishes
/// what it has begun.
pub(super) async fn serve(
    mut stream: UnixStream,
    peer: Arc<Peer>,
    dispatcher: Arc<Dispatcher>,
    mut draining: watch::Receiver<bool>,
) {
    let mut opening = [0; OPENING];
    let opened = tokio::time::timeout(OPENING_DEADLINE, stream.read_exact(&mut opening)).await;
    if !matches!(opened, Ok(Ok(_))) || !opening.starts_with(PREFACE) {
        debug!(
            uid = peer.uid,
            pid = peer.pid,
            "connection did not open as HTTP/2"
        );
        return;
    }
    let io = AuthorityRepair::new(Opened {
        opening,
        given: 0,
        stream,
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let (dispatcher, peer) = (Arc::clone(&dispatcher), Arc::clone(&peer));
        // Boxed: hyper moves the future several times before it is first polled.
        Box::pin(async move {
            Ok::<Response<AnswerBody>, Infallible>(dispatcher.call(&peer, request).await)
        })
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = async { let _ = draining.wait_for(|draining| *draining).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// A stream whose first bytes were read already. It does not offer vectored writes:
/// h2 then gathers answers below 1 KiB and their trailers into one write, where it
/// would make two for each.
struct Opened {
    opening: [u8; OPENING],
    given: usize,
    stream: UnixStream,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.given < OPENING {
            let rest = &self.opening[self.given..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

/// Runs `task`, but no longer than until `abort` turns true.
pub(super) async fn until_aborted(
    task: impl Future<Output = ()>,
    mut abort: watch::Receiver<bool>,
) {
    tokio::select! {
        () = task => {}
        () = async { let _ = abort.wait_for(|abort| *abort).await; } => {}
    }
}
