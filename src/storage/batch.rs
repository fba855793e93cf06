//! One batch on its way into rows.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Params, params};

use super::{
    firewall, meta,
    rows::{self, Encoder},
};
use crate::{
    clock::Now,
    session::{
        event::{Event, EventKind},
        state::{Seq, Session},
        store::{Change, Request},
    },
};

/// A registration is a new row, which costs less than to look for an old one.
const INSERT: &str = "INSERT INTO session (seq, revision, boot, written, spec, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const REPLACE: &str = "INSERT INTO session (seq, revision, boot, written, spec, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (seq) DO UPDATE SET revision = excluded.revision,
        boot = excluded.boot, written = excluded.written, spec = excluded.spec,
        body = excluded.body";

const NOTE: &str = "INSERT INTO event (revision, previous, seq, kind, at, request, asked, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// See the module.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    encoder: &'a mut Encoder,
    boot: i64,
    now: Now,
    bytes: usize,
    insert: Statement<'a>,
    replace: Statement<'a>,
    note: Statement<'a>,
}

/// A statement that is looked for in the connection's cache once a batch.
struct Statement<'a> {
    sql: &'static str,
    prepared: Option<CachedStatement<'a>>,
}

impl<'a> Statement<'a> {
    fn new(sql: &'static str) -> Self {
        Self {
            sql,
            prepared: None,
        }
    }

    fn execute(&mut self, connection: &'a Connection, row: impl Params) -> rusqlite::Result<()> {
        if self.prepared.is_none() {
            self.prepared = Some(connection.prepare_cached(self.sql)?);
        }
        match &mut self.prepared {
            Some(prepared) => prepared.execute(row).map(drop),
            None => Ok(()),
        }
    }
}

impl<'a> Batch<'a> {
    /// Writes in the transaction that `connection` is in.
    pub(super) fn new(
        connection: &'a Connection,
        encoder: &'a mut Encoder,
        boot: i64,
        now: Now,
    ) -> Self {
        Self {
            connection,
            encoder,
            boot,
            now,
            bytes: 0,
            insert: Statement::new(INSERT),
            replace: Statement::new(REPLACE),
            note: Statement::new(NOTE),
        }
    }

    /// About how much was written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts one change into its rows.
    pub(super) fn write(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Put {
                session,
                live,
                event,
                request,
            } => {
                let spec = self.encoder.spec(&session.spec);
                let body = self.encoder.session(session, live);
                self.bytes += 2 * (spec.len() + body.len());
                let is_new = event.as_ref().is_some_and(|e| e.kind == EventKind::Created);
                self.put(session, is_new, &spec, &body)?;
                match event {
                    Some(event) => self.note_down(event, session.seq, request.as_ref(), spec, body),
                    None => Ok(()),
                }
            }
            Change::Delete { seq, event } => {
                meta::keep_seq(self.connection, *seq)?;
                let sql = "DELETE FROM session WHERE seq = ?1";
                self.connection
                    .prepare_cached(sql)?
                    .execute([seq.0 as i64])?;
                let Some(event) = event else { return Ok(()) };
                let (spec, body) = match &event.session {
                    Some(session) => (
                        self.encoder.spec(&session.spec),
                        self.encoder.session(session, &event.live),
                    ),
                    None => (Bytes::new(), Bytes::new()),
                };
                self.note_down(event, *seq, None, spec, body)
            }
            Change::Note(event) => self.note_down(event, Seq(0), None, Bytes::new(), Bytes::new()),
            Change::PutManifest(_)
            | Change::DropManifest(_)
            | Change::ResetRefinements(_)
            | Change::ForgetRefinement(_) => firewall::write(self.connection, change),
        }
    }

    fn put(
        &mut self,
        session: &Session,
        is_new: bool,
        spec: &[u8],
        body: &[u8],
    ) -> rusqlite::Result<()> {
        let (seq, revision) = (session.seq.0 as i64, session.revision.0 as i64);
        let row = params![seq, revision, self.boot, self.now.boot as i64, spec, body];
        let statement = if is_new {
            &mut self.insert
        } else {
            &mut self.replace
        };
        statement.execute(self.connection, row)
    }

    fn note_down(
        &mut self,
        event: &Event,
        seq: Seq,
        request: Option<&Request>,
        spec: Bytes,
        session: Bytes,
    ) -> rusqlite::Result<()> {
        let body = self
            .encoder
            .event(&event.actor, spec, session, &event.about);
        let row = params![
            event.revision.0 as i64,
            event.previous.0 as i64,
            seq.0 as i64,
            rows::kind_number(event.kind),
            event.at as i64,
            request.map(|request| request.id.as_str()),
            request.map(|request| request.body.as_slice()),
            body,
        ];
        self.note.execute(self.connection, row)?;
        match event.refinement() {
            Some(refinement) => {
                let body = self.encoder.refinement(refinement);
                firewall::put_refinement(self.connection, refinement, event.kind, &body)
            }
            None => Ok(()),
        }
    }
}
