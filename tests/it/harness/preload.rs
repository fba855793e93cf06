//! Libraries that are preloaded into the daemon: what cannot be had otherwise.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::repository;

/// A library made from a C source, deleted when dropped.
pub struct Preload(tempfile::TempPath);

impl Preload {
    /// Compiles it; the source is named from `tests/it`.
    pub fn compile(source: &str) -> Self {
        let library = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("target takes a file")
            .into_temp_path();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(repository().join("tests/it").join(source))
            .arg("-ldl")
            .status()
            .expect("a build needs a C compiler");
        assert!(status.success());
        Self(library)
    }

    /// What LD_PRELOAD must be.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The words in front of a command that make it run with the library, which
    /// reads that variable: `NAME=value`.
    pub fn wrapper(&self, variable: impl Into<OsString>) -> Vec<OsString> {
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(&self.0);
        vec!["env".into(), preload, variable.into()]
    }
}
