//! The content of many files, hashed on all processors.
//!
//! Owns the one read of each file: what is no regular file, or too large, is
//! refused by what was opened, not by its name.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::left::Why;

/// Largest file, in bytes: what a verified read serves.
pub const MAX_FILE: u64 = 64 << 20;
/// Read at a time, in bytes: enough for all lanes of BLAKE3, within a processor's
/// own cache.
const CHUNK: usize = 256 << 10;
/// Width of the bar on a terminal, in characters.
const BAR: usize = 40;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3 of it.
    pub hash: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}

/// Hashes every file below the root, in the order given; shows how far it is on a
/// terminal.
pub fn all(root: &Path, paths: &[String]) -> Vec<Result<Content, Why>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let progress = Progress::new(paths.len());
    let work = || {
        let mut buffer = vec![0; CHUNK];
        let mut own = Vec::with_capacity(paths.len() / threads + 1);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(at) else {
                return own;
            };
            own.push((at, read(&root.join(path), &mut buffer)));
            progress.step();
        }
    };
    let mut results = vec![Err(Why::Missing); paths.len()];
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = std::iter::once(work());
        let others = others
            .into_iter()
            .map(|other| other.join().expect("no read panics"));
        for (at, content) in own.chain(others).flatten() {
            results[at] = content;
        }
    });
    progress.end();
    results
}

/// Hashes one file.
pub fn one(path: &Path) -> Result<Content, Why> {
    read(path, &mut vec![0; CHUNK])
}

fn read(path: &Path, buffer: &mut [u8]) -> Result<Content, Why> {
    let mut file = open(path).map_err(|error| why(&error))?;
    let about = file.metadata().map_err(|error| why(&error))?;
    if !about.is_file() {
        return Err(Why::Special);
    }
    if about.len() > MAX_FILE {
        return Err(Why::TooLarge);
    }
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(why(&error)),
        }
        if size > MAX_FILE {
            return Err(Why::TooLarge);
        }
    }
    let hash = *hasher.finalize().as_bytes();
    Ok(Content { hash, size })
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn why(error: &io::Error) -> Why {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => Why::Symlink,
        Some(Errno::NXIO) => Why::Special,
        Some(Errno::NOENT | Errno::NOTDIR) => Why::Missing,
        _ => Why::Unreadable,
    }
}

/// A line on a terminal that is written over.
struct Progress {
    is_shown: bool,
    total: usize,
    done: Mutex<usize>,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            total,
            done: Mutex::new(0),
        }
    }

    fn step(&self) {
        if !self.is_shown {
            return;
        }
        // Held until the line is out: no thread may show what another has passed.
        let mut done = self.done.lock();
        let percent = |done: usize| done * 100 / self.total;
        let before = percent(*done);
        *done += 1;
        let (percent, total) = (percent(*done), self.total);
        if percent == before {
            return;
        }
        let bar = "#".repeat(percent * BAR / 100);
        let line = format!("\r[{bar:BAR$}] {percent:3} % of {total} files");
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn end(&self) {
        if self.is_shown && self.total > 0 {
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::{CHUNK, MAX_FILE, all, one};
    use crate::cli::manifest::left::Why;

    #[test]
    fn contents_come_in_the_order_of_the_paths() {
        let directory = tempfile::tempdir().unwrap();
        let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK];
        let paths: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        for (path, size) in paths.iter().zip(sizes) {
            fs::write(directory.path().join(path), vec![b'x'; size]).unwrap();
        }
        let contents = all(directory.path(), &paths);
        for (content, size) in contents.iter().zip(sizes) {
            let content = content.unwrap();
            assert_eq!(content.size, size as u64);
            assert_eq!(content.hash, *blake3::hash(&vec![b'x'; size]).as_bytes());
        }
    }

    #[test]
    fn what_is_no_file_of_a_bearable_size_is_refused_by_what_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let sized = |name: &str, size| {
            let file = fs::File::create(at(name)).unwrap();
            file.set_len(size).unwrap();
        };
        sized("limit", MAX_FILE);
        sized("large", MAX_FILE + 1);
        assert_eq!(one(&at("limit")).unwrap().size, MAX_FILE);
        for (name, why) in [
            ("link", Why::Symlink),
            ("socket", Why::Special),
            (".", Why::Special),
            ("large", Why::TooLarge),
            ("gone", Why::Missing),
        ] {
            assert_eq!(one(&at(name)), Err(why), "{name}");
        }
    }
}
