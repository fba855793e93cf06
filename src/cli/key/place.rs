//! Where a key comes from or goes to: never a terminal, a command line or a file of
//! its own.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{OFlags, fcntl_getfl, fstat, makedev};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use zeroize::Zeroizing;

use crate::cli::error::{CliError, exit};
use crate::keycache::arena::MAX_KEY;
use crate::secret::forbid_dumps;

/// Where a key comes from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Stdin, or stdout.
    Standard,
    /// A descriptor that the caller opened.
    Descriptor(u32),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Standard);
        }
        match text.strip_prefix("fd:") {
            Some(number) => descriptor(number).map(Self::Descriptor),
            None => Err("wants fd:N, an open descriptor, or - for stdout".to_owned()),
        }
    }
}

/// The number of a descriptor that is open. To be asked while the command line is
/// read: later some are open that are our own.
pub fn descriptor(text: &str) -> Result<u32, String> {
    let number: u32 = text
        .parse()
        .map_err(|_| "wants the number of an open descriptor".to_owned())?;
    if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(format!(
            "descriptor {number} is not open: open it in the shell, as in {number}> FILE or {number}< FILE"
        ));
    }
    Ok(number)
}

impl Place {
    /// The descriptor itself, at its own offset, past the buffers of the standard
    /// streams, which would keep a copy.
    /// A failure ends the command with `exit`.
    pub fn open(self, standard: impl AsFd, exit: u8) -> Result<File, CliError> {
        let (name, own) = match self {
            Self::Standard => ("-".to_owned(), standard.as_fd().try_clone_to_owned()),
            Self::Descriptor(number) => (format!("fd:{number}"), duplicate(number)),
        };
        let own = own.map_err(|error| {
            let message = format!("cannot use {name}: {error}");
            CliError::local(exit, "FAILED_PRECONDITION", message)
        })?;
        not_a_terminal(&own)?;
        let own = File::from(own);
        if self == Self::Standard && was_closed(&own) {
            let message = "cannot use -: it is closed";
            return Err(CliError::local(exit, "FAILED_PRECONDITION", message));
        }
        Ok(own)
    }
}

/// A standard stream that was closed is /dev/null by now, open in both ways, which no
/// redirection makes.
fn was_closed(stream: &File) -> bool {
    let is_null = fstat(stream).is_ok_and(|found| found.st_rdev == makedev(1, 3));
    let ways = fcntl_getfl(stream).map(|flags| flags & OFlags::RWMODE);
    is_null && ways == Ok(OFlags::RDWR)
}

/// A descriptor of this process by its number.
fn duplicate(number: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?)
}

/// While a key is here.
pub fn harden() -> Result<(), CliError> {
    forbid_dumps().map_err(|error| CliError::local(exit::SOFTWARE, "INTERNAL", error.to_string()))
}

fn not_a_terminal(stream: &impl IsTerminal) -> Result<(), CliError> {
    if stream.is_terminal() {
        let hint = "redirect it to a file, a pipe or a program";
        return Err(CliError::usage(
            "refusing to put a key through a terminal",
            hint,
        ));
    }
    Ok(())
}

/// The whole of it, in memory that is wiped and never moved.
pub fn read_key(from: impl Read) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut key = Zeroizing::new(Vec::with_capacity(MAX_KEY + 64));
    let read = from.take(MAX_KEY as u64 + 1).read_to_end(&mut key);
    read.map_err(|error| CliError::reading(Path::new("the key"), &error))?;
    if key.is_empty() || key.len() > MAX_KEY {
        let message = "a key must be 1 to 65,536 bytes";
        return Err(CliError::local(exit::DATA, "INVALID_ARGUMENT", message));
    }
    Ok(key)
}
