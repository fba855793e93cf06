//! The journal as files: what it refuses, keeps, forgets and copies.

mod backups;
mod firewall;
mod history;
mod refusals;
mod sample;
mod schema;

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Files, Journal};
use crate::{
    clock::{BootId, Now},
    secret::DigestKey,
    session::{
        event::{Event, EventKind},
        index::Interner,
        state::{Live, Revision, Session},
        store::{Order, Start, Store},
    },
};

const NOW: Now = Now {
    boot: 500_000,
    awake: 400_000,
    wall: 1_800_000_000_000,
};

fn boot() -> BootId {
    BootId::new("11111111-2222-4333-8444-555555555555")
}

fn key() -> DigestKey {
    DigestKey::new(&[7; 32])
}

/// A directory for one registry.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn files(&self) -> Files {
        Files::in_dir(self.0.path())
    }

    fn registry(&self) -> PathBuf {
        self.files().registry
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The journal, open and started.
    fn open(&self) -> Journal {
        let mut journal = Journal::open(&self.files(), &key()).unwrap();
        journal.start(&start(1), &[]).unwrap();
        journal
    }

    /// A registry with the sample in it, closed. Most of its sessions were
    /// registered in a history that is gone.
    fn with_sample() -> Self {
        let home = Self::new();
        drop(home.open());
        let connection = rusqlite::Connection::open(home.registry()).unwrap();
        let sessions = sample::sessions();
        let later = sessions
            .iter()
            .zip(sample::events())
            .filter(|(_, event)| event.kind != EventKind::Created);
        for ((session, _), _) in later {
            let sql = "INSERT INTO session VALUES (?1, 0, 0, 0, x'', x'')";
            connection.execute(sql, [session.seq.0 as i64]).unwrap();
        }
        drop(connection);
        let mut journal = home.open();
        journal.append(&sample::changes(), NOW).unwrap();
        home
    }

    /// Every file and what is in it.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let entries = entries.map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}

fn start(incarnation: u64) -> Start {
    Start {
        incarnation,
        boot_id: boot(),
        now: NOW,
    }
}

fn sessions(journal: &mut Journal) -> Vec<(Session, Live)> {
    let mut found = Vec::new();
    let visit = &mut |stored: crate::session::store::Stored| {
        assert_eq!((stored.written, stored.same_boot), (NOW.boot, true));
        found.push((stored.session, stored.live));
    };
    journal
        .load(&boot(), &mut Interner::default(), visit)
        .unwrap();
    found
}

fn events(journal: &mut Journal) -> Vec<Arc<Event>> {
    journal
        .events(Revision(0), Order::Forward, usize::MAX >> 1)
        .unwrap()
}

/// Everything about an event but its cached encoding.
fn told(event: &Event) -> String {
    let Event {
        revision,
        previous,
        kind,
        at,
        actor,
        session,
        live,
        about,
        encoded: _,
    } = event;
    format!("{revision:?} {previous:?} {kind:?} {at} {actor:?} {session:?} {live:?} {about:?}")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn every_file_of_a_registry_is_private_whatever_the_umask() {
    let home = Home::new();
    super::read_or_make_key(&home.file("registry.key")).unwrap();
    let mut journal = home.open();
    journal.append(&[sample::registered(1)], NOW).unwrap();
    let names: Vec<String> = home.contents().into_keys().collect();
    assert_eq!(
        names,
        [
            "registry.ballast",
            "registry.db",
            "registry.db-wal",
            "registry.key"
        ]
    );
    for name in names {
        assert_eq!(mode(&home.file(&name)), 0o600, "{name}");
    }
}

#[test]
fn the_reserve_takes_its_space_and_gives_it_back() {
    let home = Home::new();
    let mut journal = home.open();
    let length = || std::fs::metadata(home.files().ballast).map(|meta| meta.len());
    assert_eq!(length().unwrap(), 8 * 1024 * 1024);
    journal.release_ballast();
    assert!(length().is_err());
    journal.restore_ballast();
    assert_eq!(length().unwrap(), 8 * 1024 * 1024);
}

#[test]
fn what_was_appended_is_there_after_the_next_start() {
    let home = Home::with_sample();
    let mut journal = home.open();
    assert_eq!(sessions(&mut journal), sample::sessions());
    let told_now: Vec<String> = events(&mut journal).iter().map(|e| told(e)).collect();
    let expected: Vec<String> = sample::events().iter().map(|e| told(e)).collect();
    assert_eq!(told_now, expected);
}

#[test]
fn the_meta_row_tells_what_the_last_start_and_write_were() {
    let home = Home::with_sample();
    let mut journal = home.open();
    let later = Now {
        boot: 600_000,
        awake: 450_000,
        wall: NOW.wall + 9,
    };
    journal.alive(later).unwrap();
    let meta = journal.meta().unwrap();
    assert_eq!((meta.incarnation, meta.schema), (1, 2));
    assert_eq!(meta.boot_id, Some(boot()));
    assert_eq!(meta.alive, later);
    assert_eq!(
        (meta.seq, meta.revision),
        (sample::last_seq(), sample::last_revision())
    );
}
