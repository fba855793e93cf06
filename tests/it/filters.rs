//! Lists and watches of some sessions.

use std::collections::BTreeMap;

use episoded::proto::session as pb;
use episoded::reason::Reason;
use pb::Role::{Coordinator, Implementer, Reviewer};

use crate::harness::{Client, Daemon, normal_end, refusal, register, registration, within};

fn team(value: &str) -> BTreeMap<String, String> {
    [("team".to_owned(), value.to_owned())].into()
}

/// A registration by name; its lease is named after it, an empty team is none.
fn named(id: &str, role: pb::Role, of_team: &str) -> pb::RegisterSessionRequest {
    pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        role: role.into(),
        lease_id: format!("lease-of-{id}"),
        labels: if of_team.is_empty() {
            BTreeMap::new()
        } else {
            team(of_team)
        },
        ..registration("work")
    }
}

async fn listed(operator: &mut Client, filter: pb::SessionFilter) -> Vec<String> {
    let request = pb::ListSessionsRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let list = operator.list_sessions(request).await.expect("it lists");
    let list = list.into_inner();
    assert_eq!(list.next_page_token, "");
    list.sessions.into_iter().map(|s| s.session_id).collect()
}

/// Two reviewers, an implementer and a coordinator that has ended; of the leases
/// only the first one's was shown since the start.
async fn four_sessions(daemon: &mut Daemon) -> Client {
    let mut operator = daemon.operator().await;
    for request in [
        named("reviewer-blue", Reviewer, "blue"),
        named("reviewer-red", Reviewer, "red"),
        named("implementer-blue", Implementer, "blue"),
        named("coordinator", Coordinator, ""),
    ] {
        register(&mut operator, request).await;
    }
    let unleased = pb::RegisterSessionRequest {
        session_id: "unleased".to_owned(),
        ..registration("other")
    };
    register(&mut operator, unleased).await;
    let end = normal_end("coordinator");
    operator.terminate_session(end).await.expect("it ends");
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let renewal = pb::RenewLeaseRequest {
        lease_id: "lease-of-reviewer-blue".to_owned(),
        ..Default::default()
    };
    operator.renew_lease(renewal).await.expect("it is shown");
    operator
}

#[tokio::test]
async fn a_list_holds_what_matches_in_role_state_lease_work_and_labels_as_they_are() {
    use pb::{LeaseState, SessionFilter, SessionStatus};
    let mut daemon = Daemon::start().await;
    let mut operator = four_sessions(&mut daemon).await;
    let role = |role: pb::Role| SessionFilter {
        role: role.into(),
        ..Default::default()
    };
    let status = |status: SessionStatus| SessionFilter {
        status: status.into(),
        ..Default::default()
    };
    let lease = |state: LeaseState| SessionFilter {
        lease_state: state.into(),
        ..Default::default()
    };
    let label = |value: &str| SessionFilter {
        labels: team(value),
        ..Default::default()
    };
    let work = SessionFilter {
        work_id: "other".to_owned(),
        ..Default::default()
    };
    let both = SessionFilter {
        role: Reviewer.into(),
        ..label("blue")
    };
    let (blue, red) = ("reviewer-blue", "reviewer-red");
    let implementer = "implementer-blue";
    for (filter, ids) in [
        (role(Reviewer), &[blue, red][..]),
        (role(Implementer), &[implementer, "unleased"]),
        (role(Coordinator), &["coordinator"]),
        (
            status(SessionStatus::Active),
            &[blue, red, implementer, "unleased"],
        ),
        (status(SessionStatus::Terminated), &["coordinator"]),
        (status(SessionStatus::Ending), &[]),
        (lease(LeaseState::Held), &[blue]),
        (lease(LeaseState::Revoked), &[red, implementer]),
        (label("blue"), &[blue, implementer]),
        (both, &[blue]),
        (work, &["unleased"]),
    ] {
        assert_eq!(
            listed(&mut operator, filter.clone()).await,
            ids,
            "{filter:?}"
        );
    }
    let update = pb::UpdateSessionRequest {
        session_id: implementer.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        labels: team("green"),
        ..Default::default()
    };
    operator.update_session(update).await.expect("it changes");
    assert_eq!(listed(&mut operator, label("blue")).await, [blue]);
    assert_eq!(listed(&mut operator, label("green")).await, [implementer]);
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused_with_its_fields() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::ListSessionsRequest {
        page_size: -1,
        filter: Some(pb::SessionFilter {
            status: 99,
            lease_state: 99,
            work_id: "a/b".to_owned(),
            role: 99,
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = refusal(operator.list_sessions(request).await);
    let refused = refused.expect(Reason::MalformedMessage);
    let expected = [
        "page_size",
        "filter.status",
        "filter.lease_state",
        "filter.work_id",
        "filter.role",
    ];
    assert_eq!(refused.fields, expected);
    let watch = pb::WatchSessionsRequest {
        filter: Some(pb::WatchFilter {
            role: 99,
            session_id: "-".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = refusal(operator.watch_sessions(watch).await);
    let refused = refused.expect(Reason::MalformedMessage);
    assert_eq!(refused.fields, ["filter.role", "filter.session_id"]);
}

/// What a watch tells from the beginning until it has told of `last`.
async fn told(operator: &mut Client, filter: pb::WatchFilter, last: &str) -> Vec<String> {
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(0)),
        filter: Some(filter),
        ..Default::default()
    };
    let watch = operator.watch_sessions(request).await;
    let mut watch = watch.expect("it watches").into_inner();
    let mut ids = Vec::new();
    while ids.last().is_none_or(|id| id != last) {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let events = answer.expect("the watch does not end").events;
        ids.extend(events.into_iter().map(|event| {
            let session = event.session.expect("only events of sessions match");
            session.session_id
        }));
    }
    ids
}

/// The live sessions a watch begins with.
async fn snapshot(operator: &mut Client, filter: pb::WatchFilter) -> Vec<String> {
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::Snapshot(true)),
        filter: Some(filter),
        ..Default::default()
    };
    let watch = operator.watch_sessions(request).await;
    let mut watch = watch.expect("it watches").into_inner();
    let mut ids = Vec::new();
    loop {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let answer = answer.expect("the watch does not end");
        ids.extend(answer.snapshot.into_iter().map(|s| s.session_id));
        if answer.snapshot_complete {
            return ids;
        }
    }
}

#[tokio::test]
async fn a_watch_tells_of_what_matches_in_role_session_work_and_label_at_creation() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for request in [
        named("a", Reviewer, "blue"),
        named("b", Implementer, "blue"),
        named("c", Reviewer, "red"),
        pb::RegisterSessionRequest {
            work_id: "other".to_owned(),
            ..named("d", Coordinator, "")
        },
    ] {
        register(&mut operator, request).await;
    }
    let update = pb::UpdateSessionRequest {
        session_id: "c".to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        labels: team("blue"),
        ..Default::default()
    };
    operator.update_session(update).await.expect("it changes");
    // Told to every watch below, as the last.
    let last = pb::RegisterSessionRequest {
        work_id: "other".to_owned(),
        ..named("z", Reviewer, "blue")
    };
    register(&mut operator, last).await;

    let role = pb::WatchFilter {
        role: Reviewer.into(),
        ..Default::default()
    };
    let label = pb::WatchFilter {
        labels: team("blue"),
        ..Default::default()
    };
    let work = pb::WatchFilter {
        work_id: "other".to_owned(),
        ..Default::default()
    };
    let session = pb::WatchFilter {
        session_id: "z".to_owned(),
        ..Default::default()
    };
    for (filter, ids, live) in [
        (role, &["a", "c", "c", "z"][..], &["a", "c", "z"][..]),
        (label, &["a", "b", "z"], &["a", "b", "z"]),
        (work, &["d", "z"], &["d", "z"]),
        (session, &["z"], &["z"]),
    ] {
        let told = told(&mut operator, filter.clone(), "z").await;
        assert_eq!(told, ids, "{filter:?}");
        assert_eq!(snapshot(&mut operator, filter).await, live);
    }
}
