//! The schema's versions, and the way from each to the next.

use rusqlite::Connection;

/// Numbered, append-only; the number of a migration is the version it leads to.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_registry.sql")];

/// Marks a file as a registry: "EPSD".
pub(super) const APPLICATION_ID: i32 = 0x4550_5344;

/// The version this program writes.
pub(super) fn newest() -> u32 {
    MIGRATIONS.len() as u32
}

/// Brings a registry to the newest version, each step in one transaction.
pub(super) fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (number, sql) in (1..).zip(MIGRATIONS).skip(from as usize) {
        let step =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", number)?;
        step.commit()?;
    }
    Ok(())
}
