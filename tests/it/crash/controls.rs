//! The kill loop's checks against journals that were tampered with between two
//! starts: silence in the loop counts only because these are caught.

use std::sync::Arc;

use rusqlite::Connection;

use super::load::Shared;
use super::random::Random;
use super::watcher::Watcher;
use super::{Story, daemon};
use crate::harness::Dirs;

/// A story of one round whose daemon was just killed.
async fn one_round() -> Story {
    let mut story = Story::begin(7).await;
    story.load_and_kill().await;
    story
}

/// The story as it goes on when its daemon starts on another state.
async fn on(state: Dirs, story: &Story) -> Story {
    let ledger = story.shared.with(|ledger| ledger.clone());
    let shared = Shared::default();
    shared.with(|mine| *mine = ledger);
    Story {
        daemon: daemon().dirs(state).start().await,
        shared: Arc::new(shared),
        watcher: Watcher::default(),
        random: Random::new(7),
        incarnation: story.incarnation,
        round: story.round,
    }
}

fn tamper(state: &Dirs, statement: &str) {
    let journal = Connection::open(state.state().join("registry.db")).expect("it opens");
    let rows = journal
        .execute(statement, ())
        .expect("the journal has such a row");
    assert_eq!(rows, 1, "{statement}");
}

fn caught(wrong: &[String], says: &str) {
    assert!(
        wrong.iter().any(|one| one.contains(says)),
        "{says:?} should be among {wrong:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untouched_copy_of_the_journal_is_accepted_and_one_without_a_session_is_not() {
    let story = one_round().await;
    let whole = story.daemon.dirs().copy_of_state();
    let short = story.daemon.dirs().copy_of_state();
    let wrong = on(whole, &story).await.contradictions(true).await;
    assert_eq!(wrong, [""; 0]);
    tamper(
        &short,
        "DELETE FROM session WHERE seq = (SELECT min(seq) FROM session)",
    );
    let wrong = on(short, &story).await.contradictions(true).await;
    caught(&wrong, "missing");
    caught(&wrong, "the daemon counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_lost_acknowledged_changes_is_caught() {
    let mut story = one_round().await;
    let old = story.daemon.dirs().copy_of_state();
    story.daemon.restart().await;
    assert_eq!(story.contradictions(true).await, [""; 0]);
    story.load_and_kill().await;
    let wrong = on(old, &story).await.contradictions(true).await;
    caught(&wrong, "missing");
    caught(&wrong, "a dead handle is accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_lost_an_event_is_caught_by_what_a_watcher_hears() {
    let story = one_round().await;
    let whole = story.daemon.dirs().copy_of_state();
    let short = story.daemon.dirs().copy_of_state();
    let mut accepted = on(whole, &story).await;
    assert_eq!(accepted.contradictions(true).await, [""; 0]);
    assert_eq!(accepted.heard_wrong().await, [""; 0]);
    let lost = story.shared.with(|ledger| {
        let told = ledger.told_revisions();
        *told.keys().next().expect("something was answered")
    });
    tamper(
        &short,
        &format!("DELETE FROM event WHERE revision = {lost}"),
    );
    let mut without = on(short, &story).await;
    without.contradictions(true).await;
    caught(
        &without.heard_wrong().await,
        &format!("as revision {lost}, but heard None"),
    );
}
