//! Where a new handle goes.
//!
//! Owns `--handle-out`. The destination is opened before the call that makes
//! the handle, so that a handle, which is given once, is not lost to a typo.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::{create_new, random_name, write_line};
use crate::cli::error::CliError;
use crate::client::Handle;

/// Bytes of a handle and the end of its line.
const HANDLE_LINE: usize = 39;

/// Where the new handle goes.
#[derive(Debug, Clone, Args)]
pub struct HandleOut {
    /// Where the handle goes: a FILE (0600, replaced), fd:N, or - for stdout
    #[arg(long, value_name = "FILE|fd:N|-", conflicts_with = "discard_handle")]
    handle_out: Option<Place>,

    /// Keep no handle: nobody can speak for the session until it is rotated
    #[arg(long)]
    discard_handle: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Fd(u32),
    Stdout,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("fd:") {
            Some(number) => number
                .parse()
                .map(Self::Fd)
                .map_err(|_| "fd: wants the number of an open descriptor".to_owned()),
            None if text == "-" => Ok(Self::Stdout),
            None if text.is_empty() => Err("the name of the file is empty".to_owned()),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl HandleOut {
    /// Opens the destination.
    pub fn open(&self) -> Result<Destination, CliError> {
        let Some(place) = &self.handle_out else {
            if self.discard_handle {
                return Ok(Destination::Nowhere);
            }
            return Err(CliError::usage(
                "no place for the handle, which is given once",
                "say where it goes with --handle-out FILE, --handle-out fd:N or --handle-out -, or that nobody needs it with --discard-handle",
            ));
        };
        match place {
            Place::File(path) => Destination::file(path),
            Place::Fd(number) => Destination::descriptor(*number),
            Place::Stdout => {
                refuse_terminal(&io::stdout())?;
                refuse_null(&io::stdout())?;
                Ok(Destination::Stdout)
            }
        }
    }
}

/// An opened place for a handle.
#[derive(Debug)]
pub enum Destination {
    /// The handle is dropped.
    Nowhere,
    /// Stdout, which then carries nothing else.
    Stdout,
    /// A descriptor the caller opened.
    Descriptor(File),
    /// A file beside the one that will be replaced.
    File {
        /// Written first.
        partial: Partial,
        /// Then renamed to this.
        path: PathBuf,
    },
}

impl Destination {
    fn file(path: &Path) -> Result<Self, CliError> {
        let metadata = std::fs::symlink_metadata(path);
        if metadata.is_ok_and(|metadata| !metadata.is_file()) {
            let message = format!("{} is not a regular file", path.display());
            let hint = "use fd:N or - for anything else";
            return Err(CliError::usage(message, hint));
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", random_name()?));
        let beside = path.with_file_name(name);
        let file = create_new(&beside)?;
        let mut partial = Partial { file, path: beside };
        partial
            .take_space()
            .map_err(|error| CliError::writing(path, &error))?;
        Ok(Self::File {
            partial,
            path: path.to_owned(),
        })
    }

    fn descriptor(number: u32) -> Result<Self, CliError> {
        let path = PathBuf::from(format!("/dev/fd/{number}"));
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| CliError::writing(&path, &error))?;
        refuse_terminal(&file)?;
        Ok(Self::Descriptor(file))
    }

    /// Whether results may go to stdout as well.
    pub fn leaves_stdout(&self) -> bool {
        !matches!(self, Self::Stdout)
    }

    /// Writes the handle. A reader that is gone is an error here: what it was to read
    /// is given once.
    pub fn write(self, handle: &Handle) -> Result<(), CliError> {
        let lost = |place: &Path, error: &io::Error| {
            CliError::writing(place, error).with_hint(
                "the session lives, with a handle that nobody has now: `episodectl session rotate ID` gives another",
            )
        };
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => write_line(&mut io::stdout().lock(), handle.expose())
                .map_err(|error| lost(Path::new("stdout"), &error)),
            Self::Descriptor(mut file) => write_line(&mut file, handle.expose())
                .map_err(|error| lost(Path::new("the descriptor"), &error)),
            Self::File { mut partial, path } => partial
                .fill(handle)
                .and_then(|()| std::fs::rename(&partial.path, &path))
                .map_err(|error| lost(&path, &error)),
        }
    }
}

fn refuse_terminal(out: &impl io::IsTerminal) -> Result<(), CliError> {
    if out.is_terminal() {
        return Err(CliError::usage(
            "refusing to show a handle on a terminal",
            "give --handle-out a FILE, or redirect the output",
        ));
    }
    Ok(())
}

/// Also stdout that was closed when the program started: it is /dev/null since.
fn refuse_null(out: &impl AsFd) -> Result<(), CliError> {
    let null = rustix::fs::stat("/dev/null");
    let is_null = rustix::fs::fstat(out).is_ok_and(|out| {
        null.is_ok_and(|null| (out.st_dev, out.st_ino) == (null.st_dev, null.st_ino))
    });
    if is_null {
        return Err(CliError::usage(
            "stdout is closed or goes nowhere, and the handle is given once",
            "say that nobody needs it with --discard-handle",
        ));
    }
    Ok(())
}

/// A file that is gone unless it was renamed.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// Takes the room that a handle needs: a full disk is noticed before the call.
    fn take_space(&mut self) -> io::Result<()> {
        self.file.write_all(&[b' '; HANDLE_LINE])?;
        self.file.sync_all()
    }

    fn fill(&mut self, handle: &Handle) -> io::Result<()> {
        self.file.rewind()?;
        write_line(&mut self.file, handle.expose())?;
        let length = self.file.stream_position()?;
        self.file.set_len(length)?;
        self.file.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
