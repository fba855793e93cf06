//! Lines to the system's log: RFC 3164 datagrams on a Unix socket.
//!
//! Owns the form of a datagram and its way. Never waits: what a full socket does not
//! take is lost. Refuses a socket on which nobody reads when the process starts; one
//! that is replaced afterwards is found again with the next line.

use std::{
    fmt, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where syslog and journald listen.
pub const SOCKET: &str = "/dev/log";

/// LOG_AUTHPRIV, which most systems keep in a file that not everybody can read.
const FACILITY: u8 = 10 << 3;

/// Bytes of a line, what is more is cut off: rsyslog takes no more by default.
const MAX_LINE: usize = 8 * 1024;

/// Whoever keeps the system's log.
pub struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    tag: String,
}

impl Syslog {
    /// Finds who reads on the socket at `path`; lines will be said to be of `program`.
    pub fn open(path: impl Into<PathBuf>, program: &str) -> io::Result<Self> {
        let path = path.into();
        UnixDatagram::unbound()?.connect(&path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let tag = format!("{program}[{}]", std::process::id());
        Ok(Self { socket, path, tag })
    }

    /// Where it reads.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn send(&self, severity: u8, line: &[u8]) {
        // Without a time: the reader has a clock, and ours would need the time zone.
        let mut datagram = format!("<{}>{}: ", FACILITY | severity, self.tag).into_bytes();
        let room = MAX_LINE.saturating_sub(datagram.len());
        datagram.extend_from_slice(&line[..line.len().min(room)]);
        // By its path each time: whoever reads may have started again.
        let _ = self.socket.send_to(&datagram, &self.path);
    }
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Syslog").field(&self.path).finish()
    }
}

/// The writer of one event.
#[derive(Debug)]
pub struct Event<'a> {
    syslog: &'a Syslog,
    severity: u8,
}

impl io::Write for Event<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let lines = text.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            self.syslog.send(self.severity, line);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event {
            syslog: self,
            severity: severity(Level::INFO),
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Event<'a> {
        Event {
            syslog: self,
            severity: severity(*event.level()),
        }
    }
}

/// As RFC 3164 numbers them.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests;
