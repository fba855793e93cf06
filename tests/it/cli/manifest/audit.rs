//! `manifest from-audit`: from what was denied to what would have allowed it.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::{Project, alone, entries, parsed};
use crate::harness::{Ctl, Daemon, Done, done, within};

/// An AUDIT session under an empty manifest; its handle file.
async fn audited(daemon: &Daemon, ctl: &Ctl, project: &Project) -> String {
    project.build(ctl, &["no-file"]).await;
    session(daemon, project, "audit", "--audit").await
}

/// A session under `m.json`.
async fn session(daemon: &Daemon, project: &Project, id: &str, mode: &str) -> String {
    let (manifest, root) = (project.text("m.json"), project.text("w"));
    let own = [mode, "--manifest", &manifest, "--workspace-root", &root];
    crate::cli::register(
        daemon,
        id,
        &[&own[..], &["--on-denial", "continue"]].concat(),
    )
    .await
}

async fn check(ctl: &Ctl, handle: &str, request: &[&str]) -> Done {
    let mut command = ctl.command(&[&["check"], request].concat());
    done(command.env("EPISODE_HANDLE_FILE", handle)).await
}

/// Waits until the record of the session has that many denials.
async fn recorded(ctl: &Ctl, session: &str, count: usize) {
    within(async {
        loop {
            let history = ctl.json(&["session", "history", session]).await;
            let events = history["events"].as_array().expect("events");
            let denied = |event: &&Value| event["kind"] == "EVENT_KIND_DENIED";
            if events.iter().filter(denied).count() >= count {
                return;
            }
        }
    })
    .await;
}

async fn from_audit(project: &Project, ctl: &Ctl, more: &[&str]) -> Done {
    let args = ["manifest", "from-audit", "--session", "audit"];
    project.run(ctl, &[&args[..], more].concat()).await
}

const DONE: &[&[&str]] = &[
    &["read", "src/main.rs"],
    &["stat", "Cargo.toml"],
    &["list", "docs"],
    &["edit", "src/lib.rs"],
    &["write", "out/new/x.txt"],
    &["mkdir", "made"],
    &["rename", "out/a", "out/b"],
    &["exec", "--", "cargo", "test", "a b"],
    &["exec", "--", "echo", "x; rm -rf /"],
    &["exec", "--line", "ls -l src && wc < src/main.rs > out/log"],
    &["git", "--", "log", "--format=%h %s"],
    &["network", "Example.org", "443"],
    &["tool", "docs", "search"],
    &["inference", "small"],
    &["artifact", "report"],
];

#[tokio::test]
async fn what_an_audit_session_did_is_allowed_by_it_and_nothing_else() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    let handle = audited(&daemon, &ctl, &project).await;
    for request in DONE {
        let audit = check(&ctl, &handle, request).await;
        assert_eq!(audit.code, Some(0), "{request:?}: {audit:?}");
        assert!(
            audit.stdout.starts_with("WOULD_DENY"),
            "{request:?}: {audit:?}"
        );
    }
    recorded(&ctl, "audit", DONE.len()).await;
    ctl.ok(&["session", "terminate", "audit"]).await;

    let made = from_audit(&project, &ctl, &["--out", "m.json"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(!made.stderr.contains("not allowed by it"), "{made:?}");
    assert!(!made.stderr.contains("not in mode AUDIT"), "{made:?}");
    let manifest = project.read("m.json");
    assert_eq!(
        entries(&manifest),
        [
            ("Cargo.toml", "READ"),
            ("src/lib.rs", "READ_WRITE"),
            ("src/main.rs", "READ"),
        ]
    );
    for added in [
        "+ command cargo test \"a b\"",
        "+ command echo \"x; rm -rf /\"",
        "+ command ls -l src",
        "+ tree out  write",
        "+ host example.org:443",
        "+ named tool docs/search",
    ] {
        let line = format!("episodectl: {added}");
        assert!(
            made.stderr.lines().any(|it| it == line),
            "{added}: {}",
            made.stderr
        );
    }

    let handle = session(&daemon, &project, "next", "--consume").await;
    for request in DONE {
        let allowed = check(&ctl, &handle, request).await;
        assert_eq!(allowed.code, Some(0), "{request:?}: {allowed:?}");
        assert!(
            allowed.stdout.starts_with("ALLOW"),
            "{request:?}: {allowed:?}"
        );
    }
    for request in [
        &["read", "docs/../.git/config"][..],
        &["read", "made/x"],
        &["write", "src/main.rs"],
        &["write", "src/new.rs"],
        &["write", "Cargo.toml"],
        &["exec", "--", "cargo", "test", "a", "b"],
        &["exec", "--", "cargo", "test"],
        &["exec", "--", "rm", "-rf", "/"],
        &["exec", "--line", "echo x; rm -rf /"],
        &["exec", "--line", "ls -l src > /etc/x"],
        &["git", "--", "push"],
        &["network", "example.org", "80"],
        &["tool", "docs", "write"],
        &["inference", "large"],
        &["artifact", "other"],
    ] {
        let denied = check(&ctl, &handle, request).await;
        assert_eq!(denied.code, Some(77), "{request:?}: {denied:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_allowed_is_told_for_review() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    let handle = audited(&daemon, &ctl, &project).await;
    symlink("docs", project.path("w/link")).unwrap();
    symlink("Cargo.toml", project.path("w/other.toml")).unwrap();
    let requests: [&[&str]; 6] = [
        &["read", "/etc/passwd"],
        &["read", "link/guide.md"],
        &["read", "other.toml"],
        &["read", "src/nothing.rs"],
        &["write", "/etc/x"],
        &["exec", "--line", "echo $HOME"],
    ];
    for request in requests {
        check(&ctl, &handle, request).await;
    }
    recorded(&ctl, "audit", requests.len()).await;
    // Of a live session too; without --out the manifest is what is printed.
    let made = from_audit(&project, &ctl, &[]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let manifest = parsed(&made.stdout);
    assert!(manifest.get("entries").is_none() && manifest.get("commands").is_none());
    let root = project.text("w");
    for line in [
        "not allowed by it: read /etc/passwd: CONTEXT_MISS (outside of the root)",
        &format!(
            "not allowed by it: read {root}/src/nothing.rs: CONTEXT_MISS (nothing is there now)"
        ),
        &format!("not allowed by it: read {root}/link/guide.md: CONTEXT_MISS (behind a symlink)"),
        &format!("not allowed by it: read {root}/other.toml: CONTEXT_MISS (behind a symlink)"),
        "not allowed by it: write /etc/x: WRITE_PATH_NOT_ALLOWED",
        "not allowed by it: command echo $HOME: COMMAND_NOT_ALLOWED, ",
    ] {
        let told = made.stderr.lines();
        let told = told.filter(|it| it.contains(line)).count();
        assert_eq!(told, 1, "{line} in {}", made.stderr);
    }
}

#[tokio::test]
async fn the_files_may_lie_elsewhere_by_now() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    let handle = audited(&daemon, &ctl, &project).await;
    check(&ctl, &handle, &["read", "src/main.rs"]).await;
    recorded(&ctl, "audit", 1).await;
    std::fs::rename(project.path("w"), project.path("moved")).unwrap();
    let gone = from_audit(&project, &ctl, &[]).await;
    assert_eq!(gone.code, Some(66), "{gone:?}");
    let made = from_audit(&project, &ctl, &["--root", "moved", "--format", "jsonl"]).await;
    let manifest = parsed(&made.stdout);
    let hash = blake3::hash(b"fn main() {}\n").to_hex();
    assert_eq!(manifest["entries"][0]["hash"], hash.as_str(), "{made:?}");
    assert_eq!(made.stdout.lines().count(), 1, "{made:?}");

    let out = Path::new("nowhere/m.json").to_str().unwrap();
    let refused = from_audit(&project, &ctl, &["--root", "moved", "--out", out]).await;
    assert_eq!(refused.code, Some(73), "{refused:?}");
}

#[tokio::test]
async fn a_session_that_was_refused_something_is_said_to_be_one() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    project.build(&ctl, &["no-file"]).await;
    let handle = session(&daemon, &project, "audit", "--consume").await;
    check(&ctl, &handle, &["read", "src/main.rs"]).await;
    recorded(&ctl, "audit", 1).await;
    let made = from_audit(&project, &ctl, &[]).await;
    assert!(made.stderr.contains("is not in mode AUDIT"), "{made:?}");
    assert_eq!(entries(&parsed(&made.stdout)), [("src/main.rs", "READ")]);
}

#[tokio::test]
async fn a_session_without_a_record_of_denials_is_refused() {
    let daemon = Daemon::start().await;
    let (ctl, project) = (Ctl::new(daemon.dirs()), Project::rust());
    crate::cli::register(&daemon, "audit", &[]).await;
    let refused = from_audit(&project, &ctl, &[]).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("has no firewall"), "{refused:?}");
    let unknown = ["manifest", "from-audit", "--session", "nobody"];
    assert_eq!(ctl.run(&unknown).await.code, Some(66));
    assert_eq!(alone().run(&unknown).await.code, Some(69));
}
