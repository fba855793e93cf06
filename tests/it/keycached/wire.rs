//! A client of the socket that shares no code with the program: LBX2 as its
//! description has it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::HANG;

pub const MAGIC: &[u8; 4] = b"LBX2";
pub const HEADER: usize = 9;
/// The longest frame, header included.
pub const FRAME: usize = 131_072;
pub const LONGEST_KEY: usize = 65_536;

pub const GET: u8 = 0x01;
pub const PUT: u8 = 0x02;
pub const FORGET: u8 = 0x03;
pub const FORGET_ALL: u8 = 0x04;
pub const STOP: u8 = 0x05;
pub const LIST: u8 = 0x06;
pub const REGISTER: u8 = 0x10;
pub const UNREGISTER: u8 = 0x11;

/// A frame of that type.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it fits");
    [MAGIC, &[kind][..], &length.to_le_bytes(), payload].concat()
}

/// The payload of a put.
pub fn put(id: &[u8], key: &[u8], path: &[u8], ttl: u64) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).expect("it fits").to_le_bytes();
    let id_length = u16::try_from(id.len()).expect("it fits").to_le_bytes();
    let (key_length, path_length) = (number(key.len()), number(path.len()));
    let ttl = ttl.to_le_bytes();
    [&id_length, id, &key_length, &path_length, &ttl, key, path].concat()
}

/// The payload of a register.
pub fn activity(pid: u32, kind: u8) -> Vec<u8> {
    [&pid.to_le_bytes()[..], &[kind]].concat()
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Registered(u64),
    Ok,
    Miss,
    Key(Vec<u8>),
    /// Ids and paths.
    List(Vec<(String, String)>),
    Error(String),
}

impl Answer {
    fn decode(kind: u8, mut payload: &[u8]) -> Self {
        let rest = &mut payload;
        let answer = match kind {
            0x80 => Self::Registered(u64::from_le_bytes(take(rest))),
            0x81 => Self::Ok,
            0x82 => Self::Miss,
            0x83 => Self::Key(std::mem::take(rest).to_vec()),
            0x84 => {
                let count = u32::from_le_bytes(take(rest));
                Self::List((0..count).map(|_| entry(rest)).collect())
            }
            0xff => Self::Error(text(rest, rest.len())),
            other => panic!("no answer has type {other:#x}"),
        };
        assert!(payload.is_empty(), "{} bytes are left", payload.len());
        answer
    }
}

fn entry(rest: &mut &[u8]) -> (String, String) {
    let length = u16::from_le_bytes(take(rest));
    let id = text(rest, length.into());
    let length = u32::from_le_bytes(take(rest));
    (id, text(rest, length as usize))
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (first, others) = rest.split_first_chunk().expect("the field is there");
    *rest = others;
    *first
}

fn text(rest: &mut &[u8], length: usize) -> String {
    let (first, others) = rest.split_at(length);
    *rest = others;
    String::from_utf8(first.to_vec()).expect("it is UTF-8")
}

/// One connection.
pub struct Client {
    stream: UnixStream,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket);
        let mut client = Self {
            stream: stream.unwrap_or_else(|error| panic!("{}: {error}", socket.display())),
        };
        client.patience(HANG);
        client
    }

    /// How long it waits for anything from now on.
    pub fn patience(&mut self, limit: Duration) {
        let set = self.stream.set_read_timeout(Some(limit));
        set.expect("it is longer than nothing");
        let set = self.stream.set_write_timeout(Some(limit));
        set.expect("it is longer than nothing");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the agent listens");
    }

    /// The next bytes of what comes.
    pub fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("it is answered");
        bytes
    }

    pub fn answer(&mut self) -> Answer {
        let header = self.receive(HEADER);
        let (magic, rest) = header.split_at(MAGIC.len());
        assert_eq!(magic, MAGIC);
        let length = u32::from_le_bytes(rest[1..].try_into().expect("four bytes"));
        let length = length as usize;
        assert!(HEADER + length <= FRAME, "an answer of {length} bytes");
        Answer::decode(rest[0], &self.receive(length))
    }

    /// Waits until the agent has closed it, which must not say more before.
    pub fn ended(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection goes on: {other:?}"),
        }
    }

    /// Sends what it listens to, says that no more comes, and reads to the end.
    pub fn finish(&mut self, bytes: &[u8]) -> Vec<u8> {
        // It may have refused and closed already.
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("it neither answers nor ends: {error}"),
        }
        all
    }

    pub fn ask(&mut self, kind: u8, payload: &[u8]) -> Answer {
        self.send(&frame(kind, payload));
        self.answer()
    }

    /// Sends what is refused; what the agent says before it closes.
    pub fn refused(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        let answer = self.answer();
        let Answer::Error(message) = answer else {
            panic!("not refused: {answer:?}");
        };
        self.ended();
        message
    }

    pub fn get(&mut self, id: &str) -> Answer {
        self.ask(GET, id.as_bytes())
    }

    pub fn put(&mut self, id: &str, key: &[u8], path: &str, ttl: u64) -> Answer {
        self.ask(PUT, &put(id.as_bytes(), key, path.as_bytes(), ttl))
    }

    /// Puts a key without a path for an hour.
    pub fn keep(&mut self, id: &str, key: &[u8]) {
        assert_eq!(self.put(id, key, "", 3_600), Answer::Ok);
    }

    pub fn forget(&mut self, id: &str) -> Answer {
        self.ask(FORGET, id.as_bytes())
    }

    pub fn forget_all(&mut self) -> Answer {
        self.ask(FORGET_ALL, b"")
    }

    pub fn stop(&mut self) -> Answer {
        self.ask(STOP, b"")
    }

    pub fn list(&mut self) -> Vec<(String, String)> {
        match self.ask(LIST, b"") {
            Answer::List(entries) => entries,
            other => panic!("no list: {other:?}"),
        }
    }

    /// The token of the activity.
    pub fn register(&mut self, pid: u32, kind: u8) -> u64 {
        match self.ask(REGISTER, &activity(pid, kind)) {
            Answer::Registered(token) => token,
            other => panic!("not registered: {other:?}"),
        }
    }

    pub fn unregister(&mut self, pid: u32, token: u64) -> Answer {
        let payload = [&pid.to_le_bytes()[..], &token.to_le_bytes()].concat();
        self.ask(UNREGISTER, &payload)
    }
}
