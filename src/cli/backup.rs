//! `backup`: a copy of the registry, whole or not at all.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::context::Context;
use super::error::{CliError, exit};
use super::output::note;
use super::secrets::create_new;
use crate::paths::{REGISTRY_KEY, REGISTRY_LOCK};
use crate::proto::admin::BackupResponse;

/// Copy the registry of the running daemon.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl backup /var/backups/registry.db")]
pub struct Backup {
    /// Where the copy goes; replaced when the copy is complete
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        refuse_state_dir(&self.file)?;
        refuse_what_is_no_file(&self.file)?;
        let client = context.operator().await?;
        let mut partial = Partial::create(&self.file)?;
        let mut chunks = client.backup().await?;
        let mut progress = Progress::new();
        while let Some(answer) = chunks.next().await? {
            partial.write(&answer.chunk)?;
            progress.show(&answer);
        }
        progress.end();
        let bytes = partial.finish(&self.file)?;
        note(format_args!("{bytes} bytes in {}", self.file.display()));
        note(key_note());
        Ok(())
    }
}

/// Refuses to write beside a registry: its own files must not be replaced under a
/// daemon.
pub fn refuse_state_dir(target: &Path) -> Result<(), CliError> {
    let target = std::path::absolute(target).map_err(|error| CliError::writing(target, &error))?;
    let beside_a_lock = |dir: &Path| dir.join(REGISTRY_LOCK).exists();
    if !target.parent().is_some_and(beside_a_lock) {
        return Ok(());
    }
    Err(CliError::usage(
        format!("{} is in the state directory of a daemon", target.display()),
        "name a file in another directory",
    ))
}

/// A link or a device would be replaced by the copy, and not be one any more.
fn refuse_what_is_no_file(target: &Path) -> Result<(), CliError> {
    match std::fs::symlink_metadata(target) {
        Ok(about) if !about.is_file() => {
            let message = format!("{} is there and no regular file", target.display());
            Err(CliError::usage(
                message,
                "name a file to be made or replaced",
            ))
        }
        _ => Ok(()),
    }
}

/// What a copy is not worth much without.
pub fn key_note() -> String {
    format!(
        "the digest key file {REGISTRY_KEY} beside the registry belongs to it: \
         without it no handle or lease in the copy is accepted; keep it as a secret"
    )
}

/// `FILE.partial`, gone unless it became the file.
struct Partial {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Partial {
    fn create(target: &Path) -> Result<Self, CliError> {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        // What an interrupted backup left is nobody's.
        let _ = std::fs::remove_file(&path);
        let file = create_new(&path)?;
        Ok(Self {
            file,
            path,
            bytes: 0,
        })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), CliError> {
        self.bytes += chunk.len() as u64;
        self.file
            .write_all(chunk)
            .map_err(|error| CliError::writing(&self.path, &error))
    }

    fn finish(self, target: &Path) -> Result<u64, CliError> {
        if self.bytes == 0 {
            let message = "the daemon sent an empty copy";
            return Err(CliError::local(exit::SOFTWARE, "INTERNAL", message));
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.path, target))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|error| CliError::writing(target, &error))?;
        Ok(self.bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A line on a terminal that is written over.
struct Progress {
    is_shown: bool,
    percent: Option<u64>,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            percent: None,
        }
    }

    fn show(&mut self, answer: &BackupResponse) {
        let percent = (answer.pages_copied * 100).checked_div(answer.pages_total);
        if !self.is_shown || percent.is_none() || percent == self.percent {
            return;
        }
        self.percent = percent;
        let percent = percent.unwrap_or_default();
        let _ = write!(
            io::stderr(),
            "\r{percent:3} % of {} pages",
            answer.pages_total
        );
    }

    fn end(&self) {
        if self.percent.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::Partial;

    #[test]
    fn a_copy_appears_only_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("copy.db");
        fs::write(directory.path().join("copy.db.partial"), "left over").unwrap();
        let mut partial = Partial::create(&target).unwrap();
        partial.write(b"pages").unwrap();
        drop(partial);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut partial = Partial::create(&target).unwrap();
        partial.write(b"pages").unwrap();
        assert_eq!(partial.finish(&target).unwrap(), 5);
        assert_eq!(fs::read(&target).unwrap(), b"pages");
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_copy_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("copy.db");
        assert!(Partial::create(&target).unwrap().finish(&target).is_err());
        assert!(!target.exists());
    }
}
