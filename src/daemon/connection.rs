//! One connection: from an accepted stream to served calls.
//!
//! Owns the limits of HTTP/2. A connection whose client does not say what it
//! speaks within five seconds, its first settings included, is closed; so is one
//! that speaks something else.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt as _;
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

use super::guard;

/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes in front of every frame: length, kind, flags and stream.
const FRAME_HEAD: usize = 9;
/// The kind of a SETTINGS frame, and its flag that only an answer has.
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
/// Bytes of one setting.
const SETTING: usize = 6;
/// Bytes of a frame that is taken before anything else was agreed.
const MAX_FRAME: usize = 16 * 1024;
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
pub(super) fn peer(peer: &guard::Peer, socket: state::Socket) -> Arc<Peer> {
    Arc::new(Peer {
        uid: peer.uid,
        pid: i32::try_from(peer.pid).unwrap_or(0),
        program: peer.program().into(),
        socket,
    })
}

/// Serves a connection until it ends. After `draining` turns true it finishes
/// what it has begun.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Arc<Peer>,
    dispatcher: Arc<Dispatcher>,
    draining: watch::Receiver<bool>,
) {
    let (uid, pid) = (peer.uid, peer.pid);
    let call = move |request: Request<Incoming>| dispatcher.call(&peer, request);
    if !serve_calls(stream, Vec::new(), call, draining).await {
        debug!(uid, pid, "connection did not open as HTTP/2");
    }
}

/// As [`serve`], whatever answers the calls; `begun` was read from the connection
/// already. False: it did not open as HTTP/2.
pub(crate) async fn serve_calls<F>(
    mut stream: UnixStream,
    begun: Vec<u8>,
    call: impl Fn(Request<Incoming>) -> F,
    mut draining: watch::Receiver<bool>,
) -> bool
where
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let opened = tokio::time::timeout(OPENING_DEADLINE, read_opening(&mut stream, begun)).await;
    let Ok(Ok(Some(opening))) = opened else {
        return false;
    };
    let stream = AuthorityRepair::new(Opened {
        opening,
        given: 0,
        stream,
    });
    let service = service_fn(move |request: Request<Incoming>| {
        // Boxed: hyper moves the future several times before it is first polled.
        Box::pin(call(request).map(Ok::<Response<AnswerBody>, Infallible>))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
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
    true
}

/// Reads the rest of what a connection begins with: the preface, and a whole
/// SETTINGS frame. None: it begins with something else.
async fn read_opening(
    stream: &mut (impl AsyncRead + Unpin),
    begun: Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    let (mut opening, known) = (begun, PREFACE.len() + FRAME_HEAD);
    let read = opening.len().min(known);
    opening.resize(known, 0);
    stream.read_exact(&mut opening[read..]).await?;
    let (preface, head) = opening.split_at(PREFACE.len());
    let [high, middle, low, kind, flags, rest @ ..] = head else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    let is_whole_number = length <= MAX_FRAME && length.is_multiple_of(SETTING);
    // The first bit of the stream's number is reserved and means nothing.
    let is_of_connection = matches!(rest, [0 | 0x80, 0, 0, 0]);
    let is_settings = *kind == SETTINGS && flags & ACK == 0 && is_of_connection && is_whole_number;
    if preface != PREFACE || !is_settings {
        return Ok(None);
    }
    let head_end = opening.len();
    opening.resize(head_end + length, 0);
    stream.read_exact(&mut opening[head_end..]).await?;
    Ok(Some(opening))
}

/// A stream whose first bytes were read already. It does not offer vectored writes:
/// h2 then gathers answers below 1 KiB and their trailers into one write, where it
/// would make two for each.
struct Opened {
    opening: Vec<u8>,
    given: usize,
    stream: UnixStream,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.opening.len() {
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
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::{MAX_FRAME, PREFACE, SETTINGS, read_opening};

    fn opening(length: usize, kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = u32::try_from(length).unwrap().to_be_bytes();
        let head = [&length[..], &[kind, flags, 0, 0, 0, stream]].concat();
        [&PREFACE[..], &head, payload].concat()
    }

    /// What is made of these bytes; none: more are waited for.
    async fn read(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
        let (mut client, mut server) = tokio::io::duplex(64 * 1024);
        client.write_all(bytes).await.unwrap();
        let read = read_opening(&mut server, Vec::new()).now_or_never();
        read.map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_connection_begins_with_the_preface_and_whole_settings() {
        for payload in [&[][..], &[0, 3, 0, 0, 0, 100], &[0; 60]] {
            let whole = opening(payload.len(), SETTINGS, 0, 0, payload);
            let more = [&whole[..], b"and what follows"].concat();
            assert_eq!(read(&more).await, Some(Some(whole)));
        }
    }

    #[tokio::test]
    async fn settings_that_do_not_come_whole_do_not_open_it() {
        for part in [&[][..], &[0, 3, 0, 0, 0]] {
            assert_eq!(read(&opening(6, SETTINGS, 0, 0, part)).await, None);
        }
        assert_eq!(read(&opening(0, SETTINGS, 0, 0, &[])[..32]).await, None);
    }

    #[tokio::test]
    async fn what_is_not_settings_is_turned_away_at_once() {
        const PING: u8 = 6;
        const DATA: u8 = 0;
        for bytes in [
            opening(8, PING, 0, 0, &[]),
            opening(16_000_000, DATA, 0, 1, &[]),
            opening(0, SETTINGS, 1, 0, &[]),
            opening(0, SETTINGS, 0, 1, &[]),
            opening(7, SETTINGS, 0, 0, &[]),
            opening(MAX_FRAME + 2, SETTINGS, 0, 0, &[]),
            vec![b'x'; 33],
        ] {
            assert_eq!(read(&bytes).await, Some(None), "{bytes:?}");
        }
    }
}
