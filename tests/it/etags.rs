//! Etags and request ids: a change to what the caller did not see is refused, and
//! a call that is repeated happens once.

use episoded::proto::session as pb;
use episoded::reason::Reason;
use tonic::Status;

use crate::harness::{
    Client, Daemon, Refusal, find, get, normal_end, own, refusal, register, registration,
};

const LEASE: &str = "the-secret-lease";

/// Every call that takes an etag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Update,
    Renew,
    Bind,
    Rotate,
    Stop,
    Terminate,
    Remove,
}

const ALL: [Call; 7] = [
    Call::Update,
    Call::Renew,
    Call::Bind,
    Call::Rotate,
    Call::Stop,
    Call::Terminate,
    Call::Remove,
];

fn bind(id: &str, episode: &str) -> pb::BindEpisodeRequest {
    pb::BindEpisodeRequest {
        session_id: id.to_owned(),
        episode_id: episode.to_owned(),
        ..Default::default()
    }
}

fn renewal(id: &str) -> pb::RenewLeaseRequest {
    pb::RenewLeaseRequest {
        lease_id: LEASE.to_owned(),
        lease_holder: "holder".to_owned(),
        session_id: id.to_owned(),
        ..Default::default()
    }
}

fn labelled(id: &str, value: &str) -> pb::UpdateSessionRequest {
    pb::UpdateSessionRequest {
        session_id: id.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        labels: [("label".to_owned(), value.to_owned())].into(),
        ..Default::default()
    }
}

/// Makes the call with that etag; the session as it is answered.
async fn make(
    operator: &mut Client,
    call: Call,
    session_id: &str,
    etag: &str,
) -> Result<pb::Session, Status> {
    let etag = etag.to_owned();
    let session_id = session_id.to_owned();
    let session = match call {
        Call::Update => {
            let request = labelled(&session_id, "made");
            let request = pb::UpdateSessionRequest { etag, ..request };
            operator.update_session(request).await?.into_inner().session
        }
        Call::Renew => {
            let request = renewal(&session_id);
            let request = pb::RenewLeaseRequest { etag, ..request };
            operator.renew_lease(request).await?.into_inner().session
        }
        Call::Bind => {
            let request = bind(&session_id, "episode");
            let request = pb::BindEpisodeRequest { etag, ..request };
            operator.bind_episode(request).await?.into_inner().session
        }
        Call::Rotate => {
            let request = pb::RotateHandleRequest {
                session_id,
                etag,
                ..Default::default()
            };
            operator.rotate_handle(request).await?.into_inner().session
        }
        Call::Stop => {
            let request = pb::RequestStopRequest { session_id, etag };
            operator.request_stop(request).await?.into_inner().session
        }
        Call::Terminate => {
            let request = normal_end(&session_id);
            let request = pb::TerminateSessionRequest { etag, ..request };
            let answer = operator.terminate_session(request).await?;
            answer.into_inner().session
        }
        Call::Remove => {
            let request = pb::RemoveSessionRequest { session_id, etag };
            operator.remove_session(request).await?.into_inner().session
        }
    };
    Ok(session.expect("the answer holds it"))
}

#[tokio::test]
async fn a_stale_etag_is_refused_by_every_call_that_takes_one_and_changes_nothing() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let id = session.session_id.clone();
    let changed = operator.update_session(labelled(&id, "first")).await;
    changed.expect("it changes");
    let before = get(&mut operator, &id).await.expect("it is there");
    assert_ne!(before.etag, session.etag);
    for call in ALL {
        let status = make(&mut operator, call, &id, &session.etag).await;
        let status = status.expect_err("it changed since");
        let refused = Refusal::of(&status).unwrap_or_else(|| panic!("{call:?}: {status:?}"));
        let refused = refused.expect(Reason::StaleEtag);
        assert_eq!(refused.metadata["etag"], before.etag, "{call:?}");
        let after = get(&mut operator, &id).await.expect("it is there");
        assert_eq!(after, before, "{call:?} changed nothing");
    }
    let opened = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    assert_eq!(opened.expect("its handle is the first").session_id, id);
}

#[tokio::test]
async fn the_etag_of_the_last_answer_is_accepted_by_every_call_that_takes_one() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let (id, mut etag) = (session.session_id, session.etag);
    for call in ALL.into_iter().filter(|call| *call != Call::Remove) {
        let made = make(&mut operator, call, &id, &etag).await;
        let made = made.unwrap_or_else(|status| panic!("{call:?}: {status:?}"));
        assert_ne!(made.etag, etag, "{call:?} changes it");
        assert_eq!(made.etag, made.revision.to_string());
        etag = made.etag;
    }
    let ended = get(&mut operator, &id).await.expect("it is remembered");
    assert_eq!(ended.status(), pb::SessionStatus::Terminated);
    let brief = register(&mut operator, registration("work")).await;
    let removed = make(&mut operator, Call::Remove, &brief.session_id, &brief.etag).await;
    removed.expect("it is taken back");
    let gone = get(&mut operator, &brief.session_id).await;
    gone.expect_err("it is gone")
        .expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn an_etag_is_a_number() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let id = register(&mut operator, registration("work"))
        .await
        .session_id;
    for call in ALL {
        let status = make(&mut operator, call, &id, "\"1\"").await;
        let refused = Refusal::of(&status.expect_err("it is none")).expect("it is ours");
        let refused = refused.expect(Reason::MalformedMessage);
        assert_eq!(refused.fields, ["etag"], "{call:?}");
    }
}

#[tokio::test]
async fn a_repeated_binding_is_answered_the_same_and_a_changed_one_is_refused() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let id = session.session_id.clone();
    let request = pb::BindEpisodeRequest {
        request_id: "bind-1".to_owned(),
        etag: session.etag,
        ..bind(&id, "episode")
    };
    let first = operator.bind_episode(request.clone()).await;
    let first = first.expect("it is bound").into_inner();
    let again = operator.bind_episode(request.clone()).await;
    let again = again.expect("although its etag is stale by now");
    assert_eq!(again.into_inner(), first, "the same, nothing happened");

    let other = pb::BindEpisodeRequest {
        episode_id: "another".to_owned(),
        ..request.clone()
    };
    refusal(operator.bind_episode(other.clone()).await).expect(Reason::RequestIdReused);
    let now = get(&mut operator, &id).await.expect("it is there");
    assert_eq!(first.session, Some(now), "nothing changed");
    let unnamed = bind(&id, "another");
    let bound = refusal(operator.bind_episode(unnamed).await);
    let bound = bound.expect(Reason::AlreadyBound);
    assert_eq!(bound.metadata["episode_id"], "episode");

    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let again = operator.bind_episode(request).await;
    let again = again.expect("it is known after a crash").into_inner();
    let episode = again.session.and_then(|session| session.episode_id);
    assert_eq!(episode.as_deref(), Some("episode"));
    refusal(operator.bind_episode(other).await).expect(Reason::RequestIdReused);
}

#[tokio::test]
async fn a_repeated_renewal_is_answered_the_same_and_a_changed_one_is_refused() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let request = pb::RenewLeaseRequest {
        request_id: "renew-1".to_owned(),
        etag: session.etag,
        ..renewal(&session.session_id)
    };
    let first = operator.renew_lease(request.clone()).await;
    let first = first.expect("it is shown").into_inner();
    let again = operator.renew_lease(request.clone()).await;
    let again = again.expect("although its etag is stale by now");
    assert_eq!(again.into_inner(), first, "the same, nothing happened");
    let other = pb::RenewLeaseRequest {
        lease_holder: "another".to_owned(),
        ..request
    };
    refusal(operator.renew_lease(other).await).expect(Reason::RequestIdReused);
    let now = get(&mut operator, &session.session_id).await;
    assert_eq!(first.session, Some(now.expect("it is there")));
}
