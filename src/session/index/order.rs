//! Sessions in the order of their registration.

use std::{collections::BTreeMap, ops::Bound};

use parking_lot::RwLock;

use super::slots::NONE;
use crate::session::state::Seq;

/// Sequence numbers in a block: a lone long-lived session costs one block.
const BLOCK: u64 = 64;

#[derive(Debug)]
struct Block {
    used: u8,
    slots: [u32; BLOCK as usize],
}

/// From sequence number to slot, in order.
#[derive(Debug, Default)]
pub(super) struct Order {
    blocks: RwLock<BTreeMap<u64, Box<Block>>>,
}

impl Order {
    pub(super) fn insert(&self, seq: Seq, slot: u32) {
        let mut blocks = self.blocks.write();
        let block = blocks.entry(seq.0 / BLOCK).or_insert_with(|| {
            Box::new(Block {
                used: 0,
                slots: [NONE; BLOCK as usize],
            })
        });
        block.slots[(seq.0 % BLOCK) as usize] = slot;
        block.used += 1;
    }

    pub(super) fn remove(&self, seq: Seq) {
        let mut blocks = self.blocks.write();
        let Some(block) = blocks.get_mut(&(seq.0 / BLOCK)) else {
            return;
        };
        block.slots[(seq.0 % BLOCK) as usize] = NONE;
        block.used -= 1;
        if block.used == 0 {
            blocks.remove(&(seq.0 / BLOCK));
        }
    }

    pub(super) fn slot(&self, seq: Seq) -> Option<u32> {
        let blocks = self.blocks.read();
        let slot = blocks.get(&(seq.0 / BLOCK))?.slots[(seq.0 % BLOCK) as usize];
        (slot != NONE).then_some(slot)
    }

    /// At most `limit` sessions after `seq`, oldest first.
    pub(super) fn after(&self, seq: Seq, limit: usize) -> Vec<(Seq, u32)> {
        let blocks = self.blocks.read();
        let from = Bound::Included((seq.0 + 1) / BLOCK);
        let mut found = Vec::new();
        for (number, block) in blocks.range((from, Bound::Unbounded)) {
            for (at, slot) in block.slots.iter().enumerate() {
                let this = Seq(number * BLOCK + at as u64);
                if *slot != NONE && this > seq {
                    found.push((this, *slot));
                    if found.len() == limit {
                        return found;
                    }
                }
            }
        }
        found
    }
}
