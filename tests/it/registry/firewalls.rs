//! The context firewall over time, and over a store that refuses to write.

use std::sync::Arc;
use std::time::Duration;

use episoded::firewall::decide::{DenialReason, Request};
use episoded::firewall::manifest::{Access, Draft, DraftEntry, Manifest, ToolClass};
use episoded::firewall::path::AbsolutePath;
use episoded::secret::Handle;
use episoded::session::error::{CallError, CheckError, ManifestError, RefinementError};
use episoded::session::event::EventKind;
use episoded::session::filter::EventFilter;
use episoded::session::firewall::{Mode, OnDenial};
use episoded::session::limits::Limits;
use episoded::session::manifests::MAX_MANIFESTS;
use episoded::session::operation::manifest::{Context, PutManifest};
use episoded::session::operation::register::{Guard, Until};
use episoded::session::operation::reissue::Decline;
use episoded::session::refinement::{Refinement, RefinementState};
use episoded::session::service::{Verdict, Wait};
use episoded::session::state::{Revision, Status, TerminationReason};

use super::equipment::{Fault, Registry, call, session_id};
use crate::harness::within;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// A minute less.
const ALMOST_AN_HOUR: Duration = Duration::from_mins(59);
const DAY: Duration = Duration::from_hours(24);
/// An hour and a second less.
const ALMOST_A_DAY: Duration = Duration::from_secs(23 * 3600 - 1);

fn manifest(name: &str) -> Arc<Manifest> {
    let entry = DraftEntry {
        path: "listed".to_owned(),
        hash: vec![7; 32],
        access: Access::Read,
        stable_id: String::new(),
        size: None,
    };
    let draft = Draft {
        manifest_id: name.to_owned(),
        profile_id: "p".to_owned(),
        entries: vec![entry],
        tools: ToolClass::ALL.to_vec(),
        ..Draft::default()
    };
    Arc::new(draft.build(10).expect("it is one"))
}

fn guard(manifest: &Arc<Manifest>, on_denial: OnDenial) -> Guard {
    Guard {
        mode: Mode::Consume,
        on_denial,
        context: Context::New(Arc::clone(manifest)),
        workspace_root: AbsolutePath::parse("/project").expect("it is absolute"),
        host_root: None,
    }
}

async fn consuming(registry: &Registry, id: &str, manifest: &Arc<Manifest>) -> Handle {
    let guard = guard(manifest, OnDenial::End);
    registry
        .registered(id, |operation| operation.firewall = Some(guard))
        .await
}

async fn read(registry: &Registry, id: &str, path: &str) -> Result<Verdict, CallError<CheckError>> {
    let view = registry.get(id).expect("it is there");
    let request = Request::Read {
        path: path.to_owned(),
        hash: None,
    };
    let actor = call().actor;
    let checked = registry
        .sessions
        .check(&view, &request, actor, Wait::PATIENT);
    let checked = within(checked).await;
    registry.rest().await;
    checked
}

/// Misses something; what is asked back.
async fn missed(registry: &Registry, id: &str) -> Arc<Refinement> {
    let verdict = read(registry, id, "missing").await.expect("it is decided");
    let denied = verdict.outcome.expect_err("it is not listed");
    assert_eq!(denied.reason, DenialReason::ContextMiss);
    verdict.refinement.expect("it is asked back")
}

/// What happened to a session, oldest first.
async fn kinds(registry: &Registry, id: &str) -> Vec<EventKind> {
    let filter = EventFilter {
        session: Some(session_id(id)),
        ..EventFilter::default()
    };
    let newest = Revision(registry.sessions.revision().0 + 1);
    let history = registry.sessions.history(filter, newest, 100);
    let history = within(history).await.expect("the journal is read");
    history
        .events
        .iter()
        .rev()
        .map(|event| event.kind)
        .collect()
}

#[tokio::test]
async fn a_manifest_is_dropped_an_hour_after_its_last_session() {
    let registry = Registry::new(Limits::default());
    let (used, unused) = (manifest("used"), manifest("unused"));
    consuming(&registry, "s", &used).await;
    let put = PutManifest(Arc::clone(&unused));
    assert!(registry.call(put).await.expect("it is stored"));
    registry.pass(ALMOST_AN_HOUR).await;
    assert!(registry.sessions.manifest(&unused.hash()).is_some());
    registry.pass(MINUTE).await;
    assert!(registry.sessions.manifest(&unused.hash()).is_none());
    registry.pass(DAY).await;
    assert!(
        registry.sessions.manifest(&used.hash()).is_some(),
        "it lives"
    );

    registry.terminate("s").await.expect("it ends");
    registry.pass(5 * MINUTE).await;
    assert!(registry.get("s").is_none(), "its record is gone");
    registry.pass(ALMOST_AN_HOUR).await;
    assert!(registry.sessions.manifest(&used.hash()).is_some());
    let registry = registry.restart();
    registry.pass(ALMOST_AN_HOUR).await;
    let kept = registry.sessions.manifest(&used.hash());
    assert!(kept.is_some(), "a restart begins its hour anew");
    registry.pass(MINUTE).await;
    assert!(registry.sessions.manifest(&used.hash()).is_none());
    let registry = registry.restart();
    assert!(registry.sessions.manifests().is_empty(), "it stays dropped");
}

#[tokio::test]
async fn what_can_still_be_answered_keeps_its_manifest_and_expires_after_a_day() {
    let registry = Registry::new(Limits::default());
    let manifest = manifest("m");
    consuming(&registry, "s", &manifest).await;
    let asked = missed(&registry, "s").await;
    registry.pass(HOUR).await;
    assert!(registry.get("s").is_none(), "its record is gone");
    registry.pass(ALMOST_A_DAY).await;
    assert!(registry.sessions.manifest(&manifest.hash()).is_some());
    let found = registry.sessions.refinement(asked.id).expect("it is known");
    assert_eq!(found.state, RefinementState::Pending);

    registry.pass(MINUTE).await;
    let found = registry.sessions.refinement(asked.id).expect("it is known");
    assert_eq!(found.state, RefinementState::Expired);
    let events = kinds(&registry, "s").await;
    assert_eq!(events.last(), Some(&EventKind::RefinementExpired));
    let decline = Decline {
        id: asked.id,
        reason: "".into(),
        call: call(),
    };
    let late = registry.call(decline).await.expect_err("it is too late");
    assert!(
        matches!(late, CallError::Refused(RefinementError::Closed(_))),
        "{late:?}"
    );
    registry.pass(HOUR).await;
    assert!(registry.sessions.manifest(&manifest.hash()).is_none());
    let registry = registry.restart();
    assert!(registry.sessions.refinement(asked.id).is_some());
    registry.pass(DAY).await;
    assert!(
        registry.sessions.refinement(asked.id).is_none(),
        "forgotten"
    );
}

#[tokio::test]
async fn a_refinement_expires_with_the_deadline_of_its_session() {
    let registry = Registry::new(Limits::default());
    let guard = guard(&manifest("m"), OnDenial::End);
    let until = Until::After(30 * MINUTE);
    registry
        .registered("s", |operation| {
            operation.firewall = Some(guard);
            operation.until = until;
        })
        .await;
    let asked = missed(&registry, "s").await;
    registry.clock.advance(Duration::from_secs(30 * 60 - 1));
    assert!(asked.is_open(registry.sessions.now()));
    registry.clock.advance(SECOND);
    let decline = Decline {
        id: asked.id,
        reason: "".into(),
        call: call(),
    };
    let late = registry.call(decline).await.expect_err("it is too late");
    assert!(
        matches!(late, CallError::Refused(RefinementError::Closed(_))),
        "{late:?}"
    );
}

#[tokio::test]
async fn the_count_of_a_work_id_is_forgotten_thirty_days_after_the_last() {
    let registry = Registry::new(Limits::default());
    for (number, id) in ["a", "b"].into_iter().enumerate() {
        let manifest = manifest("m");
        consuming(&registry, id, &manifest).await;
        assert_eq!(missed(&registry, id).await.count, number as u32 + 1);
        registry.pass(29 * DAY).await;
    }
    let registry = registry.restart();
    assert_eq!(registry.sessions.refinements().count("work"), 2);
    registry.pass(DAY).await;
    assert_eq!(registry.sessions.refinements().count("work"), 0);
    let registry = registry.restart();
    assert_eq!(registry.sessions.refinements().count("work"), 0);
}

#[tokio::test]
async fn a_miss_that_cannot_be_written_ends_the_session_at_once_and_lands_once() {
    let registry = Registry::new(Limits::default());
    let handle = consuming(&registry, "s", &manifest("m")).await;
    registry.fail(&[Fault::Full, Fault::Full]);
    let error = read(&registry, "s", "missing").await;
    assert!(matches!(error, Err(CallError::DiskFull)), "{error:?}");
    assert!(registry.has_failed());
    assert!(registry.opened_by(&handle).is_none(), "refused at once");
    assert_eq!(registry.status("s"), Status::Ending);
    assert_eq!(kinds(&registry, "s").await, [EventKind::Created]);

    registry.pass(SECOND).await;
    assert_eq!(registry.status("s"), Status::Terminated);
    assert_eq!(registry.record("s").reason, TerminationReason::ContextMiss);
    registry.pass(SECOND).await;
    let registry = registry.restart();
    let events = kinds(&registry, "s").await;
    let count = |kind| events.iter().filter(|it| **it == kind).count();
    assert_eq!(count(EventKind::Terminated), 1, "{events:?}");
    assert_eq!(count(EventKind::RefinementRequested), 1, "{events:?}");
    assert_eq!(registry.sessions.refinements().count("work"), 1);
}

#[tokio::test]
async fn a_miss_that_fails_once_is_written_from_the_reserve() {
    let registry = Registry::new(Limits::default());
    consuming(&registry, "s", &manifest("m")).await;
    registry.fail(&[Fault::Full]);
    let asked = missed(&registry, "s").await;
    assert!(registry.has_failed());
    assert_eq!(asked.count, 1);
    let events = [
        EventKind::Created,
        EventKind::Denied,
        EventKind::Terminated,
        EventKind::RefinementRequested,
    ];
    assert_eq!(kinds(&registry, "s").await, events);
}

#[tokio::test]
async fn denials_wait_for_a_store_that_can_write() {
    let registry = Registry::new(Limits::default());
    let guard = guard(&manifest("m"), OnDenial::Continue { max_denials: 50 });
    registry
        .registered("s", |operation| operation.firewall = Some(guard))
        .await;
    let climbs = read(&registry, "s", "../../..").await;
    climbs.expect("it is decided").outcome.expect_err("denied");
    // One that asks back is written at once, with what waits.
    registry.fail(&[Fault::Full, Fault::Full]);
    let error = read(&registry, "s", "missing").await;
    assert!(matches!(error, Err(CallError::DiskFull)), "{error:?}");
    assert_eq!(registry.status("s"), Status::Active);
    registry.fail(&[Fault::Failed]);
    registry.pass(SECOND).await;
    assert!(registry.has_failed());
    assert_eq!(kinds(&registry, "s").await, [EventKind::Created]);
    registry.pass(SECOND).await;
    let events = [EventKind::Created, EventKind::Denied, EventKind::Denied];
    assert_eq!(kinds(&registry, "s").await, events);
    assert_eq!(registry.sessions.refinements().count("work"), 0);
    assert_eq!(missed(&registry, "s").await.count, 1, "asked again");
}

#[tokio::test]
async fn more_manifests_than_may_be_are_refused() {
    let registry = Registry::new(Limits::default());
    let puts = (0..MAX_MANIFESTS).map(|number| {
        let put = PutManifest(manifest(&format!("m-{number}")));
        registry.sessions.call(put, Wait::PATIENT)
    });
    for put in futures_util::future::join_all(puts).await {
        assert!(put.expect("there is room"));
    }
    let known = PutManifest(manifest("m-0"));
    assert!(!registry.call(known).await.expect("it is stored"));
    let refused = registry.call(PutManifest(manifest("more"))).await;
    let refused = refused.expect_err("there is no room");
    assert_eq!(refused, CallError::Refused(ManifestError::Quota));
    let guard = guard(&manifest("more"), OnDenial::End);
    let mut operation = super::equipment::registration(&registry.sessions, "s", "work");
    operation.firewall = Some(guard);
    registry.call(operation).await.expect_err("no room either");
    assert!(registry.get("s").is_none());
}
