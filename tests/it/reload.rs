//! The configuration, read again while the daemon runs.

use episoded::proto::admin as pb_admin;
use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{Daemon, get, normal_end, refusal, register, registration};

const HOUR: i64 = 3_600;

/// The limits that are in force.
async fn limits(daemon: &Daemon) -> pb_admin::ServerLimits {
    let request = pb_admin::GetServerInfoRequest::default();
    let info = daemon.admin().await.get_server_info(request).await;
    let limits = info.expect("it answers").into_inner().limits;
    limits.expect("it tells its limits")
}

fn seconds(duration: Option<prost_types::Duration>) -> i64 {
    duration.expect("a duration").seconds
}

#[tokio::test]
async fn new_limits_count_from_the_reload_on() {
    let mut daemon = Daemon::builder().config("max_sessions = 1\n").start().await;
    let mut operator = daemon.operator().await;
    let first = register(&mut operator, registration("work")).await;
    let full = refusal(operator.register_session(registration("work")).await);
    full.expect(Reason::SessionQuota);
    daemon.configure(
        "max_sessions = 2\nmax_terminated = 3\nterminated_ttl = \"1h\"\n\
         event_retention = \"2h\"\nmax_events = 1000\n",
    );
    let before = limits(&daemon).await;
    assert_eq!(before.max_sessions, 1, "not before it is told to");
    daemon.reload().await;

    let now = limits(&daemon).await;
    assert_eq!((now.max_sessions, now.max_terminated), (2, 3));
    assert_eq!(now.max_events, 1_000);
    assert_eq!(seconds(now.terminated_ttl), HOUR);
    assert_eq!(seconds(now.event_retention), 2 * HOUR);
    assert_eq!(now.default_ttl, before.default_ttl);
    register(&mut operator, registration("work")).await;
    let full = refusal(operator.register_session(registration("work")).await);
    full.expect(Reason::SessionQuota);
    operator
        .terminate_session(normal_end(&first.session_id))
        .await
        .expect("it ends");
    let ended = get(&mut operator, &first.session_id).await;
    let record = ended.expect("it is remembered").termination;
    let record = record.expect("with its record");
    let (end, purge) = (record.end_time, record.purge_time);
    let kept = purge.expect("a time").seconds - end.expect("a time").seconds;
    assert_eq!(kept, HOUR);
}

#[tokio::test]
async fn a_new_log_level_counts_from_the_reload_on() {
    let mut daemon = Daemon::builder().config("log = \"warn\"\n").start().await;
    let mut operator = daemon.operator().await;
    let unknown = get(&mut operator, "unknown").await;
    unknown
        .expect_err("there is none")
        .expect(Reason::SessionNotFound);
    daemon.configure("log = \"debug\"\n");
    daemon.reload().await;
    register(&mut operator, registration("work")).await;
    daemon.logged("RegisterSession").await;
    assert!(!daemon.logs().contains("GetSession"), "{}", daemon.logs());

    daemon.configure("log = \"warn\"\n");
    daemon.reload().await;
    let list = pb::ListSessionsRequest::default();
    operator.list_sessions(list).await.expect("it lists");
    daemon.configure("log = \"debug\"\n");
    daemon.reload().await;
    let list = pb::ListEventsRequest::default();
    operator.list_events(list).await.expect("it lists");
    daemon.logged("ListEvents").await;
    assert!(!daemon.logs().contains("ListSessions"), "{}", daemon.logs());
}

#[tokio::test]
async fn a_key_that_needs_a_restart_is_named_and_nothing_is_changed() {
    let mut daemon = Daemon::builder().config("max_sessions = 5\n").start().await;
    let before = limits(&daemon).await;
    for (key, value) in [
        ("call_timeout", "\"1s\""),
        ("node", "\"another\""),
        ("default_ttl", "\"1h\""),
    ] {
        daemon.configure(&format!("max_sessions = 6\n{key} = {value}\n"));
        daemon.reload().await;
        daemon.logged(key).await;
        assert_eq!(limits(&daemon).await, before, "{key}");
    }
    let logs = daemon.logs();
    assert_eq!(
        logs.matches("configuration not changed").count(),
        3,
        "{logs}"
    );
    assert_eq!(
        logs.matches("configuration read again").count(),
        0,
        "{logs}"
    );
    let node = register(&mut daemon.operator().await, registration("work")).await;
    assert_ne!(node.node, "another");

    daemon.configure("max_sessions = 6\n");
    daemon.reload().await;
    assert_eq!(
        limits(&daemon).await.max_sessions,
        6,
        "a later one is taken"
    );
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_what_is_wrong() {
    let mut daemon = Daemon::builder().config("max_sessions = 5\n").start().await;
    let before = limits(&daemon).await;
    let bad = [
        ("max_sessions = 6\nmax_session = 7\n", "max_session"),
        ("max_sessions = 6\nmax_events = \"many\"\n", "max_events"),
        ("max_sessions = 6\nlog = \n", "config.toml"),
        ("max_sessions = 0\n", "max_sessions"),
    ];
    for (at, (text, says)) in bad.into_iter().enumerate() {
        daemon.configure(text);
        daemon.reload().await;
        let refused = |logs: &str| logs.matches("configuration not changed").count();
        let logs = daemon.logged_so(|logs| refused(logs) > at).await;
        assert_eq!(refused(&logs), at + 1, "{logs}");
        let last = logs.lines().rfind(|line| refused(line) == 1);
        assert!(last.is_some_and(|line| line.contains(says)), "{logs}");
        assert_eq!(limits(&daemon).await, before, "{text}");
    }
    std::fs::remove_file(daemon.dirs().root().join("config.toml")).expect("it is there");
    daemon.reload().await;
    assert_eq!(limits(&daemon).await, before, "without the file");
    register(&mut daemon.operator().await, registration("work")).await;
}
