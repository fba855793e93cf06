//! Finding sessions: by id, handle, work and episode, and the list.

use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{
    Client, Daemon, find, get, normal_end, of_work, own, register, registration, within,
};

async fn page(operator: &mut Client, request: pb::ListSessionsRequest) -> pb::ListSessionsResponse {
    let answer = operator.list_sessions(request).await;
    answer.expect("it lists").into_inner()
}

fn ids(sessions: &[pb::Session]) -> Vec<&str> {
    sessions.iter().map(|s| s.session_id.as_str()).collect()
}

#[tokio::test]
async fn a_session_is_found_by_id_live_and_ended_and_an_unknown_id_is_not() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let live = get(&mut operator, &session.session_id).await;
    assert_eq!(live.expect("live").status(), pb::SessionStatus::Active);
    operator
        .terminate_session(normal_end(&session.session_id))
        .await
        .expect("it ends");
    let ended = get(&mut operator, &session.session_id)
        .await
        .expect("ended");
    assert_eq!(ended.status(), pb::SessionStatus::Terminated);
    assert!(ended.termination.is_some());
    let unknown = get(&mut operator, "unknown").await;
    unknown
        .expect_err("unknown")
        .expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn a_record_is_there_from_the_end_until_its_time_is_over_and_not_else() {
    let daemon = Daemon::builder()
        .args(["--terminated-ttl", "1s"])
        .start()
        .await;
    let mut operator = daemon.operator().await;
    let id = register(&mut operator, registration("work"))
        .await
        .session_id;
    let active = get(&mut operator, &id).await.expect("it is live");
    assert_eq!(active.status(), pb::SessionStatus::Active);
    assert_eq!(active.termination, None);
    operator
        .terminate_session(normal_end(&id))
        .await
        .expect("it ends");
    let over = async {
        loop {
            match get(&mut operator, &id).await {
                Ok(ended) => assert!(ended.termination.is_some(), "{ended:?}"),
                Err(refused) => return refused,
            }
        }
    };
    within(over).await.expect(Reason::SessionNotFound);
    let mut ended = of_work("work");
    ended.include_terminated = true;
    let gone = find(&mut operator, ended).await;
    let gone = gone.expect_err("forgotten").expect(Reason::SessionNotFound);
    assert!(gone.metadata.is_empty(), "{gone:?}");
    let list = page(&mut operator, pb::ListSessionsRequest::default()).await;
    assert!(list.sessions.is_empty());
}

#[tokio::test]
async fn a_work_id_finds_its_newest_live_session() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let none = find(&mut operator, of_work("work")).await;
    none.expect_err("no session yet")
        .expect(Reason::SessionNotFound);
    let older = register(&mut operator, registration("work"))
        .await
        .session_id;
    let newer = register(&mut operator, registration("work"))
        .await
        .session_id;
    register(&mut operator, registration("other")).await;
    let found = find(&mut operator, of_work("work")).await;
    assert_eq!(found.expect("the newest").session_id, newer);
    operator
        .terminate_session(normal_end(&newer))
        .await
        .expect("it ends");
    let found = find(&mut operator, of_work("work")).await;
    assert_eq!(found.expect("the one left").session_id, older);
    operator
        .terminate_session(normal_end(&older))
        .await
        .expect("it ends");
    let gone = find(&mut operator, of_work("work")).await;
    let gone = gone
        .expect_err("none is live")
        .expect(Reason::SessionNotFound);
    assert!(
        gone.metadata.values().any(|value| *value == older),
        "the last session to end is named: {gone:?}"
    );
    let request = pb::LookupSessionRequest {
        include_terminated: true,
        ..of_work("work")
    };
    let last = find(&mut operator, request)
        .await
        .expect("an ended one was asked for");
    assert_eq!(last.session_id, older);
    assert_eq!(last.status(), pb::SessionStatus::Terminated);
}

#[tokio::test]
async fn a_handle_finds_its_session_until_it_is_removed() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let one = register(&mut operator, registration("work")).await;
    let two = register(&mut operator, registration("work")).await;
    let remove = pb::RemoveSessionRequest {
        session_id: one.session_id,
        ..Default::default()
    };
    operator
        .remove_session(remove)
        .await
        .expect("it is removed");
    let mut session = daemon.session().await;
    let stale = find(&mut session, own(&one.ephemeral_handle)).await;
    stale
        .expect_err("removed")
        .expect(Reason::HandleNotAccepted);
    let found = find(&mut session, own(&two.ephemeral_handle)).await;
    assert_eq!(found.expect("the other").session_id, two.session_id);
    assert_eq!(
        find(&mut operator, of_work("work"))
            .await
            .expect("the other")
            .session_id,
        two.session_id
    );
}

#[tokio::test]
async fn a_list_of_the_active_leaves_out_the_ended_and_keeps_registration_order() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut live = Vec::new();
    for number in 0..7 {
        let session = register(&mut operator, registration("work")).await;
        if number % 3 == 1 {
            let end = normal_end(&session.session_id);
            operator.terminate_session(end).await.expect("it ends");
        } else {
            live.push(session.session_id);
        }
    }
    let filter = pb::SessionFilter {
        status: pb::SessionStatus::Active.into(),
        ..Default::default()
    };
    for page_size in [1, 2, 3, 100] {
        let mut listed = Vec::new();
        let mut token = String::new();
        loop {
            let request = pb::ListSessionsRequest {
                page_size,
                page_token: token,
                filter: Some(filter.clone()),
            };
            let answer = page(&mut operator, request).await;
            assert!(answer.sessions.len() <= page_size as usize);
            listed.extend(answer.sessions);
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(ids(&listed), live, "pages of {page_size}");
    }
}

#[tokio::test]
async fn a_page_token_of_another_filter_is_refused() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for _ in 0..2 {
        register(&mut operator, registration("work")).await;
    }
    let request = pb::ListSessionsRequest {
        page_size: 1,
        ..Default::default()
    };
    let first = page(&mut operator, request.clone()).await;
    assert!(!first.next_page_token.is_empty());
    let filter = pb::SessionFilter {
        work_id: "work".to_owned(),
        ..Default::default()
    };
    for (page_token, filter) in [
        (first.next_page_token, Some(filter)),
        ("not a token".to_owned(), None),
    ] {
        let request = pb::ListSessionsRequest {
            page_token,
            filter,
            page_size: 1,
        };
        let refused = crate::harness::refusal(operator.list_sessions(request).await);
        refused.expect(Reason::InvalidPageToken);
    }
}
