//! One look at everything the daemon shows, and the repetition of calls whose
//! answers were lost.

use episoded::proto::admin::GetServerInfoRequest;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use tokio::task::JoinSet;

use super::ledger::{Change, Fate, Lease, Ledger, Seen, View};
use super::load::{Retry, Shared, ending_of};
use crate::harness::{Client, Daemon, bearer, find, of_work, own};

/// Handle lookups in flight at once.
const IN_FLIGHT: usize = 16;

/// What a daemon shows, and how often its registry was started.
pub struct Look {
    pub view: View,
    pub incarnation: u64,
    pub revision: u64,
}

/// Looks at everything; handles and works are those given.
pub async fn look(daemon: &Daemon, handles: Vec<String>, works: Vec<String>) -> Look {
    let mut operator = daemon.operator().await;
    let mut view = View::default();
    let mut token = String::new();
    loop {
        let request = pb::ListSessionsRequest {
            page_size: 1000,
            page_token: token,
            filter: None,
        };
        let page = operator
            .list_sessions(request)
            .await
            .expect("the list is answered")
            .into_inner();
        for session in page.sessions {
            let id = session.session_id.clone();
            let before = view.sessions.insert(id.clone(), seen(session));
            assert!(before.is_none(), "{id} is listed once");
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let session = daemon.session().await;
    view.handles = each(handles, move |handle| session_of(session.clone(), handle)).await;
    view.works = each(works, move |work| newest_of(operator.clone(), work)).await;
    let info = daemon
        .admin()
        .await
        .get_server_info(GetServerInfoRequest {})
        .await
        .expect("the daemon tells what it is")
        .into_inner();
    view.live = info.live_sessions;
    view.ended = info.terminated_sessions;
    Look {
        view,
        incarnation: info.incarnation,
        revision: info.revision,
    }
}

/// Every handle the ledger knows of live sessions, and the dead ones.
pub fn handles(ledger: &Ledger) -> (Vec<String>, Vec<String>) {
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for entry in ledger.entries().values() {
        live.extend(entry.state.live_handle().cloned());
        dead.extend(entry.state.dead_handles().cloned());
    }
    (live, dead)
}

async fn each<F, Answer>(
    keys: Vec<String>,
    ask: F,
) -> std::collections::BTreeMap<String, Option<String>>
where
    F: Fn(String) -> Answer,
    Answer: Future<Output = Option<String>> + Send + 'static,
{
    let mut answers = std::collections::BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut keys = keys.into_iter();
    loop {
        while tasks.len() < IN_FLIGHT
            && let Some(key) = keys.next()
        {
            let answer = ask(key.clone());
            tasks.spawn(async move { (key, answer.await) });
        }
        let Some(done) = tasks.join_next().await else {
            return answers;
        };
        let (key, answer) = done.expect("a lookup does not panic");
        answers.insert(key, answer);
    }
}

async fn session_of(mut session: Client, handle: String) -> Option<String> {
    match find(&mut session, own(&handle)).await {
        Ok(session) => Some(session.session_id),
        Err(refusal) => {
            refusal.expect(Reason::HandleNotAccepted);
            None
        }
    }
}

async fn newest_of(mut operator: Client, work_id: String) -> Option<String> {
    match find(&mut operator, of_work(&work_id)).await {
        Ok(session) => Some(session.session_id),
        Err(refusal) => {
            refusal.expect(Reason::SessionNotFound);
            None
        }
    }
}

fn seen(session: pb::Session) -> Seen {
    let record = session.termination.as_ref();
    let fate = match session.status() {
        pb::SessionStatus::Active => Fate::Live,
        pb::SessionStatus::Terminated => {
            Fate::Ended(ending_of(record.expect("an ended session has a record")))
        }
        other => panic!("{} is {other:?}", session.session_id),
    };
    let counters = record
        .and_then(|record| record.counters)
        .or(session.counters);
    let lease = match session.lease_state() {
        pb::LeaseState::Unspecified => Lease::None,
        pb::LeaseState::Held => Lease::Held,
        pb::LeaseState::Revoked => Lease::Revoked,
    };
    let number = session.labels.get("number").expect("its label is kept");
    Seen {
        fate,
        number: number.parse().expect("the label is a number"),
        lease,
        count: counters.map_or(0, |counters| counters.tool_calls),
        work_id: session.work_id,
        episode: session.episode_id,
        stop_requested: session.stop_requested,
        revision: session.revision,
    }
}

/// Repeats the calls whose answers were lost: each must be answered now, with a
/// handle that works.
pub async fn retry(daemon: &Daemon, shared: &Shared) {
    let retries = std::mem::take(&mut *shared.retries.lock().expect("no client panicked"));
    for retry in retries {
        match retry {
            Retry::Register(request) => register_again(daemon, shared, *request).await,
            Retry::Rotate {
                id,
                request,
                handle,
            } => rotate_again(daemon, shared, &id, request, handle).await,
        }
    }
}

async fn register_again(daemon: &Daemon, shared: &Shared, request: pb::RegisterSessionRequest) {
    let id = request.session_id.clone();
    let number = request.labels["number"].parse().expect("it is a number");
    let leased = !request.lease_id.is_empty();
    let answer = daemon
        .operator()
        .await
        .register_session(request)
        .await
        .unwrap_or_else(|status| panic!("{id} can be registered again: {status:?}"))
        .into_inner();
    assert!(
        !answer.handle_withheld,
        "the first handle of {id} was never used"
    );
    let session = answer.session.expect("the answer holds the session");
    assert_eq!(session.session_id, id);
    let handle = Some(session.ephemeral_handle).filter(|handle| handle.starts_with("H-"));
    assert!(handle.is_some(), "{id} has a fresh handle");
    shared.with(|ledger| {
        let there = ledger.entries()[&id].state.fate == Fate::Live;
        let change = if there {
            Change::Rotated { handle }
        } else {
            let change = Change::Registered {
                handle,
                number,
                leased,
            };
            ledger.told(session.revision, &id, &change);
            change
        };
        ledger.acknowledged(&vec![(id, change)]);
    });
}

async fn rotate_again(
    daemon: &Daemon,
    shared: &Shared,
    id: &str,
    request: pb::RotateHandleRequest,
    handle: Option<String>,
) {
    let answer = match handle {
        Some(old) => {
            let mut session = daemon.session().await;
            session.rotate_handle(bearer(request, &old)).await
        }
        None => daemon.operator().await.rotate_handle(request).await,
    };
    let session = answer
        .unwrap_or_else(|status| panic!("{id} can be rotated again: {status:?}"))
        .into_inner()
        .session
        .expect("the answer holds the session");
    assert_eq!(session.session_id, id);
    let handle = Some(session.ephemeral_handle).filter(|handle| handle.starts_with("H-"));
    assert!(handle.is_some(), "{id} has a new handle");
    shared.with(|ledger| ledger.acknowledged(&vec![(id.to_owned(), Change::Rotated { handle })]));
}
