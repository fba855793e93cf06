//! Real gRPC clients of other languages, with no channel option set.

mod grpcurl;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use episoded::proto::session as pb;
use tokio::process::Command;

use crate::harness::{Daemon, need_tool, repository, within};

/// One language's program.
pub struct Client {
    program: PathBuf,
    arguments: Vec<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Client {
    /// Its process, killed when dropped.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// A file of the clients' sources.
pub fn client_source(path: &str) -> PathBuf {
    repository().join("tests/clients").join(path)
}

/// Python with the stubs of the protos, without the program that it is to run.
pub fn python() -> Option<Client> {
    Some(Client {
        program: need_tool("python/bin/python")?,
        // It would write what it compiled beside the source.
        arguments: vec![PathBuf::from("-B")],
        environment: vec![("PYTHONPATH", need_tool("python-stubs")?)],
    })
}

fn node() -> Option<Client> {
    Some(Client {
        program: PathBuf::from("node"),
        environment: vec![("NODE_PATH", need_tool("node/node_modules")?)],
        arguments: vec![client_source("node/loop.js"), repository().join("proto")],
    })
}

fn go() -> Option<Client> {
    Some(Client {
        program: need_tool("go/loop")?,
        arguments: vec![repository().join("proto")],
        environment: Vec::new(),
    })
}

/// Runs the loop of one session; what it wrote, and whether it succeeded.
async fn run(client: &Client, operator: &Path, session: &Path, id: &str) -> (bool, String) {
    let mut command = client.command();
    command.args([operator, session, Path::new(id)]);
    let output = within(command.output()).await.expect("the client starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

/// The client's loop succeeds against the daemon, which then holds the record;
/// with the sockets swapped it must fail, or its silence would prove nothing.
async fn does_the_whole_loop(client: Option<Client>, name: &str) {
    let Some(client) = client else {
        return;
    };
    let daemon = Daemon::start().await;
    let (operator, session) = (daemon.operator_socket(), daemon.session_socket());
    let id = format!("loop-of-{name}");
    let (done, text) = run(&client, &operator, &session, &id).await;
    assert!(done && text.ends_with("ok\n"), "{text}\n{}", daemon.logs());

    let request = pb::GetSessionRequest { session_id: id };
    let kept = daemon.operator().await.get_session(request).await;
    let kept = kept.expect("it is remembered").into_inner().session;
    let kept = kept.expect("the answer holds it");
    assert_eq!(kept.status(), pb::SessionStatus::Terminated);
    assert_eq!(kept.labels["client"], name);

    let (done, text) = run(&client, &session, &operator, "swapped").await;
    assert!(!done && !text.contains("ok\n"), "{text}");
}

#[tokio::test]
async fn grpcio_for_python_does_a_sessions_whole_loop() {
    let mut client = python();
    if let Some(client) = &mut client {
        client.arguments.push(client_source("python/loop.py"));
    }
    does_the_whole_loop(client, "python").await;
}

#[tokio::test]
async fn grpc_js_for_node_does_a_sessions_whole_loop() {
    does_the_whole_loop(node(), "node").await;
}

#[tokio::test]
async fn grpc_go_does_a_sessions_whole_loop() {
    does_the_whole_loop(go(), "go").await;
}
