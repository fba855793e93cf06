//! Putting a backup in the place of the registry.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    backup::damage,
    key::sync_parent,
    meta,
    migrate::{self, APPLICATION_ID},
    open::{Files, beside, make_private},
};
use crate::{ids::RegistryId, secret::DigestKey};

/// A backup was not restored; the registry is as it was.
#[derive(Debug)]
pub enum RestoreError {
    /// The file is no backup that this program and key can use.
    Unusable(PathBuf, &'static str),
    /// SQLite refused.
    Sqlite(PathBuf, rusqlite::Error),
    /// A file cannot be read, written or moved.
    Io(PathBuf, std::io::Error),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(path, why) => write!(f, "{} cannot be restored: {why}", path.display()),
            Self::Sqlite(path, _) | Self::Io(path, _) => {
                write!(f, "{} cannot be restored", path.display())
            }
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unusable(..) => None,
            Self::Sqlite(_, error) => Some(error),
            Self::Io(_, error) => Some(error),
        }
    }
}

/// Checks a backup, gives it a registry id of its own, and puts it in the place
/// of the registry, which is kept beside it under the answered name.
pub fn restore(
    backup: &Path,
    files: &Files,
    key: &DigestKey,
) -> Result<Option<PathBuf>, RestoreError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io(path, error)
    };
    let fresh = files.registry.with_extension("db.restoring");
    copy_privately(backup, &fresh).map_err(io(backup))?;
    let prepared = prepare(&fresh, backup, key);
    if prepared.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    prepared?;
    let file = std::fs::File::open(&fresh).map_err(io(&fresh))?;
    file.sync_all().map_err(io(&fresh))?;
    let ready = ready(&files.registry);
    std::fs::rename(&fresh, &ready).map_err(io(&ready))?;
    sync_parent(&ready).map_err(io(&ready))?;
    finish(files)
}

/// A copy under this name is whole: from here on a restore is finished, by the
/// next start if need be. Otherwise a restore that was cut short could leave an
/// old registry without its log, or none at all.
fn ready(registry: &Path) -> PathBuf {
    registry.with_extension("db.restored")
}

/// Finishes a restore that is ready, if there is one.
pub(super) fn finish(files: &Files) -> Result<Option<PathBuf>, RestoreError> {
    let registry = &files.registry;
    let ready = ready(registry);
    if !ready.exists() {
        return Ok(None);
    }
    let failed = |error| RestoreError::Io(registry.clone(), error);
    let aside = move_aside(registry)?;
    sync_parent(registry).map_err(failed)?;
    std::fs::rename(&ready, registry).map_err(failed)?;
    sync_parent(registry).map_err(failed)?;
    Ok(aside)
}

/// Copies the file so that nobody else can read the copy, whoever can read the
/// original. What an attempt that was cut short left beside it must not be taken
/// for a part of it.
fn copy_privately(backup: &Path, fresh: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(beside(fresh, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut from = std::fs::File::open(backup)?;
    make_private(fresh)?;
    let mut to = std::fs::OpenOptions::new().write(true).open(fresh)?;
    std::io::copy(&mut from, &mut to).map(drop)
}

fn prepare(fresh: &Path, backup: &Path, key: &DigestKey) -> Result<(), RestoreError> {
    let sqlite = |error| RestoreError::Sqlite(backup.to_owned(), error);
    let unusable = |why| RestoreError::Unusable(backup.to_owned(), why);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(fresh, flags).map_err(sqlite)?;
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    if number("application_id").map_err(sqlite)? != APPLICATION_ID {
        return Err(unusable("it is not a backup of a registry"));
    }
    if number("user_version").map_err(sqlite)? as u32 > migrate::newest() {
        return Err(unusable("it was made by a newer episoded"));
    }
    if damage(&connection).map_err(sqlite)?.is_some() {
        return Err(unusable("it is damaged"));
    }
    let bound: Option<Vec<u8>> = meta::get(&connection, meta::KEY_FINGERPRINT).map_err(sqlite)?;
    if bound.as_deref() != Some(&key.fingerprint()) {
        return Err(unusable(
            "registry.key is of another registry: put the backup's own key back",
        ));
    }
    meta::set(
        &connection,
        meta::REGISTRY_ID,
        RegistryId::random().as_str(),
    )
    .map_err(sqlite)?;
    connection
        .pragma_update(None, "journal_mode", "DELETE")
        .map_err(sqlite)
}

/// Keeps the registry, and its write-ahead log, under a name that is free. The
/// log goes first: a registry that is still there tells which name was begun.
fn move_aside(registry: &Path) -> Result<Option<PathBuf>, RestoreError> {
    let failed = |error| RestoreError::Io(registry.to_owned(), error);
    if !registry.exists() {
        return Ok(None);
    }
    let name = |n: u32| registry.with_extension(format!("db.replaced-{n}"));
    let aside = (1..u32::MAX)
        .map(name)
        .find(|path| !path.exists())
        .expect("some name is free");
    let log = beside(registry, "-wal");
    if log.exists() {
        std::fs::rename(&log, beside(&aside, "-wal")).map_err(failed)?;
    }
    std::fs::rename(registry, &aside).map_err(failed)?;
    Ok(Some(aside))
}
