//! What clients hear of a stop.

use episoded::proto::session as pb;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::harness::{Daemon, connect, register, registration, within};

async fn next(health: &mut tonic::Streaming<HealthCheckResponse>) -> ServingStatus {
    let answer = within(health.message()).await.expect("the watch goes on");
    answer.expect("the watch does not end").status()
}

#[tokio::test]
async fn whoever_watches_the_health_of_a_service_hears_of_a_stop() {
    const SERVICES: [&str; 3] = [
        "",
        "episoded.session.v1.SessionService",
        "episoded.admin.v1.AdminService",
    ];
    let mut daemon = Daemon::start().await;
    let mut watches = Vec::new();
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        let mut client = HealthClient::new(connect(&socket).await);
        for service in SERVICES {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let watch = client.watch(request).await.expect("it watches");
            let mut watch = watch.into_inner();
            assert_eq!(next(&mut watch).await, ServingStatus::Serving, "{service}");
            watches.push(watch);
        }
    }
    daemon.running().signal(rustix::process::Signal::TERM);
    for watch in &mut watches {
        assert_eq!(next(watch).await, ServingStatus::NotServing);
    }
    drop(watches);
    let exit = daemon.ended().await;
    assert_eq!(exit.code(), Some(0), "{exit:?}");
}

#[tokio::test]
async fn a_watch_is_told_everything_and_that_it_is_final_before_a_stop() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(0)),
        ..Default::default()
    };
    let watch = operator.watch_sessions(request).await;
    let mut watch = watch.expect("it watches").into_inner();
    let mut newest = 0;
    for _ in 0..3 {
        newest = register(&mut operator, registration("work")).await.revision;
    }
    daemon.running().signal(rustix::process::Signal::TERM);
    let mut told = Vec::new();
    let last = loop {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let answer = answer.expect("it says first that it is final");
        told.extend(answer.events.iter().map(|event| event.revision));
        if answer.r#final {
            break answer;
        }
    };
    assert_eq!(last.through, newest);
    assert_eq!(told, (1..=newest).collect::<Vec<_>>());
    let after = within(watch.message()).await.expect("it ends well");
    assert!(after.is_none(), "{after:?}");
    let exit = daemon.ended().await;
    assert_eq!(exit.code(), Some(0), "{exit:?}");
}
