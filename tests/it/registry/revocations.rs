//! Revocations that the store refuses: in force at once, written when it can be.

use std::time::Duration;

use episoded::session::batch::Target;
use episoded::session::error::{CallError, TargetError};
use episoded::session::event::EventKind;
use episoded::session::filter::EventFilter;
use episoded::session::limits::Limits;
use episoded::session::operation::register::Until;
use episoded::session::operation::terminate::{Selector, TerminateMany};
use episoded::session::operation::update::Update;
use episoded::session::state::{Revision, Status, TerminationReason};

use super::equipment::{Fault, Registry, call, session_id, termination, work_id};
use crate::harness::within;

const SECOND: Duration = Duration::from_secs(1);

/// What happened so far, newest first.
async fn kinds(registry: &Registry) -> Vec<EventKind> {
    let newest = Revision(registry.sessions.revision().0 + 1);
    let history = registry
        .sessions
        .history(EventFilter::default(), newest, 100);
    let history = within(history).await.expect("the journal is read");
    history.events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_rotation_that_could_not_be_written_is_tried_again_until_it_lands() {
    let registry = Registry::new(Limits::default());
    let old = registry.registered("s", |_| {}).await;
    registry.fail(&[Fault::Full, Fault::Full]);
    let refused = registry.rotate("s").await;
    assert_eq!(refused.expect_err("it is not written"), CallError::DiskFull);
    assert!(registry.opened_by(&old).is_none(), "refused at once");
    let before = registry.sessions.revision();

    registry.fail(&[Fault::Full]);
    registry.pass(SECOND).await;
    assert!(registry.has_failed(), "it was tried");
    assert_eq!(registry.sessions.revision(), before, "in vain");
    assert!(registry.opened_by(&old).is_none(), "still refused");

    registry.pass(SECOND).await;
    assert_eq!(registry.sessions.revision(), Revision(before.0 + 1));
    assert_eq!(kinds(&registry).await[0], EventKind::HandleRotated);
    registry.pass(SECOND).await;
    assert_eq!(
        registry.sessions.revision(),
        Revision(before.0 + 1),
        "it lands once"
    );
    // Nothing is left to be written by the stop.
    registry.fail(&[Fault::Failed]);
    let registry = registry.restart();
    assert!(registry.opened_by(&old).is_none(), "and stays refused");
    assert_eq!(registry.status("s"), Status::Active);
    let new = registry.rotate("s").await.expect("it gets another").handle;
    assert!(registry.opened_by(&new).is_some());
}

#[tokio::test]
async fn what_could_not_be_written_is_written_by_an_orderly_stop() {
    let registry = Registry::new(Limits::default());
    let rotated = registry.registered("rotated", |_| {}).await;
    let ended = registry.registered("ended", |_| {}).await;
    registry.fail(&[Fault::Full, Fault::Failed]);
    let refused = registry.rotate("rotated").await;
    assert_eq!(
        refused.expect_err("it is not written"),
        CallError::StoreFailed
    );
    registry.fail(&[Fault::Failed, Fault::Full]);
    let refused = registry.terminate("ended").await;
    assert_eq!(refused.expect_err("it is not written"), CallError::DiskFull);
    let registry = registry.restart();
    assert!(registry.opened_by(&rotated).is_none());
    assert!(registry.opened_by(&ended).is_none());
    assert_eq!(registry.status("rotated"), Status::Active);
    assert_eq!(registry.status("ended"), Status::Terminated);
    assert_eq!(registry.record("ended").reason, TerminationReason::Normal);
}

#[tokio::test]
async fn a_revocation_that_fails_once_is_written_from_the_reserve_and_answered() {
    let registry = Registry::new(Limits::default());
    let handle = registry.registered("s", |_| {}).await;
    registry.fail(&[Fault::Full]);
    let ended = registry.terminate("s").await.expect("there is a reserve");
    assert!(!ended.already);
    assert!(registry.has_failed());
    assert!(registry.opened_by(&handle).is_none());
    assert_eq!(registry.status("s"), Status::Terminated);
}

#[tokio::test]
async fn an_expiry_that_cannot_be_written_cannot_be_undone_and_lands_as_it_was() {
    let registry = Registry::new(Limits::default());
    let ttl = 30 * SECOND;
    let handle = registry
        .registered("s", |operation| operation.until = Until::After(ttl))
        .await;
    registry.fail(&[Fault::Full]);
    registry.pass(ttl).await;
    assert!(registry.has_failed());
    let due = registry.sessions.now().wall;
    assert!(registry.opened_by(&handle).is_none());
    assert_eq!(registry.status("s"), Status::Ending);

    let update = Update {
        target: Target::Named(session_id("s")),
        labels: None,
        until: Some(Until::Never),
        idle: None,
        etag: None,
        call: call(),
    };
    let refused = registry.call(update).await;
    let refused = refused.expect_err("it is past its deadline");
    assert!(
        matches!(refused, CallError::Refused(TargetError::Terminated(_))),
        "{refused:?}"
    );
    registry.pass(SECOND).await;
    assert_eq!(registry.status("s"), Status::Terminated);
    let registry = registry.restart();
    let record = registry.record("s");
    assert_eq!(
        (record.reason, &*record.detail),
        (TerminationReason::Timeout, "expire_time")
    );
    assert_eq!(record.ended, due, "it ended when it was due");
    assert!(registry.opened_by(&handle).is_none());
}

#[tokio::test]
async fn a_bulk_termination_that_cannot_be_written_refuses_every_handle_and_lands() {
    let registry = Registry::new(Limits::default());
    let mut handles = Vec::new();
    for id in ["a", "b", "c"] {
        handles.push(registry.registered(id, |_| {}).await);
    }
    let spared = registry
        .registered("d", |operation| operation.work = work_id("other"))
        .await;
    registry.fail(&[Fault::Full, Fault::Full]);
    let many = TerminateMany {
        selector: Selector::Work(work_id("work")),
        ending: termination("a").ending,
        dry_run: false,
        call: call(),
    };
    let refused = registry.call(many).await;
    assert_eq!(refused.expect_err("it is not written"), CallError::DiskFull);
    for (id, handle) in ["a", "b", "c"].iter().zip(&handles) {
        assert!(registry.opened_by(handle).is_none(), "{id}");
        assert_eq!(registry.status(id), Status::Ending, "{id}");
    }
    assert!(registry.opened_by(&spared).is_some());

    registry.pass(SECOND).await;
    for id in ["a", "b", "c"] {
        assert_eq!(registry.status(id), Status::Terminated, "{id}");
    }
    let registry = registry.restart();
    for (id, handle) in ["a", "b", "c"].iter().zip(&handles) {
        assert!(registry.opened_by(handle).is_none(), "{id}");
        assert_eq!(registry.record(id).reason, TerminationReason::Normal);
    }
    assert!(registry.opened_by(&spared).is_some());
    assert_eq!(registry.sessions.info().live, 1);
}
