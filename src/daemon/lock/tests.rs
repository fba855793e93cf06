use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;

use super::{Lock, LockError};
use crate::paths::REGISTRY_LOCK;

#[test]
fn one_holds_the_lock_and_the_next_is_told_who() {
    let dir = tempfile::tempdir().unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    let path = dir.path().join(REGISTRY_LOCK);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let error = Lock::take(dir.path()).unwrap_err();
    let us = std::process::id();
    assert!(matches!(&error, LockError::Held { pid: Some(pid), .. } if *pid == us));
    assert!(error.to_string().ends_with(&format!("(pid {us})")));

    drop(lock);
    assert_eq!(fs::read(&path).unwrap(), b"");
    Lock::take(dir.path()).unwrap();
}

#[test]
fn a_holder_that_has_not_written_yet_is_not_named() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = Lock::take(dir.path()).unwrap();
    for text in ["", "4194305\n", "not a pid", "99999999999999999999999"] {
        fs::write(dir.path().join(REGISTRY_LOCK), text).unwrap();
        assert!(
            matches!(
                Lock::take(dir.path()),
                Err(LockError::Held { pid: None, .. })
            ),
            "{text:?}"
        );
    }
}

#[test]
fn a_lock_file_left_by_a_crash_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(REGISTRY_LOCK);
    fs::write(&path, "4194305\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let _lock = Lock::take(dir.path()).unwrap();
    let us = format!("{}\n", std::process::id());
    assert_eq!(fs::read_to_string(&path).unwrap(), us);
}

#[test]
fn a_lock_file_that_others_can_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(REGISTRY_LOCK);
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        Lock::take(dir.path()),
        Err(LockError::Exposed { mode: 0o640, .. })
    ));
}

/// Needs root to make a file of somebody else.
#[test]
fn a_lock_file_of_somebody_else_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(Lock::take(dir.path()).unwrap());
    std::os::unix::fs::chown(dir.path().join(REGISTRY_LOCK), Some(65_534), None).unwrap();
    assert!(matches!(
        Lock::take(dir.path()),
        Err(LockError::Exposed { owner: 65_534, .. })
    ));
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(REGISTRY_LOCK);
    let refused = || matches!(Lock::take(dir.path()), Err(LockError::NotAFile { .. }));

    let target = dir.path().join("target");
    symlink(&target, &path).unwrap();
    assert!(refused(), "symlink");
    assert!(!target.exists());
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(refused(), "directory");
    fs::remove_dir(&path).unwrap();

    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(refused(), "fifo");
}

#[test]
fn a_missing_state_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Lock::take(&dir.path().join("none")),
        Err(LockError::Io { .. })
    ));
}
