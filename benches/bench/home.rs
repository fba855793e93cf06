//! Where processes of the bench keep their state and their sockets.

use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The directory in which every state directory lies: below `target`, because
/// what is durable must be measured on a disk.
pub fn state_root() -> PathBuf {
    target().join("bench-state")
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent()
        .expect("it lies in the target directory")
        .to_owned()
}

/// A state directory and a directory for sockets; both go when it is dropped.
pub struct Home {
    state: PathBuf,
    /// Not below `target`, whose path may be too long for a socket.
    runtime: TempDir,
}

impl Home {
    /// An empty one that is open to nobody else, as the daemon wants it.
    pub fn new(name: &str) -> Self {
        let state = state_root().join(name);
        let _ = std::fs::remove_dir_all(&state);
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&state).expect("the state directory is made");
        let runtime = tempfile::Builder::new()
            .prefix("episoded-bench-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .expect("a temporary directory is made");
        Self { state, runtime }
    }

    /// On the disk.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// For sockets.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
        // The last one takes the root along.
        let _ = std::fs::remove_dir(state_root());
    }
}
