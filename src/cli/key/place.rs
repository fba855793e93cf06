//! Where a key comes from or goes to: never a terminal, a command line or a file of
//! its own.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

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
        let number = text.strip_prefix("fd:").and_then(|text| text.parse().ok());
        number
            .map(Self::Descriptor)
            .ok_or_else(|| "wants fd:N, an open descriptor, or - for stdout".to_owned())
    }
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
        Ok(File::from(own))
    }
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
