//! The word to the supervisor: sd_notify(3).
//!
//! Owns the messages on `$NOTIFY_SOCKET`; the composition root sends them.
//! Without the variable nothing is sent. A message that cannot be sent is
//! logged and forgotten: the daemon serves as well without.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

use crate::paths::Env;

/// Who waits to hear how the daemon is.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// The supervisor named in `env`, or nobody.
    pub fn new(env: &Env) -> Self {
        let target = env.var("NOTIFY_SOCKET").and_then(|value| {
            let found = address(value.as_bytes()).and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok((socket, address))
            });
            found
                .inspect_err(|error| tracing::warn!(%error, "cannot reach the supervisor"))
                .ok()
        });
        Self { target }
    }

    /// Serving; also the end of a reload.
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// The configuration is being read again; [`Notifier::ready`] has to follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// On the way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.target else {
            return;
        };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "cannot notify the supervisor");
        }
    }
}

/// A path, or `@` and an abstract name.
fn address(value: &[u8]) -> io::Result<SocketAddr> {
    match value {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(value)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::Notifier;
    use crate::paths::Env;

    fn next(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        socket.set_nonblocking(true).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn all_messages(notifier: &Notifier, supervisor: &UnixDatagram) {
        notifier.ready();
        assert_eq!(next(supervisor), "READY=1\n");
        notifier.reloading();
        let message = next(supervisor);
        let micros = message
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(micros.trim_end().parse::<u64>().unwrap() > 0);
        notifier.stopping();
        assert_eq!(next(supervisor), "STOPPING=1\n");
    }

    #[test]
    fn the_supervisor_hears_on_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        let env = Env::new(0).with("NOTIFY_SOCKET", &path);
        all_messages(&Notifier::new(&env), &supervisor);
    }

    #[test]
    fn the_supervisor_hears_on_an_abstract_name() {
        let name = format!("episoded-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let supervisor = UnixDatagram::bind_addr(&address).unwrap();
        let env = Env::new(0).with("NOTIFY_SOCKET", format!("@{name}"));
        all_messages(&Notifier::new(&env), &supervisor);
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        for env in [
            Env::new(0),
            Env::new(0).with("NOTIFY_SOCKET", "vsock:2:1"),
            Env::new(0).with("NOTIFY_SOCKET", "/nonexistent/notify"),
        ] {
            Notifier::new(&env).ready();
        }
    }
}
