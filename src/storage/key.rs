//! The digest key: 32 random bytes in a file beside the registry, 0600.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::secret::DigestKey;

/// The key cannot be had.
#[derive(Debug)]
pub enum KeyError {
    /// The file cannot be read or made.
    Io(PathBuf, std::io::Error),
    /// The file is not 32 bytes.
    Malformed(PathBuf),
    /// Others can read or change the file.
    Exposed(PathBuf),
    /// No random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, _) => write!(f, "cannot read or make the key file {}", path.display()),
            Self::Malformed(path) => {
                write!(
                    f,
                    "{} is not a key file of 32 bytes: put the right one back",
                    path.display()
                )
            }
            Self::Exposed(path) => {
                write!(
                    f,
                    "{} must be a plain file of ours with mode 0600",
                    path.display()
                )
            }
            Self::Random(_) => f.write_str("the system gives no random bytes"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            Self::Random(error) => Some(error),
            Self::Malformed(_) | Self::Exposed(_) => None,
        }
    }
}

/// Reads the key, or makes one when there is none.
pub fn read_or_make(path: &Path) -> Result<DigestKey, KeyError> {
    match OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
    {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(KeyError::Io(path.to_owned(), error)),
    }
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

fn read(path: &Path, mut file: File) -> Result<DigestKey, KeyError> {
    let io = |error| KeyError::Io(path.to_owned(), error);
    let meta = file.metadata().map_err(io)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_file() || !ours || meta.mode() & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned()));
    }
    if meta.len() != 32 {
        return Err(KeyError::Malformed(path.to_owned()));
    }
    let mut key = Zeroizing::new([0_u8; 32]);
    file.read_exact(key.as_mut_slice()).map_err(io)?;
    Ok(DigestKey::new(&key))
}

/// Durable before it is used: a registry whose key is lost cannot be opened.
fn make(path: &Path) -> Result<DigestKey, KeyError> {
    let io = |error| KeyError::Io(path.to_owned(), error);
    let key = DigestKey::random_bytes().map_err(KeyError::Random)?;
    let partial = path.with_extension("key.partial");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(&partial)
        .map_err(io)?;
    file.write_all(key.as_slice())
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)?;
    sync_parent(path).map_err(io)?;
    Ok(DigestKey::new(&key))
}

/// Makes the names in a file's directory durable.
pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{KeyError, read_or_make};

    #[test]
    fn a_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.key");
        let first = read_or_make(&path).unwrap().fingerprint();
        assert_eq!(read_or_make(&path).unwrap().fingerprint(), first);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (32, 0o600));
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.key");
        read_or_make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_or_make(&path), Err(KeyError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(read_or_make(&path), Err(KeyError::Malformed(_))));
    }
}
