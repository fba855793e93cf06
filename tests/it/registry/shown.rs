//! What calls answer of a session: its times to the millisecond, its lease, and
//! what a change leaves as it was.

use std::sync::Arc;
use std::time::Duration;

use episoded::grpc::caller::{Caller, Own};
use episoded::proto::session as pb;
use episoded::proto::session::session_service_server::SessionService as _;
use episoded::reason::Reason;
use episoded::secret::Handle;
use episoded::session::limits::Limits;
use episoded::session::state::{Peer, Socket};
use pb::{register_session_request as registering, update_session_request as updating};
use tonic::Request;

use super::equipment::{Registry, peer, service};
use crate::harness::{Refusal, refusal, registration};

/// When the clock of a new registry begins, in seconds since the epoch.
const BEGIN: i64 = 1_800_000_000;

const LEASE: &str = "the-secret-lease";

fn time(seconds: i64, millis: i32) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: BEGIN + seconds,
        nanos: millis * 1_000_000,
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn labels(value: &str) -> std::collections::BTreeMap<String, String> {
    [("team".to_owned(), value.to_owned())].into()
}

/// The message as that process sends it; with a handle, as its session does.
fn sent<T>(message: T, by: Arc<Peer>, own: Option<Own>) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller {
        peer: by,
        own,
        deadline: None,
    });
    request
}

fn by_operator<T>(message: T) -> Request<T> {
    sent(message, peer(Socket::Operator), None)
}

/// Registers it; the session with its handle.
async fn register(registry: &Registry, request: pb::RegisterSessionRequest) -> pb::Session {
    let request = by_operator(request);
    let answer = service(registry).register_session(request).await;
    registry.rest().await;
    let answer = answer.expect("it is registered").into_inner();
    answer.session.expect("the answer holds it")
}

async fn get(registry: &Registry, id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        session_id: id.to_owned(),
    };
    let answer = service(registry).get_session(Request::new(request)).await;
    let session = answer.expect("it is there").into_inner().session;
    session.expect("the answer holds it")
}

async fn list(registry: &Registry, request: pb::ListSessionsRequest) -> pb::ListSessionsResponse {
    let answer = service(registry).list_sessions(Request::new(request)).await;
    answer.expect("it lists").into_inner()
}

async fn update(
    registry: &Registry,
    request: pb::UpdateSessionRequest,
) -> Result<pb::Session, Refusal> {
    let request = by_operator(request);
    let answer = service(registry).update_session(request).await;
    registry.rest().await;
    match answer {
        Ok(answer) => Ok(answer.into_inner().session.expect("the answer holds it")),
        status => Err(refusal(status)),
    }
}

/// Beats for the operator, or for the session of a handle.
async fn beat(
    registry: &Registry,
    session_id: &str,
    handle: Option<&str>,
) -> pb::HeartbeatSessionResponse {
    let own = handle.map(|handle| {
        let handle = Handle::parse(handle).expect("it is one");
        Own {
            digest: registry.sessions.digest_handle(&handle),
            view: registry.opened_by(&handle),
        }
    });
    let request = pb::HeartbeatSessionRequest {
        session_id: session_id.to_owned(),
        counters: None,
    };
    let request = sent(request, peer(Socket::Operator), own);
    let answer = service(registry).heartbeat_session(request).await;
    answer.expect("it beats").into_inner()
}

/// Changes everything that can be changed, as far as the paths say so.
fn everything(id: &str, paths: &[&str]) -> pb::UpdateSessionRequest {
    pb::UpdateSessionRequest {
        session_id: id.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        labels: labels("red"),
        deadline: Some(updating::Deadline::Ttl(seconds(7_200))),
        idle_timeout: Some(seconds(1_200)),
        etag: String::new(),
    }
}

/// Has labels, an hour, and an idle limit of ten minutes.
fn limited(id: &str) -> pb::RegisterSessionRequest {
    pb::RegisterSessionRequest {
        session_id: id.to_owned(),
        labels: labels("blue"),
        deadline: Some(registering::Deadline::Ttl(seconds(3_600))),
        idle_timeout: Some(seconds(600)),
        ..registration("work")
    }
}

#[tokio::test]
async fn a_heartbeat_answers_the_deadlines_and_is_the_last_activity() {
    let registry = Registry::new(Limits::default());
    let session = register(&registry, limited("s")).await;
    assert_eq!(session.create_time, Some(time(0, 0)));
    assert_eq!(session.last_activity_time, Some(time(0, 0)), "at first");

    let mine = session.ephemeral_handle.as_str();
    for (handle, at) in [(None, time(90, 250)), (Some(mine), time(180, 500))] {
        registry.clock.advance(Duration::from_millis(90_250));
        let id = if handle.is_some() { "" } else { "s" };
        let answer = beat(&registry, id, handle).await;
        assert_eq!(answer.status(), pb::SessionStatus::Active);
        assert_eq!(answer.expire_time, Some(time(3_600, 0)));
        assert_eq!(answer.idle_timeout, Some(seconds(600)));
        assert_eq!(answer.last_activity_time, Some(at));
        let shown = get(&registry, "s").await;
        assert_eq!(shown.last_activity_time, Some(at));
        assert_eq!(shown.create_time, Some(time(0, 0)));
        assert_eq!(shown.revision, session.revision, "no change");
    }

    let unlimited = pb::UpdateSessionRequest {
        deadline: None,
        idle_timeout: None,
        ..everything("s", &["deadline", "idle_timeout"])
    };
    update(&registry, unlimited).await.expect("it is changed");
    let answer = beat(&registry, "s", None).await;
    assert_eq!((answer.expire_time, answer.idle_timeout), (None, None));
}

#[tokio::test]
async fn a_record_tells_how_long_its_session_lived() {
    let registry = Registry::new(Limits::default());
    register(&registry, limited("s")).await;
    registry.clock.advance(Duration::from_secs(90));
    registry.terminate("s").await.expect("it ends");
    registry.clock.advance(Duration::from_secs(30));
    let ended = get(&registry, "s").await;
    assert_eq!(ended.create_time, Some(time(0, 0)));
    let record = ended.termination.expect("with its record");
    assert_eq!(record.duration, Some(seconds(90)));
    assert_eq!(record.end_time, Some(time(90, 0)));
    assert_eq!(record.purge_time, Some(time(90 + 300, 0)));
}

#[tokio::test]
async fn every_page_of_a_list_tells_the_revision_before_the_first() {
    let registry = Registry::new(Limits::default());
    for number in 0..5 {
        registry.registered(&format!("s-{number}"), |_| {}).await;
    }
    let first = registry.sessions.revision().0;
    let mut token = String::new();
    for page in 0..4 {
        let request = pb::ListSessionsRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let answer = list(&registry, request).await;
        assert_eq!(answer.revision, first, "page {page}");
        assert_eq!(answer.sessions.len(), 2, "page {page}");
        token = answer.next_page_token;
        registry.registered(&format!("later-{page}"), |_| {}).await;
    }
    let another = list(&registry, pb::ListSessionsRequest::default()).await;
    assert_eq!(another.revision, first + 4, "a list of its own");
    assert_eq!(another.revision, registry.sessions.revision().0);
}

#[tokio::test]
async fn a_lease_is_shown_with_who_showed_it_last_and_when() {
    let registry = Registry::new(Limits::default());
    let request = pb::RegisterSessionRequest {
        lease_id: LEASE.to_owned(),
        lease_holder: "first".to_owned(),
        ..limited("s")
    };
    register(&registry, request).await;
    let first = get(&registry, "s").await;
    let registrant = pb::Actor {
        uid: 1000,
        pid: 4711,
        program: "test".to_owned(),
        socket: "operator".to_owned(),
        request_id: String::new(),
    };
    assert_eq!(first.lease_presenter.as_ref(), Some(&registrant));
    assert_eq!(first.registrant.as_ref(), Some(&registrant));
    assert_eq!(first.lease_change_time, Some(time(0, 0)));
    assert_eq!(first.lease_holder, "first");
    assert_eq!(first.lease_state(), pb::LeaseState::Held);
    assert_eq!(first.lease_id, "", "it is a secret");

    registry.clock.advance(Duration::from_secs(45));
    let another = Arc::new(Peer {
        uid: 2000,
        pid: 815,
        program: "other".into(),
        socket: Socket::Operator,
    });
    let renewal = pb::RenewLeaseRequest {
        lease_id: LEASE.to_owned(),
        lease_holder: "second".to_owned(),
        session_id: "s".to_owned(),
        request_id: "renewal-1".to_owned(),
        ..Default::default()
    };
    let renewed = service(&registry)
        .renew_lease(sent(renewal, another, None))
        .await;
    let renewed = renewed.expect("it is shown").into_inner().session;
    let second = get(&registry, "s").await;
    assert_eq!(renewed.as_ref(), Some(&second), "one answer");
    let presenter = pb::Actor {
        uid: 2000,
        pid: 815,
        program: "other".to_owned(),
        ..registrant
    };
    let expected = pb::Session {
        lease_holder: "second".to_owned(),
        lease_change_time: Some(time(45, 0)),
        lease_presenter: Some(presenter),
        revision: first.revision + 1,
        etag: (first.revision + 1).to_string(),
        ..first
    };
    assert_eq!(second, expected);
}

#[tokio::test]
async fn an_update_changes_the_field_of_its_path_and_no_other() {
    let registry = Registry::new(Limits::default());
    for path in ["labels", "deadline", "idle_timeout"] {
        register(&registry, limited(path)).await;
        let before = get(&registry, path).await;
        assert_eq!(before.labels, labels("blue"));
        assert_eq!(before.expire_time, Some(time(3_600, 0)));
        assert_eq!(before.idle_timeout, Some(seconds(600)));
        let changed = update(&registry, everything(path, &[path])).await;
        let changed = changed.expect("it is changed");
        assert_eq!(changed, get(&registry, path).await, "one answer");

        let mut expected = pb::Session {
            revision: before.revision + 1,
            etag: (before.revision + 1).to_string(),
            ..before
        };
        match path {
            "labels" => expected.labels = labels("red"),
            "deadline" => expected.expire_time = Some(time(7_200, 0)),
            _ => expected.idle_timeout = Some(seconds(1_200)),
        }
        assert_eq!(changed, expected, "{path}");
    }
}

#[tokio::test]
async fn an_update_of_an_unknown_path_or_of_none_changes_nothing() {
    let registry = Registry::new(Limits::default());
    register(&registry, limited("s")).await;
    let before = get(&registry, "s").await;
    for paths in [
        &["work_id"][..],
        &["labels", "role"],
        &["deadline", "expire_time"],
        &["idle_timeout", "ttl"],
        &["Labels"],
        &["labels.team"],
        &["*"],
        &[""],
        &[],
    ] {
        let refused = update(&registry, everything("s", paths)).await;
        let refused = refused.expect_err("there is no such path");
        let refused = refused.expect(Reason::MalformedMessage);
        assert_eq!(refused.fields, ["update_mask"], "{paths:?}");
        assert_eq!(get(&registry, "s").await, before, "{paths:?}");
    }
}
