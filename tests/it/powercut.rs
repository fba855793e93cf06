//! The power is cut at random instants under mixed load; what clients were told
//! must hold on what the device held then.
//!
//! `kill -9` cannot see a missing fsync: what a killed process wrote stays in the
//! kernel. Here the state directory is an ext4 on a loop device whose image is
//! written with direct I/O, so that the image holds what has reached the device
//! and nothing else. The daemon is stopped at a random instant, the file system
//! is shut down without another write, the image is copied, and the daemon goes
//! on from the copy, after ext4 has replayed its journal.
//!
//! Two control arms must lose what was acknowledged: silence here counts only
//! because they do. The daemon has no switch for a lesser durability, so a
//! library is preloaded whose fsync and fdatasync do nothing (what SQLite does
//! with `synchronous=OFF`), or spare the write-ahead log at a commit but not at a
//! checkpoint (`synchronous=NORMAL`).

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::crash::load::{self, Fuse, Shared, Worker};
use crate::crash::observe::{self, look};
use crate::crash::random::Random;
use crate::crash::{assert_none, setting};
use crate::harness::{Daemon, Disk, Preload, need_disks, within};

const CLIENTS: usize = 8;
const ROUNDS: usize = 5;

/// A daemon on a disk whose power can be cut, its clients and what they know.
struct Story {
    disk: Option<Disk>,
    daemon: Daemon,
    shared: Arc<Shared>,
    random: Random,
    round: usize,
}

impl Story {
    /// On an empty disk.
    fn begin(seed: u64) -> Self {
        let builder = Daemon::builder().args(["--terminated-ttl", "86400s", "--log", "warn"]);
        let disk = Disk::on_image(builder.directories());
        Self {
            disk: Some(disk),
            daemon: builder.stopped(),
            shared: Arc::default(),
            random: Random::new(seed),
            round: 0,
        }
    }

    /// Loads the daemon and cuts the power at a random instant.
    async fn load_and_cut(&mut self) {
        self.round += 1;
        let fuse = Fuse::new(20 + self.random.below(400));
        let mut workers = JoinSet::new();
        for owner in 0..CLIENTS {
            let worker = Worker {
                owner,
                round: self.round,
                operator: self.daemon.operator().await,
                session: self.daemon.session().await,
                shared: Arc::clone(&self.shared),
                fuse: Arc::clone(&fuse),
                random: Random::new(self.random.next()),
                names: 0,
            };
            workers.spawn(worker.run());
        }
        tokio::select! {
            () = within(fuse.burnt()) => {}
            Some(ended) = workers.join_next() => {
                let logs = self.daemon.logs();
                panic!("a client ended before the cut: {ended:?}\n{logs}");
            }
        }
        for _ in 0..self.random.below(40) {
            tokio::task::yield_now().await;
        }
        self.daemon.running().freeze();
        let disk = self.disk.take().expect("it is mounted");
        let cut = disk.cut();
        self.daemon.kill9();
        while let Some(ended) = within(workers.join_next()).await {
            ended.expect("a client does not panic");
        }
        self.disk = Some(disk.back_from(cut));
    }

    /// What contradicts the ledger now.
    async fn contradictions(&mut self) -> Vec<String> {
        let (mut tried, dead) = self.shared.with(|ledger| observe::handles(ledger));
        tried.extend(dead);
        let look = look(&self.daemon, tried, load::works(CLIENTS).collect()).await;
        self.shared.with(|ledger| {
            ledger.restarted();
            ledger.check(&look.view)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_at_random_instants() {
    if !need_disks() {
        return;
    }
    let rounds = setting("POWERCUT_ROUNDS").map_or(ROUNDS, |n| n as usize);
    let seed = setting("POWERCUT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("POWERCUT_SEED={seed} POWERCUT_ROUNDS={rounds}");
    let mut story = Story::begin(seed);
    story.daemon.restart().await;
    for round in 1..=rounds {
        story.load_and_cut().await;
        story.daemon.restart().await;
        let wrong = story.contradictions().await;
        assert_none(&wrong, &format!("after round {round} of seed {seed}"));
        observe::retry(&story.daemon, &story.shared).await;
    }
    let sessions = story.shared.with(|ledger| ledger.entries().len());
    println!("{rounds} power cuts, {sessions} sessions: nothing lost");
}

/// What contradicts the ledger after a cut when syncs do as they are told.
async fn after_a_cut(unsynced_how: &str) -> Vec<String> {
    let mut story = Story::begin(7);
    // The registry itself is there, whatever becomes of what is put into it.
    story.daemon.restart().await;
    story.daemon.sigterm().await;
    story.disk.as_ref().expect("it is mounted").sync();
    // It syncs less than it says.
    let library = Preload::compile("powercut/unsynced.c");
    let how = format!("UNSYNCED={unsynced_how}");
    story.daemon.wrap(library.wrapper(how));
    story.daemon.restart().await;
    story.load_and_cut().await;
    story.daemon.wrap(Vec::new());
    story.daemon.restart().await;
    story.contradictions().await
}

fn assert_lost(wrong: &[String]) {
    let missing = wrong.iter().filter(|one| one.contains("missing")).count();
    assert!(
        missing > 0,
        "acknowledged sessions should be missing: {wrong:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sync_at_the_commit_acknowledged_sessions_are_lost() {
    if need_disks() {
        assert_lost(&after_a_cut("normal").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_sync_acknowledged_sessions_are_lost() {
    if need_disks() {
        assert_lost(&after_a_cut("off").await);
    }
}

/// The library itself loses nothing: it is what it leaves out that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_same_library_that_syncs_nothing_is_lost() {
    if need_disks() {
        assert_none(&after_a_cut("full").await, "with every sync");
    }
}
