//! Files that are no registry this program may serve: each is refused for what
//! it is, and not a byte of it changes.

use std::os::unix::fs::FileExt as _;

use rusqlite::Connection;

use super::{Home, Journal, key, sample};
use crate::{
    secret::DigestKey,
    session::store::Store,
    storage::{
        OpenError,
        migrate::{self, APPLICATION_ID},
    },
};

/// Opens it, which must fail and leave the directory exactly as it was.
fn refused(home: &Home, key: &DigestKey) -> OpenError {
    let before = home.contents();
    let error = Journal::open(&home.files(), key)
        .map(drop)
        .expect_err("it is refused");
    let after = home.contents();
    let names = |contents: &std::collections::BTreeMap<String, Vec<u8>>| {
        contents.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&after), names(&before), "no file comes or goes");
    assert!(after == before, "not a byte changes");
    error
}

/// A stranger's database, in this journal mode.
fn stranger(home: &Home, journal_mode: &str) -> Connection {
    let connection = Connection::open(home.registry()).unwrap();
    connection
        .pragma_update(None, "journal_mode", journal_mode)
        .unwrap();
    connection
        .execute_batch("CREATE TABLE album (title TEXT); INSERT INTO album VALUES ('Blue')")
        .unwrap();
    connection
}

/// Copies what lies there, as a crash of its owner would leave it.
fn crashed(from: &Home) -> Home {
    let copy = Home::new();
    for (name, bytes) in from.contents() {
        std::fs::write(copy.file(&name), bytes).unwrap();
    }
    copy
}

#[test]
fn a_strangers_database_is_foreign() {
    let home = Home::new();
    drop(stranger(&home, "DELETE"));
    let error = refused(&home, &key());
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("registry.db is not a registry"), "{text}");
    assert!(text.contains("choose another state directory"), "{text}");
}

#[test]
fn a_strangers_database_with_a_live_log_keeps_it() {
    let home = Home::new();
    let owner = stranger(&home, "WAL");
    let left = crashed(&home);
    drop(owner);
    std::fs::remove_file(left.file("registry.db-shm")).unwrap();
    let names: Vec<_> = left.contents().into_keys().collect();
    assert_eq!(names, ["registry.db", "registry.db-wal"]);
    assert!(!left.contents()["registry.db-wal"].is_empty());
    let error = refused(&left, &key());
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");

    // A plain look does change it: the comparison sees that.
    let before = left.contents();
    let plain = Connection::open(left.registry()).unwrap();
    plain
        .pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))
        .unwrap();
    drop(plain);
    assert!(left.contents() != before);
}

#[test]
fn a_strangers_database_in_the_middle_of_a_transaction_keeps_its_journal() {
    let home = Home::new();
    let owner = stranger(&home, "DELETE");
    owner.pragma_update(None, "cache_size", 1).unwrap();
    owner.pragma_update(None, "cache_spill", 1).unwrap();
    owner
        .execute_batch(
            "BEGIN IMMEDIATE;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO album SELECT hex(randomblob(200)) FROM n",
        )
        .unwrap();
    let left = crashed(&home);
    drop(owner);
    assert!(!left.contents()["registry.db-journal"].is_empty());
    let error = refused(&left, &key());
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
}

#[test]
fn what_is_no_database_is_foreign() {
    for bytes in [
        &b"x"[..],
        b"SQLite format 2\0 and so on",
        &[0; 4096],
        "notes, not a database\n".repeat(500).as_bytes(),
    ] {
        let home = Home::new();
        std::fs::write(home.registry(), bytes).unwrap();
        let error = refused(&home, &key());
        assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    }
}

#[test]
fn a_newer_registry_is_named_with_both_versions() {
    let home = Home::with_sample();
    let connection = Connection::open(home.registry()).unwrap();
    connection.pragma_update(None, "user_version", 9).unwrap();
    let left = crashed(&home);
    drop(connection);
    let _ = std::fs::remove_file(left.file("registry.db-shm"));
    let error = refused(&left, &key());
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 9,
                known: 2,
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("schema 9"), "{text}");
    assert!(text.contains("start the newer episoded"), "{text}");
}

/// Overwrites the page where the table begins with what is no page.
fn damage(home: &Home, table: &str) {
    let connection = Connection::open(home.registry()).unwrap();
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let page: u64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?1",
            [table],
            |row| row.get::<_, i64>(0),
        )
        .unwrap() as u64;
    drop(connection);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(home.registry())
        .unwrap();
    file.write_all_at(&[0xff; 512], (page - 1) * 4096).unwrap();
}

#[test]
fn a_damaged_page_of_what_a_start_reads_is_corrupt() {
    for table in ["session", "meta"] {
        let home = Home::with_sample();
        damage(&home, table);
        let error = refused(&home, &key());
        assert!(
            matches!(error, OpenError::Corrupt(..)),
            "{table}: {error:?}"
        );
        let text = error.to_string();
        assert!(text.contains("is damaged"), "{text}");
        assert!(text.contains("episoded --restore FILE"), "{text}");
    }
}

#[test]
fn the_key_of_another_registry_is_refused() {
    let home = Home::with_sample();
    let error = refused(&home, &DigestKey::new(&[8; 32]));
    assert!(matches!(error, OpenError::WrongKey(_)), "{error:?}");
    assert!(error.to_string().contains("put the right registry.key"));
    home.open();
}

#[test]
fn only_what_is_bad_data_says_so() {
    let path = || "registry.db".into();
    let bad = [
        OpenError::Foreign(path()),
        OpenError::Newer {
            path: path(),
            found: 2,
            known: 2,
        },
        OpenError::Corrupt(path(), "how".to_owned()),
        OpenError::WrongKey(path()),
    ];
    for error in bad {
        assert!(error.is_bad_data(), "{error:?}");
    }
    let moment = OpenError::Io(path(), std::io::ErrorKind::StorageFull.into());
    assert!(!moment.is_bad_data());
}

/// A first start that is cut short leaves nothing, an empty file, a file with
/// nothing in it, or a journal of its first page.
#[test]
fn a_first_start_that_was_cut_short_is_made_good_by_the_next() {
    let empty = |home: &Home| std::fs::write(home.registry(), b"").unwrap();
    let headed = |home: &Home| {
        let connection = Connection::open(home.registry()).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
    };
    let unbound = |home: &Home| {
        let mut connection = Connection::open(home.registry()).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        let path = home.registry();
        migrate::upgrade(&mut connection, &path, 0, migrate::MIGRATIONS).unwrap();
    };
    let hot = |home: &Home| {
        headed(home);
        let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
        // Records, nonce, pages before, sector, page.
        for word in [0, 1, 0, 512, 4096] {
            journal.extend(u32::to_be_bytes(word));
        }
        journal.resize(512, 0);
        std::fs::write(home.file("registry.db-journal"), journal).unwrap();
    };
    let cuts: [&dyn Fn(&Home); 5] = [&|_| {}, &empty, &headed, &unbound, &hot];
    for (number, cut) in cuts.into_iter().enumerate() {
        let home = Home::new();
        cut(&home);
        let mut journal = home.open();
        journal
            .append(&[sample::registered(1)], super::NOW)
            .unwrap();
        drop(journal);
        let mut journal = home.open();
        assert_eq!(
            super::sessions(&mut journal),
            [(sample::bare(1, 1), crate::session::state::Live::default())],
            "{number}"
        );
        let meta = journal.meta().unwrap();
        assert!(!meta.registry_id.as_str().is_empty(), "{number}");
    }
}

#[test]
fn a_registry_is_marked_as_one() {
    let home = Home::with_sample();
    let connection = Connection::open(home.registry()).unwrap();
    let number = |pragma: &str| {
        let read = connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        read.unwrap()
    };
    assert_eq!(number("application_id"), APPLICATION_ID);
    assert_eq!(number("user_version"), migrate::newest() as i32);
}
