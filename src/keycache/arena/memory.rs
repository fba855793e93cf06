//! The only code that maps memory: one reservation, opened block by block.
//!
//! memfd_secret(2) where the kernel has it: the pages are not in the kernel's own
//! map, cannot be read through ptrace(2) or /proc, and are never swapped or dumped.
//! Else anonymous memory, locked, left out of core files and wiped in children.

#![expect(unsafe_code, reason = "mapping memory and handing out parts of it")]

use std::{
    ffi::c_void,
    fmt,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::ftruncate,
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap},
};

use super::Secret;

/// Bytes of a block: the largest key, its canary, and the rest of the last page.
pub(super) const BLOCK: usize = 17 * PAGE;
const PAGE: usize = 4096;

/// Pages that nobody may touch, before and behind.
const GUARD: usize = 16 * PAGE;

/// What keeps the bytes from being written elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// memfd_secret(2).
    Secret,
    /// mlock(2), left out of core files.
    Locked,
    /// Nothing; it was allowed.
    Unlocked,
    /// There are none: no memory can be locked.
    Nothing,
}

impl Kind {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "memfd_secret",
            Self::Locked => "mlock",
            Self::Unlocked => "unlocked",
            Self::Nothing => "none",
        }
    }
}

/// What may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// memfd_secret(2). While it is in use the machine cannot hibernate.
    pub secret: bool,
    /// Memory that is not locked, if no other can be had.
    pub unlocked: bool,
}

/// No memory can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSecureMemory;

impl fmt::Display for NoSecureMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no memory can be locked: raise RLIMIT_MEMLOCK (`ulimit -l`), or set allow_unlocked_memory",
        )
    }
}

impl std::error::Error for NoSecureMemory {}

/// See the module.
pub(super) struct Memory {
    /// Where the first block begins.
    base: NonNull<u8>,
    blocks: usize,
    backing: Backing,
}

enum Backing {
    Secret(OwnedFd),
    Locked,
    Unlocked,
    Nothing,
}

// SAFETY: the mapping belongs to the value, is not tied to a thread, and its bytes
// are reached through a `Secret` only, which owns its part alone.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Reserves so many blocks and opens the first.
    pub(super) fn reserve(blocks: usize, allowed: Allowed) -> Result<Self, NoSecureMemory> {
        let mut memory = Self::mapped(blocks)?;
        let secret = allowed.secret.then(|| secret_file(blocks * BLOCK));
        let secret = secret.and_then(Result::ok).map(Backing::Secret);
        let kinds = secret.into_iter().chain([Backing::Locked]);
        let unlocked = allowed.unlocked.then_some(Backing::Unlocked);
        for backing in kinds.chain(unlocked) {
            memory.backing = backing;
            if memory.open(0).is_ok() {
                return Ok(memory);
            }
        }
        Err(NoSecureMemory)
    }

    /// No block at all.
    pub(super) fn nothing() -> Result<Self, NoSecureMemory> {
        Self::mapped(0)
    }

    /// Address space for so many blocks, between guard pages; none is open.
    fn mapped(blocks: usize) -> Result<Self, NoSecureMemory> {
        let bytes = GUARD + blocks * BLOCK + GUARD;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        };
        let start = NonNull::new(start.map_err(|_| NoSecureMemory)?).ok_or(NoSecureMemory)?;
        Ok(Self {
            // SAFETY: inside the mapping that was just made.
            base: unsafe { start.cast::<u8>().add(GUARD) },
            blocks,
            backing: Backing::Nothing,
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.backing {
            Backing::Secret(_) => Kind::Secret,
            Backing::Locked => Kind::Locked,
            Backing::Unlocked => Kind::Unlocked,
            Backing::Nothing => Kind::Nothing,
        }
    }

    /// Makes a block usable. Each is opened once, before anything is taken from it.
    pub(super) fn open(&self, block: usize) -> Result<(), Errno> {
        if block >= self.blocks {
            return Err(Errno::NOMEM);
        }
        let offset = block * BLOCK;
        // SAFETY: inside the reservation.
        let at: *mut c_void = unsafe { self.base.add(offset) }.as_ptr().cast();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let fixed = MapFlags::FIXED;
        // SAFETY: replaces pages of our own reservation that nothing points into yet.
        unsafe {
            match &self.backing {
                Backing::Secret(file) => {
                    let flags = MapFlags::SHARED | fixed;
                    mmap(at, BLOCK, protection, flags, file.as_fd(), offset as u64)?;
                    madvise(at, BLOCK, Advice::LinuxDontFork)?;
                }
                Backing::Locked | Backing::Unlocked => {
                    mmap_anonymous(at, BLOCK, protection, MapFlags::PRIVATE | fixed)?;
                    madvise(at, BLOCK, Advice::LinuxDontDump)?;
                    madvise(at, BLOCK, Advice::LinuxWipeOnFork)?;
                }
                Backing::Nothing => return Err(Errno::NOMEM),
            }
            if matches!(self.backing, Backing::Locked)
                && let Err(error) = mlock(at, BLOCK)
            {
                // Back to what cannot be touched.
                mmap_anonymous(at, BLOCK, ProtFlags::empty(), MapFlags::PRIVATE | fixed)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes behind a slot that was just taken.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let at = self.at(offset, bytes.len());
        // SAFETY: in an opened block, and of a slot that nobody else was given.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) }
    }

    /// A secret's own bytes: the arena names no others.
    pub(super) fn read<'a>(&self, _owner: &'a Secret, offset: usize, length: usize) -> &'a [u8] {
        // SAFETY: the owner keeps the mapping alive and is the only one who has this
        // part of it; it is borrowed, so nobody writes.
        unsafe { std::slice::from_raw_parts(self.at(offset, length), length) }
    }

    /// The same, to be written.
    pub(super) fn read_mut<'a>(
        &self,
        _owner: &'a mut Secret,
        offset: usize,
        length: usize,
    ) -> &'a mut [u8] {
        // SAFETY: as for `read`, and the owner is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset, length), length) }
    }

    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(offset + length <= self.blocks * BLOCK, "inside the arena");
        // SAFETY: inside the reservation.
        unsafe { self.base.add(offset) }.as_ptr()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let bytes = GUARD + self.blocks * BLOCK + GUARD;
        // SAFETY: the whole reservation, which no secret points into any more: each
        // keeps it alive.
        unsafe {
            let start = self.base.sub(GUARD).as_ptr().cast();
            let _ = munmap(start, bytes);
        }
    }
}

/// A file of secret memory.
fn secret_file(bytes: usize) -> Result<OwnedFd, Errno> {
    // SAFETY: takes a number and answers a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(Errno::NOSYS);
    }
    // SAFETY: the kernel just made it, for us.
    let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    ftruncate(&file, bytes as u64)?;
    Ok(file)
}
