//! Released schemas, and the way from one to the next.

use std::fmt::Write as _;

use rusqlite::{Connection, types::ValueRef};

use super::{Home, events, firewall, key, mode, sample, sessions, told};
use crate::{
    session::store::Store,
    storage::{
        Journal,
        migrate::{self, MIGRATIONS},
        rows::Decoder,
    },
};

/// The first released schema with the sample in it. Never changed: today's
/// program must read what that program wrote.
const SCHEMA_1: &str = include_str!("../../../tests/data/schema-1.sql");

/// The second, with what the context firewall keeps.
const SCHEMA_2: &str = include_str!("../../../tests/data/schema-2.sql");

/// Loads a dump into a registry file.
fn loaded(dump: &str) -> Home {
    let home = Home::new();
    let connection = Connection::open(home.registry()).unwrap();
    connection.execute_batch(dump).unwrap();
    home
}

/// The whole file as statements that make it again.
fn dump(connection: &Connection) -> String {
    let mut text = String::new();
    for pragma in ["application_id", "user_version"] {
        let number: i64 = connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .unwrap();
        writeln!(text, "PRAGMA {pragma} = {number};").unwrap();
    }
    let schema =
        "SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type DESC, name";
    let mut statement = connection.prepare(schema).unwrap();
    let tables = statement.query_map([], |row| row.get::<_, String>(0));
    for sql in tables.unwrap() {
        writeln!(text, "{};", sql.unwrap()).unwrap();
    }
    for (table, order) in [
        ("meta", "name"),
        ("session", "seq"),
        ("event", "revision"),
        ("manifest", "number"),
        ("refinement", "id"),
        ("refining", "work"),
    ] {
        rows(connection, table, order, &mut text);
    }
    text
}

fn rows(connection: &Connection, table: &str, order: &str, text: &mut String) {
    let sql = format!("SELECT * FROM {table} ORDER BY {order}");
    let mut statement = connection.prepare(&sql).unwrap();
    let columns = statement.column_count();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let value = |at| match row.get_ref(at).unwrap() {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(bytes) => format!("'{}'", std::str::from_utf8(bytes).unwrap()),
            ValueRef::Blob(bytes) => {
                let mut hex = String::new();
                for byte in bytes {
                    write!(hex, "{byte:02x}").unwrap();
                }
                format!("x'{hex}'")
            }
        };
        let values: Vec<String> = (0..columns).map(value).collect();
        writeln!(text, "INSERT INTO {table} VALUES ({});", values.join(", ")).unwrap();
    }
}

/// The sample as today's program writes it.
fn written_today() -> String {
    let home = Home::with_sample();
    firewall::append(&mut home.open());
    let connection = Connection::open(home.registry()).unwrap();
    let id = "UPDATE meta SET value = 'R-frozen' WHERE name = 'registry_id'";
    connection.execute(id, []).unwrap();
    dump(&connection)
}

#[test]
fn every_session_and_event_of_the_first_schema_reads_back() {
    let home = loaded(SCHEMA_1);
    let mut journal = Journal::open(&home.files(), &key()).unwrap();
    assert_eq!(sessions(&mut journal), sample::sessions());
    let read: Vec<String> = events(&mut journal).iter().map(|e| told(e)).collect();
    let frozen: Vec<String> = sample::events().iter().map(|e| told(e)).collect();
    assert_eq!(read, frozen);
    let meta = journal.meta().unwrap();
    assert_eq!(meta.registry_id.as_str(), "R-frozen");
    assert_eq!(
        (meta.seq, meta.revision),
        (sample::last_seq(), sample::last_revision())
    );
    let mut named = Vec::new();
    let visit = &mut |past: crate::session::store::PastRequest| named.push(past.request);
    journal.requests(0, 100, visit).unwrap();
    let mut asked: Vec<_> = (0..sample::sessions().len())
        .filter_map(sample::request)
        .collect();
    asked.reverse();
    assert_eq!(named, asked);
}

#[test]
fn what_is_written_today_is_the_newest_frozen_schema() {
    let today = written_today();
    assert_eq!(migrate::newest(), 2, "freeze the new schema beside the old");
    assert!(today == SCHEMA_2, "rows changed; today they are:\n{today}");
}

#[test]
fn what_the_firewall_keeps_in_the_second_schema_reads_back() {
    let home = loaded(SCHEMA_2);
    let mut journal = Journal::open(&home.files(), &key()).unwrap();
    firewall::is_there(&mut journal);
}

/// Swaps the tags of two fields in every session, as a change of the row types
/// would, and wants the frozen rows to notice.
#[test]
fn a_row_whose_tags_were_changed_is_noticed() {
    let (session, live) = sample::sessions().remove(1);
    let mut encoder = crate::storage::rows::Encoder::default();
    let spec = encoder.spec(&session.spec);
    let body = encoder.session(&session, &live);
    let mut interner = crate::session::index::Interner::default();
    let mut read = |body: &[u8]| {
        let decoded =
            Decoder::default().session(session.seq, session.revision, &spec, body, &mut interner);
        decoded.map(|(read, _)| read)
    };
    assert_eq!(read(&body).unwrap(), session);
    // Field 1, the names, becomes field 99, which nobody knows.
    let mut moved = vec![0x9a, 0x06];
    moved.extend(&body[1..]);
    assert!(read(&moved).map_or(true, |read| read != session));
}

#[test]
fn before_a_migration_the_file_is_copied_beside_itself() {
    let home = Home::with_sample();
    let mut connection = Connection::open(home.registry()).unwrap();
    let steps = [
        MIGRATIONS[0],
        "CREATE TABLE second (x)",
        "CREATE TABLE third (x)",
    ];
    migrate::upgrade(&mut connection, &home.registry(), 1, &steps).unwrap();
    let version = |connection: &Connection| -> i64 {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    };
    assert_eq!(version(&connection), 3);
    connection
        .execute_batch("SELECT * FROM second, third")
        .unwrap();

    let aside = home.file("registry.db.schema-1");
    assert_eq!(mode(&aside), 0o600);
    let other = Home::new();
    std::fs::copy(&aside, other.registry()).unwrap();
    let mut old = Journal::open(&other.files(), &key()).unwrap();
    assert_eq!(sessions(&mut old), sample::sessions());
    assert_eq!(events(&mut old).len(), sample::events().len());
}

#[test]
fn a_step_that_fails_changes_nothing_and_the_steps_before_it_stay() {
    let home = Home::with_sample();
    let mut connection = Connection::open(home.registry()).unwrap();
    let steps = [
        MIGRATIONS[0],
        "CREATE TABLE second (x)",
        "CREATE TABLE third (x); CREATE TABLE second (x)",
    ];
    let failed = migrate::upgrade(&mut connection, &home.registry(), 1, &steps);
    failed.unwrap_err();
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
    connection.execute_batch("SELECT * FROM second").unwrap();
    connection.execute_batch("SELECT * FROM third").unwrap_err();
}

#[test]
fn a_registry_of_the_newest_version_is_not_copied() {
    let home = Home::with_sample();
    drop(Journal::open(&home.files(), &key()).unwrap());
    assert!(!home.file("registry.db.schema-1").exists());
}
