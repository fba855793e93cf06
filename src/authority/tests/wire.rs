//! A client's side of the wire, written by hand so that every form of every field can be chosen: an
//! HPACK encoder with a table of its own, frames, and a connection that gives its bytes in chosen
//! pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::authority::huffman;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const CONTINUATION: u8 = 0x9;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Incremental,
    Without,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameForm {
    Static,
    /// By dynamic index where there is one, else as `Static`.
    Dynamic,
    Plain,
    Huffman,
}

/// How one field is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coding {
    pub(super) form: Form,
    pub(super) name: NameForm,
    pub(super) huffman: bool,
    /// Refer to the whole field by index where the dynamic table has it.
    pub(super) reuse: bool,
}

impl Coding {
    pub(super) fn new(form: Form, name: NameForm, huffman: bool) -> Self {
        Self {
            form,
            name,
            huffman,
            reuse: false,
        }
    }
}

/// The encoder of a client, with a dynamic table of its own.
pub(super) struct Encoder {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    max_size: usize,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: 4096,
        }
    }

    pub(super) fn resize(&mut self, max_size: usize, block: &mut Vec<u8>) {
        integer(5, 0x20, max_size, block);
        self.max_size = max_size;
        self.evict_to(max_size);
    }

    pub(super) fn field(&mut self, name: &str, value: &[u8], coding: Coding, block: &mut Vec<u8>) {
        let whole = self
            .entries
            .iter()
            .position(|(n, v)| n == name.as_bytes() && v == value);
        if let (true, Some(place)) = (coding.reuse, whole) {
            return integer(7, 0x80, 62 + place, block);
        }
        let (prefix, bits) = match coding.form {
            Form::Incremental => (6, 0x40),
            Form::Without => (4, 0x00),
            Form::Never => (4, 0x10),
        };
        let dynamic = self
            .entries
            .iter()
            .position(|(n, _)| n == name.as_bytes())
            .map(|place| 62 + place);
        let index = match coding.name {
            NameForm::Static => static_index(name),
            NameForm::Dynamic => dynamic.or(static_index(name)),
            NameForm::Plain | NameForm::Huffman => None,
        };
        integer(prefix, bits, index.unwrap_or(0), block);
        if index.is_none() {
            string(name.as_bytes(), coding.name == NameForm::Huffman, block);
        }
        string(value, coding.huffman, block);
        if coding.form == Form::Incremental {
            self.insert(name, value);
        }
    }

    fn insert(&mut self, name: &str, value: &[u8]) {
        let size = name.len() + value.len() + 32;
        self.evict_to(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.size += size;
            self.entries
                .push_front((name.as_bytes().to_vec(), value.to_vec()));
        }
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let (name, value) = self.entries.pop_back().unwrap();
            self.size -= name.len() + value.len() + 32;
        }
    }
}

fn static_index(name: &str) -> Option<usize> {
    Some(match name {
        ":authority" => 1,
        ":method" => 2,
        ":path" => 4,
        ":scheme" => 6,
        "accept-encoding" => 16,
        "content-type" => 31,
        "user-agent" => 58,
        _ => return None,
    })
}

pub(super) fn integer(prefix: u32, bits: u8, value: usize, out: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(bits | value as u8);
    }
    out.push(bits | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn string(octets: &[u8], huffman: bool, out: &mut Vec<u8>) {
    if huffman {
        let coded = huffman::encode(octets);
        integer(7, 0x80, coded.len(), out);
        out.extend(coded);
    } else {
        integer(7, 0, octets.len(), out);
        out.extend(octets);
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// How a header block is laid out in frames.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) padding: Option<u8>,
    pub(super) priority: bool,
    /// Where in the block a new CONTINUATION frame starts; clamped to the block.
    pub(super) cuts: Vec<usize>,
}

pub(super) fn header_frames(stream: u32, flags: u8, block: &[u8], layout: &Layout) -> Vec<u8> {
    let mut cuts: Vec<usize> = layout
        .cuts
        .iter()
        .map(|&cut| cut.min(block.len()))
        .collect();
    cuts.sort_unstable();
    let first = cuts.first().copied().unwrap_or(block.len());
    let end = if cuts.is_empty() { END_HEADERS } else { 0 };
    let mut flags = flags | end;
    let mut payload = Vec::new();
    if let Some(padding) = layout.padding {
        flags |= PADDED;
        payload.push(padding);
    }
    if layout.priority {
        flags |= PRIORITY;
        payload.extend([0, 0, 0, 0, 15]);
    }
    payload.extend(&block[..first]);
    payload.extend(vec![0; usize::from(layout.padding.unwrap_or(0))]);
    let mut frames = frame(HEADERS, flags, stream, &payload);
    for (i, &cut) in cuts.iter().enumerate() {
        let next = cuts.get(i + 1).copied();
        let flags = if next.is_none() { END_HEADERS } else { 0 };
        frames.extend(frame(
            CONTINUATION,
            flags,
            stream,
            &block[cut..next.unwrap_or(block.len())],
        ));
    }
    frames
}

/// Preface and SETTINGS, then `frames`.
pub(super) fn connection(frames: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frames);
    bytes
}

/// Gives what `IO` has in reads of at most the sizes of `sizes`, in turn, and is pending before
/// each.
pub(super) struct Trickle<IO> {
    io: IO,
    sizes: Vec<usize>,
    turn: usize,
}

impl<IO> Trickle<IO> {
    pub(super) fn new(io: IO, sizes: &[usize]) -> Self {
        Self {
            io,
            sizes: sizes.to_vec(),
            turn: 0,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Trickle<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.turn += 1;
        if self.turn % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = self.sizes[self.turn / 2 % self.sizes.len()].min(buf.remaining());
        let mut part = vec![0; size];
        let mut part = ReadBuf::new(&mut part);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut part);
        if result.is_pending() {
            self.turn -= 1;
        }
        buf.put_slice(part.filled());
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Trickle<IO> {
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
}
