//! Where handles and leases come from and go to.
//!
//! Owns every way a credential enters or leaves the CLI. Refuses all that would
//! show one: command-line arguments, and terminals in both directions.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::error::{CliError, exit};
use crate::client::{Handle, Lease};
use crate::paths::Env;

pub mod destination;

pub use destination::HandleOut;

/// Holds a handle.
pub const EPISODE_HANDLE: &str = "EPISODE_HANDLE";
/// Names a file that holds a handle.
pub const EPISODE_HANDLE_FILE: &str = "EPISODE_HANDLE_FILE";
/// Names a file that holds a lease.
pub const EPISODE_LEASE_FILE: &str = "EPISODE_LEASE_FILE";

/// More than any credential has.
const MAX_SECRET: u64 = 1024;

/// Where the handle comes from.
#[derive(Debug, Clone, Args)]
pub struct HandleArgs {
    /// Read the handle from stdin instead of EPISODE_HANDLE or EPISODE_HANDLE_FILE
    #[arg(long)]
    handle_stdin: bool,
}

impl HandleArgs {
    /// The handle, if one is given anywhere.
    pub fn find(&self, env: &Env) -> Result<Option<Handle>, CliError> {
        if self.handle_stdin {
            return Ok(Some(Handle::parse(&stdin("handle")?)?));
        }
        if let Some(text) = env.var(EPISODE_HANDLE) {
            return Ok(Some(Handle::parse(&text.to_string_lossy())?));
        }
        match env.var(EPISODE_HANDLE_FILE) {
            Some(path) => Ok(Some(Handle::parse(&file(Path::new(path))?)?)),
            None => Ok(None),
        }
    }

    /// The handle, or an error that says where to put it.
    pub fn require(&self, env: &Env) -> Result<Handle, CliError> {
        self.find(env)?.ok_or_else(|| {
            CliError::usage(
                "neither a session id nor a handle is given",
                "name the session, or give its handle in EPISODE_HANDLE_FILE, EPISODE_HANDLE or --handle-stdin",
            )
        })
    }
}

/// Where the lease comes from.
#[derive(Debug, Clone, Args)]
pub struct LeaseArgs {
    /// Read the lease from this file [env: EPISODE_LEASE_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "lease_stdin")]
    lease_file: Option<PathBuf>,

    /// Read the lease from stdin
    #[arg(long)]
    lease_stdin: bool,
}

impl LeaseArgs {
    /// The lease, if one is given anywhere.
    pub fn find(&self, env: &Env) -> Result<Option<Lease>, CliError> {
        if self.lease_stdin {
            return Ok(Some(Lease::parse(&stdin("lease")?)?));
        }
        let variable = env.var(EPISODE_LEASE_FILE).map(Path::new);
        match self.lease_file.as_deref().or(variable) {
            Some(path) => Ok(Some(Lease::parse(&file(path)?)?)),
            None => Ok(None),
        }
    }

    /// The lease, or an error that says where to put it.
    pub fn require(&self, env: &Env) -> Result<Lease, CliError> {
        self.find(env)?.ok_or_else(|| {
            CliError::usage(
                "no lease is given",
                "give it with --lease-file, EPISODE_LEASE_FILE or --lease-stdin",
            )
        })
    }
}

/// Where the lease of a new session comes from.
#[derive(Debug, Clone, Args)]
pub struct NewLeaseArgs {
    #[command(flatten)]
    lease: LeaseArgs,

    /// Make a random lease and write it to this new file (0600)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lease_file", "lease_stdin"])]
    new_lease_file: Option<PathBuf>,
}

/// A lease, and the file made for it, which is gone unless it is kept.
pub struct NewLease {
    /// The lease, if the session gets one.
    pub lease: Option<Lease>,
    made: Option<PathBuf>,
}

impl NewLeaseArgs {
    /// Reads or makes the lease.
    pub fn resolve(&self, env: &Env) -> Result<NewLease, CliError> {
        let Some(path) = &self.new_lease_file else {
            let lease = self.lease.find(env)?;
            return Ok(NewLease { lease, made: None });
        };
        let lease = Lease::random()?;
        let mut file = create_new(path)?;
        let written = write_line(&mut file, lease.expose()).and_then(|()| file.sync_all());
        let made = NewLease {
            lease: Some(lease),
            made: Some(path.clone()),
        };
        written.map_err(|error| CliError::writing(path, &error))?;
        Ok(made)
    }
}

impl NewLease {
    /// Keeps the file, because the session exists, or may.
    pub fn keep(mut self) {
        self.made = None;
    }
}

impl Drop for NewLease {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A new file of ours alone.
pub fn create_new(path: &Path) -> Result<File, CliError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| CliError::writing(path, &error))
}

/// One secret and a newline, in one write.
pub fn write_line(out: &mut impl io::Write, secret: &str) -> io::Result<()> {
    let line = Zeroizing::new(format!("{secret}\n"));
    out.write_all(line.as_bytes())
}

fn stdin(what: &str) -> Result<Zeroizing<String>, CliError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(CliError::usage(
            format!("refusing to read a {what} from a terminal, which would show it"),
            format!("redirect stdin: … --{what}-stdin < FILE"),
        ));
    }
    read(stdin.lock()).map_err(|error| CliError::reading(Path::new("stdin"), &error))
}

fn file(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let opened = File::open(path).map_err(|error| CliError::reading(path, &error))?;
    read(opened).map_err(|error| CliError::reading(path, &error))
}

fn read(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET as usize + 1));
    from.take(MAX_SECRET + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(io::Error::other("too long for a credential"));
    }
    Ok(text)
}

/// Random hex digits, for names that must not collide.
pub fn random_name() -> Result<String, CliError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        CliError::local(
            exit::SOFTWARE,
            "INTERNAL",
            format!("no random bytes: {error}"),
        )
    })?;
    Ok(super::output::protojson::hex(&bytes))
}

#[cfg(test)]
mod tests;
