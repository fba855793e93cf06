//! The client against a server on a real socket.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::error::Origin;
use super::{Client, Follow, Handle, Start, Update};
use crate::proto::session::watch_sessions_request::Start as WireStart;
use crate::proto::session::{
    Event, GetSessionRequest, Session, WatchFilter, WatchSessionsRequest, WatchSessionsResponse,
};
use crate::reason::{DOMAIN, Reason};

mod fake;

use fake::{Fake, Script};

const HANDLE: &str = "H-0b1d2c3e-4f50-4617-8a9b-acbdcedfe0f1";

fn get() -> GetSessionRequest {
    GetSessionRequest {
        session_id: "s".into(),
    }
}

fn refusal(reason: Reason) -> Status {
    let details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(Code::from(reason.code()), "refused", details)
}

#[tokio::test]
async fn no_daemon_is_told_apart_from_one_that_went_away() {
    let mut fake = Fake::new();
    let error = Client::connect(Path::new("/nonexistent/operator.sock"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.origin),
        (Code::Unavailable, Origin::Unreachable)
    );
    fake.kill();
    let error = Client::connect(fake.socket()).await.unwrap_err();
    assert_eq!(error.origin, Origin::Unreachable);
    assert!(error.message.contains("operator.sock"), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_socket_path_that_is_too_long_is_said_to_be() {
    let error = Client::connect("/x".repeat(100)).await.unwrap_err();
    assert!(error.message.contains("SUN_LEN"), "{error}");
}

#[tokio::test]
async fn the_connection_comes_back_with_the_daemon() {
    let mut fake = Fake::new();
    let client = Client::connect(fake.socket()).await.unwrap();
    client.get_session(get()).await.unwrap();
    fake.kill();
    assert!(client.get_session(get()).await.unwrap_err().is_transient());
    fake.start();
    client.get_session(get()).await.unwrap();
}

#[tokio::test]
async fn a_handle_travels_in_metadata_and_only_when_there_is_one() {
    let fake = Fake::new();
    let client = Client::connect(fake.socket()).await.unwrap();
    client.get_session(get()).await.unwrap();
    assert_eq!(fake.state.lock().authorization, None);
    let own = client.with_handle(Handle::parse(HANDLE).unwrap());
    own.get_session(get()).await.unwrap();
    let sent = fake.state.lock().authorization.clone();
    assert_eq!(sent, Some(format!("Bearer {HANDLE}")));
    assert!(!format!("{own:?}").contains("0b1d2c3e"));
}

#[tokio::test]
async fn a_call_has_a_deadline_of_which_the_daemon_knows() {
    let fake = Fake::new();
    fake.state.lock().thinks = Duration::from_mins(1);
    let client = Client::connect(fake.socket()).await.unwrap();
    let hasty = client.with_timeout(Duration::from_millis(100));
    let error = hasty.get_session(get()).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert_eq!(error.reason, Some(Reason::DeadlineExceeded));
    assert!(fake.state.lock().timeout.is_some());
}

#[tokio::test]
async fn a_refusal_keeps_its_reason() {
    let fake = Fake::new();
    fake.state.lock().get = Some(Err(refusal(Reason::SessionNotFound)));
    let client = Client::connect(fake.socket()).await.unwrap();
    let error = client.get_session(get()).await.unwrap_err();
    assert_eq!(error.reason, Some(Reason::SessionNotFound));
    assert_eq!(error.origin, Origin::Daemon);
}

#[tokio::test]
async fn a_daemon_that_closes_without_a_word_is_unavailable_to_its_own_user() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("operator.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = match Client::connect(&socket).await {
        Ok(client) => client.get_session(get()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(
        (error.code, error.origin),
        (Code::Unavailable, Origin::Connection)
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(&socket, Some(12345), None).unwrap();
    let error = match Client::connect(&socket).await {
        Ok(client) => client.get_session(get()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.reason, Some(Reason::PeerMismatch), "{error}");
}

fn event(revision: u64, session_id: &str) -> Event {
    Event {
        revision,
        session: Some(session(session_id, revision)),
        ..Event::default()
    }
}

fn session(session_id: &str, revision: u64) -> Session {
    Session {
        session_id: session_id.into(),
        revision,
        ..Session::default()
    }
}

fn events(through: u64, events: Vec<Event>) -> WatchSessionsResponse {
    WatchSessionsResponse {
        events,
        through,
        registry_id: "r".into(),
        ..WatchSessionsResponse::default()
    }
}

fn snapshot(sessions: Vec<Session>, through: u64, complete: bool) -> WatchSessionsResponse {
    WatchSessionsResponse {
        snapshot: sessions,
        through,
        snapshot_complete: complete,
        registry_id: "r".into(),
        ..WatchSessionsResponse::default()
    }
}

async fn follow(fake: &Fake, start: Start) -> Follow {
    let client = Client::connect(fake.socket()).await.unwrap();
    Follow::new(client, WatchFilter::default(), start)
}

fn after(revision: u64) -> Start {
    Start::After {
        revision,
        registry_id: "r".into(),
    }
}

/// One word for what was seen, with its revisions.
async fn seen(follow: &mut Follow) -> String {
    let waited = tokio::time::timeout(Duration::from_secs(10), follow.next());
    match waited.await.expect("something to see") {
        Ok(Update::Events(events)) => {
            let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
            format!("events {revisions:?}")
        }
        Ok(Update::Snapshot { sessions, complete }) => {
            format!("snapshot {} {complete}", sessions.len())
        }
        Ok(Update::Lost(_)) => "lost".into(),
        Ok(Update::Resumed) => "resumed".into(),
        Ok(Update::Reset(error)) => format!("reset {}", error.reason.unwrap().as_str()),
        Err(error) => format!("error {}", error.reason.map_or("none", Reason::as_str)),
    }
}

fn started(request: &WatchSessionsRequest) -> (Option<WireStart>, &str) {
    (request.start, &request.registry_id)
}

#[tokio::test]
async fn a_lost_watch_resumes_behind_its_bookmark() {
    let mut fake = Fake::new();
    fake.script(Script::Stay(vec![events(
        7,
        vec![event(6, "a"), event(7, "b")],
    )]));
    let mut follow = follow(&fake, after(5)).await;
    assert_eq!(seen(&mut follow).await, "events [6, 7]");
    fake.kill();
    assert_eq!(seen(&mut follow).await, "lost");
    fake.script(Script::Stay(vec![events(10, vec![event(10, "a")])]));
    fake.start();
    assert_eq!(seen(&mut follow).await, "resumed");
    assert_eq!(seen(&mut follow).await, "events [10]");
    let state = fake.state.lock();
    let behind = |revision| (Some(WireStart::AfterRevision(revision)), "r");
    assert_eq!(started(&state.watches[0]), behind(5));
    assert_eq!(started(&state.watches[1]), behind(7));
}

#[tokio::test]
async fn what_does_not_match_moves_the_bookmark_too() {
    let fake = Fake::new();
    fake.script(Script::End(vec![events(9, Vec::new())]));
    fake.script(Script::Stay(vec![events(10, vec![event(10, "a")])]));
    let mut follow = follow(&fake, after(5)).await;
    for expected in ["lost", "resumed", "events [10]"] {
        assert_eq!(seen(&mut follow).await, expected);
    }
    let state = fake.state.lock();
    assert_eq!(
        started(&state.watches[1]).0,
        Some(WireStart::AfterRevision(9))
    );
}

#[tokio::test]
async fn a_watch_that_is_ended_in_order_or_by_a_stop_resumes_too() {
    let fake = Fake::new();
    fake.script(Script::End(vec![events(6, vec![event(6, "a")])]));
    fake.script(Script::Then(
        vec![events(7, vec![event(7, "a")])],
        refusal(Reason::ShuttingDown),
    ));
    fake.script(Script::Stay(vec![events(8, vec![event(8, "a")])]));
    let mut follow = follow(&fake, after(5)).await;
    for expected in [
        "events [6]",
        "lost",
        "resumed",
        "events [7]",
        "lost",
        "resumed",
        "events [8]",
    ] {
        assert_eq!(seen(&mut follow).await, expected);
    }
}

#[tokio::test]
async fn a_useless_bookmark_leads_to_a_snapshot() {
    for reason in [
        Reason::RevisionCompacted,
        Reason::RegistryChanged,
        Reason::RevisionUnknown,
    ] {
        let fake = Fake::new();
        fake.script(Script::End(vec![events(6, vec![event(6, "a")])]));
        fake.script(Script::Refuse(refusal(reason)));
        fake.script(Script::Stay(vec![snapshot(
            vec![session("a", 20)],
            21,
            true,
        )]));
        let mut follow = follow(&fake, after(5)).await;
        let reset = format!("reset {}", reason.as_str());
        for expected in ["events [6]", "lost", &reset, "resumed", "snapshot 1 true"] {
            assert_eq!(seen(&mut follow).await, expected);
        }
        let state = fake.state.lock();
        assert_eq!(
            started(&state.watches[2]),
            (Some(WireStart::Snapshot(true)), "")
        );
    }
}

#[tokio::test]
async fn a_bookmark_that_never_was_any_good_is_an_error() {
    let fake = Fake::new();
    fake.script(Script::Refuse(refusal(Reason::RevisionCompacted)));
    let mut follow = follow(&fake, after(5)).await;
    assert_eq!(seen(&mut follow).await, "error REVISION_COMPACTED");
}

#[tokio::test]
async fn events_that_a_snapshot_shows_are_not_shown_again() {
    let fake = Fake::new();
    fake.script(Script::Stay(vec![
        snapshot(vec![session("a", 12), session("b", 3)], 0, false),
        snapshot(vec![session("c", 4)], 10, true),
        events(
            12,
            vec![
                event(11, "a"),
                event(11, "d"),
                event(12, "a"),
                event(12, "b"),
            ],
        ),
        events(13, vec![event(13, "a")]),
    ]));
    let mut follow = follow(&fake, Start::Snapshot).await;
    for expected in [
        "snapshot 2 false",
        "snapshot 1 true",
        "events [11, 12]",
        "events [13]",
    ] {
        assert_eq!(seen(&mut follow).await, expected);
    }
}

#[tokio::test]
async fn an_interrupted_snapshot_begins_again() {
    let fake = Fake::new();
    fake.script(Script::End(vec![snapshot(vec![session("a", 2)], 0, false)]));
    fake.script(Script::Stay(vec![snapshot(vec![session("a", 2)], 5, true)]));
    let mut follow = follow(&fake, Start::Snapshot).await;
    for expected in ["snapshot 1 false", "lost", "resumed", "snapshot 1 true"] {
        assert_eq!(seen(&mut follow).await, expected);
    }
    let state = fake.state.lock();
    assert_eq!(
        started(&state.watches[1]),
        (Some(WireStart::Snapshot(true)), "")
    );
}

#[tokio::test]
async fn now_is_the_moment_of_the_call() {
    let fake = Fake::new();
    fake.script(Script::Stay(vec![events(41, vec![event(41, "a")])]));
    let client = Client::connect(fake.socket()).await.unwrap();
    let mut follow = Follow::from_now(client, WatchFilter::default())
        .await
        .unwrap();
    assert_eq!(seen(&mut follow).await, "events [41]");
    let state = fake.state.lock();
    assert_eq!(
        started(&state.watches[0]),
        (Some(WireStart::AfterRevision(40)), "r")
    );
}
