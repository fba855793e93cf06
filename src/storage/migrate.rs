//! The schema's versions, and the way from each to the next.

use std::path::Path;

use rusqlite::Connection;

use super::open::{OpenError, make_private};

/// Numbered, append-only; the number of a migration is the version it leads to.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_registry.sql"),
    include_str!("../../migrations/0002_firewall.sql"),
];

/// Marks a file as a registry: "EPSD".
pub(super) const APPLICATION_ID: i32 = 0x4550_5344;

/// The version this program writes.
pub(super) fn newest() -> u32 {
    MIGRATIONS.len() as u32
}

/// Brings a registry to the newest version. One that holds something is copied
/// beside itself first.
pub(super) fn upgrade(
    connection: &mut Connection,
    path: &Path,
    from: u32,
    migrations: &[&str],
) -> Result<(), OpenError> {
    if from as usize >= migrations.len() {
        return Ok(());
    }
    if from > 0 {
        copy_aside(connection, path, from)?;
    }
    migrate(connection, from, migrations).map_err(|error| OpenError::Sqlite(path.to_owned(), error))
}

/// Each step in one transaction.
fn migrate(connection: &mut Connection, from: u32, migrations: &[&str]) -> rusqlite::Result<()> {
    for (number, sql) in (1..).zip(migrations).skip(from as usize) {
        let step =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", number)?;
        step.commit()?;
    }
    Ok(())
}

fn copy_aside(connection: &Connection, path: &Path, version: u32) -> Result<(), OpenError> {
    let aside = path.with_extension(format!("db.schema-{version}"));
    let copy = |error| OpenError::Copy(aside.clone(), error);
    let _ = std::fs::remove_file(&aside);
    make_private(&aside).map_err(copy)?;
    connection
        .execute("VACUUM INTO ?1", [aside.to_string_lossy()])
        .map_err(|error| OpenError::Sqlite(aside.clone(), error))?;
    std::fs::File::open(&aside)
        .and_then(|file| file.sync_all())
        .map_err(copy)
}
