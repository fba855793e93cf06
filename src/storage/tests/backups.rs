//! Copies of a serving registry, and their way back.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{Home, NOW, events, key, mode, sample, sessions};
use crate::{
    secret::DigestKey,
    session::{
        state::{Live, Session},
        store::{BackupProgress, Change, Store},
    },
    storage::{Journal, RestoreError, restore},
};

/// Copies the journal a page at a time, appending between the steps.
fn copy_while_writing(journal: &mut Journal, to: &Path) -> Vec<(Session, Live)> {
    journal.backup_begin(to).unwrap();
    let mut number = 1000;
    let mut progress = BackupProgress {
        copied: 0,
        total: 1,
    };
    while progress.copied < progress.total {
        if number < 1100 {
            journal.append(&[sample::registered(number)], NOW).unwrap();
            number += 1;
        }
        progress = journal.backup_step(1).unwrap();
    }
    let copied = sessions(journal);
    journal.backup_end();
    journal.append(&[sample::registered(5000)], NOW).unwrap();
    copied
}

/// A registry with more than a few pages, and a copy of it taken under writes.
fn copied() -> (Home, PathBuf, Vec<(Session, Live)>) {
    let home = Home::with_sample();
    let mut journal = home.open();
    let many: Vec<Change> = (100..400).map(sample::registered).collect();
    journal.append(&many, NOW).unwrap();
    let backup = home.file("backup.db");
    let expected = copy_while_writing(&mut journal, &backup);
    (home, backup, expected)
}

fn registry_id(home: &Home, key: &DigestKey) -> String {
    let mut journal = Journal::open(&home.files(), key).unwrap();
    journal.meta().unwrap().registry_id.as_str().to_owned()
}

#[test]
fn a_copy_taken_under_writes_is_whole_private_and_as_of_its_last_step() {
    let (_home, backup, expected) = copied();
    assert_eq!(mode(&backup), 0o600);
    let connection = Connection::open(&backup).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    drop(connection);
    let other = Home::new();
    std::fs::copy(&backup, other.registry()).unwrap();
    let mut journal = Journal::open(&other.files(), &key()).unwrap();
    let before = sample::sessions().len() + 300;
    assert!(expected.len() > before + 3, "some came while it ran");
    assert_eq!(sessions(&mut journal), expected);
}

#[test]
fn a_restored_copy_is_a_registry_of_its_own_and_the_old_one_is_kept() {
    let (home, backup, expected) = copied();
    std::fs::set_permissions(&backup, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (id, now) = (registry_id(&home, &key()), sessions(&mut home.open()));
    let aside = restore(&backup, &home.files(), &key()).unwrap();
    assert_eq!(aside, Some(home.file("registry.db.replaced-1")));
    assert_ne!(registry_id(&home, &key()), id);
    assert_eq!(mode(&home.registry()), 0o600, "whatever the backup's mode");
    let mut journal = Journal::open(&home.files(), &key()).unwrap();
    assert_eq!(sessions(&mut journal), expected);
    let told = sample::events().len() + expected.len() - sample::sessions().len();
    assert_eq!(events(&mut journal).len(), told);
    drop(journal);

    let old = Home::new();
    for suffix in ["", "-wal"] {
        let from = home.file(&format!("registry.db.replaced-1{suffix}"));
        std::fs::copy(from, old.file(&format!("registry.db{suffix}"))).unwrap();
    }
    assert_eq!(sessions(&mut old.open()), now, "with its log");
    let again = restore(&backup, &home.files(), &key()).unwrap();
    assert_eq!(again, Some(home.file("registry.db.replaced-2")));
}

#[test]
fn a_copy_is_restored_where_there_is_no_registry() {
    let (_home, backup, expected) = copied();
    let other = Home::new();
    assert_eq!(restore(&backup, &other.files(), &key()).unwrap(), None);
    let mut journal = Journal::open(&other.files(), &key()).unwrap();
    assert_eq!(sessions(&mut journal), expected);
    drop(journal);
    let names: Vec<_> = other.contents().into_keys().collect();
    assert_eq!(
        names,
        ["registry.ballast", "registry.db", "registry.db-wal"],
        "nothing is left over"
    );
}

/// Cut after each of its steps, a restore is finished by the next start.
#[test]
fn a_restore_that_was_cut_short_is_finished_by_the_next_start() {
    for steps in 0..4 {
        let (home, backup, expected) = copied();
        let now = sessions(&mut home.open());
        // The copy as a restore makes it ready, made somewhere else.
        let other = Home::new();
        restore(&backup, &other.files(), &key()).unwrap();
        std::fs::copy(other.registry(), home.file("registry.db.restored")).unwrap();
        let moves = [
            ("registry.db-wal", "registry.db.replaced-1-wal"),
            ("registry.db", "registry.db.replaced-1"),
            ("registry.db.restored", "registry.db"),
        ];
        for (from, to) in &moves[..steps] {
            std::fs::rename(home.file(from), home.file(to)).unwrap();
        }
        assert_eq!(sessions(&mut home.open()), expected, "after {steps} steps");
        assert!(!home.file("registry.db.restored").exists());
        let old = Home::new();
        for suffix in ["", "-wal"] {
            let from = home.file(&format!("registry.db.replaced-1{suffix}"));
            std::fs::copy(from, old.file(&format!("registry.db{suffix}"))).unwrap();
        }
        assert_eq!(sessions(&mut old.open()), now, "after {steps} steps");
    }
}

/// What an earlier attempt left beside the new file belongs to another one.
#[test]
fn the_remains_of_an_attempt_that_was_cut_short_are_no_part_of_the_next() {
    let (home, backup, expected) = copied();
    let stale = Home::with_sample();
    let log = std::fs::read(stale.file("registry.db-wal")).unwrap();
    std::fs::write(home.file("registry.db.restoring-wal"), log).unwrap();
    std::fs::write(home.file("registry.db.restoring"), b"half").unwrap();
    restore(&backup, &home.files(), &key()).unwrap();
    let mut journal = Journal::open(&home.files(), &key()).unwrap();
    assert_eq!(sessions(&mut journal), expected);
}

/// Restoring it must fail and leave the directory exactly as it was.
fn refused(home: &Home, backup: &Path, key: &DigestKey) -> RestoreError {
    let before = home.contents();
    let error = restore(backup, &home.files(), key).expect_err("it is refused");
    assert!(home.contents() == before, "the registry is as it was");
    error
}

#[test]
fn what_cannot_be_used_is_refused_and_the_registry_stays_as_it_was() {
    let (home, backup, _) = copied();
    let error = refused(&home, &backup, &DigestKey::new(&[8; 32]));
    assert!(error.to_string().contains("registry.key is of another"));

    let broken = |change: &dyn Fn(&Connection)| {
        let path = home.file("broken.db");
        std::fs::copy(&backup, &path).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "journal_mode", "DELETE")
            .unwrap();
        change(&connection);
        path
    };
    let newer = broken(&|c| c.pragma_update(None, "user_version", 9).unwrap());
    let error = refused(&home, &newer, &key());
    assert!(error.to_string().contains("by a newer episoded"), "{error}");

    let foreign = broken(&|c| c.pragma_update(None, "application_id", 9).unwrap());
    let error = refused(&home, &foreign, &key());
    assert!(error.to_string().contains("not a backup of a registry"));

    let half = std::fs::read(&backup).unwrap();
    std::fs::write(home.file("broken.db"), &half[..half.len() / 2]).unwrap();
    refused(&home, &home.file("broken.db"), &key());

    std::fs::write(home.file("broken.db"), b"not a database at all").unwrap();
    refused(&home, &home.file("broken.db"), &key());

    let error = refused(&home, &home.file("missing.db"), &key());
    assert!(matches!(error, RestoreError::Io(..)), "{error:?}");
}
