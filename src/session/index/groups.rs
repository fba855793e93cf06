//! Circles of sessions that share a key: a work id, an episode, a lease.
//!
//! The table knows the head of each circle: the newest live session. Ended ones
//! come last, so the tail is the one that ended last. Every step is one of a
//! fixed number, however many sessions share the key.

use super::{
    slots::{Circle, Link, NONE, Slots},
    table::{ShardGuard, Table},
};

/// The circles of one kind of key.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) table: Table,
    circle: Circle,
}

/// Where a session joins its circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

impl Groups {
    pub(super) fn new(circle: Circle) -> Self {
        Self {
            table: Table::new(),
            circle,
        }
    }

    /// Joins the circle whose head `is_key` accepts, or begins one.
    pub(super) fn join(
        &self,
        slots: &Slots,
        hash: u64,
        slot: u32,
        end: End,
        is_key: impl FnMut(u32) -> bool,
    ) {
        let mut shard = self.table.lock(hash);
        let Some(head) = shard.find(is_key) else {
            self.set(
                slots,
                slot,
                Link {
                    next: slot,
                    prev: slot,
                },
            );
            shard.insert(slot);
            return;
        };
        let tail = slots.link(head, self.circle).prev;
        self.set(
            slots,
            slot,
            Link {
                next: head,
                prev: tail,
            },
        );
        slots.change(tail, |s| s.links[self.circle as usize].next = slot);
        slots.change(head, |s| s.links[self.circle as usize].prev = slot);
        if end == End::Front {
            shard.replace(head, slot);
        }
    }

    /// Leaves its circle, if it is in one.
    pub(super) fn leave(&self, slots: &Slots, hash: u64, slot: u32) {
        let mut shard = self.table.lock(hash);
        let link = slots.link(slot, self.circle);
        if link.next == NONE {
            return;
        }
        if link.next == slot {
            shard.remove(slot);
        } else {
            self.bridge(slots, &mut shard, slot, link);
        }
        self.set(
            slots,
            slot,
            Link {
                next: NONE,
                prev: NONE,
            },
        );
    }

    /// Goes to the tail of its circle.
    pub(super) fn retire(
        &self,
        slots: &Slots,
        hash: u64,
        slot: u32,
        is_key: impl FnMut(u32) -> bool,
    ) {
        let mut shard = self.table.lock(hash);
        let link = slots.link(slot, self.circle);
        if link.next == NONE || link.next == slot {
            return;
        }
        if shard.find(|head| head == slot).is_some() {
            shard.replace(slot, link.next);
            return;
        }
        let Some(head) = shard.find(is_key) else {
            return;
        };
        self.bridge(slots, &mut shard, slot, link);
        let tail = slots.link(head, self.circle).prev;
        self.set(
            slots,
            slot,
            Link {
                next: head,
                prev: tail,
            },
        );
        slots.change(tail, |s| s.links[self.circle as usize].next = slot);
        slots.change(head, |s| s.links[self.circle as usize].prev = slot);
    }

    fn bridge(&self, slots: &Slots, shard: &mut ShardGuard<'_>, slot: u32, link: Link) {
        slots.change(link.prev, |s| {
            s.links[self.circle as usize].next = link.next;
        });
        slots.change(link.next, |s| {
            s.links[self.circle as usize].prev = link.prev;
        });
        if shard.find(|head| head == slot).is_some() {
            shard.replace(slot, link.next);
        }
    }

    fn set(&self, slots: &Slots, slot: u32, link: Link) {
        slots.change(slot, |s| s.links[self.circle as usize] = link);
    }

    /// The head and the tail of the circle whose head `is_key` accepts.
    pub(super) fn ends(
        &self,
        slots: &Slots,
        hash: u64,
        mut is_key: impl FnMut(u32) -> bool,
    ) -> Option<(u32, u32)> {
        self.table.find(hash, |slot| {
            is_key(slot).then(|| (slot, slots.link(slot, self.circle).prev))
        })
    }

    /// The slot after this one. Only the writer can follow a circle safely.
    pub(super) fn next(&self, slots: &Slots, slot: u32) -> u32 {
        slots.link(slot, self.circle).next
    }
}
