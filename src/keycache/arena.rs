//! Where key bytes live, once each.
//!
//! One reserved stretch of address space between guard pages, opened block by
//! block. A block serves one size class; a slot is a class's bytes and a canary
//! behind them. A slot is zero before it is given out and is zeroed the moment it
//! is let go. A canary that does not hold ends the process: who wrote over it may
//! have read as well.
//!
//! Refuses a key for which no more memory can be locked.

mod memory;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use zeroize::Zeroize as _;

pub use memory::{Allowed, Kind, NoSecureMemory};
use memory::{BLOCK, Memory};

/// Bytes of the largest key.
pub const MAX_KEY: usize = 64 * 1024;

/// Bytes of locked memory at most.
pub const MAX_LOCKED: usize = 16 * 1024 * 1024;

/// Bytes of the smallest slot; a class is a power of two from here to [`MAX_KEY`].
const SMALLEST: usize = 64;
const CLASSES: usize = (MAX_KEY / SMALLEST).ilog2() as usize + 1;
const CANARY: usize = 8;

/// See the module. Lives as long as any secret in it.
pub struct Arena {
    memory: Memory,
    canary: [u8; CANARY],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Free slots of each class, by offset.
    free: [Vec<u32>; CLASSES],
    /// Used slots of each opened block, and its class.
    blocks: Vec<Block>,
    /// Opened blocks that serve no class.
    idle: Vec<u16>,
}

#[derive(Clone, Copy, Default)]
struct Block {
    class: u8,
    used: u16,
}

impl Arena {
    /// Reserves `limit` bytes, at most [`MAX_LOCKED`], and locks the first block.
    /// Takes the best kind of memory that is allowed and can be had.
    pub fn new(limit: usize, allowed: Allowed) -> Result<Arc<Self>, NoSecureMemory> {
        let blocks = (limit.min(MAX_LOCKED) / BLOCK).max(1);
        let memory = Memory::reserve(blocks, allowed)?;
        Self::of(
            memory,
            State {
                blocks: vec![Block::default()],
                idle: vec![0],
                ..State::default()
            },
        )
    }

    /// One that gives out nothing, for where no memory can be locked.
    pub fn nothing() -> Result<Arc<Self>, NoSecureMemory> {
        Self::of(Memory::nothing()?, State::default())
    }

    fn of(memory: Memory, state: State) -> Result<Arc<Self>, NoSecureMemory> {
        let mut canary = [0; CANARY];
        getrandom::fill(&mut canary).map_err(|_| NoSecureMemory)?;
        Ok(Arc::new(Self {
            memory,
            canary,
            state: Mutex::new(state),
        }))
    }

    /// What kind of memory it is.
    pub fn kind(&self) -> Kind {
        self.memory.kind()
    }

    /// Bytes that are locked now.
    pub fn locked_bytes(&self) -> usize {
        self.state.lock().blocks.len() * BLOCK
    }

    /// Room for a key of `length` bytes, 1 to [`MAX_KEY`], all zero; none if no more
    /// memory can be locked.
    pub fn take(self: &Arc<Self>, length: usize) -> Option<Secret> {
        let class = class_of(length)?;
        let mut state = self.state.lock();
        if state.free[class].is_empty() {
            let block = match state.idle.pop() {
                Some(block) => usize::from(block),
                None => self.open(&mut state)?,
            };
            state.blocks[block].class = class as u8;
            let first = block * BLOCK;
            let slots = (0..BLOCK / stride(class)).rev();
            state.free[class].extend(slots.map(|slot| (first + slot * stride(class)) as u32));
        }
        let offset = state.free[class].pop()?;
        state.blocks[offset as usize / BLOCK].used += 1;
        drop(state);
        let secret = Secret {
            arena: Arc::clone(self),
            offset,
            length: length as u32,
        };
        let end = offset as usize + size(class);
        // Nobody else knows the slot yet.
        self.memory.write(end, &self.canary);
        Some(secret)
    }

    fn open(&self, state: &mut State) -> Option<usize> {
        let block = state.blocks.len();
        self.memory.open(block).ok()?;
        state.blocks.push(Block::default());
        Some(block)
    }

    /// Takes back a slot that is zero again.
    fn give_back(&self, offset: u32, class: usize) {
        let mut state = self.state.lock();
        let block = offset as usize / BLOCK;
        state.blocks[block].used -= 1;
        if state.blocks[block].used > 0 {
            state.free[class].push(offset);
            return;
        }
        let of_block = |offset: &u32| *offset as usize / BLOCK == block;
        state.free[class].retain(|offset| !of_block(offset));
        state.idle.push(block as u16);
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("kind", &self.kind()).finish()
    }
}

/// The class whose slots hold so many bytes.
fn class_of(length: usize) -> Option<usize> {
    if length == 0 || length > MAX_KEY {
        return None;
    }
    let size = length.next_power_of_two().max(SMALLEST);
    Some((size / SMALLEST).ilog2() as usize)
}

const fn size(class: usize) -> usize {
    SMALLEST << class
}

const fn stride(class: usize) -> usize {
    size(class) + CANARY
}

/// Bytes that only their owner can reach, wiped when it lets them go. Is never
/// copied.
pub struct Secret {
    arena: Arc<Arena>,
    offset: u32,
    length: u32,
}

impl Secret {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Never: an arena gives out no empty slot.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.arena
            .memory
            .read(self, self.offset as usize, self.len())
    }

    /// The bytes, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        let (arena, offset, length) = (Arc::clone(&self.arena), self.offset as usize, self.len());
        arena.memory.read_mut(self, offset, length)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let arena = Arc::clone(&self.arena);
        let class = class_of(self.len()).expect("a secret has a class");
        let (offset, size) = (self.offset as usize, size(class));
        let slot = arena.memory.read_mut(self, offset, size + CANARY);
        let holds = slot[size..] == arena.canary;
        slot.zeroize();
        if !holds {
            eprintln!("keycached: memory behind a key was overwritten");
            std::process::abort();
        }
        arena.give_back(self.offset, class);
    }
}
