//! What the registry knows about itself: names and values.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    clock::{BootId, Now},
    ids::RegistryId,
    session::{
        state::{Revision, Seq},
        store::Meta,
    },
};

pub(super) const REGISTRY_ID: &str = "registry_id";
pub(super) const INCARNATION: &str = "incarnation";
pub(super) const BOOT_ID: &str = "boot_id";
/// Events up to this revision are no longer kept.
pub(super) const COMPACTED: &str = "compacted";
/// The last registration, noted when its row goes.
pub(super) const LAST_SEQ: &str = "last_seq";
/// Revisions among the kept ones that have no row, because a restart reserved
/// them.
pub(super) const RESERVED: &str = "reserved";
/// Tells whether the digest key file belongs to this registry.
pub(super) const KEY_FINGERPRINT: &str = "key_fingerprint";
pub(super) const ALIVE_BOOT: &str = "alive_boot";
pub(super) const ALIVE_AWAKE: &str = "alive_awake";
pub(super) const ALIVE_WALL: &str = "alive_wall";

/// Sets a value.
pub(super) fn set(
    connection: &Connection,
    name: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection
        .prepare_cached(sql)?
        .execute(params![name, value])
        .map(drop)
}

/// Reads a value.
pub(super) fn get<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<T>> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Reads a number; absent: 0.
pub(super) fn number(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    Ok(get::<i64>(connection, name)?.unwrap_or(0) as u64)
}

/// Notes that the registry is alive.
pub(super) fn set_alive(connection: &Connection, now: Now) -> rusqlite::Result<()> {
    set(connection, ALIVE_BOOT, now.boot as i64)?;
    set(connection, ALIVE_AWAKE, now.awake as i64)?;
    set(connection, ALIVE_WALL, now.wall as i64)
}

/// The newest revision. A row that is no longer kept is a compacted one.
pub(super) fn newest_revision(connection: &Connection) -> rusqlite::Result<u64> {
    let newest = "SELECT max(revision) FROM event";
    Ok(outermost(connection, newest)?.max(number(connection, COMPACTED)?))
}

/// Notes the number of a session that is about to be deleted, if it is the newest:
/// a purge must not let it be used again.
pub(super) fn keep_seq(connection: &Connection, seq: Seq) -> rusqlite::Result<()> {
    if seq.0 < newest_seq(connection)? {
        return Ok(());
    }
    set(connection, LAST_SEQ, seq.0 as i64)
}

fn newest_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let newest = outermost(connection, "SELECT max(seq) FROM session")?;
    Ok(newest.max(number(connection, LAST_SEQ)?))
}

/// About how many sessions there are. To count them all takes as long as to read
/// them: so as many as lie in the middle of each part stand for those around.
fn about_how_many(connection: &Connection) -> rusqlite::Result<usize> {
    const PARTS: u64 = 32;
    const WIDTH: u64 = 32;
    let first = outermost(connection, "SELECT min(seq) FROM session")?;
    let last = outermost(connection, "SELECT max(seq) FROM session")?;
    let span = last.saturating_sub(first).saturating_add(1);
    let part = span.div_ceil(PARTS).max(WIDTH);
    let sql = "SELECT count(*) FROM session WHERE seq >= ?1 AND seq < ?1 + ?2";
    let mut count = connection.prepare_cached(sql)?;
    let mut sessions = 0;
    for begin in (0..span).step_by(part as usize) {
        let middle = first.saturating_add(begin + (part - WIDTH) / 2);
        let found: i64 = count.query_row([middle as i64, WIDTH as i64], |row| row.get(0))?;
        sessions += (found as u64).saturating_mul(part) / WIDTH;
    }
    Ok(sessions as usize)
}

/// The number at an end of a table; 0 of an empty one.
fn outermost(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let found: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    Ok(found.unwrap_or(0) as u64)
}

/// Reads everything that a recovery asks for.
pub(super) fn read(connection: &Connection, schema: u32) -> rusqlite::Result<Meta> {
    let newest = "SELECT at FROM event ORDER BY revision DESC LIMIT 1";
    let newest: Option<i64> = connection
        .query_row(newest, [], |row| row.get(0))
        .optional()?;
    let registry_id: Option<String> = get(connection, REGISTRY_ID)?;
    let boot_id: Option<String> = get(connection, BOOT_ID)?;
    Ok(Meta {
        registry_id: RegistryId::stored(&registry_id.unwrap_or_default()),
        incarnation: number(connection, INCARNATION)?,
        boot_id: boot_id.map(|id| BootId::new(&id)),
        revision: Revision(newest_revision(connection)?),
        seq: Seq(newest_seq(connection)?),
        sessions: about_how_many(connection)?,
        compacted: Revision(number(connection, COMPACTED)?),
        alive: Now {
            boot: number(connection, ALIVE_BOOT)?,
            awake: number(connection, ALIVE_AWAKE)?,
            wall: number(connection, ALIVE_WALL)?.max(newest.unwrap_or(0) as u64),
        },
        schema,
    })
}
