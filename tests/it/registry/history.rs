//! Past events by what is asked for, and when they were.

use std::time::Duration;

use episoded::proto::session as pb;
use episoded::proto::session::session_service_server::SessionService as _;
use episoded::reason::Reason;
use episoded::session::batch::Target;
use episoded::session::limits::Limits;
use episoded::session::operation::update::Update;
use episoded::session::spec::Labels;
use tonic::Request;

use super::equipment::{Registry, call, service, session_id, work_id};
use crate::harness::Refusal;

const SECOND: Duration = Duration::from_secs(1);

fn labels(value: &str) -> Labels {
    let pairs = std::collections::BTreeMap::from([("team".to_owned(), value.to_owned())]);
    Labels::new(pairs).expect("a label")
}

fn timestamp(millis: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: (millis / 1_000).cast_signed(),
        nanos: (millis % 1_000) as i32 * 1_000_000,
    }
}

/// Every event is a second after the one before; the wall clock at the first.
async fn story(registry: &Registry) -> u64 {
    let begun = registry.sessions.now().wall;
    let blue = |operation: &mut episoded::session::operation::register::Register| {
        operation.spec.labels = labels("blue");
    };
    registry.registered("blue", blue).await;
    registry.clock.advance(SECOND);
    registry
        .registered("other", |operation| operation.work = work_id("other"))
        .await;
    registry.clock.advance(SECOND);
    let red = Update {
        target: Target::Named(session_id("blue")),
        labels: Some(labels("red")),
        until: None,
        idle: None,
        etag: None,
        call: call(),
    };
    registry.call(red).await.expect("it changes");
    registry.clock.advance(SECOND);
    registry.terminate("other").await.expect("it ends");
    registry.clock.advance(SECOND);
    registry.terminate("blue").await.expect("it ends");
    begun
}

const STORY: [&str; 5] = [
    "TERMINATED blue",
    "TERMINATED other",
    "UPDATED blue",
    "CREATED other",
    "CREATED blue",
];

/// Kind and session of the events that match, newest first.
async fn told(registry: &Registry, filter: pb::EventFilter) -> Vec<String> {
    let request = pb::ListEventsRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let answer = service(registry).list_events(Request::new(request)).await;
    let events = answer.expect("it lists").into_inner().events;
    let line = |event: pb::Event| {
        let kind = event.kind().as_str_name().trim_start_matches("EVENT_KIND_");
        let session = event.session.map(|session| session.session_id);
        format!("{kind} {}", session.unwrap_or_default())
    };
    events.into_iter().map(line).collect()
}

#[tokio::test]
async fn past_events_are_found_by_session_work_kind_and_label_at_creation() {
    use pb::EventKind::{Created, HandleRotated, Terminated};
    let registry = Registry::new(Limits::default());
    story(&registry).await;
    let kinds = |kinds: &[pb::EventKind]| pb::EventFilter {
        kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
        ..Default::default()
    };
    let label = |value: &str| pb::EventFilter {
        labels: [("team".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    let of_session = pb::EventFilter {
        session_id: "other".to_owned(),
        ..Default::default()
    };
    let of_work = pb::EventFilter {
        work_id: "work".to_owned(),
        ..Default::default()
    };
    let both = pb::EventFilter {
        work_id: "work".to_owned(),
        ..kinds(&[Terminated])
    };
    for (filter, matching) in [
        (of_session, &[1, 3][..]),
        (of_work, &[0, 2, 4]),
        (kinds(&[Created]), &[3, 4]),
        (kinds(&[Created, Terminated]), &[0, 1, 3, 4]),
        (kinds(&[HandleRotated]), &[]),
        (label("blue"), &[0, 2, 4]),
        (label("red"), &[]),
        (both, &[0]),
    ] {
        let expected: Vec<_> = matching.iter().map(|at| STORY[*at]).collect();
        assert_eq!(
            told(&registry, filter.clone()).await,
            expected,
            "{filter:?}"
        );
    }
}

#[tokio::test]
async fn past_events_are_found_from_a_time_on_and_before_a_time() {
    let registry = Registry::new(Limits::default());
    let begun = story(&registry).await;
    let all_kinds = told(&registry, pb::EventFilter::default()).await;
    assert_eq!(all_kinds[..5], STORY);
    let at = |seconds: u64| Some(timestamp(begun + seconds * 1_000));
    let just_before = |seconds: u64| Some(timestamp(begun + seconds * 1_000 - 1));
    for (start, end, from, to) in [
        (at(1), at(3), 2, 4),
        (just_before(1), just_before(3), 2, 4),
        (at(4), None, 0, 1),
        (at(5), None, 0, 0),
        (at(2), at(2), 0, 0),
        (at(1), just_before(2), 3, 4),
    ] {
        let filter = pb::EventFilter {
            start_time: start,
            end_time: end,
            ..Default::default()
        };
        assert_eq!(told(&registry, filter).await, STORY[from..to], "{start:?}");
    }
}

#[tokio::test]
async fn a_filter_of_past_events_that_cannot_be_is_refused_with_its_field() {
    let registry = Registry::new(Limits::default());
    let before_1970 = prost_types::Timestamp {
        seconds: -1,
        nanos: 0,
    };
    let filter = pb::EventFilter {
        kinds: vec![99],
        session_id: "-".to_owned(),
        start_time: Some(before_1970),
        end_time: Some(before_1970),
        ..Default::default()
    };
    let request = pb::ListEventsRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let answer = service(&registry).list_events(Request::new(request)).await;
    let refused = Refusal::of(&answer.expect_err("it is bad")).expect("it is ours");
    let refused = refused.expect(Reason::MalformedMessage);
    assert_eq!(
        refused.fields,
        [
            "filter.kinds",
            "filter.start_time",
            "filter.end_time",
            "filter.session_id"
        ]
    );
}

#[tokio::test]
async fn pages_of_past_events_go_back_to_the_first_and_tell_each_once() {
    let registry = Registry::new(Limits::default());
    story(&registry).await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListEventsRequest {
            page_size: 2,
            page_token: std::mem::take(&mut token),
            filter: None,
        };
        let answer = service(&registry).list_events(Request::new(request)).await;
        let page = answer.expect("it lists").into_inner();
        assert!(page.events.len() <= 2);
        seen.extend(page.events.iter().map(|event| event.revision));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        // What happens meanwhile is newer than the first page.
        registry
            .registered(&format!("s-{}", seen.len()), |_| {})
            .await;
    }
    let newest = seen[0];
    let expected: Vec<_> = (1..=newest).rev().collect();
    assert_eq!(seen, expected);
}
