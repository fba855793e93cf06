//! The real daemon on files it must not serve, and on a backup.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use episoded::proto::admin::{BackupRequest, GetServerInfoRequest};
use rusqlite::Connection;

use crate::harness::{Ctl, Daemon, get, own, register, registration, within};

/// What the daemon puts into a state directory before it looks at the registry.
const FIRST: [&str; 2] = ["registry.key", "registry.lock"];

/// May be put there, empty, by reading rows.
const LOG: &str = "registry.db-wal";

fn contents(daemon: &Daemon) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(daemon.dirs().state()).expect("it can be listed");
    entries
        .map(|entry| {
            let entry = entry.expect("it can be listed");
            let name = entry.file_name().into_string().expect("names are text");
            (name, std::fs::read(entry.path()).expect("it can be read"))
        })
        .filter(|(name, _)| !FIRST.contains(&name.as_str()))
        .filter(|(name, bytes)| name != LOG || !bytes.is_empty())
        .collect()
}

fn registry(daemon: &Daemon) -> std::path::PathBuf {
    daemon.dirs().state().join("registry.db")
}

/// The daemon refuses what lies there with 65 and these words, and leaves it.
async fn refused(daemon: &mut Daemon, says: [&str; 2]) {
    let before = contents(daemon);
    let exit = daemon.spawn().exited().await;
    assert_eq!(exit.code(), Some(65), "{exit:?}");
    for words in says {
        assert!(exit.logs.contains(words), "{words:?} in {exit:?}");
    }
    assert!(contents(daemon) == before, "not a byte changes");
}

/// A daemon that served, holds a session, and was killed.
async fn killed() -> Daemon {
    let mut daemon = Daemon::start().await;
    register(&mut daemon.operator().await, registration("work")).await;
    daemon.kill9();
    daemon
}

#[tokio::test]
async fn a_foreign_registry_is_refused_with_what_to_do() {
    let mut daemon = Daemon::builder().stopped();
    std::fs::write(registry(&daemon), "dear diary").expect("it is written");
    refused(
        &mut daemon,
        ["is not a registry of episoded", "choose another state"],
    )
    .await;
}

#[tokio::test]
async fn a_newer_registry_is_refused_with_what_to_do() {
    let mut daemon = killed().await;
    let connection = Connection::open(registry(&daemon)).expect("it opens");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("it is newer now");
    drop(connection);
    refused(&mut daemon, ["has schema 99", "start the newer episoded"]).await;
}

#[tokio::test]
async fn a_damaged_registry_is_refused_with_what_to_do() {
    let mut daemon = killed().await;
    let connection = Connection::open(registry(&daemon)).expect("it opens");
    let page: i64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'session'",
            [],
            |row| row.get(0),
        )
        .expect("it has the table");
    drop(connection);
    let mut bytes = std::fs::read(registry(&daemon)).expect("it is read");
    let at = (page as usize - 1) * 4096;
    bytes[at..at + 512].fill(0xff);
    std::fs::write(registry(&daemon), bytes).expect("it is written");
    refused(&mut daemon, ["is damaged", "--restore FILE"]).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_refused_with_what_to_do() {
    let mut daemon = killed().await;
    let connection = Connection::open(registry(&daemon)).expect("it opens");
    connection
        .execute("UPDATE session SET body = x'ffff'", [])
        .expect("the row is spoilt");
    drop(connection);
    refused(&mut daemon, ["is damaged", "--restore FILE"]).await;
}

#[tokio::test]
async fn the_key_of_another_registry_is_refused_with_what_to_do() {
    let mut daemon = killed().await;
    let key = daemon.dirs().state().join("registry.key");
    std::fs::write(&key, [1; 32]).expect("it is written");
    refused(
        &mut daemon,
        ["belongs to another registry", "put the right registry.key"],
    )
    .await;
}

#[tokio::test]
async fn a_registry_without_its_key_is_refused_and_gets_no_new_one() {
    let mut daemon = killed().await;
    let key = daemon.dirs().state().join("registry.key");
    std::fs::remove_file(&key).expect("it is removed");
    refused(&mut daemon, ["registry.key is missing", "put it back"]).await;
    assert!(!key.exists());
}

async fn registry_id(daemon: &Daemon) -> String {
    let mut admin = daemon.admin().await;
    let info = admin.get_server_info(GetServerInfoRequest {}).await;
    info.expect("it tells").into_inner().registry_id
}

#[tokio::test]
async fn a_backup_is_restored_with_its_sessions_under_a_new_identity() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let before = register(&mut operator, registration("before")).await;
    let first = registry_id(&daemon).await;
    let mut stream = daemon
        .admin()
        .await
        .backup(BackupRequest::default())
        .await
        .expect("a backup is made")
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = within(stream.message()).await.expect("it goes on") {
        bytes.extend(part.chunk);
    }
    let backup = daemon.dirs().root().join("backup.db");
    std::fs::write(&backup, bytes).expect("it is written");
    let after = register(&mut operator, registration("after")).await;
    daemon.sigterm().await;

    let restoring = Daemon::builder().dirs(daemon.dirs().copy_of_state());
    let path = backup.to_str().expect("a plain path");
    let restored = restoring.args(["--restore", path]).start().await;
    assert_ne!(registry_id(&restored).await, first);
    let mut operator = restored.operator().await;
    get(&mut operator, &before.session_id)
        .await
        .expect("it is back");
    get(&mut operator, &after.session_id)
        .await
        .expect_err("it came after the backup");
    let mut session = restored.session().await;
    crate::harness::find(&mut session, own(&before.ephemeral_handle))
        .await
        .expect("its handle works");
    let state = restored.dirs().state();
    for name in [
        "registry.db",
        "registry.db-wal",
        "registry.key",
        "registry.ballast",
    ] {
        let meta = std::fs::metadata(state.join(name)).expect(name);
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(state.join("registry.db.replaced-1").exists());
}

#[tokio::test]
async fn a_backup_that_cannot_be_used_leaves_the_registry_as_it_was() {
    let daemon = killed().await;
    let bad = daemon.dirs().root().join("bad.db");
    std::fs::write(&bad, "no backup at all").expect("it is written");
    let path = bad.to_str().expect("a plain path");
    let restoring = Daemon::builder().dirs(daemon.dirs().copy_of_state());
    let mut restoring = restoring.args(["--restore", path]).stopped();
    refused(&mut restoring, ["bad.db", "cannot be restored"]).await;
}

/// History is checked when it is read, so the daemon serves; its copy is no backup.
#[tokio::test]
async fn a_backup_of_a_damaged_registry_does_not_replace_a_good_one() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    for _ in 0..300 {
        register(&mut operator, registration("work")).await;
    }
    daemon.sigterm().await;
    damage_history(&registry(&daemon));
    daemon.restart().await;
    let ctl = Ctl::new(daemon.dirs());
    let backup = daemon.dirs().root().join("backup.db");
    std::fs::write(&backup, "the last good one").expect("it is written");
    let path = backup.to_str().expect("it is text");
    let refused = ctl.run(&["backup", path]).await;
    assert_eq!(refused.code, Some(69), "{refused:?}");
    assert!(
        refused.stderr.contains("keep the last good backup"),
        "{refused:?}"
    );
    let kept = std::fs::read_to_string(&backup).expect("it is there");
    assert_eq!(kept, "the last good one");
    let left = std::fs::read_dir(daemon.dirs().state()).expect("it can be listed");
    let names = left.map(|entry| entry.expect("an entry").file_name());
    let names: Vec<_> = names
        .map(|name| name.into_string().expect("text"))
        .collect();
    assert!(
        !names.iter().any(|name| name.contains("backup")),
        "{names:?}"
    );
}

/// Overwrites the middle of a page that holds only events.
fn damage_history(registry: &std::path::Path) {
    let connection = Connection::open(registry).expect("it opens");
    let number = |sql: &str| {
        let number = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        usize::try_from(number.expect("it is there")).expect("it is not negative")
    };
    let size = number("PRAGMA page_size");
    let page = "SELECT pageno FROM dbstat WHERE name = 'event' AND pagetype = 'leaf' LIMIT 1";
    let page = number(page);
    connection.close().expect("it closes");
    let mut bytes = std::fs::read(registry).expect("it can be read");
    bytes[(page - 1) * size..page * size].fill(0xff);
    std::fs::write(registry, bytes).expect("it is written");
}

#[tokio::test]
async fn a_registry_that_was_emptied_or_is_no_file_is_refused() {
    let mut daemon = Daemon::start().await;
    register(&mut daemon.operator().await, registration("work")).await;
    daemon.sigterm().await;
    let registry = daemon.dirs().state().join("registry.db");
    std::fs::write(&registry, "").expect("it is emptied");
    let exit = daemon.spawn().exited().await;
    assert_eq!(exit.code(), Some(65), "{exit:?}");
    assert!(exit.logs.contains("it is empty"), "{exit:?}");
    let left = std::fs::metadata(&registry).expect("it is there");
    assert_eq!(left.len(), 0, "as it was");

    std::fs::remove_file(&registry).expect("it is there");
    let pipe = Command::new("mkfifo").arg(&registry).status();
    assert!(pipe.expect("it starts").success());
    let exit = daemon.spawn().exited().await;
    assert_eq!(exit.code(), Some(65), "{exit:?}");
}

#[tokio::test]
async fn session_sock_lies_in_a_directory_of_its_own() {
    for other in ["run", "state"] {
        let builder = Daemon::builder();
        let path = builder.directories().root().join(other);
        let mut daemon = builder
            .args([OsStr::new("--session-dir"), path.as_os_str()])
            .stopped();
        let exit = daemon.spawn().exited().await;
        assert_eq!(exit.code(), Some(78), "{exit:?}");
        assert!(exit.logs.contains("directory of its own"), "{exit:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_printed_is_no_panic() {
    let check = |to: &str| {
        let program = env!("CARGO_BIN_EXE_episoded");
        let script = format!("{program} --check-config {to}");
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", &script])
            .output();
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = check(">/dev/full");
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("cannot write stdout"), "{said}");
    assert_eq!(check("| true"), (Some(0), String::new()));
}
