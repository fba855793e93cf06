//! Events: past ones as they were, in the order in which they happened.

use episoded::proto::session as pb;

use crate::harness::{Client, Daemon, bearer, get, normal_end, register, registration, within};

/// Past events, oldest first.
pub(super) async fn history(operator: &mut Client) -> Vec<pb::Event> {
    let request = pb::ListEventsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let answer = operator.list_events(request).await;
    let mut events = answer.expect("it lists").into_inner().events;
    events.reverse();
    events
}

/// This process, as the daemon names it in a call on that socket with that request id.
pub(super) fn us(socket: &str, request_id: &str) -> pb::Actor {
    let program = std::fs::read_to_string("/proc/self/comm").expect("a process has a name");
    pb::Actor {
        uid: rustix::process::geteuid().as_raw(),
        pid: std::process::id() as i32,
        program: program.trim_end().to_owned(),
        socket: socket.to_owned(),
        request_id: request_id.to_owned(),
    }
}

/// What a watcher hears from the first revision to the newest.
async fn heard(operator: &mut Client) -> Vec<pb::Event> {
    let list = pb::ListSessionsRequest::default();
    let list = operator.list_sessions(list).await.expect("it lists");
    let newest = list.into_inner().revision;
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(0)),
        ..Default::default()
    };
    let watch = operator.watch_sessions(request).await;
    let mut watch = watch.expect("it watches").into_inner();
    let mut events = Vec::new();
    loop {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let answer = answer.expect("the watch does not end");
        events.extend(answer.events);
        if answer.through >= newest {
            return events;
        }
    }
}

fn kinds(events: &[pb::Event], id: &str) -> Vec<pb::EventKind> {
    let of_it = |event: &&pb::Event| event.session.as_ref().is_some_and(|s| s.session_id == id);
    events.iter().filter(of_it).map(pb::Event::kind).collect()
}

/// What became of it since has events of its own.
#[tokio::test]
async fn a_session_that_came_back_is_told_as_live_after_its_end_too() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    operator
        .terminate_session(normal_end(&session.session_id))
        .await
        .expect("it ends");
    let heard = heard(&mut operator).await;
    let of_kind = |kind| {
        let found = heard.iter().find(|event| event.kind() == kind);
        found
            .and_then(|event| event.session.clone())
            .expect("it is told")
    };
    let back = of_kind(pb::EventKind::Recovered);
    assert_eq!(back.status(), pb::SessionStatus::Active);
    assert_eq!(back.termination, None);
    let ended = of_kind(pb::EventKind::Terminated);
    assert_eq!(ended.status(), pb::SessionStatus::Terminated);
    assert!(ended.termination.is_some());
}

#[tokio::test]
async fn a_restart_leaves_past_events_as_they_were() {
    use pb::EventKind::{Created, Recovered, Terminated};
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let gone = register(&mut operator, registration("work")).await;
    operator
        .terminate_session(normal_end(&gone.session_id))
        .await
        .expect("it ends");
    let live = register(&mut operator, registration("work")).await;
    let before = history(&mut operator).await;
    daemon.kill9();
    daemon.restart().await;

    let mut operator = daemon.operator().await;
    let after = history(&mut operator).await;
    assert_eq!(after[..before.len()], before, "as they were");
    let heard = heard(&mut operator).await;
    for event in &heard {
        let session = event.session.as_ref();
        assert!(
            session.is_none_or(|s| s.revision == event.revision),
            "{event:?}"
        );
    }
    assert_eq!(kinds(&heard, &gone.session_id), [Created, Terminated]);
    assert_eq!(kinds(&heard, &live.session_id), [Created, Recovered]);
    let mut revisions: Vec<_> = heard.iter().map(|event| event.revision).collect();
    revisions.dedup();
    assert!(revisions.is_sorted() && revisions.len() == heard.len());
}

#[tokio::test]
async fn an_event_names_the_process_its_user_the_socket_and_the_request() {
    const REQUEST: &str = "request-7";
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let named = pb::RegisterSessionRequest {
        request_id: REQUEST.to_owned(),
        ..registration("work")
    };
    let session = register(&mut operator, named).await;
    let end = pb::TerminateSessionRequest {
        session_id: String::new(),
        ..normal_end("")
    };
    let mut episode = daemon.session().await;
    let end = bearer(end, &session.ephemeral_handle);
    episode.terminate_session(end).await.expect("it ends");

    let (created, ended) = (us("operator", REQUEST), us("session", ""));
    let kept = get(&mut operator, &session.session_id).await;
    let kept = kept.expect("it is remembered");
    assert_eq!(kept.registrant.as_ref(), Some(&us("operator", "")));
    let record = kept.termination.expect("it has ended");
    assert_eq!(record.actor.as_ref(), Some(&ended));
    for events in [history(&mut operator).await, heard(&mut operator).await] {
        let actors = events.into_iter().map(|event| (event.kind(), event.actor));
        let expected = [
            (pb::EventKind::Created, Some(created.clone())),
            (pb::EventKind::Terminated, Some(ended.clone())),
        ];
        let about_it = actors.filter(|(kind, _)| *kind != pb::EventKind::Restarted);
        assert_eq!(about_it.collect::<Vec<_>>(), expected);
    }
}
