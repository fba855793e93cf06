//! The tables of the context firewall: manifests, refinements and their counts.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::{
    journal::read_error,
    rows::{BadRow, Decoder},
};
use crate::{
    firewall::manifest::Manifest,
    session::{
        event::EventKind,
        index::Interner,
        refinement::{Count, Refinement},
        store::{Change, ReadError, StoredFirewall},
    },
};

/// Writes what is about no session.
pub(super) fn write(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql)?.execute(values).map(drop)
    };
    match change {
        Change::PutManifest(manifest) => {
            let sql = "INSERT INTO manifest (hash, body) VALUES (?1, ?2)";
            run(sql, params![manifest.hash().0, manifest.encode()])
        }
        Change::DropManifest(hash) => run("DELETE FROM manifest WHERE hash = ?1", params![hash.0]),
        Change::ResetRefinements(work) => {
            run("DELETE FROM refining WHERE work = ?1", params![&**work])
        }
        Change::ForgetRefinement(id) => {
            run("DELETE FROM refinement WHERE id = ?1", params![id.0 as i64])
        }
        Change::Put { .. } | Change::Delete { .. } | Change::Note(_) => Ok(()),
    }
}

/// Writes a refinement; one that was just asked for counts.
pub(super) fn put_refinement(
    connection: &Connection,
    refinement: &Refinement,
    kind: EventKind,
    body: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO refinement (id, body) VALUES (?1, ?2)
        ON CONFLICT (id) DO UPDATE SET body = excluded.body";
    let row = params![refinement.id.0 as i64, body];
    connection.prepare_cached(sql)?.execute(row)?;
    if kind != EventKind::RefinementRequested {
        return Ok(());
    }
    let sql = "INSERT INTO refining (work, count, at) VALUES (?1, ?2, ?3)
        ON CONFLICT (work) DO UPDATE SET count = excluded.count, at = excluded.at";
    let work = refinement.session.work_id();
    let row = params![work, refinement.count, refinement.created as i64];
    connection.prepare_cached(sql)?.execute(row).map(drop)
}

/// All of it, for a start.
pub(super) fn read(
    connection: &Connection,
    decoder: &mut Decoder,
    interner: &mut Interner,
) -> Result<StoredFirewall, ReadError> {
    let manifest = |body: &[u8]| {
        let manifest = Manifest::decode(body);
        manifest.map(Arc::new).map_err(|_| BadRow("a manifest"))
    };
    let manifests = bodies(
        connection,
        "SELECT body FROM manifest ORDER BY number",
        manifest,
    )?;
    let sql = "SELECT body FROM refinement ORDER BY id";
    let refinements = bodies(connection, sql, |body| {
        decoder.refinement(body, interner).map(Arc::new)
    })?;
    let sql = "SELECT work, count, at FROM refining";
    let mut statement = connection.prepare(sql).map_err(read_error)?;
    let counts = statement
        .query_map([], |row| {
            let at = row.get::<_, i64>(2)? as u64;
            let count = Count {
                count: row.get(1)?,
                at,
            };
            Ok((row.get::<_, String>(0)?.into(), count))
        })
        .and_then(Iterator::collect)
        .map_err(read_error)?;
    Ok(StoredFirewall {
        manifests,
        refinements,
        counts,
    })
}

fn bodies<T>(
    connection: &Connection,
    sql: &str,
    mut decode: impl FnMut(&[u8]) -> Result<T, BadRow>,
) -> Result<Vec<T>, ReadError> {
    let mut statement = connection.prepare(sql).map_err(read_error)?;
    let mut rows = statement.query([]).map_err(read_error)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(read_error)? {
        let body = row.get_ref(0).map_err(read_error)?;
        let body = body.as_blob().map_err(read_error)?;
        found.push(decode(body).map_err(read_error)?);
    }
    Ok(found)
}
