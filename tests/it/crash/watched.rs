//! What a watcher was told over the restarts, and whether that is everything,
//! once, and in order.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Fate, Lease, Ledger};

/// What a start tells of each live session: the one, or the other if it has a
/// lease. Watchers get these out of one row, under revisions that are in no
/// session.
pub const DERIVED: [&str; 2] = ["RECOVERED", "LEASE_REVOKED"];

/// One event that a watcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub revision: u64,
    pub kind: &'static str,
    /// None for a restart.
    pub session: Option<String>,
}

/// Every contradiction between what was heard, from the first revision to the
/// last, and what the clients know after everything was settled.
pub fn check(heard: &[Heard], ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in heard.windows(2) {
        if pair[0].revision >= pair[1].revision {
            wrong.push(format!("out of order or twice: {pair:?}"));
        }
    }
    let by_revision: BTreeMap<u64, &Heard> = heard.iter().map(|one| (one.revision, one)).collect();
    for (revision, (id, kind)) in ledger.told_revisions() {
        let one = by_revision.get(revision);
        if !one.is_some_and(|one| one.session.as_ref() == Some(id) && one.kind == *kind) {
            wrong.push(format!(
                "{id} {kind} was answered as revision {revision}, but heard {one:?}"
            ));
        }
    }
    let mut histories: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
    for one in heard {
        if let Some(id) = &one.session {
            histories.entry(id).or_default().push(one.kind);
        }
    }
    let known: BTreeSet<&str> = ledger.entries().keys().map(String::as_str).collect();
    for id in histories.keys().filter(|id| !known.contains(*id)) {
        wrong.push(format!("{id}: heard of, and nobody registered it"));
    }
    for (id, entry) in ledger.entries() {
        let history = histories.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let count = |kind: &str| history.iter().filter(|k| **k == kind).count() as u64;
        let ended = matches!(entry.state.fate, Fate::Ended(_));
        let removed = entry.existed && entry.state.fate == Fate::Absent;
        for (kind, due) in [
            ("CREATED", u64::from(entry.existed)),
            ("TERMINATED", u64::from(ended)),
            ("REMOVED", u64::from(removed)),
            ("BOUND", u64::from(entry.state.episode.is_some())),
            ("STOP_REQUESTED", u64::from(entry.state.stop_requested)),
        ] {
            if count(kind) != due {
                wrong.push(format!("{id}: {kind} is due {due} times in {history:?}"));
            }
        }
        let survived: u64 = DERIVED.iter().map(|kind| count(kind)).sum();
        let unleased = entry.state.lease == Lease::None && count("LEASE_REVOKED") > 0;
        if survived != entry.survived || unleased {
            let due = entry.survived;
            wrong.push(format!("{id}: {due} restarts are due in {history:?}"));
        }
        let first = history.first().is_none_or(|kind| *kind == "CREATED");
        let ends = |kind: &&str| ["TERMINATED", "REMOVED", "EVICTED"].contains(kind);
        let last = history.iter().position(ends);
        if !first || last.is_some_and(|at| at + 1 != history.len()) {
            wrong.push(format!("{id}: not in order: {history:?}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{Heard, check};
    use crate::crash::ledger::{Change, Ending, Ledger};

    fn heard(events: &[(u64, &'static str, &str)]) -> Vec<Heard> {
        let one = |(revision, kind, id): &(u64, &'static str, &str)| Heard {
            revision: *revision,
            kind,
            session: (!id.is_empty()).then(|| (*id).to_owned()),
        };
        events.iter().map(one).collect()
    }

    /// One session that was registered, lived through a restart, and ended.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.planned("s", 0, "work");
        let registered = Change::Registered {
            handle: None,
            number: 0,
            leased: false,
        };
        ledger.told(2, "s", &registered);
        ledger.acknowledged(&vec![("s".into(), registered)]);
        ledger.restarted();
        ledger.survived(1);
        let ended = Change::Ended(Ending {
            reason: 1,
            exit_code: None,
            detail: String::new(),
        });
        ledger.told(6, "s", &ended);
        ledger.acknowledged(&vec![("s".into(), ended)]);
        ledger
    }

    const ALL: [(u64, &str, &str); 4] = [
        (2, "CREATED", "s"),
        (3, "RESTARTED", ""),
        (4, "RECOVERED", "s"),
        (6, "TERMINATED", "s"),
    ];

    #[test]
    fn everything_once_and_in_order_is_accepted() {
        assert_eq!(check(&heard(&ALL), &ledger()), [""; 0]);
    }

    #[test]
    fn each_missing_event_is_a_gap_that_is_caught() {
        for missing in [0, 2, 3] {
            let mut events = ALL.to_vec();
            events.remove(missing);
            assert!(!check(&heard(&events), &ledger()).is_empty(), "{missing}");
        }
    }

    #[test]
    fn an_event_that_is_told_twice_is_caught() {
        for (twice, event) in ALL.into_iter().enumerate() {
            let mut events = ALL.to_vec();
            events.insert(twice, event);
            assert!(!check(&heard(&events), &ledger()).is_empty(), "{twice}");
        }
    }

    #[test]
    fn an_event_of_an_unknown_session_is_caught() {
        let mut events = ALL.to_vec();
        events.push((7, "CREATED", "phantom"));
        let wrong = check(&heard(&events), &ledger());
        assert_eq!(wrong, ["phantom: heard of, and nobody registered it"]);
    }

    #[test]
    fn a_revoked_lease_where_there_is_none_is_caught() {
        let mut events = ALL.to_vec();
        events[2].1 = "LEASE_REVOKED";
        let wrong = check(&heard(&events), &ledger());
        assert!(wrong[0].contains("1 restarts are due"), "{wrong:?}");
    }

    #[test]
    fn life_after_the_end_is_caught() {
        let mut events = ALL.to_vec();
        events.push((7, "UPDATED", "s"));
        let wrong = check(&heard(&events), &ledger());
        assert!(wrong[0].contains("not in order"), "{wrong:?}");
    }
}
