//! Repairs the `:authority` that some gRPC clients send over Unix sockets.
//!
//! gRPC names a server by its target, and over a Unix socket some clients derive `:authority` from
//! the socket's path: `tmp%2Frun%2Fs.sock`, `unix:%2Ftmp%2Frun%2Fs.sock`, `/tmp/run/s.sock`. None
//! of these is an authority (RFC 3986 section 3.2), so h2 answers with RST_STREAM PROTOCOL_ERROR
//! before any of our code runs. Nobody here reads the authority, it only has to be parseable:
//! [`AuthorityRepair`] sits below hyper and replaces what the `http` crate refuses, in place, so
//! that the lengths of strings and frames and the dynamic tables of both ends stay as they are.
//!
//! Owns the inbound byte stream up to the first header block of the connection (RFC 9113 section
//! 4.3), and the whole of it if that block needed repair; otherwise it steps aside for good and
//! costs one branch a read. Outbound bytes are never looked at. An incomplete header block is held
//! back, 16 KiB at most.
//!
//! Refuses nothing: whatever it cannot read, or is longer than that, or has no replacement (see
//! `value`), goes through as it came, and h2 judges it. Nothing it does is a privilege: the peer
//! could have sent the repaired bytes itself.
//!
//! | module | knows |
//! |---|---|
//! | `frames` | frames, header blocks over padding, priority and CONTINUATION (RFC 9113 sections 4, 6.2, 6.10) |
//! | `hpack` | fields of a block, the names in the dynamic table (RFC 7541 sections 2 to 6) |
//! | `huffman` | the string coding (RFC 7541 appendix B) |
//! | `value` | which octet replaces which |

mod frames;
mod hpack;
mod huffman;
mod value;

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frames::Scanner;

/// Octets of one header block, from behind the first frame's header to the end of its last frame,
/// that are held back. hyper takes 16 KiB of headers by default; clients that need repair send some
/// hundred octets.
const MAX_HELD_BACK: usize = 16 * 1024;

/// The bytes are not what they should be, or more than is held back: nothing here is to be done
/// about them.
#[derive(Debug)]
struct Malformed;

/// An accepted connection whose reader sees repaired authorities.
///
/// The server above must leave SETTINGS_HEADER_TABLE_SIZE at its default of 4,096 octets.
#[derive(Debug)]
pub struct AuthorityRepair<IO> {
    io: IO,
    repair: Option<Box<Repair>>,
}

impl<IO> AuthorityRepair<IO> {
    /// Wraps a connection of which nothing has been read yet.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            repair: Some(Box::new(Repair {
                scanner: Scanner::new(),
                held: Held::default(),
            })),
        }
    }

    /// Whether the wrapper has stepped aside: all bytes still to come pass as they are.
    pub fn is_transparent(&self) -> bool {
        self.repair.is_none()
    }

    /// The connection itself. Reading from it directly would lose the place in the stream.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for AuthorityRepair<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let io = Pin::new(&mut this.io);
        let Some(repair) = &mut this.repair else {
            return io.poll_read(cx, buf);
        };
        let result = repair.poll_read(io, cx, buf);
        if repair.is_done() {
            this.repair = None;
        }
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for AuthorityRepair<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[derive(Debug)]
struct Repair {
    scanner: Scanner,
    held: Held,
}

impl Repair {
    fn is_done(&self) -> bool {
        self.scanner.is_aside() && self.held.is_empty()
    }

    fn poll_read<IO: AsyncRead>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // No bytes read into a full buffer would look like the end of the stream.
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.held.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() {
                ready!(self.poll_read_behind(io.as_mut(), cx, buf))?;
            } else if ready!(self.poll_read_through(io.as_mut(), cx, buf))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads into the reader's own buffer and takes back only what has to be held. Ready with
    /// whether the reader got something, which may be the end of the stream.
    fn poll_read_through<IO: AsyncRead>(
        &mut self,
        io: Pin<&mut IO>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(io.poll_read(cx, buf))?;
        let fresh = &mut buf.filled_mut()[before..];
        if fresh.is_empty() {
            self.scanner.step_aside();
            return Poll::Ready(Ok(true));
        }
        let released = self.scanner.scan(fresh);
        self.held.hold(&fresh[released..]);
        buf.set_filled(before + released);
        Poll::Ready(Ok(released > 0))
    }

    /// Reads more behind what is held. The unfilled part of the reader's buffer serves as scratch
    /// space.
    fn poll_read_behind<IO: AsyncRead>(
        &mut self,
        io: Pin<&mut IO>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = buf.take(MAX_HELD_BACK - self.held.bytes.len());
        ready!(io.poll_read(cx, &mut scratch))?;
        let fresh = scratch.filled();
        if fresh.is_empty() {
            self.scanner.step_aside();
        }
        self.held.hold(fresh);
        self.held.released = self.scanner.scan(&mut self.held.bytes);
        Poll::Ready(Ok(()))
    }
}

/// Bytes between the connection and the reader: first released ones, then those of an incomplete
/// header block.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    delivered: usize,
    released: usize,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the reader what is released; whether that was anything.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let released = &self.bytes[self.delivered..self.released];
        let part = &released[..released.len().min(buf.remaining())];
        if part.is_empty() {
            return false;
        }
        buf.put_slice(part);
        self.delivered += part.len();
        if self.delivered == self.released {
            self.bytes.drain(..self.released);
            self.delivered = 0;
            self.released = 0;
        }
        true
    }
}
