//! What the clients were told, and what may therefore be true.
//!
//! Pure: the load reports what it plans, what was acknowledged, refused, or cut
//! off; [`Ledger::check`] compares that with a [`View`] of the daemon. An
//! operation that was cut off happened wholly or not at all; what is seen
//! decides, and from then on it must stay so.

mod state;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;

pub use state::{Change, Ending, Fate, Lease, Operation, State};
pub use view::{Seen, View};

/// One session, as its client knows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which client drives it.
    pub owner: usize,
    pub work_id: String,
    /// Later registrations have higher numbers.
    pub order: u64,
    pub state: State,
    /// Whether its handle was ever shown to the daemon or an episode bound.
    pub used: bool,
    /// The counter that a change has made durable.
    pub kept_count: u64,
    /// The counter of the last acknowledged heartbeat.
    pub told_count: u64,
    /// The highest counter that was ever sent.
    pub sent_count: u64,
    /// The newest revision of it that a watcher was told.
    pub watched: u64,
    /// Restarts it lived through.
    pub survived: u64,
    /// Whether it was ever there.
    pub existed: bool,
}

/// Everything the clients know.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    pending: Vec<Operation>,
    /// Acknowledged changes by revision: the session and the kind of event.
    told: BTreeMap<u64, (String, &'static str)>,
    next_order: u64,
}

impl Ledger {
    /// A session that a client is about to register. Until that is acknowledged
    /// it must not be there.
    pub fn planned(&mut self, id: &str, owner: usize, work_id: &str) {
        self.next_order += 1;
        let entry = Entry {
            owner,
            work_id: work_id.to_owned(),
            order: self.next_order,
            state: State::default(),
            used: false,
            kept_count: 0,
            told_count: 0,
            sent_count: 0,
            watched: 0,
            survived: 0,
            existed: false,
        };
        let before = self.entries.insert(id.to_owned(), entry);
        assert!(before.is_none(), "{id} is planned once");
    }

    /// The operation was acknowledged.
    pub fn acknowledged(&mut self, operation: &Operation) {
        for (id, change) in operation {
            let entry = self.entry(id);
            entry.state = change.apply(&entry.state);
            entry.kept_count = entry.told_count;
            entry.existed |= entry.state.fate != Fate::Absent;
            entry.used |= matches!(change, Change::Bound { .. });
        }
    }

    /// The answer named the revision of one change.
    pub fn told(&mut self, revision: u64, id: &str, change: &Change) {
        let before = self.told.insert(revision, (id.to_owned(), change.kind()));
        assert!(
            before.is_none(),
            "revision {revision} was answered twice: for {before:?} and {id}"
        );
    }

    /// Nobody knows whether the operation happened.
    pub fn cut_off(&mut self, operation: Operation) {
        self.pending.push(operation);
    }

    /// A heartbeat with that counter is about to be sent.
    pub fn beating(&mut self, id: &str, count: u64) {
        let entry = self.entry(id);
        entry.used = true;
        entry.sent_count = entry.sent_count.max(count);
    }

    /// The heartbeat was acknowledged: the next durable change keeps it.
    pub fn beaten(&mut self, id: &str, count: u64) {
        let entry = self.entry(id);
        entry.told_count = entry.told_count.max(count);
    }

    /// The handle was shown to the daemon.
    pub fn used(&mut self, id: &str) {
        self.entry(id).used = true;
    }

    /// A watcher was told of the session at that revision.
    pub fn watched(&mut self, id: &str, revision: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.watched = entry.watched.max(revision);
        }
    }

    /// The daemon was started that many times: leases are revoked, counters that
    /// no change carried are forgotten.
    pub fn restarted(&mut self) {
        for entry in self.entries.values_mut() {
            entry.state.restarted();
            entry.told_count = entry.kept_count;
        }
    }

    /// The sessions that are there, with their live ones counted as having lived
    /// through that many more starts.
    pub fn survived(&mut self, starts: u64) {
        for entry in self.entries.values_mut() {
            if entry.state.fate == Fate::Live {
                entry.survived += starts;
            }
        }
    }

    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    pub fn told_revisions(&self) -> &BTreeMap<u64, (String, &'static str)> {
        &self.told
    }

    pub fn pending(&self) -> &[Operation] {
        &self.pending
    }

    /// The live sessions of a client, oldest first.
    pub fn live_of(&self, owner: usize) -> Vec<(&String, &Entry)> {
        let mut live: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == owner && entry.state.fate == Fate::Live)
            .collect();
        live.sort_by_key(|(_, entry)| entry.order);
        live
    }

    /// Compares with what is seen and settles what was cut off; answers every
    /// contradiction.
    pub fn check(&mut self, view: &View) -> Vec<String> {
        let mut wrong = self.settle(view);
        for (id, entry) in &self.entries {
            if let Some(difference) = entry.differs(id, &entry.state, view) {
                wrong.push(difference);
            }
        }
        for id in view.sessions.keys() {
            if !self.entries.contains_key(id) {
                wrong.push(format!("{id}: nobody registered it"));
            }
        }
        wrong.extend(self.wrong_lookups(view));
        wrong.extend(self.wrong_counts(view));
        wrong
    }

    /// Decides each operation that was cut off: all of it happened or none.
    fn settle(&mut self, view: &View) -> Vec<String> {
        let mut wrong = Vec::new();
        for operation in std::mem::take(&mut self.pending) {
            let after: Vec<(String, State)> = operation
                .iter()
                .map(|(id, change)| {
                    let mut state = change.apply(&self.entry(id).state);
                    state.restarted();
                    (id.clone(), state)
                })
                .collect();
            let differences = |states: &mut dyn Iterator<Item = (&String, &State)>| -> Vec<String> {
                states
                    .filter_map(|(id, state)| self.entries[id].differs(id, state, view))
                    .collect()
            };
            let unless_done = differences(&mut after.iter().map(|(id, state)| (id, state)));
            let unless_not = differences(
                &mut operation
                    .iter()
                    .map(|(id, _)| (id, &self.entries[id].state)),
            );
            if unless_done.is_empty() {
                for (id, state) in after {
                    let entry = self.entry(&id);
                    entry.existed |= state.fate != Fate::Absent;
                    entry.state = state;
                }
            } else if !unless_not.is_empty() {
                wrong.push(format!(
                    "cut off, and neither done ({unless_done:?}) nor not ({unless_not:?})"
                ));
            }
        }
        wrong
    }

    /// A lookup by work id finds the newest live session.
    fn wrong_lookups(&self, view: &View) -> Vec<String> {
        let newest = |work_id: &String| {
            self.entries
                .iter()
                .filter(|(_, e)| e.work_id == *work_id && e.state.fate == Fate::Live)
                .max_by_key(|(_, e)| e.order)
                .map(|(id, _)| id)
        };
        view.works
            .iter()
            .filter(|(work_id, found)| found.as_ref() != newest(work_id))
            .map(|(work_id, found)| {
                format!(
                    "{work_id}: a lookup finds {found:?}, the newest live one is {:?}",
                    newest(work_id)
                )
            })
            .collect()
    }

    fn wrong_counts(&self, view: &View) -> Vec<String> {
        let states = self.entries.values().map(|entry| &entry.state.fate);
        let live = states.clone().filter(|fate| **fate == Fate::Live).count();
        let ended = states.filter(|f| matches!(f, Fate::Ended(_))).count();
        let mut wrong = Vec::new();
        for (what, told, counted) in [("live", view.live, live), ("ended", view.ended, ended)] {
            if told != counted as u64 {
                wrong.push(format!(
                    "the daemon counts {told} {what} sessions, the ledger {counted}"
                ));
            }
        }
        wrong
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        self.entries
            .get_mut(id)
            .unwrap_or_else(|| panic!("{id} was planned"))
    }
}

impl Entry {
    /// How what is seen of the session contradicts a state it may be in.
    fn differs(&self, id: &str, state: &State, view: &View) -> Option<String> {
        let seen = view.sessions.get(id);
        let wrong = |what: &str| Some(format!("{id}: {what}: {state:?}, but seen {seen:?}"));
        for dead in state.dead_handles() {
            if let Some(Some(session)) = view.handles.get(dead) {
                return wrong(&format!("a dead handle is accepted for {session}"));
            }
        }
        let Some(seen) = seen else {
            return match state.fate {
                Fate::Absent => None,
                _ => wrong("missing"),
            };
        };
        if state.fate == Fate::Absent {
            return wrong("it should not be there");
        }
        if seen.fate != state.fate {
            return wrong("its fate");
        }
        if (seen.episode.as_ref(), seen.number) != (state.episode.as_ref(), state.number) {
            return wrong("its episode or label");
        }
        if seen.work_id != self.work_id {
            return wrong("its work id");
        }
        if !(self.kept_count..=self.sent_count).contains(&seen.count) {
            return wrong(&format!(
                "its counter, {}..={}",
                self.kept_count, self.sent_count
            ));
        }
        if seen.revision < self.watched {
            return wrong(&format!("a watcher was told revision {}", self.watched));
        }
        if state.fate == Fate::Live {
            if (seen.lease, seen.stop_requested) != (state.lease, state.stop_requested) {
                return wrong("its lease or stop request");
            }
            if let Some(handle) = state.live_handle()
                && let Some(found) = view.handles.get(handle)
                && found.as_deref() != Some(id)
            {
                return wrong(&format!("its handle finds {found:?}"));
            }
        }
        None
    }
}
