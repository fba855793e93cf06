//! The directory of one run: where the child finds its handle.
//!
//! Owns the directory, which is gone when this is dropped.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::cli::error::{CliError, exit};
use crate::cli::secrets::{create_new, random_name, write_line};
use crate::client::Handle;
use crate::paths::{Env, ensure_private_dir};

/// A private directory with the handle file in it.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    /// Made in the runtime directory.
    pub fn create(env: &Env, handle: &Handle) -> Result<Self, CliError> {
        let runtime_dir = env.runtime_dir()?;
        ensure_private_dir(&runtime_dir).map_err(|error| {
            let message = format!("cannot use {}: {error}", runtime_dir.display());
            CliError::local(exit::CANNOT_CREATE, "FAILED_PRECONDITION", message)
        })?;
        let directory = runtime_dir.join(format!("run-{}", random_name()?));
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| CliError::writing(&directory, &error))?;
        let scratch = Self { directory };
        let path = scratch.handle_file();
        write_line(&mut create_new(&path)?, handle.expose())
            .map_err(|error| CliError::writing(&path, &error))?;
        Ok(scratch)
    }

    /// Where the handle is.
    pub fn handle_file(&self) -> PathBuf {
        self.directory.join("handle")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::Scratch;
    use crate::client::Handle;
    use crate::paths::{Env, RUNTIME_DIR_VAR};

    #[test]
    fn the_handle_is_ours_alone_and_gone_afterwards() {
        let runtime = tempfile::tempdir().unwrap();
        let path = runtime.path().join("episoded");
        let env = Env::new(rustix::process::geteuid().as_raw()).with(RUNTIME_DIR_VAR, &path);
        let handle = Handle::parse("H-0b1d2c3e-4f50-4617-8a9b-acbdcedfe0f1").unwrap();
        let scratch = Scratch::create(&env, &handle).unwrap();
        let file = scratch.handle_file();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), handle.expose());
        assert_eq!(mode(file.as_path()), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        drop(scratch);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
