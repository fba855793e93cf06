//! Temporary directories with paths short enough for a socket.

use std::path::{Path, PathBuf};

/// The directories of one daemon, removed when dropped.
pub struct Dirs {
    root: tempfile::TempDir,
}

impl Dirs {
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("ep-")
            .tempdir_in("/tmp")
            .expect("/tmp takes a directory");
        for name in ["run", "state"] {
            private_dir(&root.path().join(name));
        }
        Self { root }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn runtime(&self) -> PathBuf {
        self.root().join("run")
    }

    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// A copy of the state directory, as files lie there now, beside a runtime
    /// directory of its own.
    pub fn copy_of_state(&self) -> Self {
        let copy = Self::new();
        for entry in std::fs::read_dir(self.state()).expect("the state directory is there") {
            let entry = entry.expect("it can be listed");
            if entry.file_type().expect("it has a type").is_file() {
                std::fs::copy(entry.path(), copy.state().join(entry.file_name()))
                    .expect("a file is copied");
            }
        }
        copy
    }
}

fn private_dir(path: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .expect("a directory is made");
}
