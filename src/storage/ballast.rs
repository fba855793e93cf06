//! Disk space held in reserve, so that a revocation fits on a full disk.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use tracing::warn;

/// Room for tens of thousands of revocations.
const BYTES: u64 = 8 * 1024 * 1024;

/// The file beside the registry.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Takes the reserve, or as much of it as there is room for; whether it is
    /// whole.
    pub(super) fn fill(&self) -> bool {
        match self.grow() {
            Ok(length) => length >= BYTES,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "no room for the reserve");
                false
            }
        }
    }

    fn grow(&self) -> std::io::Result<u64> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        let length = file.metadata()?.len();
        let space = rustix::fs::fstatvfs(&file)?;
        let room = space.f_bavail.saturating_mul(space.f_frsize);
        let whole = BYTES.min(length.saturating_add(room));
        if whole <= length {
            return Ok(length);
        }
        match fallocate(&file, FallocateFlags::empty(), length, whole - length) {
            Ok(()) => Ok(whole),
            Err(Errno::OPNOTSUPP) => write_out(&file, length, whole),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the reserve free.
    pub(super) fn release(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where space cannot be allocated otherwise: a file of holes would reserve
/// nothing.
fn write_out(file: &File, from: u64, to: u64) -> std::io::Result<u64> {
    let block = [0_u8; 8 * 1024];
    let mut at = from;
    while at < to {
        let piece = block.len().min((to - at) as usize);
        file.write_all_at(&block[..piece], at)?;
        at += piece as u64;
    }
    file.sync_all()?;
    Ok(to)
}
