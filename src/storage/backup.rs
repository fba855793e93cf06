//! A copy of the registry, taken a few pages at a time between commits.
//!
//! SQLite's online backup: changes made through the registry's own connection
//! while the copy runs are carried into it.

use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _, path::Path, ptr::NonNull};

use rusqlite::{Connection, OpenFlags, ffi};

use crate::session::store::{BackupProgress, ReadError};

/// A running copy.
pub(super) struct Copy {
    raw: NonNull<ffi::sqlite3_backup>,
    to: Option<Connection>,
}

// SAFETY: a `Copy` lives in the journal beside the connection it reads, and both
// are only ever used by the thread that owns the journal.
#[expect(
    unsafe_code,
    reason = "rusqlite's Backup borrows the connection for its whole life"
)]
unsafe impl Send for Copy {}

fn failed(code: i32) -> ReadError {
    ReadError::Failed(ffi::Error::new(code).into())
}

/// Whether the copy is whole: a registry with a damaged page is copied page by page,
/// and must not take the place of a good backup.
pub(super) fn check(copy: &Path) -> Result<(), ReadError> {
    let sqlite = |error: rusqlite::Error| ReadError::Failed(error.into());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(unchanging(copy), flags).map_err(sqlite)?;
    match damage(&connection).map_err(sqlite)? {
        None => Ok(()),
        Some(found) => Err(ReadError::Failed(found.into())),
    }
}

/// The first thing that is wrong with a copy, if there is one.
pub(super) fn damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok(Some(verdict).filter(|verdict| verdict != "ok"))
}

/// The address of a file that nobody changes: SQLite puts nothing beside it.
fn unchanging(path: &Path) -> String {
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            address.push(char::from(*byte));
        } else {
            let _ = write!(address, "%{byte:02x}");
        }
    }
    address + "?immutable=1"
}

impl Copy {
    /// Begins a copy of `from` into a new file. The copy must end before `from`
    /// is closed.
    #[expect(
        unsafe_code,
        reason = "rusqlite's Backup borrows the connection for its whole life"
    )]
    pub(super) fn begin(from: &Connection, to: &Path) -> Result<Self, ReadError> {
        super::open::make_private(to).map_err(|error| ReadError::Failed(error.into()))?;
        let target = Connection::open(to).map_err(|error| ReadError::Failed(error.into()))?;
        let main = c"main".as_ptr();
        // SAFETY: both handles are open, and `Copy` keeps the target open until
        // the copy is finished in `drop`.
        let raw = unsafe { ffi::sqlite3_backup_init(target.handle(), main, from.handle(), main) };
        let raw = NonNull::new(raw).ok_or_else(|| failed(ffi::SQLITE_ERROR))?;
        Ok(Self {
            raw,
            to: Some(target),
        })
    }

    /// Copies at most `pages` more.
    #[expect(
        unsafe_code,
        reason = "rusqlite's Backup borrows the connection for its whole life"
    )]
    pub(super) fn step(&mut self, pages: u32) -> Result<BackupProgress, ReadError> {
        let pages = i32::try_from(pages).unwrap_or(i32::MAX);
        // SAFETY: `raw` is finished only in `drop`.
        let code = unsafe { ffi::sqlite3_backup_step(self.raw.as_ptr(), pages) };
        if code != ffi::SQLITE_OK && code != ffi::SQLITE_DONE {
            return Err(failed(code));
        }
        // SAFETY: as above.
        let (left, total) = unsafe {
            let raw = self.raw.as_ptr();
            (
                ffi::sqlite3_backup_remaining(raw),
                ffi::sqlite3_backup_pagecount(raw),
            )
        };
        let total = u64::try_from(total).unwrap_or(0);
        let left = if code == ffi::SQLITE_DONE {
            0
        } else {
            u64::try_from(left).unwrap_or(0).max(1)
        };
        Ok(BackupProgress {
            copied: total.saturating_sub(left),
            total,
        })
    }
}

impl Drop for Copy {
    #[expect(
        unsafe_code,
        reason = "rusqlite's Backup borrows the connection for its whole life"
    )]
    fn drop(&mut self) {
        // SAFETY: `raw` came from `sqlite3_backup_init` and is finished once.
        unsafe { ffi::sqlite3_backup_finish(self.raw.as_ptr()) };
        self.to = None;
    }
}
