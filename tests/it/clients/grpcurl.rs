//! grpcurl, by reflection alone, in each version and form of address that its
//! own support for Unix sockets allows.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Daemon, need_tool, within};

const SERVICE: &str = "episoded.session.v1.SessionService";

/// How the address is given.
#[derive(Clone, Copy)]
enum Form {
    /// `-unix PATH`
    Flag,
    /// `unix:///PATH`
    Url,
    /// `unix:PATH`
    Short,
}

struct Grpcurl {
    program: PathBuf,
    form: Form,
    socket: PathBuf,
    handle: String,
}

impl Grpcurl {
    /// Starts it; `options` and `verbs` stand before and after the address.
    fn start(&self, options: &[&str], verbs: &[&str], message: &str) -> Child {
        let mut command = Command::new(&self.program);
        command.arg("-plaintext").args(options);
        let path = self.socket.display();
        match self.form {
            Form::Flag => command.arg("-unix").arg(&self.socket),
            Form::Url => command.arg(format!("unix://{path}")),
            Form::Short => command.arg(format!("unix:{path}")),
        };
        let mut child = command
            .args(verbs)
            .env("H", &self.handle)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("grpcurl starts");
        let mut stdin = child.stdin.take().expect("it has an input");
        let message = message.to_owned();
        tokio::spawn(async move { stdin.write_all(message.as_bytes()).await });
        child
    }

    async fn output(&self, options: &[&str], verbs: &[&str], message: &str) -> (bool, String) {
        let child = self.start(options, verbs, message);
        let output = within(child.wait_with_output()).await.expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    async fn answer(&self, options: &[&str], verbs: &[&str], message: &str) -> String {
        let (done, text) = self.output(options, verbs, message).await;
        assert!(done, "{verbs:?}: {text}");
        text
    }

    /// Calls a method with the message on standard input.
    async fn call(&self, method: &str, message: &str) -> serde_json::Value {
        let method = format!("{SERVICE}/{method}");
        let text = self.answer(&["-d", "@"], &[&method], message).await;
        serde_json::from_str(&text).expect("the answer is JSON")
    }
}

/// Everything a person would do, in one version and form.
async fn works(version: &str, form: Form) {
    let Some(program) = need_tool(&format!("grpcurl/{version}/grpcurl")) else {
        return;
    };
    let daemon = Daemon::start().await;
    let mut grpcurl = Grpcurl {
        program,
        form,
        socket: daemon.operator_socket(),
        handle: String::new(),
    };
    let services = grpcurl.answer(&[], &["list"], "").await;
    for service in [
        SERVICE,
        "episoded.admin.v1.AdminService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let described = grpcurl.answer(&[], &["describe", SERVICE], "").await;
    assert!(described.contains("rpc RegisterSession ("), "{described}");

    let registration = r#"{"work_id": "work", "role": "ROLE_REVIEWER", "session_id": "s"}"#;
    let registered = grpcurl.call("RegisterSession", registration).await;
    assert_eq!(registered["session"]["status"], "SESSION_STATUS_ACTIVE");
    let handle = &registered["session"]["ephemeralHandle"];
    grpcurl.handle = handle.as_str().expect("a handle is answered").to_owned();

    let found = grpcurl
        .call("LookupSession", r#"{"work_id": "work"}"#)
        .await;
    assert_eq!(found["session"]["sessionId"], "s");
    finds_its_own_by_the_handle_from_the_environment(&grpcurl).await;
    watches(&grpcurl, &registered["revision"]).await;
}

const WITH_HANDLE: &[&str] = &[
    "-expand-headers",
    "-H",
    "authorization: Bearer ${H}",
    "-d",
    "@",
];

async fn finds_its_own_by_the_handle_from_the_environment(grpcurl: &Grpcurl) {
    let method = format!("{SERVICE}/LookupSession");
    let found = grpcurl
        .answer(WITH_HANDLE, &[&method], r#"{"own": true}"#)
        .await;
    assert!(found.contains(r#""sessionId": "s""#), "{found}");
    let (done, refused) = grpcurl
        .output(&["-d", "@"], &[&method], r#"{"own": true}"#)
        .await;
    assert!(
        !done && refused.contains("HANDLE_NOT_ACCEPTED"),
        "{refused}"
    );
}

/// A watch started behind the registration is told of the end that follows.
async fn watches(grpcurl: &Grpcurl, revision: &serde_json::Value) {
    let request = serde_json::json!({ "after_revision": revision });
    let method = format!("{SERVICE}/WatchSessions");
    let mut child = grpcurl.start(&["-d", "@"], &[&method], &request.to_string());
    let stdout = child.stdout.take().expect("it has an output");
    let mut lines = BufReader::new(stdout).lines();
    let termination = r#"{"session_id": "s", "reason": "TERMINATION_REASON_NORMAL",
        "exit_classification": "EXIT_CLASSIFICATION_SUCCESS"}"#;
    let ended = grpcurl.call("TerminateSession", termination).await;
    assert_eq!(ended["session"]["status"], "SESSION_STATUS_TERMINATED");
    let told = async {
        while let Some(line) = lines.next_line().await.expect("it can be read") {
            if line.contains("EVENT_KIND_TERMINATED") {
                return true;
            }
        }
        false
    };
    assert!(within(told).await, "the watch is told of the end");
}

#[tokio::test]
async fn grpcurl_1_9_1_works_with_the_unix_flag() {
    works("v1.9.1", Form::Flag).await;
}

#[tokio::test]
async fn grpcurl_1_9_4_works_with_the_unix_flag() {
    works("v1.9.4", Form::Flag).await;
}

#[tokio::test]
async fn grpcurl_1_9_3_works_with_a_unix_url() {
    works("v1.9.3", Form::Url).await;
}

#[tokio::test]
async fn grpcurl_1_9_4_works_with_a_unix_url() {
    works("v1.9.4", Form::Url).await;
}

#[tokio::test]
async fn grpcurl_1_9_4_works_with_a_short_unix_address() {
    works("v1.9.4", Form::Short).await;
}

#[tokio::test]
async fn the_form_that_grpcurl_1_9_3_itself_cannot_do_is_seen_to_fail() {
    let Some(program) = need_tool("grpcurl/v1.9.3/grpcurl") else {
        return;
    };
    let daemon = Daemon::start().await;
    let grpcurl = Grpcurl {
        program,
        form: Form::Flag,
        socket: daemon.operator_socket(),
        handle: String::new(),
    };
    let (done, text) = grpcurl.output(&[], &["list"], "").await;
    assert!(!done && text.contains("missing port in address"), "{text}");
}
