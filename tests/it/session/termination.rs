//! How sessions end, and what is remembered.

use episoded::proto::session as pb;
use episoded::reason::Reason;
use tonic::Streaming;

use crate::harness::{
    Client, Daemon, bearer, find, get, normal_end, own, refusal, register, registration, within,
};

async fn watch(operator: &mut Client, after: u64) -> Streaming<pb::WatchSessionsResponse> {
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(after)),
        ..Default::default()
    };
    operator
        .watch_sessions(request)
        .await
        .expect("it watches")
        .into_inner()
}

/// The next event of that kind.
async fn next(watch: &mut Streaming<pb::WatchSessionsResponse>, kind: pb::EventKind) -> pb::Event {
    loop {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let answer = answer.expect("the watch does not end");
        if let Some(event) = answer.events.into_iter().find(|event| event.kind() == kind) {
            return event;
        }
    }
}

#[tokio::test]
async fn a_session_ends_once_and_answers_its_first_record_for_ever() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let first = pb::TerminateSessionRequest {
        exit_code: Some(7),
        tokens_consumed: Some(1234),
        detail: "asked to".to_owned(),
        ..normal_end(&session.session_id)
    };
    let ended = operator.terminate_session(first).await;
    let ended = ended.expect("it ends").into_inner();
    assert!(!ended.already_terminated);
    let record = ended.session.and_then(|s| s.termination).expect("a record");
    assert_eq!(record.reason(), pb::TerminationReason::Normal);
    assert_eq!(
        record.exit_classification(),
        pb::ExitClassification::Success
    );
    assert_eq!(
        (record.exit_code, record.tokens_consumed),
        (Some(7), Some(1234))
    );
    assert_eq!(
        (record.rationale.as_str(), record.detail.as_str()),
        ("normal", "asked to")
    );

    let dead = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    dead.expect_err("the handle is dead")
        .expect(Reason::HandleNotAccepted);
    let second = pb::TerminateSessionRequest {
        reason: pb::TerminationReason::Crash.into(),
        ..normal_end(&session.session_id)
    };
    let again = operator.terminate_session(second).await;
    let again = again.expect("it is answered").into_inner();
    assert!(again.already_terminated);
    let same = again.session.and_then(|s| s.termination).expect("a record");
    assert_eq!(same, record);
    let unknown = refusal(operator.terminate_session(normal_end("unknown")).await);
    unknown.expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn an_ended_session_is_shown_with_its_record_and_without_its_secrets() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        lease_id: "the-secret-lease".to_owned(),
        lease_holder: "holder".to_owned(),
        episode_id: "episode".to_owned(),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        ..registration("work")
    };
    let session = register(&mut operator, request).await;
    let counters = pb::Counters {
        tool_calls: 3,
        events: 5,
        tokens: 7,
    };
    let beat = pb::HeartbeatSessionRequest {
        session_id: session.session_id.clone(),
        counters: Some(counters),
    };
    operator.heartbeat_session(beat).await.expect("it beats");
    let live = get(&mut operator, &session.session_id).await;
    let live = live.expect("it is live");
    assert_eq!(live.lease_state(), pb::LeaseState::Held);
    assert_eq!(live.counters, Some(counters));
    let request = pb::TerminateSessionRequest {
        exit_code: Some(7),
        tokens_consumed: Some(1234),
        ..normal_end(&session.session_id)
    };
    let answer = operator.terminate_session(request).await;
    let answer = answer.expect("it ends").into_inner().session;
    let ended = get(&mut operator, &session.session_id).await;
    let ended = ended.expect("it is remembered");
    assert_eq!(answer.as_ref(), Some(&ended), "one answer");

    let record = ended.termination.clone().expect("with its record");
    assert_eq!(record.reason(), pb::TerminationReason::Normal);
    assert_eq!(
        (record.exit_code, record.tokens_consumed),
        (Some(7), Some(1234))
    );
    assert_eq!(record.counters, Some(counters));
    assert!(record.end_time.is_some() && record.duration.is_some());
    let without_secrets = pb::Session {
        status: pb::SessionStatus::Terminated.into(),
        lease_state: pb::LeaseState::Unspecified.into(),
        lease_holder: String::new(),
        lease_change_time: None,
        lease_presenter: None,
        termination: Some(record),
        revision: ended.revision,
        etag: ended.revision.to_string(),
        ..live.clone()
    };
    assert_eq!(ended, without_secrets);
    assert_eq!((&*ended.ephemeral_handle, &*ended.lease_id), ("", ""));
    assert!(ended.revision > live.revision);
}

#[tokio::test]
async fn records_over_the_limit_make_room_and_the_daemon_counts_them() {
    use episoded::proto::admin::GetServerInfoRequest;
    let daemon = Daemon::builder()
        .args(["--max-terminated", "1"])
        .start()
        .await;
    let mut operator = daemon.operator().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let session = register(&mut operator, registration("work")).await;
        let end = normal_end(&session.session_id);
        operator.terminate_session(end).await.expect("it ends");
        ids.push(session.session_id);
    }
    let mut admin = daemon.admin().await;
    let purged = async {
        loop {
            let info = admin.get_server_info(GetServerInfoRequest {}).await;
            let info = info.expect("it answers").into_inner();
            if info.terminated_sessions == 1 && info.early_purges > 1 {
                return info;
            }
        }
    };
    assert_eq!(within(purged).await.early_purges, 2);
    for id in &ids[..2] {
        let gone = get(&mut operator, id).await;
        gone.expect_err("it made room")
            .expect(Reason::SessionNotFound);
    }
    let newest = get(&mut operator, &ids[2]).await;
    assert!(newest.expect("it is remembered").termination.is_some());
}

#[tokio::test]
async fn an_ended_session_refuses_everything_else() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session_id = register(&mut operator, registration("work"))
        .await
        .session_id;
    let end = normal_end(&session_id);
    operator.terminate_session(end).await.expect("it ends");
    let before = get(&mut operator, &session_id)
        .await
        .expect("it is remembered");

    let bind = pb::BindEpisodeRequest {
        session_id: session_id.clone(),
        episode_id: "episode".to_owned(),
        ..Default::default()
    };
    refusal(operator.bind_episode(bind).await).expect(Reason::SessionTerminated);
    let stop = pb::RequestStopRequest {
        session_id: session_id.clone(),
        ..Default::default()
    };
    refusal(operator.request_stop(stop).await).expect(Reason::SessionTerminated);
    let beat = pb::HeartbeatSessionRequest {
        session_id: session_id.clone(),
        ..Default::default()
    };
    refusal(operator.heartbeat_session(beat).await).expect(Reason::SessionTerminated);
    let rotate = pb::RotateHandleRequest {
        session_id: session_id.clone(),
        ..Default::default()
    };
    refusal(operator.rotate_handle(rotate).await).expect(Reason::SessionTerminated);
    let remove = pb::RemoveSessionRequest {
        session_id: session_id.clone(),
        ..Default::default()
    };
    refusal(operator.remove_session(remove).await).expect(Reason::SessionTerminated);
    let after = get(&mut operator, &session_id)
        .await
        .expect("it is remembered");
    assert_eq!(after, before, "nothing changed");
}

#[tokio::test]
async fn reasons_that_only_the_daemon_gives_are_refused() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    for reason in [
        pb::TerminationReason::Unspecified,
        pb::TerminationReason::Evicted,
        pb::TerminationReason::DaemonRestart,
    ] {
        let request = pb::TerminateSessionRequest {
            reason: reason.into(),
            ..normal_end(&session.session_id)
        };
        let refused = refusal(operator.terminate_session(request).await);
        assert_eq!(refused.expect(Reason::MalformedMessage).fields, ["reason"]);
    }
    let there = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    assert_eq!(there.expect("it lives").status(), pb::SessionStatus::Active);
}

#[tokio::test]
async fn an_absolute_deadline_ends_a_session_without_traffic() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut events = watch(&mut operator, 0).await;
    let ttl = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    let request = pb::RegisterSessionRequest {
        deadline: Some(pb::register_session_request::Deadline::Ttl(ttl)),
        ..registration("work")
    };
    let session = register(&mut operator, request).await;
    let ended = next(&mut events, pb::EventKind::Terminated).await;
    let ended = ended.session.expect("it holds the session");
    assert_eq!(ended.session_id, session.session_id);
    let record = ended.termination.expect("with its record");
    assert_eq!(record.reason(), pb::TerminationReason::Timeout);
    assert_eq!(
        (record.rationale.as_str(), record.detail.as_str()),
        ("timeout", "expire_time")
    );
    let dead = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    dead.expect_err("the handle is dead")
        .expect(Reason::HandleNotAccepted);
}

#[tokio::test]
async fn a_stop_request_is_seen_by_the_next_heartbeat_and_by_watchers() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let mut events = watch(&mut operator, session.revision).await;
    let mut own_socket = daemon.session().await;
    let beat = || {
        bearer(
            pb::HeartbeatSessionRequest::default(),
            &session.ephemeral_handle,
        )
    };
    let before = own_socket.heartbeat_session(beat()).await;
    assert!(!before.expect("it beats").into_inner().stop_requested);
    let stop = pb::RequestStopRequest {
        session_id: session.session_id.clone(),
        ..Default::default()
    };
    operator.request_stop(stop).await.expect("it is asked");
    let after = own_socket.heartbeat_session(beat()).await;
    assert!(after.expect("it beats").into_inner().stop_requested);
    let event = next(&mut events, pb::EventKind::StopRequested).await;
    assert_eq!(event.session.expect("of it").session_id, session.session_id);
    let there = get(&mut operator, &session.session_id).await;
    assert_eq!(
        there.expect("it lives on").status(),
        pb::SessionStatus::Active
    );
}
