//! A connection that sends what a library would not, and hears everything.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::authorities::raw::{
    ACK, DATA, EMPTY, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS,
    frame, literal,
};
use crate::harness::within;

const PING: u8 = 6;

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// One frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It answers a ping.
    Alive,
    /// It was closed, after these words if there were any.
    Closed { code: Option<u32>, why: String },
}

/// See the module.
pub struct Wire {
    stream: UnixStream,
}

impl Wire {
    /// Connects and says nothing.
    pub async fn connect(socket: &Path) -> Self {
        let stream = within(UnixStream::connect(socket)).await;
        Self {
            stream: stream.expect("it listens"),
        }
    }

    /// Connects as every client does.
    pub async fn open(socket: &Path) -> Self {
        let mut wire = Self::connect(socket).await;
        wire.send(PREFACE).await;
        wire.send(&frame(SETTINGS, 0, 0, &[])).await;
        wire
    }

    /// Sends it all at once. A server that has closed already is no surprise.
    pub async fn send(&mut self, octets: &[u8]) {
        let _ = within(self.stream.write_all(octets)).await;
    }

    /// The next frame; none once the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within(self.stream.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        within(self.stream.read_exact(&mut payload)).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        })
    }

    /// Asks whether it is there, and waits for the answer or for the end.
    pub async fn fate(&mut self) -> Fate {
        self.send(&frame(PING, 0, 0, &[7; 8])).await;
        let (mut code, mut why) = (None, String::new());
        while let Some(frame) = self.next().await {
            match frame.kind {
                PING if frame.flags & ACK != 0 && code.is_none() => return Fate::Alive,
                GOAWAY => {
                    let word: [u8; 4] = frame.payload[4..8].try_into().expect("it has a code");
                    code = Some(u32::from_be_bytes(word));
                    why = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
                }
                _ => {}
            }
        }
        Fate::Closed { code, why }
    }

    /// Waits until it is closed without having sent a frame about a stream.
    pub async fn closed(&mut self) {
        while let Some(frame) = self.next().await {
            assert_eq!(frame.stream, 0, "{frame:?}");
        }
    }

    /// Waits until it asks whether somebody is there.
    pub async fn asked(&mut self) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == PING && frame.flags & ACK == 0 {
                return frame;
            }
        }
    }

    /// Says that somebody is.
    pub async fn reply(&mut self, asked: &Frame) {
        self.send(&frame(PING, ACK, 0, &asked.payload)).await;
    }

    /// Waits until a stream is answered; it is not read on.
    pub async fn answered(&mut self, stream: u32) {
        self.until(HEADERS, stream).await;
    }

    /// Waits until a stream is reset.
    pub async fn reset(&mut self, stream: u32) {
        self.until(RST_STREAM, stream).await;
    }

    async fn until(&mut self, kind: u8, stream: u32) {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind && frame.stream == stream {
                return;
            }
        }
    }
}

/// The header block of a call that sends no message, or one afterwards.
fn head(stream: u32, path: &str, authority: &str, flags: u8) -> Vec<u8> {
    let block = block(path, authority);
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

fn block(path: &str, authority: &str) -> Vec<u8> {
    // POST and http from the static table, as are the names of the next two.
    let mut block = vec![0x83, 0x86];
    literal(&[0x04], path, &mut block);
    literal(&[0x01], authority, &mut block);
    literal(&[0x0f, 31 - 15], "application/grpc", &mut block);
    literal(&[0x00, 2, b't', b'e'], "trailers", &mut block);
    block
}

/// A whole call with that message.
pub fn call(stream: u32, path: &str, sent: &[u8]) -> Vec<u8> {
    let mut octets = head(stream, path, "localhost", 0);
    octets.extend(message(stream, sent));
    octets
}

/// The same with a deadline of its own, as gRPC writes it.
pub fn timed_call(stream: u32, path: &str, timeout: &str, sent: &[u8]) -> Vec<u8> {
    let mut block = block(path, "localhost");
    let name = b"grpc-timeout";
    block.extend([0x00, name.len() as u8]);
    literal(name, timeout, &mut block);
    let mut octets = frame(HEADERS, END_HEADERS, stream, &block);
    octets.extend(message(stream, sent));
    octets
}

/// The message of a call that was begun.
pub fn message(stream: u32, sent: &[u8]) -> Vec<u8> {
    let length = (sent.len() as u32).to_be_bytes();
    let message = [&EMPTY[..1], &length, sent].concat();
    frame(DATA, END_STREAM, stream, &message)
}

/// A call whose message does not come.
pub fn begun(stream: u32, path: &str) -> Vec<u8> {
    head(stream, path, "localhost", 0)
}

/// A health check that is good.
pub fn check(stream: u32) -> Vec<u8> {
    call(stream, CHECK, &[])
}

/// A call that is taken back in the same breath.
pub fn taken_back(stream: u32) -> Vec<u8> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let mut octets = head(stream, CHECK, "localhost", END_STREAM);
    octets.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    octets
}

/// A call with an authority that is none.
pub fn malformed(stream: u32) -> Vec<u8> {
    head(stream, CHECK, "a/b", END_STREAM)
}
