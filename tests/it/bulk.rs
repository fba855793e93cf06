//! Calls about many sessions: which they reach, and how many at once.

use std::collections::BTreeSet;

use episoded::proto::admin as pb_admin;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use pb::terminate_sessions_request::Selector;

use crate::harness::{Client, Daemon, find, get, own, refusal, register, registration};

const LIMIT: usize = 1_000;

fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

async fn with(
    operator: &mut Client,
    id: &str,
    role: pb::Role,
    pairs: &[(&str, &str)],
) -> pb::Session {
    let request = pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        role: role.into(),
        labels: labels(pairs),
        ..registration("work")
    };
    register(operator, request).await
}

fn end(selector: Selector) -> pb::TerminateSessionsRequest {
    pb::TerminateSessionsRequest {
        selector: Some(selector),
        reason: pb::TerminationReason::Operator.into(),
        exit_classification: pb::ExitClassification::Cancelled.into(),
        detail: "all of them".to_owned(),
        ..Default::default()
    }
}

fn by(role: pb::Role, pairs: &[(&str, &str)]) -> Selector {
    Selector::Filter(pb::SessionFilter {
        role: role.into(),
        labels: labels(pairs),
        ..Default::default()
    })
}

async fn ended(
    operator: &mut Client,
    request: pb::TerminateSessionsRequest,
) -> pb::TerminateSessionsResponse {
    let answer = operator.terminate_sessions(request).await;
    answer.expect("it is answered").into_inner()
}

/// The ids of the live sessions.
async fn live(operator: &mut Client) -> BTreeSet<String> {
    let request = pb::ListSessionsRequest {
        page_size: 1_000,
        filter: Some(pb::SessionFilter {
            status: pb::SessionStatus::Active.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let list = operator.list_sessions(request).await.expect("it lists");
    let sessions = list.into_inner().sessions;
    sessions.into_iter().map(|s| s.session_id).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn an_end_by_role_and_label_reaches_exactly_what_matches() {
    use pb::Role::{Implementer, Reviewer, Unspecified};
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let blue = &[("team", "blue")][..];
    let red = &[("team", "red")][..];
    let both = &[("team", "blue"), ("tier", "1")][..];
    with(&mut operator, "reviewer-blue", Reviewer, blue).await;
    with(&mut operator, "reviewer-red", Reviewer, red).await;
    let first = with(&mut operator, "blue", Implementer, blue).await;
    with(&mut operator, "blue-1", Implementer, both).await;
    with(&mut operator, "red", Implementer, red).await;
    with(&mut operator, "none", Implementer, &[]).await;
    for (selector, reached) in [
        (by(Reviewer, blue), &["reviewer-blue"][..]),
        (by(Reviewer, &[]), &["reviewer-red"]),
        (by(Unspecified, both), &["blue-1"]),
        (by(Unspecified, &[("team", "green")]), &[]),
        (by(Unspecified, blue), &["blue"]),
    ] {
        let before = live(&mut operator).await;
        let answer = ended(&mut operator, end(selector.clone())).await;
        assert_eq!(answer.session_ids, reached, "{selector:?}");
        assert_eq!(answer.remaining, 0);
        let left = &before - &set(reached);
        assert_eq!(live(&mut operator).await, left, "{selector:?}");
    }
    let record = get(&mut operator, "blue").await.expect("it is remembered");
    let record = record.termination.expect("with its record");
    assert_eq!(record.reason(), pb::TerminationReason::Operator);
    assert_eq!(record.detail, "all of them");
    let dead = find(&mut daemon.session().await, own(&first.ephemeral_handle)).await;
    dead.expect_err("its handle is dead")
        .expect(Reason::HandleNotAccepted);
}

#[tokio::test]
async fn an_end_by_work_id_reaches_all_of_it_and_nothing_else() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut of_work = BTreeSet::new();
    for _ in 0..3 {
        of_work.insert(
            register(&mut operator, registration("work"))
                .await
                .session_id,
        );
    }
    let other = register(&mut operator, registration("other")).await;
    let answer = ended(&mut operator, end(Selector::WorkId("work".to_owned()))).await;
    assert_eq!(
        answer.session_ids.into_iter().collect::<BTreeSet<_>>(),
        of_work
    );
    assert_eq!(live(&mut operator).await, set(&[&other.session_id]));
}

#[tokio::test]
async fn a_selector_that_says_nothing_or_too_much_is_refused_and_ends_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    with(&mut operator, "s", pb::Role::Reviewer, &[]).await;
    let full = pb::SessionFilter {
        role: pb::Role::Reviewer.into(),
        ..Default::default()
    };
    let of_work = pb::SessionFilter {
        work_id: "work".to_owned(),
        ..full.clone()
    };
    let of_state = pb::SessionFilter {
        status: pb::SessionStatus::Active.into(),
        ..full.clone()
    };
    let of_lease = pb::SessionFilter {
        lease_state: pb::LeaseState::Held.into(),
        ..full
    };
    for filter in [pb::SessionFilter::default(), of_work, of_state, of_lease] {
        let request = end(Selector::Filter(filter));
        let refused = refusal(operator.terminate_sessions(request).await);
        let refused = refused.expect(Reason::MalformedMessage);
        assert_eq!(refused.fields, ["filter"]);
    }
    let nothing = pb::TerminateSessionsRequest {
        selector: None,
        ..end(by(pb::Role::Reviewer, &[]))
    };
    let refused = refusal(operator.terminate_sessions(nothing).await);
    assert_eq!(
        refused.expect(Reason::MalformedMessage).fields,
        ["selector"]
    );
    assert_eq!(live(&mut operator).await, set(&["s"]));
}

#[tokio::test]
async fn a_thousand_end_in_one_call_and_it_says_how_many_are_left() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for count in [LIMIT, 5] {
        let request = pb::RegisterSessionsRequest {
            requests: vec![registration("work"); count],
        };
        let answer = operator.register_sessions(request).await;
        let results = answer.expect("they are taken").into_inner().results;
        assert_eq!(results.len(), count);
    }
    let all = || end(by(pb::Role::Implementer, &[]));
    let revision = {
        let info = daemon.admin().await;
        live_and_revision(info).await
    };
    assert_eq!(revision.0, 1_005);
    let dry = pb::TerminateSessionsRequest {
        dry_run: true,
        ..all()
    };
    let would = ended(&mut operator, dry).await;
    assert_eq!((would.session_ids.len(), would.remaining), (LIMIT, 5));
    assert_eq!(would.revision, revision.1, "nothing happened");
    assert_eq!(live_and_revision(daemon.admin().await).await, revision);

    let first = ended(&mut operator, all()).await;
    assert_eq!((first.session_ids.len(), first.remaining), (LIMIT, 5));
    assert_eq!(first.session_ids, would.session_ids, "as it said");
    assert_eq!(live_and_revision(daemon.admin().await).await.0, 5);
    let second = ended(&mut operator, all()).await;
    assert_eq!((second.session_ids.len(), second.remaining), (5, 0));
    let third = ended(&mut operator, all()).await;
    assert_eq!((third.session_ids.len(), third.remaining), (0, 0));
    assert_eq!(live_and_revision(daemon.admin().await).await.0, 0);
}

type Admin = pb_admin::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

async fn live_and_revision(mut admin: Admin) -> (u64, u64) {
    let request = pb_admin::GetServerInfoRequest::default();
    let info = admin.get_server_info(request).await;
    let info = info.expect("it answers").into_inner();
    (info.live_sessions, info.revision)
}

#[tokio::test]
async fn a_dry_run_ends_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = with(&mut operator, "s", pb::Role::Reviewer, &[]).await;
    let before = get(&mut operator, "s").await.expect("it is there");
    for selector in [
        by(pb::Role::Reviewer, &[]),
        Selector::WorkId("work".to_owned()),
    ] {
        let request = pb::TerminateSessionsRequest {
            dry_run: true,
            ..end(selector)
        };
        let answer = ended(&mut operator, request).await;
        assert_eq!(answer.session_ids, ["s"]);
    }
    let after = get(&mut operator, "s").await.expect("it is there");
    assert_eq!(after, before);
    let opened = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    opened.expect("its handle works");
}

#[tokio::test]
async fn a_batch_of_none_or_of_more_than_a_thousand_is_refused_as_a_whole() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for count in [0, LIMIT + 1] {
        let request = pb::RegisterSessionsRequest {
            requests: vec![registration("work"); count],
        };
        let refused = refusal(operator.register_sessions(request).await);
        let refused = refused.expect(Reason::MalformedMessage);
        assert_eq!(refused.fields, ["requests"]);
    }
    assert_eq!(live_and_revision(daemon.admin().await).await.0, 0);
}

/// Everything in it is bad.
fn nothing_good() -> pb::RegisterSessionRequest {
    let long = "x".repeat(257);
    pb::RegisterSessionRequest {
        work_id: "a/b".to_owned(),
        role: 99,
        lease_id: long.clone(),
        session_id: "-".to_owned(),
        lease_holder: long.clone(),
        policy_resolved_ref: long.clone(),
        capability_manifest_hash: vec![1; 3],
        episode_id: "a/b".to_owned(),
        coordination_id: long.clone(),
        parent_session_id: "-".to_owned(),
        pcac_policy: Some(pb::PcacPolicy {
            min_tier2_identity_evidence: Some(99),
            freshness_max_age_ticks: Some(0),
            tier2_sovereignty_mode: Some(99),
            ..Default::default()
        }),
        pointer_only_waiver: Some(pb::PointerOnlyWaiver::default()),
        labels: labels(&[("", "")]),
        deadline: Some(pb::register_session_request::Deadline::Ttl(
            prost_types::Duration::default(),
        )),
        idle_timeout: Some(prost_types::Duration::default()),
        request_id: long,
        ..Default::default()
    }
}

#[tokio::test]
async fn of_many_bad_fields_sixteen_are_named_and_the_others_counted() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let status = operator.register_session(nothing_good()).await;
    let size = status.as_ref().map_or_else(
        |status| status.message().len() + status.details().len(),
        |_| 0,
    );
    assert!((1..4_096).contains(&size), "{size} bytes");
    let refused = refusal(status).expect(Reason::MalformedMessage);
    let expected = [
        "request_id",
        "work_id",
        "session_id",
        "lease_holder",
        "lease_id",
        "episode_id",
        "ttl",
        "idle_timeout",
        "role",
        "policy_resolved_ref",
        "capability_manifest_hash",
        "coordination_id",
        "parent_session_id",
        "pcac_policy.min_tier2_identity_evidence",
        "pcac_policy.tier2_sovereignty_mode",
        "pcac_policy.freshness_max_age_ticks",
    ];
    assert_eq!(refused.fields, expected);
    assert_eq!(refused.metadata["more_violations"], "4");
    let message = &refused.message;
    assert!(
        message.starts_with("20 fields are not valid: "),
        "{message}"
    );
    assert!(message.ends_with(", and 4 more"), "{message}");
    assert_eq!(live_and_revision(daemon.admin().await).await.0, 0);
}
