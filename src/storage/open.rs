//! Opening the registry: whose it is, whether it is whole, what version it has.
//!
//! A file is looked at before anything could change it. What is foreign, newer or
//! corrupt stays byte for byte as it was.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, config::DbConfig};

use super::{
    ballast::Ballast,
    journal::Journal,
    meta,
    migrate::{self, APPLICATION_ID},
    restore::{self, RestoreError},
};
use crate::{ids::RegistryId, secret::DigestKey};

/// The first SQLite without a known corruption in the modes used here.
const MIN_SQLITE: i32 = 3_051_003;

/// Where the registry and the files beside it lie.
#[derive(Debug, Clone)]
pub struct Files {
    /// The registry.
    pub registry: PathBuf,
    /// The reserve.
    pub ballast: PathBuf,
}

impl Files {
    /// The usual names in a state directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            registry: dir.join("registry.db"),
            ballast: dir.join("registry.ballast"),
        }
    }
}

/// The registry cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Not a registry.
    Foreign(PathBuf),
    /// Written by a later version of this program.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Damaged.
    Corrupt(PathBuf, String),
    /// The digest key file is of another registry.
    WrongKey(PathBuf),
    /// The SQLite in this program is too old.
    OldSqlite(i32),
    /// SQLite refused.
    Sqlite(PathBuf, rusqlite::Error),
    /// The file cannot be made.
    Io(PathBuf, std::io::Error),
    /// The copy before a migration failed.
    Copy(PathBuf, std::io::Error),
    /// A restore that was cut short cannot be finished.
    Restore(RestoreError),
}

impl OpenError {
    /// Whether the file itself is at fault, not the moment.
    pub fn is_bad_data(&self) -> bool {
        matches!(
            self,
            Self::Foreign(_) | Self::Newer { .. } | Self::Corrupt(..) | Self::WrongKey(_)
        )
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(path) => write!(
                f,
                "{} is not a registry of episoded: move it away, or choose another state directory",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{} has schema {found}, this episoded knows up to {known}: start the newer \
                 episoded, or restore a backup made before the upgrade",
                path.display()
            ),
            Self::Corrupt(path, how) => write!(
                f,
                "{} is damaged ({how}): restore a backup with `episoded --restore FILE`, or move \
                 it away to start with an empty registry",
                path.display()
            ),
            Self::WrongKey(path) => write!(
                f,
                "the digest key beside {} belongs to another registry: put the right registry.key \
                 back",
                path.display()
            ),
            Self::OldSqlite(found) => {
                write!(
                    f,
                    "SQLite {found} is too old, at least {MIN_SQLITE} is needed"
                )
            }
            Self::Sqlite(path, _) | Self::Io(path, _) => {
                write!(f, "{} cannot be opened", path.display())
            }
            Self::Restore(_) => f.write_str("a restore that was cut short cannot be finished"),
            Self::Copy(path, _) => {
                write!(
                    f,
                    "{} cannot be copied before its migration",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sqlite(_, error) => Some(error),
            Self::Io(_, error) | Self::Copy(_, error) => Some(error),
            Self::Restore(error) => Some(error),
            _ => None,
        }
    }
}

impl Journal {
    /// Opens the registry, or makes one when there is none. A restore that was cut
    /// short is finished first.
    pub fn open(files: &Files, key: &DigestKey) -> Result<Self, OpenError> {
        restore::finish(files).map_err(OpenError::Restore)?;
        let log = beside(&files.registry, "-wal");
        let had_log = log.exists();
        let opened = Self::look_and_open(files, key);
        // A look at a file in WAL mode puts an empty log beside it.
        if opened.is_err() && !had_log && std::fs::metadata(&log).is_ok_and(|meta| meta.len() == 0)
        {
            let _ = std::fs::remove_file(&log);
        }
        opened
    }

    fn look_and_open(files: &Files, key: &DigestKey) -> Result<Self, OpenError> {
        let path = &files.registry;
        if rusqlite::version_number() < MIN_SQLITE {
            return Err(OpenError::OldSqlite(rusqlite::version_number()));
        }
        let found = std::fs::metadata(path).ok();
        if found.as_ref().is_some_and(|meta| !meta.is_file()) {
            return Err(OpenError::Foreign(path.clone()));
        }
        // The reserve is made after the first registry.
        if found.as_ref().is_some_and(|meta| meta.len() == 0) && files.ballast.exists() {
            let verdict = "it is empty, and was not: there is a reserve beside it";
            return Err(OpenError::Corrupt(path.clone(), verdict.to_owned()));
        }
        let is_new = found.is_none_or(|meta| meta.len() == 0);
        if is_new {
            make_private(path).map_err(|error| OpenError::Io(path.clone(), error))?;
        }
        if !is_new {
            look_at_header(path)?;
        }
        let mut connection = connect(path)?;
        let version = if is_new {
            0
        } else {
            recognise(&connection, path)?
        };
        if version > 0 {
            check(&connection, path)?;
            check_key(&connection, key, path)?;
        }
        let sqlite = |error| OpenError::Sqlite(path.clone(), error);
        prepare(&connection).map_err(sqlite)?;
        migrate::upgrade(&mut connection, path, version, migrate::MIGRATIONS)?;
        bind_key(&mut connection, key, path)?;
        let ballast = Ballast::new(files.ballast.clone());
        ballast.fill();
        let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |meta| meta.len());
        let log = usize::try_from(log).unwrap_or(usize::MAX);
        Ok(Self::new(connection, ballast, migrate::newest(), log))
    }
}

/// An empty file that nobody else can read; what SQLite puts beside it inherits
/// its mode.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Refuses what SQLite would change by merely opening it: a stranger's file beside
/// a rollback journal, which would be played back. A registry has such a journal
/// only while its first page is made, when there is nothing to go back to.
fn look_at_header(path: &Path) -> Result<(), OpenError> {
    const APPLICATION_ID_AT: usize = 68;
    const PAGES_BEFORE_AT: usize = 16;
    let head = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut head = Vec::new();
        std::fs::File::open(path)?
            .take(100)
            .read_to_end(&mut head)?;
        Ok(head)
    };
    let word = |head: &[u8], at: usize| -> Option<i32> {
        let bytes = head.get(at..at + 4)?;
        bytes.try_into().ok().map(i32::from_be_bytes)
    };
    let header = head(path).map_err(|error| OpenError::Io(path.to_owned(), error))?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let Ok(journal) = head(&beside(path, "-journal")) else {
        return Ok(());
    };
    let is_ours = word(&header, APPLICATION_ID_AT) == Some(APPLICATION_ID);
    let is_hot = journal.first().is_some_and(|byte| *byte != 0);
    if is_hot && !is_ours && word(&journal, PAGES_BEFORE_AT) != Some(0) {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    Ok(())
}

/// The file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the file so that merely looking cannot change it.
fn connect(path: &Path) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    open().map_err(|error| refused(path, error))
}

/// Whose file it is, and its version.
fn recognise(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let number = |pragma: &str| -> Result<i32, OpenError> {
        let read = connection.pragma_query_value(None, pragma, |row| row.get(0));
        read.map_err(|error| refused(path, error))
    };
    let (owner, found) = (number("application_id")?, number("user_version")?);
    if (owner, found) == (0, 0) && is_empty(connection).map_err(|error| refused(path, error))? {
        return Ok(0);
    }
    if owner != APPLICATION_ID {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let found = found as u32;
    let known = migrate::newest();
    if found > known {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(found)
}

/// Whether nothing was ever put into it: a first start that was cut short leaves
/// such a file.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

/// Whether what a start reads is whole. History is checked when it is read.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    for table in ["session", "meta"] {
        let verdict: String = connection
            .query_row(&format!("PRAGMA quick_check({table})"), [], |row| {
                row.get(0)
            })
            .map_err(|error| refused(path, error))?;
        if verdict != "ok" {
            return Err(OpenError::Corrupt(path.to_owned(), verdict));
        }
    }
    Ok(())
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(NotADatabase) => OpenError::Foreign(path.to_owned()),
        Some(DatabaseCorrupt) => OpenError::Corrupt(path.to_owned(), error.to_string()),
        _ => OpenError::Sqlite(path.to_owned(), error),
    }
}

/// The settings of a serving registry. Checkpoints are made between batches.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Refuses the key of another registry.
fn check_key(connection: &Connection, key: &DigestKey, path: &Path) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::Sqlite(path.to_owned(), error);
    let bound: Option<Vec<u8>> = meta::get(connection, meta::KEY_FINGERPRINT).map_err(sqlite)?;
    match bound {
        Some(bound) if bound != key.fingerprint() => Err(OpenError::WrongKey(path.to_owned())),
        _ => Ok(()),
    }
}

/// Ties a registry that has no key yet to its own.
fn bind_key(connection: &mut Connection, key: &DigestKey, path: &Path) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::Sqlite(path.to_owned(), error);
    let bound: Option<Vec<u8>> = meta::get(connection, meta::KEY_FINGERPRINT).map_err(sqlite)?;
    if bound.is_some() {
        return Ok(());
    }
    let first = connection.transaction().map_err(sqlite)?;
    let id = RegistryId::random();
    meta::set(&first, meta::REGISTRY_ID, id.as_str()).map_err(sqlite)?;
    let print = key.fingerprint().to_vec();
    meta::set(&first, meta::KEY_FINGERPRINT, print).map_err(sqlite)?;
    first.commit().map_err(sqlite)
}
