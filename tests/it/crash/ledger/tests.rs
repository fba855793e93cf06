use super::{Change, Ending, Fate, Lease, Ledger, Seen, State, View};

const ID: &str = "s-1";
const HANDLE: &str = "handle-1";

fn ending(exit_code: i32) -> Ending {
    Ending {
        reason: 1,
        exit_code: Some(exit_code),
        detail: String::new(),
    }
}

fn registered(handle: Option<&str>) -> Change {
    Change::Registered {
        handle: handle.map(str::to_owned),
        number: 7,
        leased: true,
    }
}

/// A ledger with one live session that lived through a start.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.planned(ID, 0, "work");
    ledger.acknowledged(&vec![(ID.into(), registered(Some(HANDLE)))]);
    ledger.restarted();
    ledger
}

/// What a daemon shows that did as it was told.
fn view_of(ledger: &Ledger) -> View {
    let mut view = View::default();
    for (id, entry) in ledger.entries() {
        let State {
            fate,
            episode,
            number,
            lease,
            stop_requested,
            ..
        } = entry.state.clone();
        for handle in entry.state.dead_handles() {
            view.handles.insert(handle.clone(), None);
        }
        if let Some(handle) = entry.state.live_handle() {
            view.handles.insert(handle.clone(), Some(id.clone()));
        }
        match &fate {
            Fate::Absent => continue,
            Fate::Live => {
                view.live += 1;
                view.works.insert(entry.work_id.clone(), Some(id.clone()));
            }
            Fate::Ended(_) => view.ended += 1,
        }
        let seen = Seen {
            fate,
            work_id: entry.work_id.clone(),
            episode,
            number,
            lease,
            stop_requested,
            count: entry.kept_count,
            revision: entry.watched,
        };
        view.sessions.insert(id.clone(), seen);
    }
    view
}

/// The one contradiction that a tampered view must give.
fn caught(ledger: &mut Ledger, tamper: impl FnOnce(&mut View), says: &str) {
    let mut view = view_of(ledger);
    assert_eq!(ledger.check(&view), [""; 0], "the true view is accepted");
    tamper(&mut view);
    let wrong = ledger.check(&view);
    assert!(
        wrong.iter().any(|one| one.contains(says)),
        "{says:?} should be among {wrong:#?}"
    );
}

fn session(view: &mut View) -> &mut Seen {
    view.sessions.get_mut(ID).expect("it is seen")
}

#[test]
fn an_acknowledged_session_that_is_missing_is_caught() {
    caught(
        &mut ledger(),
        |view| {
            view.sessions.clear();
        },
        "missing",
    );
}

#[test]
fn each_acknowledged_change_that_is_missing_is_caught() {
    let changes = [
        Change::Bound {
            episode: "e".into(),
        },
        Change::Labelled { number: 8 },
        Change::StopRequested,
        Change::Ended(ending(0)),
    ];
    for change in changes {
        let mut ledger = ledger();
        let before = view_of(&ledger);
        ledger.acknowledged(&vec![(ID.into(), change)]);
        caught(
            &mut ledger,
            |view| view.sessions.clone_from(&before.sessions),
            "its ",
        );
    }
}

#[test]
fn a_lease_that_a_start_did_not_revoke_is_caught() {
    caught(
        &mut ledger(),
        |view| session(view).lease = Lease::Held,
        "its lease",
    );
}

#[test]
fn a_refused_session_that_is_present_is_caught() {
    let mut ledger = ledger();
    ledger.planned("refused", 0, "other");
    let seen = view_of(&ledger).sessions[ID].clone();
    caught(
        &mut ledger,
        |view| {
            let seen = Seen {
                work_id: "other".into(),
                ..seen
            };
            view.sessions.insert("refused".into(), seen);
        },
        "should not be there",
    );
}

#[test]
fn a_session_that_nobody_registered_is_caught() {
    caught(
        &mut ledger(),
        |view| {
            let seen = view.sessions[ID].clone();
            view.sessions.insert("phantom".into(), seen);
        },
        "phantom: nobody registered it",
    );
}

#[test]
fn an_ended_session_that_is_back_is_caught() {
    let mut ledger = ledger();
    ledger.acknowledged(&vec![(ID.into(), Change::Ended(ending(0)))]);
    caught(
        &mut ledger,
        |view| session(view).fate = Fate::Live,
        "its fate",
    );
}

#[test]
fn an_ended_session_with_another_record_is_caught() {
    let mut ledger = ledger();
    ledger.acknowledged(&vec![(ID.into(), Change::Ended(ending(0)))]);
    caught(
        &mut ledger,
        |view| session(view).fate = Fate::Ended(ending(1)),
        "its fate",
    );
}

#[test]
fn a_removed_session_that_is_back_is_caught() {
    let mut ledger = ledger();
    let seen = view_of(&ledger).sessions[ID].clone();
    ledger.acknowledged(&vec![(ID.into(), Change::Removed)]);
    caught(
        &mut ledger,
        |view| {
            view.sessions.insert(ID.into(), seen);
        },
        "should not be there",
    );
}

#[test]
fn a_dead_handle_that_is_accepted_is_caught() {
    let rotated = Change::Rotated {
        handle: Some("handle-2".into()),
    };
    for change in [rotated, Change::Ended(ending(0)), Change::Removed] {
        let mut ledger = ledger();
        ledger.acknowledged(&vec![(ID.into(), change)]);
        caught(
            &mut ledger,
            |view| {
                view.handles.insert(HANDLE.into(), Some(ID.into()));
            },
            "a dead handle is accepted",
        );
    }
}

#[test]
fn a_live_handle_that_is_refused_or_finds_another_session_is_caught() {
    for found in [None, Some("other".to_owned())] {
        caught(
            &mut ledger(),
            |view| {
                view.handles.insert(HANDLE.into(), found);
            },
            "its handle finds",
        );
    }
}

#[test]
fn a_lookup_that_does_not_find_the_newest_live_session_is_caught() {
    let mut ledger = ledger();
    ledger.planned("s-2", 0, "work");
    ledger.acknowledged(&vec![("s-2".into(), registered(Some("handle-2")))]);
    ledger.restarted();
    caught(
        &mut ledger,
        |view| {
            view.works.insert("work".into(), Some(ID.into()));
        },
        "a lookup finds",
    );
}

#[test]
fn counts_that_are_off_are_caught() {
    caught(&mut ledger(), |view| view.live += 1, "counts 2 live");
    caught(&mut ledger(), |view| view.ended += 1, "counts 1 ended");
}

#[test]
fn a_counter_below_what_a_change_kept_or_above_what_was_sent_is_caught() {
    let mut ledger = ledger();
    ledger.beating(ID, 5);
    ledger.beaten(ID, 5);
    ledger.acknowledged(&vec![(ID.into(), Change::StopRequested)]);
    ledger.beating(ID, 9);
    let mut higher = view_of(&ledger);
    session(&mut higher).count = 9;
    assert_eq!(ledger.check(&higher), [""; 0], "it may have been kept");
    caught(&mut ledger, |view| session(view).count = 4, "its counter");
    caught(&mut ledger, |view| session(view).count = 10, "its counter");
}

#[test]
fn a_heartbeat_alone_may_be_lost_in_a_crash() {
    let mut ledger = ledger();
    ledger.beating(ID, 5);
    ledger.beaten(ID, 5);
    ledger.restarted();
    let mut view = view_of(&ledger);
    session(&mut view).count = 0;
    assert_eq!(ledger.check(&view), [""; 0]);
}

#[test]
fn a_session_older_than_what_a_watcher_was_told_is_caught() {
    let mut ledger = ledger();
    ledger.watched(ID, 12);
    caught(
        &mut ledger,
        |view| session(view).revision = 11,
        "a watcher was told",
    );
}

#[test]
fn what_was_cut_off_is_settled_by_what_is_seen_and_then_stays() {
    let change = Change::Ended(ending(3));
    for done in [false, true] {
        let mut ledger = ledger();
        let mut truth = ledger.clone();
        if done {
            truth.acknowledged(&vec![(ID.into(), change.clone())]);
        }
        ledger.cut_off(vec![(ID.into(), change.clone())]);
        assert_eq!(ledger.check(&view_of(&truth)), [""; 0]);
        assert!(ledger.pending().is_empty());
        let other = if done { self::ledger() } else { ended() };
        assert!(!ledger.check(&view_of(&other)).is_empty(), "done: {done}");
    }
}

fn ended() -> Ledger {
    let mut ledger = ledger();
    ledger.acknowledged(&vec![(ID.into(), Change::Ended(ending(3)))]);
    ledger
}

#[test]
fn what_was_cut_off_and_half_done_is_caught() {
    let mut ledger = ledger();
    ledger.cut_off(vec![(ID.into(), Change::Ended(ending(3)))]);
    let mut view = view_of(&ended());
    view.handles.insert(HANDLE.into(), Some(ID.into()));
    let wrong = ledger.check(&view);
    assert!(wrong[0].contains("cut off, and neither done"), "{wrong:#?}");
}

#[test]
fn a_batch_that_was_cut_off_and_registered_in_part_is_caught() {
    let mut ledger = Ledger::default();
    let mut batch = Vec::new();
    for id in ["a", "b"] {
        ledger.planned(id, 0, "work");
        batch.push((id.to_owned(), registered(None)));
    }
    let mut truth = ledger.clone();
    ledger.cut_off(batch.clone());
    let mut whole = ledger.clone();
    let mut half = truth.clone();
    assert_eq!(ledger.check(&view_of(&truth)), [""; 0], "none of it");
    truth.acknowledged(&batch);
    truth.restarted();
    assert_eq!(whole.clone().check(&view_of(&truth)), [""; 0], "all of it");
    half.acknowledged(&batch[..1].to_vec());
    half.restarted();
    let wrong = whole.check(&view_of(&half));
    assert!(wrong[0].contains("cut off, and neither done"), "{wrong:#?}");
}

#[test]
fn a_rotation_that_was_cut_off_is_told_by_the_old_handle() {
    let rotated = vec![(ID.to_owned(), Change::Rotated { handle: None })];
    for (found, known) in [(None, false), (Some(ID.to_owned()), true)] {
        let mut ledger = ledger();
        ledger.cut_off(rotated.clone());
        let mut view = view_of(&ledger);
        view.handles.insert(HANDLE.into(), found);
        assert_eq!(ledger.check(&view), [""; 0]);
        assert_eq!(ledger.entries()[ID].state.live_handle().is_some(), known);
    }
}

#[test]
#[should_panic(expected = "was answered twice")]
fn a_revision_that_is_answered_twice_is_caught() {
    let mut ledger = ledger();
    ledger.told(3, ID, &Change::Renewed);
    ledger.told(3, "s-2", &Change::Renewed);
}
