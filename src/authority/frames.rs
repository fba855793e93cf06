//! Frames: follows the inbound byte stream and knows how much of it may go on to the reader (RFC
//! 9113).
//!
//! Owns the position in the stream. Everything goes on at once, frame headers included, except the
//! payload of a HEADERS frame and the CONTINUATION frames behind it (sections 6.2 and 6.10): those
//! wait until the header block in them is whole and repaired.
//!
//! ```text
//! Preface -> FrameHeader <-> Payload       any other frame
//!                        <-> HeaderBlock   HEADERS, CONTINUATION...
//! all -> Aside      first block needs no repair | something is malformed | block above the limit | end of stream
//! ```
//!
//! Refuses, by stepping aside and leaving the bytes to h2: a wrong preface, HEADERS on stream 0,
//! padding longer than its frame, anything but CONTINUATION of the same stream inside a header
//! block, CONTINUATION outside one, PUSH_PROMISE (which a client cannot send), and whatever `hpack`
//! refuses.

use std::ops::Range;

use super::hpack::{Blocks, Verdict};
use super::{MAX_HELD_BACK, Malformed};

/// What a client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Octets of stream dependency and weight in a HEADERS frame with PRIORITY.
const PRIORITY_FIELDS: usize = 5;

/// Follows one connection from its first octet on.
#[derive(Debug)]
pub(super) struct Scanner {
    stage: Stage,
    blocks: Blocks,
    /// The first header block needed repair, so the next ones may as well.
    is_decided: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Preface {
        matched: usize,
    },
    FrameHeader {
        octets: [u8; FRAME_HEADER],
        have: usize,
    },
    Payload {
        left: usize,
    },
    /// Behind the frame header of a HEADERS frame; nothing can be said before `need` octets are
    /// there.
    HeaderBlock {
        headers: FrameHeader,
        need: usize,
    },
    Aside,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Preface { matched: 0 },
            blocks: Blocks::new(),
            is_decided: false,
        }
    }

    /// Whether all further bytes go on as they are.
    pub(super) fn is_aside(&self) -> bool {
        matches!(self.stage, Stage::Aside)
    }

    pub(super) fn step_aside(&mut self) {
        self.stage = Stage::Aside;
    }

    /// Takes the next bytes of the stream, repairs what has to be repaired in them, and returns how
    /// many of them may go on. The rest, at most `MAX_HELD_BACK`, has to be there again at the next
    /// call, with more behind it.
    pub(super) fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            match self.advance(rest) {
                Ok(0) if matches!(self.stage, Stage::HeaderBlock { .. }) => return at,
                Ok(taken) => at += taken,
                Err(Malformed) => self.step_aside(),
            }
            if self.is_aside() {
                return bytes.len();
            }
        }
        at
    }

    /// One step: how many octets at the start of `rest` are done with. Without progress in a header
    /// block, more bytes are needed.
    fn advance(&mut self, rest: &mut [u8]) -> Result<usize, Malformed> {
        match self.stage {
            Stage::Preface { matched } => {
                let taken = rest.len().min(PREFACE.len() - matched);
                let matched = matched + taken;
                if rest[..taken] != PREFACE[matched - taken..matched] {
                    return Err(Malformed);
                }
                self.stage = if matched < PREFACE.len() {
                    Stage::Preface { matched }
                } else {
                    Stage::next_frame()
                };
                Ok(taken)
            }
            Stage::FrameHeader { mut octets, have } => {
                let taken = rest.len().min(FRAME_HEADER - have);
                let have = have + taken;
                octets[have - taken..have].copy_from_slice(&rest[..taken]);
                self.stage = if have < FRAME_HEADER {
                    Stage::FrameHeader { octets, have }
                } else {
                    Stage::behind(FrameHeader::parse(&octets))?
                };
                Ok(taken)
            }
            Stage::Payload { left } => {
                let taken = rest.len().min(left);
                let left = left - taken;
                self.stage = if left > 0 {
                    Stage::Payload { left }
                } else {
                    Stage::next_frame()
                };
                Ok(taken)
            }
            Stage::HeaderBlock { headers, need } => {
                if rest.len() < need {
                    return Ok(0);
                }
                match Gathered::from(headers, rest)? {
                    Gathered::Incomplete { need } if need > MAX_HELD_BACK => Err(Malformed),
                    Gathered::Incomplete { need } => {
                        self.stage = Stage::HeaderBlock { headers, need };
                        Ok(0)
                    }
                    Gathered::Complete { fragments, end } => {
                        self.stage = self.repair(rest, &fragments)?;
                        Ok(end)
                    }
                }
            }
            Stage::Aside => Ok(rest.len()),
        }
    }

    fn repair(&mut self, bytes: &mut [u8], fragments: &[Range<usize>]) -> Result<Stage, Malformed> {
        let verdict = if let [whole] = fragments {
            self.blocks.repair(&mut bytes[whole.clone()])?
        } else {
            let mut block = Vec::with_capacity(fragments.iter().map(Range::len).sum());
            for fragment in fragments {
                block.extend_from_slice(&bytes[fragment.clone()]);
            }
            let verdict = self.blocks.repair(&mut block)?;
            let mut repaired = block.as_slice();
            for fragment in fragments {
                let (part, rest) = repaired.split_at(fragment.len());
                bytes[fragment.clone()].copy_from_slice(part);
                repaired = rest;
            }
            verdict
        };
        if verdict == Verdict::Acceptable && !self.is_decided {
            return Ok(Stage::Aside);
        }
        self.is_decided = true;
        Ok(Stage::next_frame())
    }
}

impl Stage {
    fn next_frame() -> Self {
        Self::FrameHeader {
            octets: [0; FRAME_HEADER],
            have: 0,
        }
    }

    fn behind(header: FrameHeader) -> Result<Self, Malformed> {
        match header.kind {
            HEADERS if header.stream == 0 || header.length > MAX_HELD_BACK => Err(Malformed),
            HEADERS => Ok(Self::HeaderBlock {
                headers: header,
                need: header.length,
            }),
            PUSH_PROMISE | CONTINUATION => Err(Malformed),
            _ if header.length == 0 => Ok(Self::next_frame()),
            _ => Ok(Self::Payload {
                left: header.length,
            }),
        }
    }
}

/// A frame header (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    fn parse(octets: &[u8; FRAME_HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *octets;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    /// Where in the payload of this HEADERS frame its part of the header block is.
    fn fragment(self, payload: &[u8]) -> Result<Range<usize>, Malformed> {
        let mut start = 0;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            padding = usize::from(*payload.first().ok_or(Malformed)?);
            start += 1;
        }
        if self.flags & PRIORITY != 0 {
            start += PRIORITY_FIELDS;
        }
        let end = payload.len().checked_sub(padding).ok_or(Malformed)?;
        if start > end {
            Err(Malformed)
        } else {
            Ok(start..end)
        }
    }
}

/// What is there of a header block.
enum Gathered {
    /// The next frame, or its header, ends `need` octets behind the HEADERS frame's header.
    Incomplete { need: usize },
    /// The block is spread over `fragments`; its last frame stops at `end`.
    Complete {
        fragments: Vec<Range<usize>>,
        end: usize,
    },
}

impl Gathered {
    /// `bytes` starts behind the frame header `headers`.
    fn from(headers: FrameHeader, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut end = headers.length;
        let Some(payload) = bytes.get(..end) else {
            return Ok(Self::Incomplete { need: end });
        };
        let mut fragments = vec![headers.fragment(payload)?];
        let mut flags = headers.flags;
        while flags & END_HEADERS == 0 {
            let Some(octets) = bytes[end..].first_chunk::<FRAME_HEADER>() else {
                return Ok(Self::Incomplete {
                    need: end + FRAME_HEADER,
                });
            };
            let header = FrameHeader::parse(octets);
            if header.kind != CONTINUATION || header.stream != headers.stream {
                return Err(Malformed);
            }
            let start = end + FRAME_HEADER;
            end = start + header.length;
            if bytes.len() < end {
                return Ok(Self::Incomplete { need: end });
            }
            if start < end {
                fragments.push(start..end);
            }
            flags = header.flags;
        }
        if end > MAX_HELD_BACK {
            Err(Malformed)
        } else {
            Ok(Self::Complete { fragments, end })
        }
    }
}
