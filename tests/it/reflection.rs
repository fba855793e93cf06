//! Server reflection: both versions, on operator.sock, and where it is wanted.

use std::path::Path;

use episoded::reason::Reason;
use tonic::Status;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Daemon, Refusal, connect, within};

const OURS: [&str; 3] = [
    "episoded.admin.v1.AdminService",
    "episoded.firewall.v1.FirewallService",
    "episoded.session.v1.SessionService",
];

/// Lists the services there are, by a version of the protocol: the messages of both
/// are alike, and of different types.
macro_rules! list {
    ($version:ident, $socket:expr) => {{
        use $version::server_reflection_client::ServerReflectionClient;
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let mut client = ServerReflectionClient::new(connect($socket).await);
        let request = $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = client.server_reflection_info(tokio_stream::iter([request]));
        let mut answers = within(asked).await?.into_inner();
        let answer = within(answers.message()).await?.expect("there is one");
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("not what was asked for: {answer:?}");
        };
        Ok(list.service.into_iter().map(|one| one.name).collect())
    }};
}

/// The names of the services there are, by the current version.
pub async fn services(socket: &Path) -> Result<Vec<String>, Status> {
    list!(v1, socket)
}

/// The same, by the version that older clients ask for.
async fn services_alpha(socket: &Path) -> Result<Vec<String>, Status> {
    list!(v1alpha, socket)
}

/// Both versions list every service of ours.
async fn assert_served(socket: &Path) {
    for listed in [services(socket).await, services_alpha(socket).await] {
        let listed = listed.expect("it is served");
        for service in OURS {
            assert!(listed.iter().any(|one| one == service), "{listed:?}");
        }
        let elsewhere = listed.iter().find(|one| one.contains("keycache"));
        assert_eq!(elsewhere, None, "the agent serves that");
    }
}

#[tokio::test]
async fn reflection_is_served_on_operator_sock_and_not_on_session_sock() {
    let daemon = Daemon::start().await;
    assert_served(&daemon.operator_socket()).await;
    let socket = daemon.session_socket();
    for listed in [services(&socket).await, services_alpha(&socket).await] {
        let refused = Refusal::of(&listed.expect_err("it is off"));
        let refused = refused.expect("the daemon's own refusal");
        refused.expect(Reason::MethodUnknown);
    }
}

#[tokio::test]
async fn reflection_is_served_on_session_sock_where_it_is_configured() {
    let builder = Daemon::builder().config("reflection_on_session = true\n");
    let daemon = builder.start().await;
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        assert_served(&socket).await;
    }
}
