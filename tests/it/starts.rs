//! Many daemons on one state directory.

use episoded::proto::session::ListSessionsRequest;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Builder, Daemon, Exit, Spawned, connect, registration};

const STARTS: usize = 100;

/// Waits until every process serves or has ended.
async fn settled(processes: Vec<Spawned>) -> (Vec<Spawned>, Vec<Exit>) {
    let (mut serving, mut ended) = (Vec::new(), Vec::new());
    for mut process in processes {
        match process.ready().await {
            Ok(()) => serving.push(process),
            Err(exit) => ended.push(exit),
        }
    }
    (serving, ended)
}

fn start(builder: &Builder, times: usize) -> Vec<Spawned> {
    (0..times).map(|_| builder.spawn()).collect()
}

#[tokio::test]
async fn of_a_hundred_daemons_on_one_state_one_serves_and_the_others_say_so() {
    let mut daemon = Daemon::builder().stopped();
    let (serving, ended) = settled(start(daemon.builder_ref(), STARTS)).await;
    assert_eq!(serving.len(), 1, "exactly one serves");
    assert_eq!(ended.len(), STARTS - 1);
    for exit in &ended {
        assert_eq!(exit.code(), Some(75), "{exit:?}");
        assert!(exit.logs.contains("another daemon holds"), "{exit:?}");
    }

    let mut health = HealthClient::new(connect(&daemon.operator_socket()).await);
    let answer = health.check(HealthCheckRequest::default()).await;
    let status = answer.expect("it is healthy").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let mut operator = daemon.operator().await;
    operator
        .register_session(registration("work"))
        .await
        .expect("it registers");

    drop(serving);
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let list = operator
        .list_sessions(ListSessionsRequest::default())
        .await
        .expect("it lists")
        .into_inner();
    assert_eq!(list.sessions.len(), 1, "the others left the state alone");
}

#[tokio::test]
async fn two_states_are_served_by_two_daemons() {
    let (one, other) = (Daemon::builder(), Daemon::builder());
    let mut processes = start(&one, 2);
    processes.extend(start(&other, 2));
    let (serving, ended) = settled(processes).await;
    assert_eq!((serving.len(), ended.len()), (2, 2));
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_to_its_hard_limit() {
    let mut daemon = Daemon::builder().stopped();
    let lower = r#"ulimit -Sn 256; exec "$@""#;
    daemon.wrap(["bash", "-c", lower, "_"].map(Into::into).into());
    daemon.restart().await;
    let limits = format!("/proc/{}/limits", daemon.running().pid());
    let limits = std::fs::read_to_string(limits).expect("it runs");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = files.expect("it is listed").split_whitespace().collect();
    let [soft, hard] = [words[3], words[4]];
    assert_ne!(hard, "256", "there is something to raise");
    assert_eq!(soft, hard);
}
