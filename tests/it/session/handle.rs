//! Handles: what they open, and that nothing else does.

use bytes::Bytes;
use episoded::proto::DESCRIPTORS;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::harness::{
    Client, Daemon, Refusal, bearer, connect, find, get, normal_end, own, refusal, register,
    registration,
};

const UNKNOWN: &str = "H-8a4f1f0e-63f3-4a6b-9d2e-3c5b7a9e1f02";

/// The refusals of every call that a session makes of itself.
async fn own_calls(session: &mut Client, authorize: impl Fn(&mut Request<()>)) -> Vec<Refusal> {
    fn with<T>(message: T, authorize: &impl Fn(&mut Request<()>)) -> Request<T> {
        let mut request = Request::new(());
        authorize(&mut request);
        let (metadata, extensions, ()) = request.into_parts();
        Request::from_parts(metadata, extensions, message)
    }
    let key = Some(pb::lookup_session_request::Key::Own(true));
    let lookup = pb::LookupSessionRequest {
        key,
        include_terminated: true,
    };
    vec![
        refusal(session.lookup_session(with(lookup, &authorize)).await),
        refusal(
            session
                .heartbeat_session(with(pb::HeartbeatSessionRequest::default(), &authorize))
                .await,
        ),
        refusal(
            session
                .rotate_handle(with(pb::RotateHandleRequest::default(), &authorize))
                .await,
        ),
        refusal(
            session
                .terminate_session(with(normal_end(""), &authorize))
                .await,
        ),
    ]
}

fn bear(handle: &str) -> impl Fn(&mut Request<()>) {
    let value: tonic::metadata::AsciiMetadataValue =
        format!("Bearer {handle}").parse().expect("it is printable");
    move |request| {
        request
            .metadata_mut()
            .insert("authorization", value.clone());
    }
}

#[tokio::test]
async fn every_bad_handle_gets_one_answer_in_every_call() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut session = daemon.session().await;
    let live = register(&mut operator, registration("live")).await;
    let ended = register(&mut operator, registration("ended")).await;
    operator
        .terminate_session(normal_end(&ended.session_id))
        .await
        .expect("it ends");

    let mut refusals = own_calls(&mut session, |_| {}).await;
    for handle in [UNKNOWN, &ended.ephemeral_handle, "", "H-", "not a handle"] {
        refusals.extend(own_calls(&mut session, bear(handle)).await);
    }
    let (one, other) = (bear(&live.ephemeral_handle), UNKNOWN);
    let twice = move |request: &mut Request<()>| {
        one(request);
        let value = format!("Bearer {other}").parse().expect("it is printable");
        request.metadata_mut().append("authorization", value);
    };
    refusals.extend(own_calls(&mut session, twice).await);
    let messages: std::collections::BTreeSet<_> = refusals
        .into_iter()
        .map(|refused| refused.expect(Reason::HandleNotAccepted).message)
        .collect();
    assert_eq!(messages.len(), 1, "{messages:?}");

    let found = find(&mut session, own(&live.ephemeral_handle)).await;
    assert_eq!(
        found.expect("a good one is accepted").session_id,
        live.session_id
    );
    let untouched = get(&mut operator, &live.session_id).await;
    assert_eq!(
        untouched.expect("it is there").status(),
        pb::SessionStatus::Active
    );
}

#[tokio::test]
async fn a_handle_is_a_random_uuid_behind_its_prefix() {
    let daemon = Daemon::start().await;
    let session = register(&mut daemon.operator().await, registration("work")).await;
    let handle = session.ephemeral_handle;
    let shape: String = handle
        .chars()
        .map(|c| if c.is_ascii_hexdigit() { 'x' } else { c })
        .collect();
    assert_eq!(shape, "H-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    assert_eq!(&handle[16..17], "4", "the version");
    assert!("89ab".contains(&handle[21..22]), "the variant");
}

#[tokio::test]
async fn a_handle_reaches_only_its_own_session() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut session = daemon.session().await;
    let mine = register(&mut operator, registration("work")).await;
    let other = register(&mut operator, registration("work")).await;
    let found = find(&mut session, own(&mine.ephemeral_handle)).await;
    assert_eq!(found.expect("its own").session_id, mine.session_id);
    let end = bearer(normal_end(&other.session_id), &mine.ephemeral_handle);
    refusal(session.terminate_session(end).await).expect(Reason::OperatorOnly);
    let there = get(&mut operator, &other.session_id).await;
    assert_eq!(
        there.expect("it is there").status(),
        pb::SessionStatus::Active
    );
}

#[tokio::test]
async fn a_rotated_handle_is_refused_from_the_reply_on() {
    let daemon = Daemon::start().await;
    let mut session = daemon.session().await;
    let first = register(&mut daemon.operator().await, registration("work")).await;
    let request = bearer(pb::RotateHandleRequest::default(), &first.ephemeral_handle);
    let rotated = session.rotate_handle(request).await;
    let rotated = rotated.expect("it rotates").into_inner().session;
    let rotated = rotated.expect("the answer holds it");
    let old = find(&mut session, own(&first.ephemeral_handle)).await;
    old.expect_err("the old one is dead")
        .expect(Reason::HandleNotAccepted);
    let new = find(&mut session, own(&rotated.ephemeral_handle)).await;
    assert_eq!(new.expect("the new one works").session_id, first.session_id);
}

/// Who did not hear the answer asks again, with the handle that is known.
#[tokio::test]
async fn a_replaced_handle_may_repeat_its_rotation_and_nothing_else() {
    let daemon = Daemon::start().await;
    let mut session = daemon.session().await;
    let first = register(&mut daemon.operator().await, registration("work")).await;
    let first = first.ephemeral_handle;
    let rotate = |handle: &str, request_id: &str| {
        let request = pb::RotateHandleRequest {
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        bearer(request, handle)
    };
    let mut handles = Vec::new();
    for _ in 0..2 {
        let rotated = session.rotate_handle(rotate(&first, "r-1")).await;
        let rotated = rotated.expect("it rotates").into_inner().session;
        handles.push(rotated.expect("the answer holds it").ephemeral_handle);
    }
    let [unheard, known] = &handles[..] else {
        panic!("two rotations");
    };
    let opened = find(&mut session, own(known)).await;
    opened.expect("the last one works");
    for dead in [&first, unheard] {
        let found = find(&mut session, own(dead)).await;
        found
            .expect_err("it is dead")
            .expect(Reason::HandleNotAccepted);
    }
    let other = session.rotate_handle(rotate(&first, "r-2")).await;
    refusal(other).expect(Reason::HandleNotAccepted);
    let opened = find(&mut session, own(known)).await;
    opened.expect("it still works");
}

/// Sends an empty message to a method by its path; whether it was answered.
async fn empty_call(socket: &std::path::Path, path: &str) -> Result<Response<()>, Status> {
    let mut grpc = tonic::client::Grpc::new(connect(socket).await);
    grpc.ready().await.expect("it connects");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = path.parse().expect("a method has a path");
    let stream = grpc
        .server_streaming(Request::new(()), path, codec)
        .await?
        .into_inner();
    drop(stream);
    Ok(Response::new(()))
}

#[tokio::test]
async fn no_method_is_reachable_on_session_sock_without_a_handle() {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("it decodes");
    let daemon = Daemon::start().await;
    let mut checked = 0;
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let refused = refusal(empty_call(&daemon.session_socket(), &path).await);
                let reasons = ["HANDLE_NOT_ACCEPTED", "OPERATOR_ONLY", "METHOD_UNKNOWN"];
                assert!(
                    reasons.contains(&refused.reason.as_str()),
                    "{path}: {refused:?}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked >= 18, "{checked} methods were tried");
    let path = "/episoded.session.v1.SessionService/ListSessions";
    let answered = empty_call(&daemon.operator_socket(), path).await;
    answered.expect("the same call is answered on operator.sock");
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_handle_or_a_lease() {
    const CANARY: &str = "canary-lease-8c1f";
    let session = pb::Session {
        ephemeral_handle: UNKNOWN.to_owned(),
        lease_id: CANARY.to_owned(),
        ..Default::default()
    };
    let registration = pb::RegisterSessionRequest {
        lease_id: CANARY.to_owned(),
        ..registration("work")
    };
    let renewal = pb::RenewLeaseRequest {
        lease_id: CANARY.to_owned(),
        ..Default::default()
    };
    let selector = pb::terminate_sessions_request::Selector::LeaseId(CANARY.to_owned());
    let termination = pb::TerminateSessionsRequest {
        selector: Some(selector),
        ..Default::default()
    };
    let answer = pb::RegisterSessionResponse {
        session: Some(session.clone()),
        ..Default::default()
    };
    for printed in [
        format!("{session:?} {session:#?}"),
        format!("{registration:?}"),
        format!("{renewal:?}"),
        format!("{termination:?}"),
        format!("{answer:?}"),
    ] {
        assert!(printed.contains("[REDACTED]"), "{printed}");
        assert!(
            !printed.contains(CANARY) && !printed.contains(UNKNOWN),
            "{printed}"
        );
    }
    assert!(
        Bytes::from(session.encode_to_vec())
            .windows(CANARY.len())
            .any(|w| w == CANARY.as_bytes())
    );
}
