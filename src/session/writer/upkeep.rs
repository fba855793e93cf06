//! What the writer does between batches.

mod firewalls;

use tracing::warn;

use super::Writer;
use crate::{
    clock::Now,
    session::{
        batch::{Ending, Overlay},
        event::EventKind,
        expiry::{self, Due},
        index::View,
        state::{Counters, ExitClassification, Seq, TerminationReason},
        store::AppendError,
    },
};

/// Sessions ended, forgotten or written down in one commit of upkeep: small, so
/// that no call waits long behind it.
const SLICE: usize = 500;

/// Activity is written at most this often, in milliseconds.
const FLUSH_EVERY: u64 = 60_000;

/// Retention, first uses and unwritten revocations are looked at this often, in
/// milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// Refinements and manifests are looked at this often, in milliseconds.
const TIDY_EVERY: u64 = 10_000;

/// A gap between the clocks larger than this means that the machine slept, in
/// milliseconds.
const SLEPT: u64 = 1_000;

/// When what was done last, on the awake clock.
#[derive(Debug)]
pub(super) struct Upkeep {
    flushed: u64,
    looked: u64,
    slept: u64,
    tidied: u64,
    ballast_out: bool,
    /// Sessions whose activity is being written, a slice at a time.
    flushing: Vec<Seq>,
    compacting: bool,
}

impl Upkeep {
    pub(super) fn new(now: Now) -> Self {
        Self {
            flushed: now.awake,
            looked: now.awake,
            slept: now.boot.saturating_sub(now.awake),
            tidied: now.awake,
            // A start may have found no room for it.
            ballast_out: true,
            flushing: Vec::new(),
            compacting: false,
        }
    }

    /// Does what is done periodically in the next turn.
    pub(super) fn look_now(&mut self) {
        self.looked = 0;
    }

    pub(super) fn ballast_released(&mut self) {
        self.ballast_out = true;
    }
}

impl Writer {
    /// Whether there is more to do at once.
    pub(super) fn has_upkeep(&self) -> bool {
        !self.upkeep.flushing.is_empty() || self.upkeep.compacting
    }

    /// Does a bounded piece of everything that is due.
    pub(super) fn upkeep(&mut self) -> Result<(), AppendError> {
        let now = self.clock.now();
        self.notice_sleep(now);
        let periodic = now.awake >= self.upkeep.looked + LOOK_EVERY;
        if periodic {
            self.upkeep.looked = now.awake;
            self.requests.forget_old(now);
            self.tally.write().request_ids_since = self.requests.since(now);
            self.retry_unwritten()?;
            let first_used = self.index.take_first_used();
            self.upkeep.flushing.extend(first_used);
            self.upkeep.compacting = true;
            self.refill_ballast();
            self.write_denials(false, now)?;
        }
        if now.awake >= self.upkeep.tidied + TIDY_EVERY {
            self.upkeep.tidied = now.awake;
            self.tidy_firewalls(now)?;
        }
        if now.awake >= self.upkeep.flushed + FLUSH_EVERY {
            self.upkeep.flushed = now.awake;
            let dirty = self.index.take_dirty();
            self.upkeep.flushing.extend(dirty);
            self.note_alive(now)?;
        }
        self.end_due(now)?;
        self.forget_surplus(now)?;
        self.flush_slice(now)?;
        if self.upkeep.compacting {
            self.upkeep.compacting = self.compact(now)?;
        }
        Ok(())
    }

    /// A daemon that was asleep did not hear the heartbeats.
    fn notice_sleep(&mut self, now: Now) {
        let slept = now.boot.saturating_sub(now.awake);
        if slept > self.upkeep.slept + SLEPT {
            self.upkeep.slept = slept;
            self.index.set_heard_since(now.awake);
        }
    }

    /// Takes the reserve back, before others use the space that was freed for
    /// revocations.
    pub(super) fn refill_ballast(&mut self) {
        if self.upkeep.ballast_out && self.unwritten.is_empty() {
            self.upkeep.ballast_out = !self.store.restore_ballast();
        }
    }

    /// Ends sessions whose deadline passed, and forgets ended ones.
    fn end_due(&mut self, now: Now) -> Result<(), AppendError> {
        let mut overlay = Overlay::default();
        let numbers = self.numbers;
        let heard_since = self.index.index().heard_since();
        let mut looked_at = Vec::new();
        while looked_at.len() < SLICE {
            let Some(seq) = self.agenda.pop(now) else {
                break;
            };
            let Some(view) = self.index.index().by_seq(seq) else {
                continue;
            };
            looked_at.push(seq);
            match expiry::due(&view.session, &view.live, heard_since, now) {
                Some(Due::Purge) => self.batch(&mut overlay, now).purge(seq),
                Some(_) if !view.session.is_active() => {}
                Some(due) => self.time_out(&mut overlay, &view, due, now),
                None => {
                    looked_at.pop();
                    if let Some(at) = expiry::look_at(&view.session, &view.live, heard_since, now) {
                        self.agenda.add(at.max(now.boot + 1), seq);
                    }
                }
            }
        }
        match self.append(&overlay, now) {
            Ok(()) => Ok(()),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(refused) => {
                warn!(
                    error = &refused as &dyn std::error::Error,
                    "expiry not written"
                );
                self.numbers = numbers;
                self.store.release_ballast();
                self.upkeep.ballast_released();
                for seq in looked_at {
                    self.agenda.add(now.boot + LOOK_EVERY, seq);
                }
                self.doom(overlay.into_changes());
                Ok(())
            }
        }
    }

    fn time_out(&mut self, overlay: &mut Overlay, view: &View, due: Due, now: Now) {
        let ending = Ending {
            reason: TerminationReason::Timeout,
            detail: due.detail().into(),
            exit_classification: ExitClassification::Cancelled,
            exit_code: None,
            tokens_consumed: None,
            counters: Counters::default(),
        };
        let mut batch = self.batch(overlay, now);
        let call = batch.daemon_call();
        batch.end(view, &ending, EventKind::Terminated, &call);
    }

    /// Records over the limit.
    fn surplus(&self) -> usize {
        let limit = self.limits.read().max_terminated as u64;
        let (_, ended) = self.index.index().counts();
        usize::try_from(ended.saturating_sub(limit)).unwrap_or(usize::MAX)
    }

    /// Forgets the records that are over the limit, oldest first.
    fn forget_surplus(&mut self, now: Now) -> Result<(), AppendError> {
        let surplus = self.surplus();
        if surplus == 0 {
            return Ok(());
        }
        let mut overlay = Overlay::default();
        let mut purged = 0;
        while purged < surplus.min(SLICE) {
            let Some(seq) = self.index.oldest_ended() else {
                break;
            };
            self.batch(&mut overlay, now).purge(seq);
            purged += 1;
        }
        match self.append(&overlay, now) {
            Ok(()) => self.tally.write().early_purges += purged as u64,
            Err(unknown @ AppendError::Unknown(_)) => return Err(unknown),
            Err(refused) => {
                warn!(
                    error = &refused as &dyn std::error::Error,
                    "purge not written"
                );
            }
        }
        Ok(())
    }

    /// Writes activity down, a slice at a time.
    fn flush_slice(&mut self, now: Now) -> Result<(), AppendError> {
        let from = self.upkeep.flushing.len().saturating_sub(SLICE);
        let slice = self.upkeep.flushing.split_off(from);
        if slice.is_empty() {
            return Ok(());
        }
        let mut overlay = Overlay::default();
        for seq in &slice {
            if let Some(view) = self.index.take_written(*seq)
                && view.session.is_active()
            {
                self.batch(&mut overlay, now).note(&view);
            }
        }
        match self.append(&overlay, now) {
            Ok(()) => Ok(()),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(_) => {
                self.index.give_back(slice);
                Ok(())
            }
        }
    }

    /// Deletes old events; whether there may be more.
    fn compact(&mut self, now: Now) -> Result<bool, AppendError> {
        let limits = *self.limits.read();
        let retention = u64::try_from(limits.event_retention.as_millis()).unwrap_or(u64::MAX);
        let before = now.wall.saturating_sub(retention);
        match self.store.compact(before, limits.max_events, SLICE) {
            Ok(Some(compacted)) => {
                self.tally.write().compacted = compacted;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(refused) => {
                warn!(
                    error = &refused as &dyn std::error::Error,
                    "old events not deleted"
                );
                Ok(false)
            }
        }
    }

    /// Notes the time, for the next start.
    fn note_alive(&mut self, now: Now) -> Result<(), AppendError> {
        match self.store.alive(now) {
            Ok(()) => Ok(()),
            Err(unknown @ AppendError::Unknown(_)) => Err(unknown),
            Err(refused) => {
                let error = &refused as &dyn std::error::Error;
                warn!(error, "time not noted");
                Ok(())
            }
        }
    }

    /// Writes down everything that is still only in memory, before the end.
    pub(super) fn flush_all(&mut self) -> Result<(), AppendError> {
        let now = self.clock.now();
        self.retry_unwritten()?;
        self.write_denials(true, now)?;
        let dirty = self.index.take_dirty();
        self.upkeep.flushing.extend(dirty);
        while !self.upkeep.flushing.is_empty() {
            self.flush_slice(now)?;
        }
        self.note_alive(now)
    }
}
