//! Files below a root, read so that what was judged is what is served.
//!
//! Owns the way from a path that was allowed to the bytes of the file: a lookup
//! that never leaves the pinned root and follows no link, a file that is regular,
//! and one read into memory of our own. The hash is of those very bytes, which are
//! the ones that are handed on; nothing is read twice, and nothing is mapped,
//! because a mapping shows what is written to the file after the check.
//!
//! Refuses symlinks in every component, whatever is no regular file, more than
//! the limit, content that is not the pinned one, and a kernel without openat2(2):
//! there is no other way to look a path up that an attacker cannot race.
//!
//! A hard link is the file it names. Mounts below the root are part of it. The
//! calls block, for as long as a file system takes to answer.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::{Errno, read};

use super::path::RelativePath;

/// Lookups of one path before it counts as one that never rests.
const LOOKUPS: usize = 8;
/// Least that the buffer grows by when a file has more than its size said, as
/// files of procfs and files that are being written do.
const GROWTH_BYTES: usize = 8 << 10;

/// A directory that files are read below, pinned by its descriptor: whatever takes
/// its name later is another directory.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Pins the directory at an absolute path. Symlinks on the way to it are
    /// followed, this once: whoever names the root owns what leads there.
    ///
    /// Fails with [`ReadError::Unsupported`] where files could not be read below it.
    pub fn open(host_root: &str) -> Result<Self, ReadError> {
        if !host_root.starts_with('/') {
            return Err(ReadError::NotNormal);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(host_root, flags, Mode::empty()).map_err(ReadError::of_open)?;
        openat2(&root, ".", flags, Mode::empty(), confined()).map_err(of_first_lookup)?;
        Ok(Self(root))
    }

    /// Reads a whole file, of at most `limit` bytes, that must be what is expected.
    /// The path is relative to the root and in its normal form.
    ///
    /// The limit goes before the content: a pinned file that has outgrown the limit
    /// is [`ReadError::TooLarge`], and nothing of it is read.
    pub fn read(&self, path: &str, expected: &Expected, limit: u64) -> Result<Verified, ReadError> {
        if !is_normal(path) {
            return Err(ReadError::NotNormal);
        }
        // To open a device or a FIFO is to act on it, so the file is looked at first
        // through a descriptor that opens nothing. The file that is opened then may
        // be another; it is judged anew, and nothing that was seen here is relied on.
        // What is left of the race takes a device node made below the root meanwhile,
        // and who can make one can open it. /proc/self/fd would close even that, but
        // only where procfs is mounted and is not a forgery.
        let seen = self.look_up(path, OFlags::PATH)?;
        file_size(&seen, limit)?;
        let file = self.look_up(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let size = file_size(&file, limit)?;
        let most = match expected {
            Expected::Pinned { size: pinned, .. } => pinned.unwrap_or(size).min(limit),
            Expected::Any => limit,
        };
        let bytes = read_at_most(&file, size, most.saturating_add(1))?;
        verify(bytes, expected, limit)
    }

    fn look_up(&self, path: &str, flags: OFlags) -> Result<OwnedFd, ReadError> {
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..LOOKUPS {
            match openat2(&self.0, path, flags, Mode::empty(), confined()) {
                // A rename raced with the lookup, or another process has a lease.
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened.map_err(ReadError::of_open),
            }
        }
        Err(ReadError::Changing)
    }
}

/// What the content must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// That of an entry of the manifest.
    Pinned {
        /// BLAKE3 of the content.
        hash: [u8; 32],
        /// Its length in bytes, where the entry tells it.
        size: Option<u64>,
    },
    /// Anything.
    Any,
}

/// A file as it was read, once.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// The content.
    pub bytes: Bytes,
    /// BLAKE3 of these bytes.
    pub hash: [u8; 32],
}

/// Without the content, which is nobody's business in a log.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Below the root, and along no link of any kind.
fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Whether the path is in the form that is judged, and not the root itself.
fn is_normal(path: &str) -> bool {
    RelativePath::parse(path).is_ok_and(|normal| normal.as_str() == path)
}

/// The size of a regular file that is not over the limit.
fn file_size(file: &OwnedFd, limit: u64) -> Result<u64, ReadError> {
    let stat = fstat(file).map_err(ReadError::io)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ReadError::NotAFile);
    }
    // A negative size, which only a broken file system tells, is over every limit.
    match u64::try_from(stat.st_size) {
        Ok(size) if size <= limit => Ok(size),
        _ => Err(ReadError::TooLarge { limit }),
    }
}

/// The file up to its end or to `most` bytes. Room is made for what the size says,
/// and for more only once that much was read.
fn read_at_most(file: &OwnedFd, size: u64, most: u64) -> Result<Vec<u8>, ReadError> {
    let bounded = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let most = bounded(most);
    let mut bytes = Vec::new();
    let mut more = bounded(size.saturating_add(1));
    while bytes.len() < most {
        if bytes.len() == bytes.capacity() {
            bytes
                .try_reserve_exact(more.min(most - bytes.len()))
                .map_err(|_| ReadError::io(Errno::NOMEM))?;
            more = bytes.capacity().max(GROWTH_BYTES);
        }
        match read(file, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ReadError::io(errno)),
        }
    }
    Ok(bytes)
}

fn verify(bytes: Vec<u8>, expected: &Expected, limit: u64) -> Result<Verified, ReadError> {
    let len = bytes.len() as u64;
    if len > limit {
        return Err(ReadError::TooLarge { limit });
    }
    let hash = *blake3::hash(&bytes).as_bytes();
    if let Expected::Pinned { hash: pinned, size } = expected
        && (hash != *pinned || size.is_some_and(|size| size != len))
    {
        return Err(ReadError::Mismatch);
    }
    Ok(Verified {
        bytes: bytes.into(),
        hash,
    })
}

/// Why a file was not read.
#[derive(Debug)]
pub enum ReadError {
    /// The path is not in its normal form, is the root itself, or, for a root, is
    /// not absolute.
    NotNormal,
    /// There is no such file; no file system can hold one of an overlong name.
    NotFound,
    /// It is a directory, a FIFO, a socket or a device.
    NotAFile,
    /// A component of the path is a symlink.
    Symlink,
    /// It has more bytes than may be read.
    TooLarge {
        /// Most bytes of a file.
        limit: u64,
    },
    /// Its content is not the pinned one.
    Mismatch,
    /// Its path was renamed again and again during the lookup, or another process
    /// holds the file with a lease. Another attempt may succeed.
    Changing,
    /// It may not be read by this process.
    Denied,
    /// The kernel, or a filter of system calls, has no openat2(2).
    Unsupported,
    /// It could not be opened or read.
    Io(io::Error),
}

impl ReadError {
    fn of_open(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Self::NotFound,
            // XDEV: a link led out of the root.
            Errno::LOOP | Errno::XDEV => Self::Symlink,
            // A socket, or a device without a driver.
            Errno::NXIO | Errno::NODEV => Self::NotAFile,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::NOSYS => Self::Unsupported,
            errno => Self::io(errno),
        }
    }

    fn io(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Why the first lookup failed, which asks for the root itself: no permission of a
/// file is in play, so EPERM is a filter of system calls, EINVAL and E2BIG a
/// kernel that does not know what is asked for.
fn of_first_lookup(errno: Errno) -> ReadError {
    match errno {
        Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG => ReadError::Unsupported,
        errno => ReadError::of_open(errno),
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNormal => f.write_str("the path is not in its normal form"),
            Self::NotFound => f.write_str("there is no such file"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::Symlink => f.write_str("a component of the path is a symlink"),
            Self::TooLarge { limit } => write!(f, "the file has more than {limit} bytes"),
            Self::Mismatch => f.write_str("the content is not the pinned one"),
            Self::Changing => f.write_str("the file is being renamed or is under a lease"),
            Self::Denied => f.write_str("the file may not be read by this process"),
            Self::Unsupported => f.write_str("openat2(2) is not available"),
            Self::Io(_) => f.write_str("cannot read the file"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, write};

    use rustix::io::Errno;

    use super::{Expected, ReadError, Root, is_normal, of_first_lookup, read_at_most, verify};

    #[test]
    fn only_a_normal_path_below_the_root_is_looked_up() {
        for path in ["a", "a/b", "..a", "a/...", "é"] {
            assert!(is_normal(path), "{path:?}");
        }
        for path in [
            "", ".", "..", "/", "/a", "./a", "a/", "a//b", "a/./b", "a/../b", "../a", "a/..",
            "a\0b",
        ] {
            assert!(!is_normal(path), "{path:?}");
        }
    }

    #[test]
    fn a_root_is_absolute() {
        for path in ["", ".", "etc"] {
            assert!(
                matches!(Root::open(path), Err(ReadError::NotNormal)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_kernel_or_a_filter_without_openat2_is_told_from_a_file_out_of_reach() {
        for errno in [Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::TOOBIG] {
            assert!(matches!(of_first_lookup(errno), ReadError::Unsupported));
        }
        assert!(matches!(of_first_lookup(Errno::ACCESS), ReadError::Denied));
        let of_open = ReadError::of_open;
        assert!(matches!(of_open(Errno::NOSYS), ReadError::Unsupported));
        assert!(matches!(of_open(Errno::PERM), ReadError::Denied));
        assert!(matches!(of_open(Errno::INVAL), ReadError::Io(_)));
    }

    #[test]
    fn a_read_stops_at_its_bound_whatever_the_size_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, vec![b'x'; 100_000]).unwrap();
        for (size, most, len) in [
            (100_000, 200_000, 100_000),
            (0, 200_000, 100_000),
            (0, 100_000, 100_000),
            (10, 11, 11),
            (u64::MAX, 50, 50),
            (7, 0, 0),
        ] {
            let file = File::open(&path).unwrap().into();
            let bytes = read_at_most(&file, size, most).unwrap();
            assert_eq!(bytes.len(), len, "{size} {most}");
            assert!(bytes.capacity() as u64 <= most, "{size} {most}");
        }
        let file = File::open(&path).unwrap().into();
        let error = read_at_most(&file, u64::MAX, u64::MAX).unwrap_err();
        assert!(matches!(error, ReadError::Io(_)), "no room is an error");
    }

    #[test]
    fn the_size_of_an_entry_must_fit_like_its_hash() {
        let pinned = |size| Expected::Pinned {
            hash: *blake3::hash(b"text").as_bytes(),
            size,
        };
        let fits = |text: &[u8], size| verify(text.to_vec(), &pinned(size), 10).is_ok();
        assert!(fits(b"text", None) && fits(b"text", Some(4)));
        assert!(!fits(b"text", Some(5)) && !fits(b"test", None) && !fits(b"", Some(0)));
    }
}
