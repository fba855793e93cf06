//! Events: kept, read both ways, compacted; and numbers that are never used
//! again.

use std::sync::Arc;

use super::{Home, NOW, sample, start};
use crate::{
    session::{
        event::{Event, EventKind},
        state::{Live, Revision, Seq},
        store::{Change, Order, PastRequest, Request, Store},
    },
    storage::Journal,
};

/// A session's registration at this revision and time, asked for by a named call
/// or not.
fn created(number: u64, at: u64, request: Option<Request>) -> Change {
    let session = sample::bare(number, number);
    let event = sample::event(&session, Live::default(), EventKind::Created, at);
    Change::Put {
        session: Arc::new(session),
        live: Live::default(),
        event: Some(Arc::new(event)),
        request,
    }
}

/// Ten registrations, a second apart, from second 1 on.
fn ten(home: &Home) -> Journal {
    let mut journal = home.open();
    let changes: Vec<Change> = (1..=10).map(|n| created(n, n * 1000, None)).collect();
    journal.append(&changes, NOW).unwrap();
    journal
}

fn revisions(journal: &mut Journal, from: u64, order: Order, limit: usize) -> Vec<u64> {
    let events = journal.events(Revision(from), order, limit).unwrap();
    events.iter().map(|event| event.revision.0).collect()
}

fn kept(journal: &mut Journal) -> Vec<u64> {
    revisions(journal, 0, Order::Forward, 1000)
}

#[test]
fn events_are_read_in_both_orders_from_a_place_exclusive_with_a_limit() {
    let home = Home::new();
    let mut journal = ten(&home);
    let mut read = |from, order, limit| revisions(&mut journal, from, order, limit);
    assert_eq!(read(0, Order::Forward, 3), [1, 2, 3]);
    assert_eq!(read(3, Order::Forward, 3), [4, 5, 6]);
    assert_eq!(read(8, Order::Forward, 5), [9, 10]);
    assert_eq!(read(10, Order::Forward, 5), [0; 0]);
    assert_eq!(read(u64::MAX, Order::Backward, 3), [10, 9, 8]);
    assert_eq!(read(8, Order::Backward, 3), [7, 6, 5]);
    assert_eq!(read(2, Order::Backward, 5), [1]);
    assert_eq!(read(1, Order::Backward, 5), [0; 0]);
}

#[test]
fn request_ids_come_newest_first_as_far_back_as_asked() {
    let home = Home::new();
    let mut journal = home.open();
    let request = |n: u64| Request {
        id: sample::request_id(&format!("request-{n}")),
        body: [n as u8; 16],
    };
    let changes: Vec<Change> = (1..=6)
        .map(|n| created(n, n * 1000, (n != 4).then(|| request(n))))
        .collect();
    journal.append(&changes, NOW).unwrap();
    let mut read = |since, limit| {
        let mut found: Vec<PastRequest> = Vec::new();
        journal
            .requests(since, limit, &mut |past| found.push(past))
            .unwrap();
        for past in &found {
            let n = past.seq.0;
            assert_eq!((&past.request, past.at), (&request(n), n * 1000));
            assert_eq!(past.revision, Revision(n));
        }
        found.iter().map(|past| past.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 100), [6, 5, 3, 2, 1]);
    assert_eq!(read(3000, 100), [6, 5, 3]);
    assert_eq!(read(0, 3), [6, 5, 3], "the last three named calls");
    assert_eq!(read(7000, 100), [0; 0]);
}

#[test]
fn events_older_than_their_time_are_deleted_in_pieces_from_the_front() {
    let home = Home::new();
    let mut journal = ten(&home);
    assert_eq!(journal.compact(5000, 1000, 3).unwrap(), Some(Revision(3)));
    assert_eq!(journal.compact(5000, 1000, 3).unwrap(), Some(Revision(4)));
    assert_eq!(journal.compact(5000, 1000, 3).unwrap(), None);
    assert_eq!(kept(&mut journal), [5, 6, 7, 8, 9, 10]);
    assert_eq!(journal.meta().unwrap().compacted, Revision(4));
    let old = revisions(&mut journal, u64::MAX, Order::Backward, 1000);
    assert_eq!(old.last(), Some(&5));
}

#[test]
fn an_old_event_behind_a_young_one_waits_for_it() {
    let home = Home::new();
    let mut journal = home.open();
    let changes = [
        created(1, 9000, None),
        created(2, 1000, None),
        created(3, 9000, None),
    ];
    journal.append(&changes, NOW).unwrap();
    assert_eq!(journal.compact(5000, 1000, 10).unwrap(), None);
    assert_eq!(kept(&mut journal), [1, 2, 3]);
}

#[test]
fn events_beyond_their_number_are_deleted_from_the_front() {
    let home = Home::new();
    let mut journal = ten(&home);
    assert_eq!(journal.compact(0, 10, 100).unwrap(), None);
    assert_eq!(journal.compact(0, 7, 2).unwrap(), Some(Revision(2)));
    assert_eq!(journal.compact(0, 7, 2).unwrap(), Some(Revision(3)));
    assert_eq!(journal.compact(0, 7, 2).unwrap(), None);
    assert_eq!(kept(&mut journal), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(journal.compact(0, 0, 100).unwrap(), Some(Revision(10)));
    assert_eq!(kept(&mut journal), [0; 0]);
    assert_eq!(journal.compact(u64::MAX, 0, 100).unwrap(), None);
}

#[test]
fn sessions_outlive_their_history() {
    let home = Home::new();
    let mut journal = ten(&home);
    journal.compact(u64::MAX, 0, 100).unwrap();
    drop(journal);
    assert_eq!(super::sessions(&mut home.open()).len(), 10);
}

/// A start that reserves `span` revisions for what came back, as recovery writes
/// it.
fn restart(journal: &mut Journal, span: u64) -> u64 {
    let base = journal.meta().unwrap().revision.0;
    let event: Event = sample::restarted(base + span + 1, base, 20_000);
    let changes = [Change::Note(Arc::new(event))];
    journal.start(&start(2), &changes).unwrap();
    base + span + 1
}

#[test]
fn reserved_revisions_do_not_count_as_kept_events_over_any_number_of_starts() {
    let home = Home::new();
    let mut journal = ten(&home);
    for round in 1..=3 {
        drop(journal);
        journal = Journal::open(&home.files(), &super::key()).unwrap();
        assert_eq!(restart(&mut journal, 1000), 10 + round * 1001);
    }
    // Ten registrations and three restarts have rows.
    let all: Vec<u64> = (1..=10).chain([1011, 2012, 3013]).collect();
    assert_eq!(kept(&mut journal), all);
    assert_eq!(journal.compact(0, 13, 100).unwrap(), None);
    assert_eq!(journal.compact(0, 12, 100).unwrap(), Some(Revision(1)));
    // Across the first restart: its thousand revisions go with its row.
    assert_eq!(journal.compact(0, 2, 100).unwrap(), Some(Revision(1011)));
    assert_eq!(kept(&mut journal), [2012, 3013]);
    assert_eq!(journal.compact(0, 2, 100).unwrap(), None);
    drop(journal);
    let mut journal = Journal::open(&home.files(), &super::key()).unwrap();
    let newest = restart(&mut journal, 5);
    assert_eq!(journal.compact(0, 2, 100).unwrap(), Some(Revision(2012)));
    assert_eq!(kept(&mut journal), [3013, newest]);
}

fn purge(seqs: impl IntoIterator<Item = u64>) -> Vec<Change> {
    let gone = |seq| Change::Delete {
        seq: Seq(seq),
        event: None,
    };
    seqs.into_iter().map(gone).collect()
}

#[test]
fn the_number_of_the_newest_session_is_not_used_again_when_it_goes_first() {
    let home = Home::new();
    let mut journal = ten(&home);
    journal.append(&purge([10, 9]), NOW).unwrap();
    assert_eq!(journal.meta().unwrap().seq, Seq(10));
    journal.append(&[created(11, 0, None)], NOW).unwrap();
    assert_eq!(journal.meta().unwrap().seq, Seq(11));
    journal.append(&purge([8]), NOW).unwrap();
    journal.append(&purge([11]), NOW).unwrap();
    drop(journal);
    assert_eq!(home.open().meta().unwrap().seq, Seq(11));
}

#[test]
fn how_many_sessions_there_are_is_estimated() {
    let home = Home::new();
    let mut journal = ten(&home);
    assert_eq!(journal.meta().unwrap().sessions, 10, "few are counted");
    let many: Vec<_> = (11..=20_000).map(|seq| created(seq, 0, None)).collect();
    journal.append(&many, NOW).unwrap();
    assert_eq!(journal.meta().unwrap().sessions, 20_000);
    let odd = (1..10_000).filter(|seq| seq % 2 == 1);
    journal.append(&purge(odd), NOW).unwrap();
    let left = journal.meta().unwrap().sessions;
    assert!((14_500..15_500).contains(&left), "{left} of 15,000");
    // A few from long ago say nothing of those since.
    journal
        .append(&purge((100..19_990).collect::<Vec<_>>()), NOW)
        .unwrap();
    assert_eq!(journal.meta().unwrap().sessions, 0);
    journal.append(&purge(1..=20_000), NOW).unwrap();
    assert_eq!(journal.meta().unwrap().sessions, 0);
}

/// Without the index a start would read the last events, named or not.
#[test]
fn named_calls_are_found_without_reading_the_others() {
    let home = Home::new();
    drop(ten(&home));
    let connection = rusqlite::Connection::open(home.registry()).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", crate::storage::journal::LAST_NAMED);
    let plan: String = connection.query_row(&sql, [1], |row| row.get(3)).unwrap();
    assert_eq!(plan, "SCAN event USING INDEX event_named");
}

#[test]
fn numbers_are_never_used_again_after_everything_is_gone() {
    let home = Home::new();
    let mut journal = ten(&home);
    let purge = purge(1..=10);
    journal.append(&purge, NOW).unwrap();
    journal.compact(u64::MAX, 0, 100).unwrap();
    drop(journal);
    let mut journal = home.open();
    assert_eq!(super::sessions(&mut journal).len(), 0);
    assert_eq!(kept(&mut journal), [0; 0]);
    let meta = journal.meta().unwrap();
    assert_eq!((meta.seq, meta.revision), (Seq(10), Revision(10)));
    assert_eq!(meta.compacted, Revision(10));
}

#[test]
fn a_batch_is_written_wholly_or_not_at_all() {
    let home = Home::new();
    let mut journal = ten(&home);
    let twice = [
        created(11, 0, None),
        created(12, 0, None),
        created(11, 0, None),
    ];
    let error = journal.append(&twice, NOW).unwrap_err();
    assert!(
        matches!(error, crate::session::store::AppendError::Failed(_)),
        "{error:?}"
    );
    assert_eq!(kept(&mut journal).last(), Some(&10));
    assert_eq!(super::sessions(&mut journal).len(), 10);
    journal.append(&twice[..2], NOW).unwrap();
    assert_eq!(kept(&mut journal).last(), Some(&12));
}

/// Many short runs, each with less to write than makes a checkpoint, and each cut
/// short.
#[test]
fn the_log_does_not_grow_over_many_short_runs() {
    let home = Home::new();
    let log = || {
        std::fs::metadata(home.file("registry.db-wal"))
            .unwrap()
            .len()
    };
    let mut longest = 0;
    for run in 0..30 {
        let mut journal = Journal::open(&home.files(), &super::key()).unwrap();
        journal.start(&start(run), &[]).unwrap();
        for commit in 0..10 {
            let first = (run * 10 + commit) * 200 + 1;
            let batch: Vec<Change> = (first..first + 200).map(|n| created(n, 0, None)).collect();
            journal.append(&batch, NOW).unwrap();
            journal.idle();
        }
        longest = longest.max(log());
    }
    assert!(longest > 1024 * 1024, "{longest}: the runs do write");
    assert!(longest < 10 * 1024 * 1024, "{longest}");
}

#[test]
fn a_journal_at_rest_has_an_empty_log() {
    let home = Home::new();
    let mut journal = ten(&home);
    let log = home.file("registry.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    journal.rest();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    drop(journal);
    assert_eq!(kept(&mut home.open()).len(), 10);
}
