//! The journal itself: batches in, sessions and events out.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use super::{
    backup::{self, Copy},
    ballast::Ballast,
    batch::Batch,
    firewall, meta,
    rows::{self, BadRow, Decoder, Encoder},
};
use crate::{
    clock::{BootId, Now},
    ids::RequestId,
    session::{
        event::Event,
        index::Interner,
        state::{Live, Revision, Seq},
        store::{
            AppendError, BackupProgress, Change, CopyCheck, Meta, Order, PastRequest, ReadError,
            Request, Start, Store, Stored, StoredFirewall,
        },
    },
};

/// Bytes of log after which it is moved into the file: a checkpoint of so much
/// takes a few milliseconds.
const CHECKPOINT_BYTES: usize = 4 * 1024 * 1024;

/// What a commit puts into the log beside its rows, at the least: the rest of its
/// last page.
const COMMIT_BYTES: usize = 4096;

/// Named calls, newest first.
pub(super) const LAST_NAMED: &str = "SELECT seq, at, request, asked, revision FROM event
    WHERE request IS NOT NULL ORDER BY revision DESC LIMIT ?1";

/// See the module.
pub struct Journal {
    connection: Connection,
    ballast: Ballast,
    schema: u32,
    boot: i64,
    since_checkpoint: usize,
    copy: Option<Copy>,
    encoder: Encoder,
}

impl Journal {
    /// `log_bytes`: what earlier runs left in the log.
    pub(super) fn new(
        connection: Connection,
        ballast: Ballast,
        schema: u32,
        log_bytes: usize,
    ) -> Self {
        Self {
            connection,
            ballast,
            schema,
            boot: 0,
            since_checkpoint: log_bytes,
            copy: None,
            encoder: Encoder::default(),
        }
    }

    /// One transaction: what fails before its commit was not written.
    fn transact(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), rusqlite::Error>,
    ) -> Result<(), AppendError> {
        self.run("BEGIN IMMEDIATE").map_err(|e| self.definite(e))?;
        if let Err(error) = write(self) {
            return Err(self.definite(error));
        }
        match self.run("COMMIT") {
            Ok(()) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Err(self.definite(error))
            }
            Err(error) => Err(AppendError::Unknown(error.into())),
        }
    }

    /// Runs a statement without parameters, parsed once.
    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Rolls back, and says why nothing was written. A rollback that fails leaves
    /// the outcome unknown.
    fn definite(&self, error: rusqlite::Error) -> AppendError {
        if !self.connection.is_autocommit()
            && let Err(failed) = self.connection.execute_batch("ROLLBACK")
        {
            return AppendError::Unknown(failed.into());
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => AppendError::Full(error.into()),
            _ => AppendError::Failed(error.into()),
        }
    }

    /// Puts changes into rows, inside a transaction.
    fn write(&mut self, changes: &[Change], now: Now) -> rusqlite::Result<()> {
        let mut batch = Batch::new(&self.connection, &mut self.encoder, self.boot, now);
        let written = changes.iter().try_for_each(|change| batch.write(change));
        self.since_checkpoint += batch.bytes();
        written
    }

    /// Moves the log into the file. What cannot be moved stays where it is durable.
    fn checkpoint(&mut self, pragma: &str) {
        self.since_checkpoint = 0;
        if let Err(error) = self.connection.query_row(pragma, [], |_| Ok(())) {
            let error = &error as &dyn std::error::Error;
            warn!(error, "checkpoint failed");
        }
    }

    /// Revisions that have an event row: all after the compacted one, but for
    /// those a restart reserved.
    fn kept(&self, newest: u64) -> rusqlite::Result<u64> {
        let compacted = meta::number(&self.connection, meta::COMPACTED)?;
        let reserved = meta::number(&self.connection, meta::RESERVED)?;
        Ok(newest.saturating_sub(compacted).saturating_sub(reserved))
    }
}

/// A number for a boot id; two boots of one machine share it with a chance of
/// one in 2^64.
fn boot_number(boot: &BootId) -> i64 {
    let hash = blake3::hash(boot.as_str().as_bytes());
    let (head, _) = hash.as_bytes().split_at(8);
    i64::from_le_bytes(head.try_into().expect("a hash is longer than eight bytes"))
}

pub(super) fn read_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReadError {
    let cause = error.into();
    let code = cause
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code);
    let is_damage = cause.is::<BadRow>()
        || matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
    if is_damage {
        ReadError::Damaged(cause)
    } else {
        ReadError::Failed(cause)
    }
}

impl Store for Journal {
    fn meta(&mut self) -> Result<Meta, ReadError> {
        meta::read(&self.connection, self.schema).map_err(read_error)
    }

    fn load(
        &mut self,
        boot: &BootId,
        interner: &mut Interner,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<(), ReadError> {
        let boot = boot_number(boot);
        let sql = "SELECT seq, revision, boot, written, spec, body FROM session ORDER BY seq";
        let mut statement = self.connection.prepare(sql).map_err(read_error)?;
        let mut found = statement.query([]).map_err(read_error)?;
        let mut decoder = Decoder::default();
        while let Some(row) = found.next().map_err(read_error)? {
            let number = |at| row.get::<_, i64>(at).map_err(read_error);
            let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
            let spec = blob(4).map_err(read_error)?;
            let body = blob(5).map_err(read_error)?;
            let (seq, revision) = (Seq(number(0)? as u64), Revision(number(1)? as u64));
            let (session, live) = decoder
                .session(seq, revision, spec, body, interner)
                .map_err(read_error)?;
            visit(Stored {
                session,
                live,
                written: number(3)? as u64,
                same_boot: number(2)? == boot,
            });
        }
        Ok(())
    }

    fn firewall(&mut self, interner: &mut Interner) -> Result<StoredFirewall, ReadError> {
        let mut decoder = Decoder::default();
        firewall::read(&self.connection, &mut decoder, interner)
    }

    fn requests(
        &mut self,
        since: u64,
        limit: usize,
        visit: &mut dyn FnMut(PastRequest),
    ) -> Result<(), ReadError> {
        let mut statement = self.connection.prepare(LAST_NAMED).map_err(read_error)?;
        let mut found = statement.query([limit as i64]).map_err(read_error)?;
        while let Some(row) = found.next().map_err(read_error)? {
            let at = row.get::<_, i64>(1).map_err(read_error)? as u64;
            if at < since {
                break;
            }
            let id: String = row.get(2).map_err(read_error)?;
            let id = RequestId::parse(&id).map_err(|_| read_error(BadRow("a request id")))?;
            let body: [u8; 16] = row.get(3).map_err(read_error)?;
            let seq = Seq(row.get::<_, i64>(0).map_err(read_error)? as u64);
            visit(PastRequest {
                request: Request { id, body },
                seq,
                revision: Revision(row.get::<_, i64>(4).map_err(read_error)? as u64),
                at,
            });
        }
        Ok(())
    }

    fn start(&mut self, start: &Start, changes: &[Change]) -> Result<(), AppendError> {
        self.boot = boot_number(&start.boot_id);
        self.encoder.incarnation = start.incarnation;
        self.transact(|journal| {
            let connection = &journal.connection;
            meta::set(connection, meta::INCARNATION, start.incarnation as i64)?;
            meta::set(connection, meta::BOOT_ID, start.boot_id.as_str())?;
            meta::set_alive(connection, start.now)?;
            let reserved = changes.iter().filter_map(reserved).sum::<u64>();
            let before = meta::number(connection, meta::RESERVED)?;
            meta::set(connection, meta::RESERVED, (before + reserved) as i64)?;
            journal.write(changes, start.now)
        })
    }

    fn append(&mut self, changes: &[Change], now: Now) -> Result<(), AppendError> {
        self.since_checkpoint += COMMIT_BYTES;
        self.transact(|journal| journal.write(changes, now))
    }

    fn events(
        &mut self,
        from: Revision,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, ReadError> {
        let sql = match order {
            Order::Forward => {
                "SELECT revision, previous, seq, kind, at, body FROM event
                    WHERE revision > ?1 ORDER BY revision LIMIT ?2"
            }
            Order::Backward => {
                "SELECT revision, previous, seq, kind, at, body FROM event
                    WHERE revision < ?1 ORDER BY revision DESC LIMIT ?2"
            }
        };
        let mut decoder = Decoder::default();
        decoder.incarnation = self.encoder.incarnation;
        let mut interner = Interner::default();
        let mut statement = self.connection.prepare_cached(sql).map_err(read_error)?;
        let from = i64::try_from(from.0).unwrap_or(i64::MAX);
        let mut found = statement.query([from, limit as i64]).map_err(read_error)?;
        let mut events = Vec::new();
        while let Some(row) = found.next().map_err(read_error)? {
            events.push(event_of(row, &mut decoder, &mut interner)?);
        }
        Ok(events)
    }

    fn compact(
        &mut self,
        before: u64,
        keep: u64,
        limit: usize,
    ) -> Result<Option<Revision>, AppendError> {
        let front = |journal: &Self, limit: usize| -> rusqlite::Result<Vec<(u64, u64, u64)>> {
            let sql = "SELECT revision, at, kind FROM event ORDER BY revision LIMIT ?1";
            let mut statement = journal.connection.prepare_cached(sql)?;
            let rows = statement.query_map([limit as i64], |row| {
                Ok((
                    row.get::<_, i64>(0)? as u64,
                    row.get::<_, i64>(1)? as u64,
                    row.get::<_, i64>(2)? as u64,
                ))
            })?;
            rows.collect()
        };
        let failed = |error: rusqlite::Error| AppendError::Failed(error.into());
        let newest = meta::newest_revision(&self.connection).map_err(failed)?;
        let surplus = self.kept(newest).map_err(failed)?.saturating_sub(keep);
        let is_old = |at: u64| at < before;
        let first = front(self, 1).map_err(failed)?;
        if surplus == 0 && !first.first().is_some_and(|(_, at, _)| is_old(*at)) {
            return Ok(None);
        }
        let rows = front(self, limit).map_err(failed)?;
        let gone = rows
            .iter()
            .enumerate()
            .take_while(|(n, (_, at, _))| (*n as u64) < surplus || is_old(*at));
        let Some((count, (last, ..))) = gone.last().map(|(n, row)| (n as u64 + 1, row)) else {
            return Ok(None);
        };
        let last = *last;
        self.transact(|journal| {
            let connection = &journal.connection;
            let compacted = meta::number(connection, meta::COMPACTED)?;
            let reserved = meta::number(connection, meta::RESERVED)?;
            let freed = (last - compacted).saturating_sub(count);
            meta::set(
                connection,
                meta::RESERVED,
                reserved.saturating_sub(freed) as i64,
            )?;
            meta::set(connection, meta::COMPACTED, last as i64)?;
            let sql = "DELETE FROM event WHERE revision <= ?1";
            connection
                .prepare_cached(sql)?
                .execute([last as i64])
                .map(drop)
        })?;
        Ok(Some(Revision(last)))
    }

    fn alive(&mut self, now: Now) -> Result<(), AppendError> {
        self.transact(|journal| meta::set_alive(&journal.connection, now))
    }

    fn release_ballast(&mut self) {
        self.ballast.release();
    }

    fn restore_ballast(&mut self) -> bool {
        self.ballast.fill()
    }

    fn backup_begin(&mut self, to: &Path) -> Result<(), ReadError> {
        self.copy = Some(Copy::begin(&self.connection, to)?);
        Ok(())
    }

    fn backup_step(&mut self, pages: u32) -> Result<BackupProgress, ReadError> {
        let copy = self
            .copy
            .as_mut()
            .ok_or_else(|| read_error("no backup runs"))?;
        copy.step(pages)
    }

    fn backup_end(&mut self) {
        self.copy = None;
    }

    fn copy_check(&self) -> CopyCheck {
        backup::check
    }

    fn idle(&mut self) -> bool {
        let is_due = self.since_checkpoint >= CHECKPOINT_BYTES;
        if is_due {
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
        is_due
    }

    fn rest(&mut self) {
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

/// How many revisions a restart reserved without a row.
fn reserved(change: &Change) -> Option<u64> {
    let Change::Note(event) = change else {
        return None;
    };
    let restart = event.restart()?;
    Some(event.revision.0 - restart.base.0 - 1)
}

fn event_of(
    row: &rusqlite::Row<'_>,
    decoder: &mut Decoder,
    interner: &mut Interner,
) -> Result<Arc<Event>, ReadError> {
    let number = |at| row.get::<_, i64>(at).map(|n| n as u64).map_err(read_error);
    let (revision, seq) = (Revision(number(0)?), Seq(number(2)?));
    let body = row.get_ref(5).map_err(read_error)?;
    let body = body.as_blob().map_err(read_error)?;
    let parts = decoder
        .event(seq, revision, body, interner)
        .map_err(read_error)?;
    let (session, live) = match parts.session {
        Some((session, live)) => (Some(Arc::new(session)), live),
        None => (None, Live::default()),
    };
    Ok(Arc::new(Event {
        revision,
        previous: Revision(number(1)?),
        kind: rows::kind_of(number(3)? as u32).map_err(read_error)?,
        at: number(4)?,
        actor: parts.actor,
        session,
        live,
        about: parts.about,
        encoded: OnceLock::new(),
    }))
}
