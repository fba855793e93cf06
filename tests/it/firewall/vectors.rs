//! The example decisions, each against a fresh session of the real daemon.

use episoded::proto::firewall as pb;
use episoded::proto::firewall::tool_request::Request as Tool;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use episoded::reason::Reason;
use serde_json::Value;
use tonic::Code;

use super::equipment::{Guarded, consuming};
use crate::harness::{Daemon, Refusal, get};

const VECTORS: &str = include_str!("../../data/firewall.jsonl");

/// Cases in the file, so that none is lost on the way.
const CASES: usize = 83;

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn hash(value: &Value) -> Vec<u8> {
    let hex = text(value);
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The files name absolute paths; a manifest's are relative to its root.
fn relative(root: &str, path: &Value) -> String {
    let path = text(path);
    let below = path.strip_prefix(root).expect("it is below the root");
    match below.trim_start_matches('/') {
        "" => ".".to_owned(),
        below => below.to_owned(),
    }
}

fn matcher(root: &str, value: &Value) -> m::Matcher {
    use m::matcher::Matcher;
    let (kind, value) = value
        .as_object()
        .and_then(|o| o.iter().next())
        .expect("one");
    let matcher = match kind.as_str() {
        "literal" => Matcher::Literal(text(value)),
        "one_of" => Matcher::OneOf(m::Words {
            words: list(value).iter().map(text).collect(),
        }),
        "integer" => Matcher::Integer(m::IntegerRange {
            min: value["min"].as_i64().expect("a number"),
            max: value["max"].as_i64().expect("a number"),
        }),
        "path_under" => Matcher::PathUnder(relative(root, value)),
        "text" => Matcher::Text(m::Text {}),
        "any_number_of" => Matcher::AnyNumberOf(Box::new(matcher(root, value))),
        other => panic!("unknown matcher {other}"),
    };
    m::Matcher {
        matcher: Some(matcher),
    }
}

fn manifest(value: &Value) -> (String, m::Manifest) {
    let root = text(&value["workspace_root"]);
    let access = |name: &Value| match text(name).as_str() {
        "READ" => m::Access::Read,
        "READ_WITH_ZOOM" => m::Access::ReadWithZoom,
        other => panic!("unknown access {other}"),
    };
    let class = |name: &Value| {
        let name = format!("TOOL_CLASS_{}", text(name));
        i32::from(m::ToolClass::from_str_name(&name).expect("a class"))
    };
    let entry = |entry: &Value| m::Entry {
        path: relative(&root, &entry["path"]),
        hash: hash(&entry["hash"]),
        access: access(&entry["access"]).into(),
        ..Default::default()
    };
    let tree = |path: &Value| m::Tree {
        path: relative(&root, path),
        access: m::TreeAccess::Write.into(),
    };
    let command = |rule: &Value| m::CommandRule {
        program: text(&rule["program"]),
        arguments: list(&rule["args"])
            .iter()
            .map(|it| matcher(&root, it))
            .collect(),
        ..Default::default()
    };
    let manifest = m::Manifest {
        manifest_id: text(&value["manifest_id"]),
        profile_id: text(&value["profile_id"]),
        entries: list(&value["entries"]).iter().map(entry).collect(),
        trees: list(&value["writable"]).iter().map(tree).collect(),
        tools: list(&value["tools"]).iter().map(class).collect(),
        commands: list(&value["commands"]).iter().map(command).collect(),
        ..Default::default()
    };
    (root, manifest)
}

fn tool(request: &Value) -> Option<Tool> {
    let (kind, value) = request.as_object().and_then(|o| o.iter().next())?;
    let path = || text(&value["path"]);
    Some(match kind.as_str() {
        "read" => Tool::Read(pb::Read {
            path: path(),
            hash: value.get("hash").map(hash).unwrap_or_default(),
        }),
        "list" => Tool::List(pb::List { path: path() }),
        "search" => Tool::Search(pb::Search {
            scope: text(&value["scope"]),
            recursive: false,
        }),
        "write" => Tool::Write(pb::Write { path: path() }),
        "edit" => Tool::Edit(pb::Edit { path: path() }),
        "network" => Tool::Network(pb::Network {
            host: "localhost".to_owned(),
            port: 80,
        }),
        "command" => Tool::Command(pb::Command {
            form: Some(match value.get("string") {
                Some(line) => pb::command::Form::Line(text(line)),
                None => pb::command::Form::Argv(m::Words {
                    words: list(&value["argv"]).iter().map(text).collect(),
                }),
            }),
            working_directory: value.get("cwd").map(text).unwrap_or_default(),
            environment: value["env"]
                .as_object()
                .map(|env| env.iter().map(|(k, v)| (k.clone(), text(v))).collect())
                .unwrap_or_default(),
        }),
        other => panic!("unknown request {other}"),
    })
}

fn registration(manifests: &Value, case: &Value) -> spb::RegisterSessionRequest {
    let (root, manifest) = manifest(&manifests[text(&case["manifest"])]);
    let mut request = spb::RegisterSessionRequest {
        workspace_root: root,
        ..consuming("vectors", manifest)
    };
    request.reset_refinements = true;
    match text(&case["mode"]).as_str() {
        "hard_fail" => {}
        "soft_fail" => request.on_denial = spb::OnDenial::Continue.into(),
        "audit" => request.mode = spb::FirewallMode::Audit.into(),
        other => panic!("unknown mode {other}"),
    }
    request
}

/// The manifest of that id.
pub fn example(id: &str) -> m::Manifest {
    let head = VECTORS.lines().next().expect("the manifests");
    let manifests: Value = serde_json::from_str(head).expect("JSON");
    manifest(&manifests["manifests"][id]).1
}

#[tokio::test]
async fn every_example_is_decided_as_it_says() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut lines = VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let manifests: Value = lines.next().expect("the manifests");
    let mut cases = 0;
    for case in lines {
        let case: Value = case;
        cases += 1;
        let name = text(&case["name"]);
        let request = registration(&manifests["manifests"], &case);
        let mut session = Guarded::register(&daemon, &mut operator, request).await;
        let answer = match tool(&case["request"]) {
            Some(tool) => session.try_check(tool).await,
            None => session.check_nothing().await,
        };
        let ended = get(&mut operator, &session.id)
            .await
            .expect("it is remembered");
        let is_over = ended.status() == spb::SessionStatus::Terminated;
        assert_eq!(
            is_over,
            case["ends_session"].as_bool().unwrap_or(false),
            "{name}"
        );
        let verdict = match (text(&case["verdict"]).as_str(), answer) {
            ("INVALID_ARGUMENT", Err(status)) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{name}");
                let refusal = Refusal::of(&status).expect("an error of ours");
                refusal.expect(Reason::MalformedMessage);
                continue;
            }
            (expected, Ok(verdict)) => {
                assert_eq!(
                    verdict.decision().as_str_name(),
                    format!("DECISION_{expected}"),
                    "{name}"
                );
                verdict
            }
            (_, Err(status)) => panic!("{name}: {status:?}"),
        };
        let reason = case.get("reason").map_or("UNSPECIFIED".to_owned(), text);
        assert_eq!(
            verdict.reason().as_str_name(),
            format!("DENIAL_REASON_{reason}"),
            "{name}"
        );
        assert_eq!(verdict.session_ended, is_over, "{name}");
        if let Some(judged) = case.get("judged") {
            assert_eq!(verdict.path, text(judged), "{name}");
        }
    }
    assert_eq!(cases, CASES);
}
