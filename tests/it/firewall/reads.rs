//! Verified reads through the daemon, and an implementer's whole loop.

use std::path::Path;

use episoded::proto::firewall as pb;
use episoded::proto::firewall::tool_request::Request as Tool;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use episoded::reason::Reason;

use super::equipment::{Guarded, allowed, consuming, entry, manifest, read, tree, write};
use crate::harness::{Client, Daemon, Refusal, get, refusal};

/// A workspace on disk, as the daemon sees it; the agent calls it `/project`.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new(files: &[(&str, &str)]) -> Self {
        let workspace = Self(tempfile::tempdir().expect("a directory"));
        for (path, content) in files {
            workspace.put(path, content);
        }
        workspace
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }

    fn request(&self, manifest: m::Manifest) -> spb::RegisterSessionRequest {
        spb::RegisterSessionRequest {
            host_root: self.path().to_str().expect("it is text").to_owned(),
            ..consuming("w", manifest)
        }
    }
}

async fn refused(session: &mut Guarded, path: &str) -> Refusal {
    let answer = session.read_file(path).await;
    refusal(answer.map(|_| tonic::Response::new(())))
}

async fn is_live(client: &mut Client, session: &Guarded) -> bool {
    get(client, &session.id).await.unwrap().status() == spb::SessionStatus::Active
}

#[tokio::test]
async fn a_file_is_served_as_the_manifest_has_it_or_not_at_all() {
    let workspace = Workspace::new(&[
        ("a.rs", "a"),
        ("b.rs", "b"),
        ("tree/t.txt", "t"),
        ("big", ""),
    ]);
    let big = "x".repeat(1_000_000);
    workspace.put("big", &big);
    let entries = vec![
        entry("a.rs", m::Access::Read, "a"),
        entry("b.rs", m::Access::ReadWithZoom, "b"),
        entry("big", m::Access::Read, &big),
        entry("gone.rs", m::Access::Read, "gone"),
        entry("tree", m::Access::Read, "no file"),
    ];
    let trees = vec![
        tree("tree/sub", m::TreeAccess::Read),
        tree("links", m::TreeAccess::Read),
    ];
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let request = workspace.request(manifest(entries, trees));
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    let (verdict, bytes) = session.read_file("a.rs").await.unwrap();
    assert_eq!(
        (bytes.as_slice(), allowed(verdict).pinned),
        (&b"a"[..], true)
    );
    // The daemon knows the hash itself.
    assert_eq!(session.read_file("/project/b.rs").await.unwrap().1, b"b");
    assert_eq!(session.read_file("big").await.unwrap().1, big.as_bytes());

    refused(&mut session, "gone.rs")
        .await
        .expect(Reason::FileNotFound);
    refused(&mut session, "tree").await.expect(Reason::NotAFile);
    refused(&mut session, "a\nb")
        .await
        .expect(Reason::InvalidPath);
    std::fs::create_dir(workspace.path().join("links")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", workspace.path().join("links/p")).unwrap();
    refused(&mut session, "links/p")
        .await
        .expect(Reason::NotAFile);
    assert!(is_live(&mut client, &session).await);

    workspace.put("a.rs", "A");
    let mismatch = refused(&mut session, "a.rs")
        .await
        .expect(Reason::ContentHashMismatch);
    assert_eq!(mismatch.metadata["manifest_id"], "m-1");
    assert_eq!(mismatch.metadata["session_ended"], "true");
    assert!(mismatch.metadata["decision_id"].starts_with("D-"));
    let record = get(&mut client, &session.id)
        .await
        .unwrap()
        .termination
        .unwrap();
    assert_eq!(record.reason(), spb::TerminationReason::PolicyViolation);
    assert_eq!(record.detail, "CONTENT_HASH_MISMATCH");
}

#[tokio::test]
async fn an_audit_session_is_served_only_what_is_allowed() {
    let workspace = Workspace::new(&[("a.rs", "changed"), ("secret", "s")]);
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let entries = vec![entry("a.rs", m::Access::Read, "a")];
    let mut request = workspace.request(manifest(entries, Vec::new()));
    request.mode = spb::FirewallMode::Audit.into();
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    refused(&mut session, "secret")
        .await
        .expect(Reason::ContextMiss);
    refused(&mut session, "a.rs")
        .await
        .expect(Reason::ContentHashMismatch);
    assert!(is_live(&mut client, &session).await);
}

#[tokio::test]
async fn a_miss_of_a_verified_read_says_what_was_missed() {
    let workspace = Workspace::new(&[("secret", "s")]);
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut session = Guarded::register(
        &daemon,
        &mut client,
        workspace.request(manifest(Vec::new(), Vec::new())),
    )
    .await;
    let miss = refused(&mut session, "secret")
        .await
        .expect(Reason::ContextMiss);
    assert_eq!(miss.metadata["path"], "/project/secret");
    assert_eq!(miss.metadata["manifest_id"], "m-1");
    assert!(miss.metadata["refinement_id"].starts_with("R-"));
    assert!(!is_live(&mut client, &session).await);
}

#[tokio::test]
async fn a_root_that_is_renamed_is_still_the_one_that_was_pinned() {
    let workspace = Workspace::new(&[("w/a.rs", "a"), ("w/t/x", "one"), ("other/t/x", "two")]);
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let entries = vec![entry("a.rs", m::Access::Read, "a")];
    let mut request = workspace.request(manifest(entries, vec![tree("t", m::TreeAccess::Read)]));
    request.host_root.push_str("/w");
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    session.read_file("a.rs").await.unwrap();
    std::fs::rename(workspace.path().join("w"), workspace.path().join("old")).unwrap();
    std::fs::rename(workspace.path().join("other"), workspace.path().join("w")).unwrap();
    assert_eq!(session.read_file("t/x").await.unwrap().1, b"one");
}

#[tokio::test]
async fn an_implementers_whole_loop_succeeds_under_end() {
    let workspace = Workspace::new(&[
        ("src/main.rs", "fn main() {}\n"),
        ("src/lib.rs", "// lib\n"),
    ]);
    let mut whole = manifest(
        vec![
            entry("src/main.rs", m::Access::ReadWrite, "fn main() {}\n"),
            entry("src/lib.rs", m::Access::Read, "// lib\n"),
        ],
        vec![tree("target", m::TreeAccess::ReadWrite)],
    );
    let literal = |text: &str| m::Matcher {
        matcher: Some(m::matcher::Matcher::Literal(text.to_owned())),
    };
    whole.commands.push(m::CommandRule {
        program: "cargo".to_owned(),
        arguments: vec![literal("test")],
        ..Default::default()
    });
    whole.commands.push(m::CommandRule {
        program: "git".to_owned(),
        arguments: vec![literal("status")],
        ..Default::default()
    });
    whole.named_tools.push(m::NamedTool {
        server: "docs".to_owned(),
        name: "search".to_owned(),
    });
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut session = Guarded::register(&daemon, &mut client, workspace.request(whole)).await;
    assert_eq!(
        session.read_file("src/main.rs").await.unwrap().1,
        b"fn main() {}\n"
    );
    allowed(session.check(write("src/main.rs")).await);
    workspace.put("src/main.rs", "fn main() { run() }\n");
    let (verdict, bytes) = session.read_file("src/main.rs").await.unwrap();
    assert_eq!(
        (bytes.as_slice(), verdict.pinned),
        (&b"fn main() { run() }\n"[..], false)
    );
    let steps = [
        Tool::List(pb::List {
            path: ".".to_owned(),
        }),
        Tool::Search(pb::Search {
            scope: "src".to_owned(),
            recursive: true,
        }),
        Tool::Stat(pb::Stat {
            path: "src/lib.rs".to_owned(),
        }),
        Tool::Command(pb::Command {
            form: Some(pb::command::Form::Line(
                "cargo test > target/log.txt 2>&1".to_owned(),
            )),
            ..Default::default()
        }),
        Tool::Git(pb::Git {
            arguments: vec!["status".to_owned()],
            ..Default::default()
        }),
        Tool::CallTool(pb::CallTool {
            server: "docs".to_owned(),
            name: "search".to_owned(),
            argument_digest: Vec::new(),
        }),
        Tool::MakeDirectory(pb::MakeDirectory {
            path: "target/x".to_owned(),
        }),
        read("target/log.txt"),
    ];
    for step in steps {
        allowed(session.check(step).await);
    }
    assert!(is_live(&mut client, &session).await);
}

#[tokio::test]
async fn reads_are_limited_to_the_files_of_the_manifest() {
    let workspace = Workspace::new(&[("a.rs", "a"), ("b.rs", "b")]);
    std::os::unix::fs::symlink("a.rs", workspace.path().join("link.rs")).expect("it is made");
    let entries = ["a.rs", "link.rs"].map(|path| entry(path, m::Access::Read, "a"));
    let mut request = workspace.request(manifest(entries.into(), vec![]));
    request.on_denial = spb::OnDenial::Continue.into();
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    for listed in ["a.rs", "/project/a.rs", "b.rs/../a.rs"] {
        let (_, content) = session.read_file(listed).await.expect("it is listed");
        assert_eq!(content, b"a", "{listed}");
    }
    for (path, reason) in [
        ("b.rs", Reason::ContextMiss),
        ("../a.rs", Reason::ContextMiss),
        ("/a.rs", Reason::ContextMiss),
        ("/etc/passwd", Reason::ContextMiss),
        ("a.rs/b", Reason::ContextMiss),
        ("A.rs", Reason::ContextMiss),
        ("../../a.rs", Reason::InvalidPath),
        ("a.rs\0", Reason::InvalidPath),
        ("", Reason::InvalidPath),
        ("link.rs", Reason::NotAFile),
    ] {
        refused(&mut session, path).await.expect(reason);
    }
    assert!(is_live(&mut client, &session).await);
}

#[tokio::test]
async fn an_empty_manifest_denies_everything() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let workspace = Workspace::new(&[("a.rs", "a")]);
    for (tools, reason) in [
        (vec![], spb::DenialReason::ToolNotAllowed),
        ((1..=9).collect(), spb::DenialReason::ContextMiss),
    ] {
        let nothing = m::Manifest {
            tools,
            ..manifest(vec![], vec![])
        };
        let mut request = workspace.request(nothing);
        request.on_denial = spb::OnDenial::Continue.into();
        let mut session = Guarded::register(&daemon, &mut client, request).await;
        for path in ["a.rs", "/project/a.rs", ".", "/", "/etc/passwd"] {
            let verdict = session.check(read(path)).await;
            assert_eq!(verdict.decision(), pb::Decision::Deny, "{path}");
            assert_eq!(verdict.reason(), reason, "{path}");
            assert!(verdict.enforced, "{path}");
            refused(&mut session, path).await;
        }
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_files_on_their_way_have_one() {
    const LIMIT: u64 = 64 << 20;
    let workspace = Workspace::new(&[("tree/small", "s")]);
    for (path, size) in [("tree/large", LIMIT), ("tree/larger", LIMIT + 1)] {
        let file = std::fs::File::create(workspace.path().join(path)).expect("it is made");
        file.set_len(size).expect("it is sparse");
    }
    let trees = vec![tree("tree", m::TreeAccess::Read)];
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let request = workspace.request(manifest(vec![], trees));
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    let too_large = refused(&mut session, "tree/larger").await;
    too_large.expect(Reason::FileTooLarge);

    let mut on_their_way = Vec::new();
    for _ in 0..2 {
        // On connections of their own: what nobody takes would hold up the others.
        let mut other = session.another(&daemon).await;
        let file = other.open_file("tree/large").await;
        on_their_way.push((file.expect("there is room"), other));
    }
    let no_room = refused(&mut session, "tree/small").await;
    no_room.expect(Reason::RateLimited);
    let request = workspace.request(manifest(vec![], vec![tree("tree", m::TreeAccess::Read)]));
    let mut other = Guarded::register(&daemon, &mut client, request).await;
    other
        .read_file("tree/small")
        .await
        .expect("others have room");
    on_their_way.pop();
    let (_, content) = session
        .read_file("tree/small")
        .await
        .expect("there is room");
    assert_eq!(content, b"s");
    assert!(is_live(&mut client, &session).await);
}
