//! LBX2 frames: nine bytes of header, then the payload. Little-endian.
//!
//! Parses what holds no key; a put is read by [`put`](super::put), which receives
//! the key where it stays.

use crate::{
    agent::{
        activity::{Kind, Token},
        keeper::KeepError,
    },
    keycache::{arena::NoSecureMemory, entry::LockboxId},
};

/// What every frame begins with.
pub(super) const MAGIC: &[u8; 4] = b"LBX2";
/// Magic, kind, length of the payload.
pub(super) const HEADER: usize = 9;
/// Bytes of a frame, its header included.
pub(super) const MAX_FRAME: usize = 128 * 1024;

/// Kinds of requests.
pub(super) const GET: u8 = 0x01;
pub(super) const PUT: u8 = 0x02;
pub(super) const FORGET: u8 = 0x03;
pub(super) const FORGET_ALL: u8 = 0x04;
pub(super) const STOP: u8 = 0x05;
pub(super) const LIST: u8 = 0x06;
pub(super) const REGISTER: u8 = 0x10;
pub(super) const UNREGISTER: u8 = 0x11;

/// Kinds of answers.
const REGISTERED: u8 = 0x80;
const OK: u8 = 0x81;
const MISS: u8 = 0x82;
const KEY: u8 = 0x83;
const LISTED: u8 = 0x84;
const ERROR: u8 = 0xff;

/// Why a connection ends. The first word of the message tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FrameError {
    /// It is not a frame, or its payload is not what its kind has.
    Malformed(&'static str),
    /// It is longer than a frame may be.
    Oversize,
    /// Its kind is not known.
    Unsupported(u8),
    /// There is no room for the key.
    Full,
    /// No memory can be locked.
    NoMemory,
    /// All keys were forgotten while this one arrived.
    Wiped,
    /// The process is not the caller's.
    NotYours,
}

impl FrameError {
    /// The answer that says so.
    pub(super) fn answer(&self) -> Vec<u8> {
        let message = match self {
            Self::Malformed(why) => format!("malformed: {why}"),
            Self::Oversize => "oversize: a message has at most 131072 bytes".to_owned(),
            Self::Unsupported(kind) => format!("unsupported: message type {kind:#04x}"),
            Self::Full => "full: no room for another".to_owned(),
            Self::NoMemory => format!("full: {NoSecureMemory}"),
            Self::Wiped => "wiped: all keys were forgotten meanwhile".to_owned(),
            Self::NotYours => "malformed: the pid must be the caller or its descendant".to_owned(),
        };
        frame(ERROR, message.as_bytes())
    }
}

impl From<KeepError> for FrameError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Full => Self::Full,
            // No frame makes a session the owner of a key.
            KeepError::Wiped | KeepError::OwnerEnded => Self::Wiped,
            KeepError::InvalidTtl => {
                Self::Malformed("the TTL must be at least a second and end before the clock does")
            }
        }
    }
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) length: usize,
}

impl Header {
    /// Parses the nine bytes. Judges the magic first, then the length, then the kind.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        let [m0, m1, m2, m3, kind, l0, l1, l2, l3] = *bytes;
        if &[m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Malformed("it does not begin with LBX2"));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_FRAME - HEADER {
            return Err(FrameError::Oversize);
        }
        match kind {
            GET | PUT | FORGET | FORGET_ALL | STOP | LIST | REGISTER | UNREGISTER => {
                Ok(Self { kind, length })
            }
            kind => Err(FrameError::Unsupported(kind)),
        }
    }
}

/// A request that holds no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Get(LockboxId),
    Forget(LockboxId),
    ForgetAll,
    Stop,
    List,
    Register { pid: i32, kind: Kind },
    Unregister { pid: u32, token: Token },
}

impl Request {
    pub(super) fn parse(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        let empty = |request| match payload {
            [] => Ok(request),
            _ => Err(FrameError::Malformed("this message has no payload")),
        };
        match kind {
            GET => lockbox_id(payload).map(Self::Get),
            FORGET => lockbox_id(payload).map(Self::Forget),
            FORGET_ALL => empty(Self::ForgetAll),
            STOP => empty(Self::Stop),
            LIST => empty(Self::List),
            REGISTER => {
                let wrong = FrameError::Malformed("a registration is a pid and a kind, five bytes");
                let &[p0, p1, p2, p3, kind] = payload else {
                    return Err(wrong);
                };
                let pid = i32::try_from(u32::from_le_bytes([p0, p1, p2, p3]));
                let pid = pid.ok().filter(|pid| *pid > 0);
                let pid = pid.ok_or(FrameError::Malformed("the pid must be 1 to 2147483647"))?;
                let kind = Kind::parse(kind);
                let kind = kind.ok_or(FrameError::Malformed("the kind must be 1 to 6"))?;
                Ok(Self::Register { pid, kind })
            }
            UNREGISTER => {
                let wrong = FrameError::Malformed("it is a pid and a token, twelve bytes");
                let (pid, token) = payload.split_first_chunk::<4>().ok_or(wrong.clone())?;
                let token = <[u8; 8]>::try_from(token).map_err(|_| wrong)?;
                Ok(Self::Unregister {
                    pid: u32::from_le_bytes(*pid),
                    token: Token(u64::from_le_bytes(token)),
                })
            }
            kind => Err(FrameError::Unsupported(kind)),
        }
    }
}

/// The id of a lockbox, as it lies in a payload.
pub(super) fn lockbox_id(bytes: &[u8]) -> Result<LockboxId, FrameError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| LockboxId::parse(text).ok())
        .ok_or(FrameError::Malformed(
            "a lockbox id must be 1 to 1024 bytes of UTF-8",
        ))
}

pub(super) fn ok() -> Vec<u8> {
    frame(OK, &[])
}

pub(super) fn miss() -> Vec<u8> {
    frame(MISS, &[])
}

pub(super) fn registered(token: Token) -> Vec<u8> {
    frame(REGISTERED, &token.0.to_le_bytes())
}

/// The header in front of a key.
pub(super) fn key_header(length: usize) -> [u8; HEADER] {
    header(KEY, length)
}

/// As many entries as fit, and whether that was all.
pub(super) fn list<'a>(
    entries: impl Iterator<Item = (&'a LockboxId, Option<&'a str>)>,
) -> (Vec<u8>, bool) {
    let mut payload = vec![0; 4];
    let (mut count, mut all) = (0_u32, true);
    for (id, path) in entries {
        let (id, path) = (id.as_str().as_bytes(), path.unwrap_or_default().as_bytes());
        if HEADER + payload.len() + 2 + id.len() + 4 + path.len() > MAX_FRAME {
            all = false;
            break;
        }
        payload.extend((id.len() as u16).to_le_bytes());
        payload.extend(id);
        payload.extend((path.len() as u32).to_le_bytes());
        payload.extend(path);
        count += 1;
    }
    payload[..4].copy_from_slice(&count.to_le_bytes());
    (frame(LISTED, &payload), all)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, payload.len()).to_vec();
    bytes.extend(payload);
    bytes
}

fn header(kind: u8, length: usize) -> [u8; HEADER] {
    let [m0, m1, m2, m3] = *MAGIC;
    let [l0, l1, l2, l3] = (length as u32).to_le_bytes();
    [m0, m1, m2, m3, kind, l0, l1, l2, l3]
}
