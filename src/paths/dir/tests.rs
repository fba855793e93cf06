use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use super::{
    DirError, ensure_own_dir, ensure_passable_dir, ensure_private_dir, verify_private_dir,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_directory_is_made_private_with_its_parents() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/c");
    assert!(verify_private_dir(&path).unwrap_err().is_missing());
    ensure_private_dir(&path).unwrap();
    ensure_private_dir(&path).unwrap();
    for made in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&temp.path().join(made)), 0o700, "{made}");
    }
}

#[test]
fn a_directory_open_to_others_is_refused_not_repaired() {
    let temp = tempfile::tempdir().unwrap();
    for wide in [0o701, 0o710, 0o755, 0o1777] {
        chmod(temp.path(), wide);
        assert!(matches!(
            ensure_private_dir(temp.path()),
            Err(DirError::Mode { mode, .. }) if mode == wide
        ));
        assert_eq!(mode(temp.path()), wide);
    }
}

#[test]
fn others_may_look_into_a_directory_of_our_own_and_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    ensure_own_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    chmod(&path, 0o755);
    ensure_own_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o755, "not repaired");
    for wide in [0o720, 0o702, 0o1777] {
        chmod(&path, wide);
        assert!(matches!(
            ensure_own_dir(&path),
            Err(DirError::Mode { mode, .. }) if mode == wide
        ));
    }
}

#[test]
fn a_symlink_is_refused_even_behind_a_slash() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("target");
    ensure_private_dir(&target).unwrap();
    symlink(&target, temp.path().join("link")).unwrap();
    for name in ["link", "link/", "link/."] {
        assert!(
            matches!(
                ensure_private_dir(&temp.path().join(name)),
                Err(DirError::NotADirectory { .. })
            ),
            "{name}"
        );
    }
}

#[test]
fn a_file_is_not_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(
        ensure_private_dir(&path),
        Err(DirError::NotADirectory { .. })
    ));
    assert!(matches!(
        ensure_private_dir(&path.join("below")),
        Err(DirError::Create { .. })
    ));
}

/// Root makes a foreign directory; for anybody else the root of the tree is one.
#[test]
fn a_directory_of_another_user_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let foreign = if geteuid().is_root() {
        let path = temp.path().join("foreign");
        ensure_private_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        path
    } else {
        PathBuf::from("/")
    };
    assert!(matches!(
        ensure_private_dir(&foreign),
        Err(DirError::Owner { owner, .. }) if owner != geteuid().as_raw()
    ));
}

#[test]
fn a_passable_directory_follows_the_configuration() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("session");
    ensure_passable_dir(&path, None).unwrap();
    assert_eq!(mode(&path), 0o700);
    ensure_passable_dir(&path, Some(getegid())).unwrap();
    assert_eq!(mode(&path), 0o710);
    ensure_passable_dir(&path, None).unwrap();
    assert_eq!(mode(&path), 0o700);
    chmod(&path, 0o770);
    assert!(matches!(
        ensure_passable_dir(&path, Some(getegid())),
        Err(DirError::Mode { mode: 0o770, .. })
    ));
}

/// Needs root to give the directory to a group it is not in.
#[test]
fn a_passable_directory_changes_group() {
    if !geteuid().is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let gid = rustix::process::Gid::from_raw(65_534);
    ensure_passable_dir(temp.path(), Some(gid)).unwrap();
    assert_eq!(mode(temp.path()), 0o710);
    assert_eq!(fs::metadata(temp.path()).unwrap().gid(), 65_534);
}
