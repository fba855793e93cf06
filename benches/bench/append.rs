//! The floor of every write: rows appended by a bare rusqlite, as durable as the
//! journal's.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use tokio::time::Instant;

use super::stat;

/// A file of its own in a directory.
pub struct Append {
    connection: Connection,
    row: Vec<u8>,
}

impl Append {
    /// Appends rows of `bytes` bytes to a new file in `dir`.
    pub fn open(dir: &Path, bytes: usize) -> Self {
        Self::create(dir, bytes).expect("a bare registry is made")
    }

    fn create(dir: &Path, bytes: usize) -> rusqlite::Result<Self> {
        let connection = Connection::open(dir.join(format!("append-{}.db", std::process::id())))?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection
            .execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
        Ok(Self {
            connection,
            row: vec![0x5a; bytes],
        })
    }

    /// Commits that many rows at once.
    pub fn commit(&mut self, rows: usize) -> Duration {
        let started = Instant::now();
        self.insert(rows).expect("a bare row is written");
        started.elapsed()
    }

    fn insert(&mut self, rows: usize) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO row (body) VALUES (?1)")?;
            for _ in 0..rows {
                insert.execute([&self.row])?;
            }
        }
        transaction.commit()
    }

    /// How long each of so many commits of one row takes, in microseconds.
    pub fn block(&mut self, commits: usize) -> Vec<f64> {
        (0..commits).map(|_| stat::micros(self.commit(1))).collect()
    }
}
