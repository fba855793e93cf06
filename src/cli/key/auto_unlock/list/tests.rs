use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::{List, ListError, MAX_LOCKBOXES};
use crate::keycache::entry::LockboxId;
use crate::paths::Env;

fn id(text: &str) -> LockboxId {
    LockboxId::parse(text).unwrap()
}

/// A place for a list, and an environment that leads to it.
fn place() -> (tempfile::TempDir, Env, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let env = Env::new(7).with("XDG_CONFIG_HOME", root.path());
    let path = env.auto_unlock().unwrap();
    (root, env, path)
}

fn known(env: &Env) -> Vec<(String, bool)> {
    let list = List::read(env).unwrap();
    let all = list.lockboxes();
    all.map(|(id, enabled)| (id.as_str().to_owned(), enabled))
        .collect()
}

#[test]
fn it_remembers_what_is_enabled_and_what_no_longer() {
    let (_root, env, path) = place();
    assert_eq!(known(&env), []);
    assert!(!path.exists(), "reading makes nothing");
    let odd = "a \"b\"\n\u{7f}é";
    List::change(&env, |list| list.enable(id(odd))).unwrap();
    List::change(&env, |list| list.enable(id("b"))).unwrap();
    assert!(List::change(&env, |list| list.disable(&id("b"))).unwrap());
    assert!(!List::change(&env, |list| list.disable(&id("b"))).unwrap());
    assert!(!List::change(&env, |list| list.disable(&id("c"))).unwrap());
    assert_eq!(
        known(&env),
        [(odd.to_owned(), true), ("b".to_owned(), false)]
    );
    let list = List::read(&env).unwrap();
    assert!(list.is_enabled(&id(odd)) && !list.is_enabled(&id("b")));
    assert!(!list.is_enabled(&id("c")));
    List::change(&env, |list| list.remove(&id(odd))).unwrap();
    assert_eq!(known(&env), [("b".to_owned(), false)]);
}

#[test]
fn its_file_is_ours_alone_and_replaced_as_a_whole() {
    let (root, env, path) = place();
    List::change(&env, |list| list.enable(id("a"))).unwrap();
    let first = fs::File::open(&path).unwrap();
    List::change(&env, |list| list.enable(id("b"))).unwrap();
    let before = std::io::read_to_string(first).unwrap();
    assert!(!before.contains("\"b\""), "who reads it sees no change");
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let directory = root.path().join("lockbox");
    let mode = fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o770)).unwrap();
    let refused = List::change(&env, |list| list.enable(id("c")));
    assert!(matches!(refused, Err(ListError::Directory(_))));
}

#[test]
fn changes_that_come_at_once_are_all_there() {
    let (_root, env, _) = place();
    std::thread::scope(|threads| {
        for name in 0..8 {
            let env = &env;
            threads.spawn(move || {
                List::change(env, |list| list.enable(id(&name.to_string()))).unwrap();
            });
        }
    });
    assert_eq!(known(&env).len(), 8);
}

#[test]
fn what_it_does_not_understand_enables_nothing() {
    let (_root, env, path) = place();
    List::change(&env, |list| list.enable(id("a"))).unwrap();
    for text in [
        "",
        "{}",
        r#"{"lockboxes": {"a": true}}"#,
        r#"{"lockboxes": {"": "enabled"}}"#,
        r#"{"lockboxes": {"a": "enabled"}, "more": 1}"#,
    ] {
        fs::write(&path, text).unwrap();
        let refused = List::read(&env);
        assert!(matches!(refused, Err(ListError::Malformed(_))), "{text}");
        let refused = List::change(&env, |list| list.enable(id("b")));
        assert!(matches!(refused, Err(ListError::Malformed(_))), "{text}");
    }
}

#[test]
fn a_file_that_others_may_have_written_is_refused() {
    let (root, env, path) = place();
    List::change(&env, |list| list.enable(id("a"))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(List::read(&env), Err(ListError::Exposed(_))));
    let moved = root.path().join("moved");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&path, &moved).unwrap();
    symlink(&moved, &path).unwrap();
    assert!(matches!(List::read(&env), Err(ListError::Io(..))));
}

#[test]
fn it_is_never_longer_than_status_can_show() {
    let (_root, env, _) = place();
    List::change(&env, |list| {
        for name in 0..MAX_LOCKBOXES {
            list.enable(id(&format!("{name}{}", "\u{1}".repeat(1_000))));
        }
    })
    .unwrap();
    let refused = List::change(&env, |list| list.enable(id("more")));
    assert!(matches!(refused, Err(ListError::Full)));
    assert!(matches!(
        List::check(&env, &id("more")),
        Err(ListError::Full)
    ));
    let known_already = format!("0{}", "\u{1}".repeat(1_000));
    List::check(&env, &id(&known_already)).unwrap();
    assert_eq!(known(&env).len(), MAX_LOCKBOXES);
}

#[test]
fn without_a_home_nothing_is_enabled_and_nothing_can_be() {
    let env = Env::new(7);
    assert_eq!(known(&env), []);
    let refused = List::change(&env, |list| list.enable(id("a")));
    assert!(matches!(refused, Err(ListError::NoHome)));
}
