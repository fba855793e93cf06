//! What answers carry, and that there always is one.

use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{Client, Daemon, get, refusal, register, registration};

const MANY: usize = 1_000;

/// As large as a registration may be.
fn large(number: usize) -> pb::RegisterSessionRequest {
    let mut request = registration("work");
    request.session_id = format!("s-{number}");
    request.labels = (0..15)
        .map(|n| (format!("label-{n:02}"), "v".repeat(255)))
        .collect();
    request
}

async fn register_many(
    client: &mut Client,
    requests: Vec<pb::RegisterSessionRequest>,
) -> pb::RegisterSessionsResponse {
    let request = pb::RegisterSessionsRequest { requests };
    let answer = client.register_sessions(request).await;
    answer.expect("there is an answer").into_inner()
}

fn registered(answer: &pb::RegisterSessionsResponse) -> Vec<&pb::RegisterSessionResponse> {
    use pb::register_sessions_result::Result as Item;
    let each = answer.results.iter().map(|result| match &result.result {
        Some(Item::Registered(registered)) => registered,
        other => panic!("it is registered: {other:?}"),
    });
    each.collect()
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_shortened_and_holds_every_handle() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let requests: Vec<_> = (0..MANY).map(large).collect();
    let length: usize = requests.iter().map(prost::Message::encoded_len).sum();
    assert!(length < 4 * 1024 * 1024, "the request fits: {length}");

    let answer = register_many(&mut operator, requests).await;
    assert!(answer.shortened);
    for (number, one) in registered(&answer).into_iter().enumerate() {
        let session = one.session.as_ref().expect("the answer holds it");
        assert_eq!(session.session_id, format!("s-{number}"));
        assert!(session.ephemeral_handle.starts_with("H-"));
        assert!(session.labels.is_empty() && session.revision > 0);
    }
    let whole = get(&mut operator, "s-999").await.expect("it is there");
    assert_eq!(whole.labels.len(), 15);

    let few = register_many(&mut operator, vec![large(MANY)]).await;
    assert!(!few.shortened);
    let [one] = registered(&few)[..] else {
        panic!("one was asked for");
    };
    let session = one.session.as_ref().expect("the answer holds it");
    assert_eq!(session.labels.len(), 15);
}

#[tokio::test]
async fn one_call_names_a_thousand_that_it_evicted_and_ends_no_more() {
    let mut daemon = Daemon::builder()
        .config("max_sessions = 2000")
        .start()
        .await;
    let mut operator = daemon.operator().await;
    for round in 0..2 {
        let requests = (0..MANY).map(|n| large(round * MANY + n)).collect();
        register_many(&mut operator, requests).await;
    }
    let greedy = |limit: usize| pb::RegisterSessionRequest {
        allow_eviction: true,
        ..registration(&format!("work-{limit}"))
    };

    reconfigure(&mut daemon, 1000).await;
    let mut operator = daemon.operator().await;
    let refused = refusal(operator.register_session(greedy(1000)).await);
    let refused = refused.expect(Reason::SessionQuota);
    assert_eq!(refused.metadata["evictions_needed"], "1001");
    let oldest = get(&mut operator, "s-0").await.expect("nothing was ended");
    assert_eq!(oldest.status(), pb::SessionStatus::Active);

    reconfigure(&mut daemon, 1001).await;
    let mut operator = daemon.operator().await;
    let answer = operator.register_session(greedy(1001)).await;
    let answer = answer.expect("it makes room").into_inner();
    assert!(answer.shortened);
    assert!(
        answer
            .session
            .is_some_and(|s| !s.ephemeral_handle.is_empty())
    );
    let evicted: Vec<_> = answer.evicted.iter().map(|s| &*s.session_id).collect();
    let expected: Vec<_> = (0..MANY).map(|n| format!("s-{n}")).collect();
    assert_eq!(evicted, expected);
}

async fn reconfigure(daemon: &mut Daemon, max_sessions: usize) {
    let path = daemon.dirs().root().join("config.toml");
    std::fs::write(path, format!("max_sessions = {max_sessions}")).expect("it is written");
    daemon.restart().await;
}

#[tokio::test]
async fn the_items_of_one_call_evict_a_thousand_together() {
    let mut daemon = Daemon::builder()
        .config("max_sessions = 1000")
        .start()
        .await;
    let mut operator = daemon.operator().await;
    let requests = (0..MANY).map(large).collect();
    register_many(&mut operator, requests).await;
    reconfigure(&mut daemon, 998).await;
    let mut operator = daemon.operator().await;
    let greedy = |n: usize| pb::RegisterSessionRequest {
        session_id: format!("g-{n}"),
        allow_eviction: true,
        ..registration("greedy")
    };
    let answer = register_many(&mut operator, (0..MANY).map(greedy).collect()).await;
    assert!(answer.shortened);
    let evicted = |result: &pb::RegisterSessionsResult| match &result.result {
        Some(pb::register_sessions_result::Result::Registered(one)) => one.evicted.len(),
        Some(pb::register_sessions_result::Result::Error(error)) => {
            assert_eq!(error.reason, Reason::SessionQuota.as_str());
            0
        }
        None => panic!("each item has its result"),
    };
    let counts: Vec<_> = answer.results.iter().map(evicted).collect();
    assert_eq!(counts[..3], [3, 1, 1]);
    assert_eq!(counts[997..], [1, 0, 0]);
    assert_eq!(counts.iter().sum::<usize>(), MANY);
}

#[tokio::test]
async fn a_snapshot_and_a_late_watcher_get_answers_that_fit() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let requests = (0..MANY).map(large).collect();
    register_many(&mut operator, requests).await;
    for start in [
        pb::watch_sessions_request::Start::Snapshot(true),
        pb::watch_sessions_request::Start::AfterRevision(0),
    ] {
        let request = pb::WatchSessionsRequest {
            start: Some(start),
            ..Default::default()
        };
        let mut watch = operator
            .watch_sessions(request)
            .await
            .expect("it watches")
            .into_inner();
        let mut seen = 0;
        while seen < MANY {
            let answer = watch.message().await.expect("each answer fits");
            let answer = answer.expect("the watch goes on");
            assert!(prost::Message::encoded_len(&answer) <= 1024 * 1024 + 16 * 1024);
            if let Some(last) = answer.events.last() {
                assert!(answer.through >= last.revision);
            }
            let created = answer
                .events
                .iter()
                .filter(|e| e.kind() == pb::EventKind::Created);
            seen += answer.snapshot.len() + created.count();
        }
    }
}

#[tokio::test]
async fn answers_and_events_carry_the_node_and_the_registry() {
    let daemon = Daemon::builder().args(["--node", "here"]).start().await;
    let mut operator = daemon.operator().await;
    let mut request = registration("work");
    "a-lease".clone_into(&mut request.lease_id);
    let session = register(&mut operator, request).await;
    let registry = session.registry_id;
    assert_eq!((session.node.as_str(), registry.len()), ("here", 36));
    let mut told: Vec<(&str, String, String)> = Vec::new();

    let many = register_many(&mut operator, vec![registration("work")]).await;
    told.push(("RegisterSessions", many.node, many.registry_id));
    let lease = pb::RenewLeaseRequest {
        lease_id: "a-lease".into(),
        ..Default::default()
    };
    let renewed = operator.renew_lease(lease).await;
    let renewed = renewed.expect("it is shown").into_inner();
    told.push(("RenewLease", renewed.node, renewed.registry_id));
    let heard = operator.heartbeat_session(pb::HeartbeatSessionRequest {
        session_id: session.session_id,
        ..Default::default()
    });
    let heard = heard.await.expect("it is heard").into_inner();
    told.push(("HeartbeatSession", heard.node, heard.registry_id));
    let ended = operator.terminate_sessions(pb::TerminateSessionsRequest {
        selector: Some(pb::terminate_sessions_request::Selector::WorkId(
            "work".into(),
        )),
        reason: pb::TerminationReason::Normal.into(),
        exit_classification: pb::ExitClassification::Success.into(),
        ..Default::default()
    });
    let ended = ended.await.expect("they end").into_inner();
    told.push(("TerminateSessions", ended.node, ended.registry_id));
    let listed = operator.list_sessions(pb::ListSessionsRequest::default());
    let listed = listed.await.expect("they are listed").into_inner();
    told.push(("ListSessions", listed.node, listed.registry_id));
    let events = operator.list_events(pb::ListEventsRequest::default());
    let events = events.await.expect("they are listed").into_inner();
    told.push(("ListEvents", events.node, events.registry_id));
    let restarted = events.events.into_iter().last().expect("the first event");
    assert_eq!(restarted.kind(), pb::EventKind::Restarted);
    told.push(("RESTARTED", restarted.node, restarted.registry_id));
    let watch = operator.watch_sessions(pb::WatchSessionsRequest::default());
    let mut watch = watch.await.expect("it watches").into_inner();
    let first = watch.message().await.expect("it is told");
    let first = first.expect("the bookmark");
    told.push(("WatchSessions", first.node, first.registry_id));

    for (what, node, registry_id) in told {
        assert_eq!((node.as_str(), &registry_id), ("here", &registry), "{what}");
    }
}
