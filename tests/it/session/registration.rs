//! What registers, what is refused, and what may be taken back.

use episoded::proto::DESCRIPTORS;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use prost::Message as _;

use crate::harness::{Client, Daemon, find, get, of_work, own, refusal, register, registration};

async fn listed(operator: &mut Client) -> Vec<String> {
    let list = operator
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .expect("it lists")
        .into_inner();
    list.sessions.into_iter().map(|s| s.session_id).collect()
}

#[test]
fn a_session_has_the_ten_named_fields_with_their_types() {
    use prost_types::field_descriptor_proto::Type;
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("it decodes");
    let session = files
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == "Session")
        .expect("there is a Session");
    for (name, r#type) in [
        ("session_id", Type::String),
        ("work_id", Type::String),
        ("role", Type::Enum),
        ("ephemeral_handle", Type::String),
        ("lease_id", Type::String),
        ("policy_resolved_ref", Type::String),
        ("capability_manifest_hash", Type::Bytes),
        ("episode_id", Type::String),
        ("pcac_policy", Type::Message),
        ("pointer_only_waiver", Type::Message),
    ] {
        let field = session.field.iter().find(|field| field.name() == name);
        assert_eq!(field.expect(name).r#type(), r#type, "{name}");
    }
    let episode = session.field.iter().find(|f| f.name() == "episode_id");
    assert!(episode.is_some_and(prost_types::FieldDescriptorProto::proto3_optional));
}

#[tokio::test]
async fn a_registration_without_work_id_and_role_names_both_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        session_id: "s".to_owned(),
        ..Default::default()
    };
    let refused = refusal(operator.register_session(request).await);
    let refused = refused.expect(Reason::MalformedMessage);
    assert_eq!(refused.fields, ["work_id", "role"]);
    get(&mut operator, "s")
        .await
        .expect_err("it is not there")
        .expect(Reason::SessionNotFound);
    assert!(listed(&mut operator).await.is_empty());
}

#[tokio::test]
async fn each_malformed_field_is_refused_with_its_reason_and_named() {
    type Spoil = fn(&mut pb::RegisterSessionRequest);
    let cases: [(&str, Reason, Spoil); 9] = [
        ("work_id", Reason::MalformedMessage, |r| {
            r.work_id = "a/b".to_owned();
        }),
        ("role", Reason::MalformedMessage, |r| r.role = 99),
        ("session_id", Reason::InvalidSessionId, |r| {
            r.session_id = "-x".to_owned();
        }),
        ("lease_id", Reason::MalformedMessage, |r| {
            r.lease_id = "l".repeat(257);
        }),
        ("capability_manifest_hash", Reason::MalformedMessage, |r| {
            r.capability_manifest_hash = vec![1; 31];
        }),
        ("idle_timeout", Reason::InvalidTtl, |r| {
            r.idle_timeout = Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            });
        }),
        ("ttl", Reason::InvalidTtl, |r| {
            let none = prost_types::Duration {
                seconds: 0,
                nanos: 0,
            };
            r.deadline = Some(pb::register_session_request::Deadline::Ttl(none));
        }),
        (
            "pcac_policy.freshness_max_age_ticks",
            Reason::MalformedMessage,
            |r| {
                let policy = pb::PcacPolicy {
                    freshness_max_age_ticks: Some(0),
                    ..Default::default()
                };
                r.pcac_policy = Some(policy);
            },
        ),
        (
            "pointer_only_waiver.scope_binding_hash",
            Reason::MalformedMessage,
            |r| {
                r.pointer_only_waiver = Some(pb::PointerOnlyWaiver {
                    waiver_id: "w".to_owned(),
                    expires_at_tick: 1,
                    scope_binding_hash: vec![0; 32],
                });
            },
        ),
    ];
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for (field, reason, spoil) in cases {
        let mut request = registration("work");
        spoil(&mut request);
        let refused = refusal(operator.register_session(request).await);
        assert_eq!(refused.expect(reason).fields, [field]);
    }
    assert!(listed(&mut operator).await.is_empty());
}

#[tokio::test]
async fn a_registration_is_answered_with_what_it_binds_and_its_handle_once() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        session_id: "s".to_owned(),
        lease_id: "a-secret-lease".to_owned(),
        lease_holder: "orchestrator".to_owned(),
        policy_resolved_ref: "policy-7".to_owned(),
        capability_manifest_hash: vec![7; 32],
        ..registration("work")
    };
    let session = register(&mut operator, request).await;
    assert_eq!(session.work_id, "work");
    assert_eq!(session.role(), pb::Role::Implementer);
    assert_eq!(session.status(), pb::SessionStatus::Active);
    assert_eq!(session.capability_manifest_hash, [7; 32]);
    assert_eq!(session.policy_resolved_ref, "policy-7");
    assert_eq!(session.lease_state(), pb::LeaseState::Held);
    assert_eq!(session.lease_holder, "orchestrator");
    assert_eq!(session.lease_id, "", "a lease is never shown");
    assert_eq!(session.etag, session.revision.to_string());
    let again = get(&mut operator, "s").await.expect("it is there");
    assert_eq!(again.ephemeral_handle, "", "a handle is shown once");
    let expected = pb::Session {
        ephemeral_handle: String::new(),
        ..session
    };
    assert_eq!(again, expected);
}

#[tokio::test]
async fn a_session_without_a_lease_is_not_ended_by_one() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let without = register(&mut operator, registration("work")).await;
    let request = pb::RegisterSessionRequest {
        lease_id: "a-secret-lease".to_owned(),
        ..registration("work")
    };
    let with = register(&mut operator, request).await;
    assert_eq!(without.lease_state(), pb::LeaseState::Unspecified);
    let end = |lease: &str| pb::TerminateSessionsRequest {
        reason: pb::TerminationReason::Operator.into(),
        exit_classification: pb::ExitClassification::Cancelled.into(),
        selector: Some(pb::terminate_sessions_request::Selector::LeaseId(
            lease.to_owned(),
        )),
        ..Default::default()
    };
    let none = refusal(operator.terminate_sessions(end("")).await);
    none.expect(Reason::MalformedMessage);
    let other = operator.terminate_sessions(end("another-lease")).await;
    assert!(
        other
            .expect("nothing matches")
            .into_inner()
            .session_ids
            .is_empty()
    );
    let ended = operator.terminate_sessions(end("a-secret-lease")).await;
    let ended = ended.expect("its lease ends it").into_inner();
    assert_eq!(ended.session_ids, [with.session_id]);
    let left = get(&mut operator, &without.session_id).await;
    assert_eq!(
        left.expect("it is there").status(),
        pb::SessionStatus::Active
    );
}

#[tokio::test]
async fn a_failed_spawn_takes_its_registration_back_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let failed = std::process::Command::new("/nonexistent/episode").spawn();
    assert!(failed.is_err());
    let remove = pb::RemoveSessionRequest {
        session_id: session.session_id.clone(),
        ..Default::default()
    };
    let removed = operator.remove_session(remove.clone()).await;
    let removed = removed.expect("it is taken back").into_inner().session;
    assert_eq!(removed.expect("as it was").session_id, session.session_id);

    let gone = get(&mut operator, &session.session_id).await;
    gone.expect_err("no record is left")
        .expect(Reason::SessionNotFound);
    let by_work = find(&mut operator, of_work("work")).await;
    by_work
        .expect_err("its work has none")
        .expect(Reason::SessionNotFound);
    let by_handle = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    by_handle
        .expect_err("its handle is dead")
        .expect(Reason::HandleNotAccepted);
    assert!(listed(&mut operator).await.is_empty());
    let again = refusal(operator.remove_session(remove).await);
    again.expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn a_spawned_episode_is_bound_and_its_registration_cannot_be_taken_back() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the episode starts");
    let bind = pb::BindEpisodeRequest {
        session_id: session.session_id.clone(),
        episode_id: "episode-1".to_owned(),
        pid: Some(child.id().cast_signed()),
        ..Default::default()
    };
    let bound = operator.bind_episode(bind.clone()).await;
    bound.expect("it is bound");
    let unknown = pb::BindEpisodeRequest {
        session_id: "unknown".to_owned(),
        ..bind
    };
    refusal(operator.bind_episode(unknown).await).expect(Reason::SessionNotFound);
    let remove = pb::RemoveSessionRequest {
        session_id: session.session_id.clone(),
        ..Default::default()
    };
    refusal(operator.remove_session(remove).await).expect(Reason::SessionInUse);
    let there = get(&mut operator, &session.session_id).await;
    let there = there.expect("it is there");
    assert_eq!(there.episode_id.as_deref(), Some("episode-1"));
    assert_eq!(there.pid, Some(child.id().cast_signed()));
    assert_eq!(there.status(), pb::SessionStatus::Active);
    let key = pb::lookup_session_request::Key::EpisodeId("episode-1".to_owned());
    let request = pb::LookupSessionRequest {
        key: Some(key),
        include_terminated: false,
    };
    let by_episode = find(&mut operator, request).await;
    assert_eq!(
        by_episode.expect("it is found").session_id,
        session.session_id
    );
    child.kill().and_then(|()| child.wait()).expect("it ends");
}

#[tokio::test]
async fn a_full_registry_refuses_unless_told_to_evict_the_oldest() {
    let daemon = Daemon::builder()
        .args(["--max-sessions", "2"])
        .start()
        .await;
    let mut operator = daemon.operator().await;
    let oldest = register(&mut operator, registration("work-1")).await;
    let other = register(&mut operator, registration("work-2")).await;

    let refused = refusal(operator.register_session(registration("work-3")).await);
    refused.expect(Reason::SessionQuota);
    let of_refused = find(&mut operator, of_work("work-3")).await;
    of_refused
        .expect_err("it is not there")
        .expect(Reason::SessionNotFound);
    let still = find(&mut daemon.session().await, own(&oldest.ephemeral_handle)).await;
    assert_eq!(
        still.expect("nothing was evicted").session_id,
        oldest.session_id
    );

    let request = pb::RegisterSessionRequest {
        allow_eviction: true,
        ..registration("work-3")
    };
    let answer = operator.register_session(request).await;
    let answer = answer.expect("it makes room").into_inner();
    let evicted: Vec<_> = answer.evicted.iter().map(|s| &s.session_id).collect();
    assert_eq!(evicted, [&oldest.session_id]);
    let record = get(&mut operator, &oldest.session_id).await;
    let record = record.expect("it is remembered");
    assert_eq!(record.status(), pb::SessionStatus::Terminated);
    let ending = record.termination.expect("it has a record");
    assert_eq!(ending.reason(), pb::TerminationReason::Evicted);
    assert_eq!(ending.rationale, "evicted");
    let dead = find(&mut daemon.session().await, own(&oldest.ephemeral_handle)).await;
    dead.expect_err("its handle is dead")
        .expect(Reason::HandleNotAccepted);
    let other = get(&mut operator, &other.session_id).await;
    assert_eq!(
        other.expect("it is there").status(),
        pb::SessionStatus::Active
    );
}

#[tokio::test]
async fn an_id_is_unique_over_live_and_ended_sessions() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        session_id: "s".to_owned(),
        ..registration("work")
    };
    let first = register(&mut operator, request.clone()).await;
    refusal(operator.register_session(request.clone()).await).expect(Reason::SessionExists);
    let ended = operator
        .terminate_session(crate::harness::normal_end("s"))
        .await;
    ended.expect("it ends");
    refusal(operator.register_session(request).await).expect(Reason::SessionExists);
    let record = get(&mut operator, "s").await.expect("it is remembered");
    assert_eq!(
        record.create_time, first.create_time,
        "the first one is untouched"
    );
}

#[tokio::test]
async fn a_repeated_request_answers_the_same_session_and_a_changed_one_is_refused() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        request_id: "request-1".to_owned(),
        ..registration("work")
    };
    let first = register(&mut operator, request.clone()).await;
    let second = register(&mut operator, request.clone()).await;
    assert_eq!(first.session_id, second.session_id);
    assert_ne!(first.ephemeral_handle, second.ephemeral_handle);
    let mut session = daemon.session().await;
    let stale = find(&mut session, own(&first.ephemeral_handle)).await;
    stale
        .expect_err("the first handle is replaced")
        .expect(Reason::HandleNotAccepted);
    let fresh = find(&mut session, own(&second.ephemeral_handle)).await;
    assert_eq!(
        fresh.expect("the second works").session_id,
        first.session_id
    );

    let third = operator.register_session(request.clone()).await;
    let third = third.expect("it is answered").into_inner();
    assert!(third.handle_withheld, "the handle was used");
    let third = third.session.expect("the answer holds it");
    assert_eq!(
        (third.session_id, third.ephemeral_handle),
        (first.session_id, String::new())
    );
    find(&mut session, own(&second.ephemeral_handle))
        .await
        .expect("the used handle still works");

    let other = pb::RegisterSessionRequest {
        role: pb::Role::Reviewer.into(),
        ..request
    };
    refusal(operator.register_session(other).await).expect(Reason::RequestIdReused);
    assert_eq!(listed(&mut operator).await.len(), 1);
}
