//! A sharded hash table from 64 hash bits to slots.
//!
//! It keeps no keys: a probe looks at the slot. Hash bits are kept instead, so
//! that growing a shard never touches a session. Lock order: a table's shard
//! before a chunk of slots; never two shards.

use hashbrown::HashTable;
use parking_lot::RwLock;

/// At the default limit of a million sessions a shard is three quarters full,
/// and growing one moves 14,336 entries, well below a millisecond.
const SHARDS: usize = 80;

#[derive(Debug, Clone, Copy)]
struct Entry {
    bits: u32,
    slot: u32,
}

impl Entry {
    /// Spreads the kept bits over the table's position and tag bits.
    fn hash(self) -> u64 {
        u64::from(self.bits).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<RwLock<HashTable<Entry>>>,
}

/// One shard, locked for a change.
pub(super) struct ShardGuard<'a> {
    shard: parking_lot::RwLockWriteGuard<'a, HashTable<Entry>>,
    bits: u32,
}

impl Table {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards }
    }

    /// Makes room for so many slots: tables that grow step by step move what they
    /// hold at each.
    pub(super) fn reserve(&self, slots: usize) {
        for shard in &self.shards {
            shard
                .write()
                .reserve(slots.div_ceil(SHARDS), |entry| entry.hash());
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Entry>> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// The first answer of `probe` among the slots with that hash.
    pub(super) fn find<T>(&self, hash: u64, mut probe: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let bits = hash as u32;
        let shard = self.shard(hash).read();
        let mut found = None;
        shard.find(Entry { bits, slot: 0 }.hash(), |entry| {
            entry.bits == bits && {
                found = probe(entry.slot);
                found.is_some()
            }
        });
        found
    }

    /// Locks the shard of that hash for a change.
    pub(super) fn lock(&self, hash: u64) -> ShardGuard<'_> {
        ShardGuard {
            shard: self.shard(hash).write(),
            bits: hash as u32,
        }
    }
}

impl ShardGuard<'_> {
    pub(super) fn insert(&mut self, slot: u32) {
        let entry = Entry {
            bits: self.bits,
            slot,
        };
        self.shard
            .insert_unique(entry.hash(), entry, |entry| entry.hash());
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let bits = self.bits;
        let is_it = |entry: &Entry| entry.bits == bits && entry.slot == slot;
        if let Ok(entry) = self.shard.find_entry(Entry { bits, slot }.hash(), is_it) {
            entry.remove();
        }
    }

    /// The first slot with that hash that `is_key` accepts.
    pub(super) fn find(&self, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        let bits = self.bits;
        let is_it = |entry: &Entry| entry.bits == bits && is_key(entry.slot);
        let found = self.shard.find(Entry { bits, slot: 0 }.hash(), is_it);
        found.map(|entry| entry.slot)
    }

    /// Puts `new` in the place of `old`.
    pub(super) fn replace(&mut self, old: u32, new: u32) {
        let bits = self.bits;
        let is_it = |entry: &Entry| entry.bits == bits && entry.slot == old;
        if let Some(entry) = self.shard.find_mut(Entry { bits, slot: old }.hash(), is_it) {
            entry.slot = new;
        }
    }
}
