//! How long past events are kept, and what a watch is told that begins before.

use std::time::Duration;

use episoded::grpc::session::SessionApi;
use episoded::proto::session as pb;
use episoded::proto::session::session_service_server::SessionService;
use episoded::reason::Reason;
use episoded::session::limits::Limits;
use episoded::session::service::Wait;
use episoded::session::state::Revision;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response};

use super::equipment::{Fault, Registry, by_operator, registration, service};
use crate::harness::{Refusal, within};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// Revisions of the events that are kept, oldest first.
async fn kept(registry: &Registry) -> Vec<u64> {
    let answer = service(registry)
        .list_events(Request::new(pb::ListEventsRequest::default()))
        .await;
    let events = answer.expect("it lists").into_inner().events;
    events.iter().rev().map(|event| event.revision).collect()
}

/// A registry that keeps its events for an hour, with two of them; the revision of the
/// last.
async fn two_to_be_forgotten() -> (Registry, Revision) {
    let limits = Limits {
        event_retention: HOUR,
        ..Limits::default()
    };
    let registry = Registry::new(limits);
    for id in ["a", "b"] {
        registry.registered(id, |_| {}).await;
    }
    let old = registry.sessions.revision();
    (registry, old)
}

/// Begins to watch after a revision.
async fn begin(registry: &Registry, request: pb::WatchSessionsRequest) -> Result<(), Refusal> {
    watch(registry, request).await.map(drop)
}

async fn watch(
    registry: &Registry,
    request: pb::WatchSessionsRequest,
) -> Result<<SessionApi as SessionService>::WatchSessionsStream, Refusal> {
    let watch = service(registry).watch_sessions(by_operator(request)).await;
    watch
        .map(Response::into_inner)
        .map_err(|status| Refusal::of(&status).expect("it is ours"))
}

fn after(revision: Revision) -> pb::WatchSessionsRequest {
    pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(revision.0)),
        ..Default::default()
    }
}

#[tokio::test]
async fn events_older_than_the_retention_are_deleted_and_a_watch_before_them_is_refused() {
    let (registry, old) = two_to_be_forgotten().await;
    registry.clock.advance(HOUR / 2);
    for id in ["c", "d"] {
        registry.registered(id, |_| {}).await;
    }
    let newest = registry.sessions.revision();
    registry.pass(HOUR / 2).await;
    assert_eq!(kept(&registry).await.len() as u64, newest.0, "an hour old");

    registry.pass(SECOND).await;
    assert_eq!(kept(&registry).await, [old.0 + 1, old.0 + 2]);
    assert_eq!(registry.sessions.info().tally.compacted, old);
    let refused = begin(&registry, after(Revision(old.0 - 1))).await;
    let refused = refused.expect_err("that is gone");
    let refused = refused.expect(Reason::RevisionCompacted);
    assert_eq!(refused.metadata["oldest"], old.0.to_string());
    assert_eq!(refused.code, Code::OutOfRange);
    begin(&registry, after(old)).await.expect("nothing is gone");
    for id in ["a", "b", "c", "d"] {
        assert!(registry.get(id).is_some(), "{id} lives on");
    }

    let registry = registry.restart();
    assert_eq!(registry.sessions.info().tally.compacted, old);
    let refused = begin(&registry, after(Revision(old.0 - 1))).await;
    refused
        .expect_err("that is gone")
        .expect(Reason::RevisionCompacted);
    begin(&registry, after(old)).await.expect("nothing is gone");
}

#[tokio::test]
async fn of_more_events_than_the_limit_the_oldest_are_deleted() {
    let limits = Limits {
        max_events: 3,
        ..Limits::default()
    };
    let registry = Registry::new(limits);
    for id in ["a", "b", "c", "d", "e"] {
        registry.registered(id, |_| {}).await;
    }
    let newest = registry.sessions.revision().0;
    registry.pass(SECOND).await;
    assert_eq!(kept(&registry).await, [newest - 2, newest - 1, newest]);
    let refused = begin(&registry, after(Revision(newest - 4))).await;
    let refused = refused.expect_err("that is gone");
    let oldest = refused.expect(Reason::RevisionCompacted).metadata["oldest"].clone();
    assert_eq!(oldest, (newest - 3).to_string());
    begin(&registry, after(Revision(newest - 3)))
        .await
        .expect("nothing is gone");
}

#[tokio::test]
async fn a_revision_that_has_not_happened_yet_is_refused() {
    let registry = Registry::new(Limits::default());
    registry.registered("s", |_| {}).await;
    let newest = registry.sessions.revision();
    begin(&registry, after(newest)).await.expect("it is now");
    let refused = begin(&registry, after(Revision(newest.0 + 1))).await;
    let refused = refused.expect_err("nobody knows it");
    let refused = refused.expect(Reason::RevisionUnknown);
    assert_eq!(refused.metadata["current"], newest.0.to_string());
}

#[tokio::test]
async fn a_bookmark_of_another_registry_is_refused_wherever_it_stands() {
    let registry = Registry::new(Limits::default());
    let own = registry.sessions.registry_id().as_str().to_owned();
    let other = Registry::new(Limits::default());
    let other = other.sessions.registry_id().as_str().to_owned();
    assert_ne!(own, other);
    let newest = registry.sessions.revision();
    let of = |registry_id: &String, request: pb::WatchSessionsRequest| pb::WatchSessionsRequest {
        registry_id: registry_id.clone(),
        ..request
    };
    let mine = begin(&registry, of(&own, after(newest))).await;
    mine.expect("it is this one");
    let snapshot = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::Snapshot(true)),
        ..Default::default()
    };
    for request in [after(newest), after(Revision(newest.0 + 99)), snapshot] {
        let refused = begin(&registry, of(&other, request.clone())).await;
        let refused = refused.expect_err("it is another");
        refused.expect(Reason::RegistryChanged);
    }
}

/// Its place is there when it begins, and is deleted before it is read.
#[tokio::test]
async fn a_watch_whose_place_is_deleted_meanwhile_is_told_so_and_skips_nothing() {
    let (registry, old) = two_to_be_forgotten().await;
    // Events from before a start are read from the journal.
    let registry = registry.restart_after(|clock| clock.advance(HOUR / 2));
    registry.registered("c", |_| {}).await;

    registry.fail(&[Fault::Held]);
    let last = registration(&registry.sessions, "d", "work");
    let last = registry.sessions.call(last, Wait::PATIENT);
    registry.until_held();
    let mut told = watch(&registry, after(Revision(0)))
        .await
        .expect("it begins");
    let first = within(told.next()).await.expect("it says where it is");
    assert_eq!(first.expect("it goes on").through, 0);
    registry.clock.advance(HOUR / 2 + SECOND);
    registry.let_go();
    within(last).await.expect("it registers");
    let then = within(told.next()).await.expect("it is told");
    let refused = then.expect_err("its place is gone");
    let refused = Refusal::of(&refused).expect("it is ours");
    let refused = refused.expect(Reason::RevisionCompacted);
    assert_eq!(refused.metadata["oldest"], old.0.to_string());
    assert!(within(told.next()).await.is_none(), "that was the end");
}
