//! What must not lie where its directory and its socket go.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::agent::{Agent, Place};
use super::{STRANGER, chmod};
use crate::harness::need_root;

pub fn mode(path: &Path) -> u32 {
    let metadata = std::fs::symlink_metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o7777
}

pub fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("it is there").ino()
}

pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn a_file_in_the_sockets_place_is_refused_and_kept() {
    let place = Place::new();
    place.make_directory(0o700);
    std::fs::write(place.socket(), "mine").expect("it is written");
    let before = inode(&place.socket());
    assert_ne!(place.refused(), 0);
    assert_eq!(inode(&place.socket()), before);
    let text = std::fs::read_to_string(place.socket());
    assert_eq!(text.expect("it is still a file"), "mine");
}

#[test]
fn a_directory_in_the_sockets_place_is_refused_and_kept() {
    let place = Place::new();
    place.make_directory(0o700);
    std::fs::create_dir(place.socket()).expect("it is made");
    assert_ne!(place.refused(), 0);
    assert!(place.socket().is_dir());
}

#[test]
fn a_link_in_the_sockets_place_is_refused_and_kept() {
    let place = Place::new();
    place.make_directory(0o700);
    let (file, socket) = (place.root().join("file"), place.root().join("socket"));
    std::fs::write(&file, "mine").expect("it is written");
    drop(UnixListener::bind(&socket).expect("a socket is bound"));
    let before = inode(&socket);
    for target in [file.clone(), socket.clone(), place.root().join("nowhere")] {
        symlink(&target, place.socket()).expect("a link is made");
        assert_ne!(place.refused(), 0, "{}", target.display());
        let link = std::fs::read_link(place.socket());
        assert_eq!(link.expect("it is still a link"), target);
        std::fs::remove_file(place.socket()).expect("it is ours");
    }
    let text = std::fs::read_to_string(file).expect("it is there");
    assert_eq!((text.as_str(), inode(&socket)), ("mine", before));
    assert!(!is_there(&place.root().join("nowhere")));
    drop(Agent::at(place));
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    for open in [0o755, 0o750, 0o710, 0o701, 0o702, 0o777] {
        let place = Place::new();
        place.make_directory(open);
        assert_ne!(place.refused(), 0, "{open:o}");
        assert_eq!(mode(&place.directory()), open, "it is left as it was");
        assert!(!is_there(&place.socket()));
        chmod(&place.directory(), 0o700);
        drop(Agent::at(place));
    }
}

#[test]
fn a_link_to_a_directory_is_refused() {
    let place = Place::new();
    let real = place.root().join("real");
    std::fs::create_dir(&real).expect("it is made");
    chmod(&real, 0o700);
    symlink(&real, place.directory()).expect("a link is made");
    assert_ne!(place.refused(), 0);
    let left = std::fs::read_dir(&real).expect("it is there").count();
    assert_eq!(left, 0);
    assert_eq!(std::fs::read_link(place.directory()).ok(), Some(real));
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let place = Place::new();
    std::fs::write(place.directory(), "mine").expect("it is written");
    assert_ne!(place.refused(), 0);
    let text = std::fs::read_to_string(place.directory());
    assert_eq!(text.expect("it is still a file"), "mine");
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    if !need_root() {
        return;
    }
    let place = Place::new();
    place.make_directory(0o700);
    let owner = Some(STRANGER);
    std::os::unix::fs::chown(place.directory(), owner, None).expect("root gives it away");
    assert_ne!(place.refused(), 0);
    assert!(!is_there(&place.socket()));
}
