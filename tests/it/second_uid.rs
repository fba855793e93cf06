//! What another user can do: a session's own calls over session.sock, and
//! nothing else. Needs root, to become somebody else.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use episoded::proto::session as pb;
use episoded::reason::Reason;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::harness::{
    Client, Daemon, bearer, connect, need_root, own, refusal, register, registration,
};

/// A user, and its group of the same number, that session.sock is for.
const EPISODE: u32 = 47_113;
/// A user with the same group that it is not for.
const STRANGER: u32 = 47_114;

/// Runs the work in a thread of its own that belongs to that user.
async fn as_user<F, T>(uid: u32, work: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let thread = move || {
        let (user, group) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(EPISODE),
        );
        set_thread_groups(&[]).expect("root drops its groups");
        set_thread_res_gid(group, group, group).expect("root changes its group");
        set_thread_res_uid(user, user, user).expect("root becomes somebody else");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime is built")
            .block_on(work())
    };
    let thread = std::thread::spawn(thread);
    tokio::task::spawn_blocking(|| thread.join().expect("the other user does not panic"))
        .await
        .expect("the thread is joined")
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the mode is changed");
}

fn session_socket(daemon: &Daemon) -> PathBuf {
    daemon.dirs().root().join("session/session.sock")
}

/// A daemon whose session.sock is for [`EPISODE`], with a session.
async fn shared_daemon() -> (Daemon, String, String) {
    let builder = Daemon::builder();
    let session_dir = builder.directories().root().join("session");
    let daemon = builder
        .config(&format!(
            "session_dir = \"{}\"\nsession_group = \"{EPISODE}\"\nsession_uids = [\"{EPISODE}\"]\n",
            session_dir.display()
        ))
        .start()
        .await;
    chmod(daemon.dirs().root(), 0o711);
    let session = register(&mut daemon.operator().await, registration("work")).await;
    (daemon, session.session_id, session.ephemeral_handle)
}

#[tokio::test]
async fn a_second_uid_does_a_sessions_loop_over_session_sock() {
    if !need_root() {
        return;
    }
    let (daemon, id, handle) = shared_daemon().await;
    let socket = session_socket(&daemon);
    let expected = id.clone();
    as_user(EPISODE, move || async move {
        let mut session = Client::new(connect(&socket).await);
        let found = session.lookup_session(own(&handle)).await;
        let found = found.expect("it finds itself").into_inner().session;
        assert_eq!(found.expect("the answer holds it").session_id, expected);

        let request = pb::HeartbeatSessionRequest::default();
        let beat = session.heartbeat_session(bearer(request, &handle)).await;
        let beat = beat.expect("it beats").into_inner();
        assert_eq!(beat.status(), pb::SessionStatus::Active);

        let request = pb::GetSessionRequest {
            session_id: expected,
        };
        let operator_only = session.get_session(bearer(request, &handle)).await;
        refusal(operator_only).expect(Reason::OperatorOnly);

        let request = pb::RotateHandleRequest::default();
        let rotated = session.rotate_handle(bearer(request, &handle)).await;
        let rotated = rotated.expect("it rotates").into_inner().session;
        let new_handle = rotated.expect("the answer holds it").ephemeral_handle;
        let old = session.lookup_session(own(&handle)).await;
        refusal(old).expect(Reason::HandleNotAccepted);

        let request = pb::TerminateSessionRequest {
            reason: pb::TerminationReason::Normal.into(),
            exit_classification: pb::ExitClassification::Success.into(),
            ..Default::default()
        };
        let ended = session
            .terminate_session(bearer(request, &new_handle))
            .await;
        ended.expect("it ends itself");
        let dead = session.lookup_session(own(&new_handle)).await;
        refusal(dead).expect(Reason::HandleNotAccepted);
    })
    .await;

    let request = pb::GetSessionRequest { session_id: id };
    let kept = daemon.operator().await.get_session(request).await;
    let kept = kept.expect("the operator sees it").into_inner().session;
    let kept = kept.expect("the answer holds it");
    assert_eq!(kept.status(), pb::SessionStatus::Terminated);
    let actor = kept.termination.and_then(|record| record.actor);
    assert_eq!(actor.expect("it says who").uid, EPISODE);
}

#[tokio::test]
async fn a_second_uid_reaches_neither_operator_sock_nor_the_state() {
    if !need_root() {
        return;
    }
    let (daemon, ..) = shared_daemon().await;
    let (operator, state) = (daemon.operator_socket(), daemon.dirs().state());
    let files: Vec<_> = std::fs::read_dir(&state)
        .expect("root lists the state")
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    as_user(EPISODE, move || async move {
        let denied = |result: std::io::Result<()>| {
            assert_eq!(
                result.expect_err("denied").kind(),
                ErrorKind::PermissionDenied
            );
        };
        denied(tokio::net::UnixStream::connect(&operator).await.map(drop));
        denied(std::fs::read_dir(&state).map(drop));
        for file in files {
            denied(std::fs::File::open(file).map(drop));
        }
    })
    .await;
}

#[tokio::test]
async fn the_state_stays_closed_when_its_directory_is_opened() {
    if !need_root() {
        return;
    }
    let (daemon, ..) = shared_daemon().await;
    chmod(&daemon.dirs().state(), 0o755);
    let state = daemon.dirs().state();
    as_user(EPISODE, move || async move {
        let mut files = 0;
        for entry in std::fs::read_dir(state).expect("it can be listed now") {
            let path = entry.expect("an entry can be read").path();
            let error = std::fs::File::open(&path).expect_err("a file is not opened");
            assert_eq!(
                error.kind(),
                ErrorKind::PermissionDenied,
                "{}",
                path.display()
            );
            files += 1;
        }
        assert!(files >= 3);
    })
    .await;
}

#[tokio::test]
async fn a_uid_is_let_in_and_shut_out_by_a_reload() {
    if !need_root() {
        return;
    }
    let (mut daemon, _, handle) = shared_daemon().await;
    let (session, operator) = (session_socket(&daemon), daemon.operator_socket());
    chmod(&daemon.dirs().runtime(), 0o711);
    chmod(&operator, 0o666);
    let with_uids = |session_uids: &str, operator_uids: &str| {
        format!(
            "session_dir = \"{}\"\nsession_group = \"{EPISODE}\"\n\
             session_uids = {session_uids}\noperator_uids = {operator_uids}\n",
            daemon.dirs().root().join("session").display()
        )
    };
    let stranger = format!("[\"{STRANGER}\"]");
    let swapped = with_uids(&stranger, "[]");
    let operators = with_uids("[]", &stranger);
    daemon.configure(&swapped);
    daemon.reload().await;
    assert!(is_let_in(STRANGER, &session).await);
    assert!(!is_let_in(EPISODE, &session).await);
    assert!(!is_let_in(STRANGER, &operator).await);
    daemon.configure(&operators);
    daemon.reload().await;
    assert!(!is_let_in(STRANGER, &session).await);
    assert!(is_let_in(STRANGER, &operator).await);
    assert!(answered(0, &operator, &handle).await);
}

/// Whether that user's connection is served: it hears the server's settings, or
/// nothing at all.
async fn is_let_in(uid: u32, socket: &Path) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = socket.to_owned();
    as_user(uid, move || async move {
        let stream = tokio::net::UnixStream::connect(&socket).await;
        let mut stream = stream.expect("the modes let it connect");
        let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        // It may be closed already.
        let _ = stream.write_all(opening).await;
        matches!(stream.read(&mut [0; 9]).await, Ok(1..))
    })
    .await
}

/// Whether a call on the socket is answered at all, by that user.
async fn answered(uid: u32, socket: &Path, handle: &str) -> bool {
    let (socket, handle) = (socket.to_owned(), handle.to_owned());
    as_user(uid, move || async move {
        use tokio::io::AsyncReadExt as _;
        let mut stream = tokio::net::UnixStream::connect(&socket)
            .await
            .expect("the modes let it connect");
        let mut bytes = Vec::new();
        if uid != 0 && matches!(stream.read_to_end(&mut bytes).await, Ok(0) | Err(_)) {
            return false;
        }
        drop(stream);
        let mut client = Client::new(connect(&socket).await);
        client.lookup_session(own(&handle)).await.is_ok()
    })
    .await
}

#[tokio::test]
async fn a_uid_that_is_not_configured_is_closed_without_an_answer() {
    if !need_root() {
        return;
    }
    let (daemon, _, handle) = shared_daemon().await;
    let (session, operator) = (session_socket(&daemon), daemon.operator_socket());
    chmod(&daemon.dirs().runtime(), 0o711);
    chmod(&operator, 0o666);
    assert!(!answered(STRANGER, &session, &handle).await);
    assert!(!answered(STRANGER, &operator, &handle).await);
    assert!(
        !answered(EPISODE, &operator, &handle).await,
        "session_uids are for session.sock only"
    );
    assert!(
        answered(0, &operator, &handle).await,
        "its own uid is served"
    );
}
