//! An HTTP/2 client that writes its octets itself, because no library sends
//! what it should not.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The index of the newest entry of the dynamic table.
const NEWEST: u8 = 62;

/// An empty gRPC message, and the one that says SERVING.
pub const EMPTY: &[u8] = &[0, 0, 0, 0, 0];
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Serving,
    Reset,
}

/// How the authority's field is coded (RFC 7541 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// With incremental indexing: the second request refers to the entry.
    Indexed,
    WithoutIndexing,
    NeverIndexed,
    /// The name as a literal too, indexed: the second request takes the name
    /// from the dynamic table.
    LiteralName,
}

/// How the header block is framed (RFC 9113 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Whole,
    Padded,
    Priority,
    PaddedPriority,
    /// In CONTINUATION frames of so many octets. Servers take five or so.
    Split(usize),
    /// The first frame has so many octets, a CONTINUATION the rest.
    Cut(usize),
}

/// One way to send the same request.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    field: Field,
    huffman: bool,
    framing: Framing,
}

impl Form {
    /// Every field form plain and Huffman-coded, and every framing.
    pub fn all() -> Vec<Self> {
        let mut forms = Vec::new();
        for huffman in [false, true] {
            for field in [
                Field::Indexed,
                Field::WithoutIndexing,
                Field::NeverIndexed,
                Field::LiteralName,
            ] {
                forms.push(Self {
                    field,
                    huffman,
                    framing: Framing::Whole,
                });
            }
            for framing in [
                Framing::Padded,
                Framing::Priority,
                Framing::PaddedPriority,
                Framing::Split(40),
                Framing::Cut(1),
                Framing::Cut(34),
                Framing::Cut(36),
                Framing::Cut(45),
            ] {
                forms.push(Self {
                    field: Field::Indexed,
                    huffman,
                    framing,
                });
            }
        }
        forms
    }

    fn authority(self, value: &str, again: bool, block: &mut Vec<u8>) {
        match (self.field, again) {
            (Field::Indexed, true) => block.push(0x80 | NEWEST),
            (Field::LiteralName, true) => {
                block.extend([0x0f, NEWEST - 15]);
                self.string(value, block);
            }
            (Field::Indexed, false) => self.named(0x41, value, block),
            (Field::WithoutIndexing, _) => self.named(0x01, value, block),
            (Field::NeverIndexed, _) => self.named(0x11, value, block),
            (Field::LiteralName, false) => {
                block.push(0x40);
                self.string(":authority", block);
                self.string(value, block);
            }
        }
    }

    fn named(self, prefix: u8, value: &str, block: &mut Vec<u8>) {
        block.push(prefix);
        self.string(value, block);
    }

    fn string(self, text: &str, block: &mut Vec<u8>) {
        if self.huffman {
            let coded = huffman(text);
            block.push(0x80 | length(coded.len()));
            block.extend(coded);
        } else {
            block.push(length(text.len()));
            block.extend(text.as_bytes());
        }
    }

    fn block(self, authority: &str, again: bool) -> Vec<u8> {
        // POST and http from the static table; the path is its index 4.
        let mut block = vec![0x83, 0x86];
        literal(&[0x04], "/grpc.health.v1.Health/Check", &mut block);
        self.authority(authority, again, &mut block);
        literal(&[0x0f, 31 - 15], "application/grpc", &mut block);
        literal(&[0x00, 2, b't', b'e'], "trailers", &mut block);
        block
    }

    fn frames(self, stream: u32, block: &[u8]) -> Vec<u8> {
        let priority = [0, 0, 0, 0, 16];
        let (flags, payload) = match self.framing {
            Framing::Whole | Framing::Split(_) | Framing::Cut(_) => (0, block.to_vec()),
            Framing::Padded => (PADDED, [&[3], block, &[0; 3]].concat()),
            Framing::Priority => (PRIORITY, [&priority, block].concat()),
            Framing::PaddedPriority => {
                let all = [&[5], &priority[..], block, &[0; 5]].concat();
                (PADDED | PRIORITY, all)
            }
        };
        let chunks: Vec<&[u8]> = match self.framing {
            Framing::Split(size) => payload.chunks(size).collect(),
            Framing::Cut(at) => <[_; 2]>::from(payload.split_at(at)).to_vec(),
            _ => vec![&payload],
        };
        let mut frames = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let last = at + 1 == chunks.len();
            let flags = flags | if last { END_HEADERS } else { 0 };
            frames.extend(frame(kind, flags, stream, chunk));
        }
        frames
    }
}

/// A field that is not indexed, its value as it is, behind its form and name.
pub fn literal(name: &[u8], value: &str, block: &mut Vec<u8>) {
    block.extend(name);
    block.push(length(value.len()));
    block.extend(value.as_bytes());
}

/// A length that fits a prefix of 7 bits.
fn length(length: usize) -> u8 {
    assert!(length < 127, "short enough for one octet");
    length as u8
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Two health checks on one connection, the second after the first was answered.
pub async fn call_twice(socket: &Path, authority: &str, form: Form) -> io::Result<[Answer; 2]> {
    let mut connection = UnixStream::connect(socket).await?;
    connection.write_all(PREFACE).await?;
    connection.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut answers = [Answer::Reset; 2];
    for (again, stream) in [(false, 1), (true, 3)] {
        let block = form.block(authority, again);
        let mut request = form.frames(stream, &block);
        request.extend(frame(DATA, END_STREAM, stream, EMPTY));
        connection.write_all(&request).await?;
        answers[usize::from(again)] = answer(&mut connection, stream).await?;
    }
    Ok(answers)
}

async fn answer(connection: &mut UnixStream, stream: u32) -> io::Result<Answer> {
    let mut serving = false;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        connection.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let about = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                connection.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
            GOAWAY => return Err(io::Error::other(format!("GOAWAY {payload:?}"))),
            RST_STREAM if about == stream => return Ok(Answer::Reset),
            DATA if about == stream => serving |= payload == SERVING,
            HEADERS if about == stream && flags & END_STREAM != 0 => {
                return if serving {
                    Ok(Answer::Serving)
                } else {
                    Err(io::Error::other("it ended without saying SERVING"))
                };
            }
            _ => {}
        }
    }
}

/// Symbols by the length of their code, in the order of the codes: the code is
/// canonical (RFC 7541 appendix B). What no authority here holds is left out.
const BY_LENGTH: [(u32, u32, &[u8]); 8] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
];

fn huffman(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut coded) = (0_u64, 0, Vec::new());
    for symbol in text.bytes() {
        let (length, code) = BY_LENGTH
            .iter()
            .find_map(|(length, first, symbols)| {
                let at = symbols.iter().position(|s| *s == symbol)?;
                Some((*length, first + at as u32))
            })
            .expect("the symbol is in the table");
        bits = (bits << length) | u64::from(code);
        count += length;
        while count >= 8 {
            count -= 8;
            coded.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        // Padded with the first bits of the longest code: ones.
        coded.push(((bits << (8 - count)) as u8) | (0xff >> count));
    }
    coded
}

#[test]
fn the_example_of_the_rfc_is_coded_as_there() {
    let expected = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    assert_eq!(huffman("www.example.com"), expected);
}
