//! Disk space held in reserve, so that a revocation fits on a full disk.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
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

    /// Takes the reserve, unless it is there.
    pub(super) fn fill(&self) {
        let there = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= BYTES);
        if there {
            return;
        }
        if let Err(error) = self.write() {
            self.release();
            warn!(
                error = &error as &dyn std::error::Error,
                "no room for the reserve"
            );
        }
    }

    /// Writes it out: a file of holes would reserve nothing.
    fn write(&self) -> std::io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        let block = vec![0_u8; 64 * 1024];
        for _ in 0..BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()
    }

    /// Gives the reserve free.
    pub(super) fn release(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
