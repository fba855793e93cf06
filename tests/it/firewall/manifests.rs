//! Manifests: strictly built, stored once, shared, and dropped.

use episoded::proto::firewall as pb;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use episoded::reason::Reason;

use super::equipment::{
    Firewall, Guarded, allowed, consuming, entry, manifest, operator, read, small, tree,
};
use crate::harness::{Daemon, bearer, get, refusal, register};

pub async fn put(
    firewall: &mut Firewall,
    parts: Vec<m::Manifest>,
) -> Result<pb::PutManifestResponse, tonic::Status> {
    let parts: Vec<_> = parts
        .into_iter()
        .map(|part| pb::PutManifestRequest { part: Some(part) })
        .collect();
    let answer = firewall.put_manifest(tokio_stream::iter(parts)).await?;
    Ok(answer.into_inner())
}

fn by_hash(work: &str, hash: Vec<u8>) -> spb::RegisterSessionRequest {
    let mut request = consuming(work, m::Manifest::default());
    request.manifest = Some(spb::register_session_request::Manifest::ManifestHash(hash));
    request
}

/// Ten thousand entries.
fn large() -> m::Manifest {
    let path = |n: usize| format!("src/module_{:02}/file_{n:05}.rs", n % 100);
    let entries = (0..10_000).map(|n| entry(&path(n), m::Access::Read, &n.to_string()));
    manifest(entries.collect(), Vec::new())
}

/// The manifest in messages of a thousand entries.
fn in_parts(mut whole: m::Manifest) -> Vec<m::Manifest> {
    let entries = std::mem::take(&mut whole.entries);
    let part = |entries: &[m::Entry]| m::Manifest {
        entries: entries.to_vec(),
        ..Default::default()
    };
    let mut parts = vec![whole];
    parts.extend(entries.chunks(1000).map(part));
    parts
}

#[tokio::test]
async fn ten_thousand_entries_are_stored_once_and_serve_two_hundred_worktrees() {
    let mut daemon = Daemon::start().await;
    let mut firewall = operator(&daemon).await;
    let first = put(&mut firewall, in_parts(large())).await.unwrap();
    assert_eq!((first.entries, first.already_stored), (10_000, false));
    let again = put(&mut firewall, vec![large()]).await.unwrap();
    assert_eq!(
        (again.manifest_hash.clone(), again.already_stored),
        (first.manifest_hash.clone(), true)
    );

    let mut client = daemon.operator().await;
    let mut sessions = Vec::new();
    for n in 0..200 {
        let mut request = by_hash("worktrees", first.manifest_hash.clone());
        request.workspace_root = format!("/worktrees/{n}");
        sessions.push(Guarded::register(&daemon, &mut client, request).await);
    }
    daemon.kill9();
    daemon.restart().await;
    for (n, session) in sessions.iter_mut().enumerate().step_by(33) {
        session.reconnect(&daemon).await;
        let path = format!("/worktrees/{n}/src/module_07/file_00007.rs");
        let verdict = allowed(session.check(read(&path)).await);
        assert_eq!(verdict.manifest_hash, first.manifest_hash);
        assert_eq!(verdict.path, path);
    }
    let mut firewall = operator(&daemon).await;
    let again = put(&mut firewall, in_parts(large())).await.unwrap();
    assert!(again.already_stored);
}

#[tokio::test]
async fn a_manifest_has_one_hash_whatever_its_order_and_door() {
    let daemon = Daemon::start().await;
    let mut firewall = operator(&daemon).await;
    let whole = manifest(
        vec![
            entry("b", m::Access::Read, "b"),
            entry("a", m::Access::ReadWrite, "a"),
        ],
        vec![
            tree("y", m::TreeAccess::Read),
            tree("x", m::TreeAccess::Write),
        ],
    );
    let mut turned = whole.clone();
    turned.entries.reverse();
    turned.trees.reverse();
    turned.tools.reverse();
    let stored = put(&mut firewall, vec![whole.clone()]).await.unwrap();
    let same = put(&mut firewall, vec![turned]).await.unwrap();
    assert_eq!(stored.manifest_hash, same.manifest_hash);
    let mut client = daemon.operator().await;
    let session = register(&mut client, consuming("w", whole.clone())).await;
    assert_eq!(
        session.firewall.unwrap().manifest_hash,
        stored.manifest_hash
    );

    for change in [
        |m: &mut m::Manifest| m.manifest_id.push('x'),
        |m: &mut m::Manifest| m.entries[0].hash[0] ^= 1,
        |m: &mut m::Manifest| m.entries[0].size = Some(0),
        |m: &mut m::Manifest| m.entries[1].path.push('x'),
        |m: &mut m::Manifest| m.trees[0].access = m::TreeAccess::ReadWrite.into(),
        |m: &mut m::Manifest| m.tools.truncate(8),
        |m: &mut m::Manifest| m.models.push("m".to_owned()),
        |m: &mut m::Manifest| m.artifacts.push("m".to_owned()),
    ] {
        let mut other = whole.clone();
        change(&mut other);
        let other = put(&mut firewall, vec![other]).await.unwrap();
        assert_ne!(other.manifest_hash, stored.manifest_hash);
    }
}

#[tokio::test]
async fn every_fault_of_a_manifest_is_named_at_once_through_every_door() {
    let daemon = Daemon::start().await;
    let mut bad = manifest(
        vec![
            entry("/etc/passwd", m::Access::Read, ""),
            entry("../x", m::Access::Read, ""),
            entry("a/./b", m::Access::Read, ""),
            entry(".", m::Access::Read, ""),
            entry("caf\u{e9}", m::Access::Read, ""),
            entry("cafe\u{301}", m::Access::Read, ""),
            entry("x\0", m::Access::Unspecified, ""),
        ],
        vec![tree(".", m::TreeAccess::ReadWrite)],
    );
    bad.manifest_id.clear();
    bad.entries[0].hash.pop();
    bad.tools.push(77);
    bad.commands.push(m::CommandRule::default());
    bad.network.push(m::Host {
        host: "*.example.org".to_owned(),
        port: Some(0),
    });
    let expected = [
        "manifest_id",
        "entries[0].path",
        "entries[0].hash",
        "entries[1].path",
        "entries[2].path",
        "entries[3].path",
        "entries[5].path",
        "entries[6].path",
        "entries[6].access",
        "trees[0].path",
        "tools[9]",
        "commands[0].program",
        "network[0].host",
        "network[0].port",
    ];
    let mut firewall = operator(&daemon).await;
    let refused = put(&mut firewall, vec![bad.clone()])
        .await
        .map(tonic::Response::new);
    let refused = refusal(refused).expect(Reason::InvalidManifest);
    let mut fields = refused.fields;
    fields.sort();
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    assert_eq!(fields, sorted);

    let mut client = daemon.operator().await;
    let refused = client.register_session(consuming("w", bad)).await;
    let mut fields = refusal(refused).expect(Reason::InvalidManifest).fields;
    fields.sort();
    let inline: Vec<String> = sorted
        .iter()
        .map(|f| format!("inline_manifest.{f}"))
        .collect();
    assert_eq!(fields, inline);
}

#[tokio::test]
async fn a_firewall_is_asked_for_wholly_or_not_at_all() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let whole = || consuming("w", small());
    for (fields, request) in [
        (
            vec!["manifest"],
            spb::RegisterSessionRequest {
                manifest: None,
                ..whole()
            },
        ),
        (
            vec!["workspace_root"],
            spb::RegisterSessionRequest {
                workspace_root: "rel".into(),
                ..whole()
            },
        ),
        (
            vec!["workspace_root"],
            spb::RegisterSessionRequest {
                workspace_root: String::new(),
                ..whole()
            },
        ),
        (
            vec!["host_root"],
            spb::RegisterSessionRequest {
                host_root: "/a/../../b".into(),
                ..whole()
            },
        ),
        (
            vec!["mode"],
            spb::RegisterSessionRequest {
                mode: 9,
                manifest: None,
                workspace_root: String::new(),
                ..whole()
            },
        ),
        (
            vec!["max_denials"],
            spb::RegisterSessionRequest {
                max_denials: Some(5),
                ..whole()
            },
        ),
        (
            vec!["manifest", "workspace_root"],
            spb::RegisterSessionRequest { mode: 0, ..whole() },
        ),
    ] {
        let refused = client.register_session(request).await;
        assert_eq!(refusal(refused).fields, fields);
    }
    let unknown = client.register_session(by_hash("w", vec![9; 32])).await;
    refusal(unknown).expect(Reason::ManifestNotFound);
    let short = client.register_session(by_hash("w", vec![9; 31])).await;
    assert_eq!(refusal(short).fields, ["manifest_hash"]);
}

#[tokio::test]
async fn a_manifest_is_read_back_in_pages() {
    let daemon = Daemon::start().await;
    let mut firewall = operator(&daemon).await;
    let stored = put(&mut firewall, in_parts(large())).await.unwrap();
    let mut client = daemon.operator().await;
    let session = register(&mut client, by_hash("w", stored.manifest_hash.clone())).await;
    let mut own = super::equipment::session(&daemon).await;
    let mut whole: Option<m::Manifest> = None;
    let mut request = pb::GetManifestRequest::default();
    loop {
        let answer = own
            .get_manifest(bearer(request.clone(), &session.ephemeral_handle))
            .await;
        let answer = answer.unwrap().into_inner();
        let part = answer.manifest.unwrap();
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => whole.entries.extend(part.entries),
        }
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let mut expected = large();
    expected.entries.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(whole.unwrap(), expected);

    let other = pb::GetManifestRequest {
        of: Some(pb::get_manifest_request::Of::ManifestHash(
            stored.manifest_hash,
        )),
        ..Default::default()
    };
    assert!(firewall.get_manifest(other.clone()).await.is_ok());
    let refused = own
        .get_manifest(bearer(other, &session.ephemeral_handle))
        .await;
    refusal(refused).expect(Reason::OperatorOnly);
}

#[tokio::test]
async fn a_listing_shows_what_lies_below_and_nothing_else() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let entries = ["a.rs", "src/b.rs", "src/deep/c.rs", "src-not/d.rs"];
    let entries = entries.map(|path| entry(path, m::Access::Read, path));
    let trees = vec![
        tree("src/gen", m::TreeAccess::Read),
        tree("out", m::TreeAccess::Write),
    ];
    let session = register(
        &mut client,
        consuming("w", manifest(entries.to_vec(), trees)),
    )
    .await;
    let mut firewall = super::equipment::session(&daemon).await;
    for (directory, recursive, expected) in [
        (
            "",
            false,
            vec!["/project/a.rs", "/project/src", "/project/src-not"],
        ),
        (
            "src",
            false,
            vec!["/project/src/b.rs", "/project/src/deep", "/project/src/gen"],
        ),
        (
            "/project/src",
            true,
            vec![
                "/project/src/b.rs",
                "/project/src/deep/c.rs",
                "/project/src/gen",
            ],
        ),
        ("src/gen/deeper", true, vec!["/project/src/gen/deeper"]),
        ("out", true, vec![]),
        ("/etc", true, vec![]),
    ] {
        let request = pb::ListAllowedRequest {
            directory: directory.to_owned(),
            recursive,
            page_size: 2,
            ..Default::default()
        };
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let request = pb::ListAllowedRequest {
                page_token: token,
                ..request.clone()
            };
            let page = firewall
                .list_allowed(bearer(request, &session.ephemeral_handle))
                .await;
            let page = page.unwrap().into_inner();
            found.extend(page.paths.into_iter().map(|path| path.path));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{directory}");
    }
    assert_eq!(
        get(&mut client, &session.session_id)
            .await
            .unwrap()
            .status(),
        spb::SessionStatus::Active
    );
}
