//! A client that shares no code with the program: grpcio, with keys sealed as the
//! comment of the proto has it, beside LBX2.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::agent::Agent;
use super::owned::agent_of;
use super::scan::hex;
use super::unique;
use super::wire::Answer;
use crate::clients::{client_source, python};
use crate::harness::{Daemon, register, registration, repository, within};

/// Runs it to its end with that on its stdin; what it wrote, and whether it succeeded.
async fn run(command: &mut Command, input: &[u8]) -> (bool, String) {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python starts");
    let mut stdin = child.stdin.take().expect("it has one");
    // It may have ended without reading.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = within(child.wait_with_output()).await;
    let output = output.expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

fn hex_text(bytes: &[u8]) -> String {
    String::from_utf8(hex(bytes)).expect("digits are text")
}

#[tokio::test]
async fn grpcio_for_python_does_with_keys_what_the_proto_says() {
    let Some(client) = python() else {
        return;
    };
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let session = register(&mut daemon.operator().await, registration("w")).await;
    let (there, kept) = (unique(65_536), unique(32));
    let mut lbx2 = agent.client();
    lbx2.keep("there", &there);
    lbx2.keep("unwanted", b"key");
    let input = |there: &[u8]| {
        let object = serde_json::json!({
            "there": hex_text(there),
            "kept": hex_text(&kept),
            "session_id": session.session_id,
            "handle": session.ephemeral_handle,
        });
        object.to_string().into_bytes()
    };
    let mut command = client.command();
    command.args([client_source("python/keys.py"), agent.place().socket()]);

    let (done, text) = run(&mut command, &input(&there)).await;
    assert!(done && text == "ok\n", "{text}\n{}", agent.place().said());
    assert_eq!(lbx2.get("kept"), Answer::Key(kept.clone()));
    assert_eq!(lbx2.get("unwanted"), Answer::Miss);
    let ids: Vec<_> = lbx2.list().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["kept", "there"]);

    // A client that is told of another key must notice, or its silence would prove
    // nothing.
    let (done, text) = run(&mut command, &input(&unique(65_536))).await;
    assert!(!done && text.contains("what another client put"), "{text}");
}

/// The Python of README's section about the key cache.
fn example() -> String {
    let readme = std::fs::read_to_string(repository().join("README.md"));
    let readme = readme.expect("there is a README");
    let (_, section) = readme
        .split_once("\n## The key cache\n")
        .expect("it has the section");
    let (section, _) = section.split_once("\n## ").expect("another follows");
    let mut blocks = section.split("\n```python\n").skip(1);
    let (block, _) = blocks
        .next()
        .and_then(|rest| rest.split_once("```\n"))
        .expect("it has an example");
    assert_eq!(blocks.next(), None, "there is one example");
    block.to_owned()
}

#[tokio::test]
async fn the_example_of_the_readme_runs_as_it_stands() {
    let Some(client) = python() else {
        return;
    };
    let agent = Agent::start();
    let root = agent.place().root();
    std::os::unix::fs::symlink(agent.place().directory(), root.join("lockbox"))
        .expect("it is made");
    let run_it = async |text: &str| {
        let mut command = client.command();
        command.env("XDG_RUNTIME_DIR", root).args(["-c", text]);
        run(&mut command, b"").await
    };
    let (done, text) = run_it(&example()).await;
    assert!(done && text == "True\n", "{text}");
    assert!(matches!(agent.client().get("box"), Answer::Key(key) if key.len() == 32));

    let wrong = example().replace(r"get\0box", r"get\0bax");
    let (done, text) = run_it(&wrong).await;
    assert!(!done && text.contains("InvalidTag"), "{text}");
}
