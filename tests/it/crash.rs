//! The daemon is killed at random instants under mixed load; what clients were
//! told must hold after every restart.

mod controls;
pub mod ledger;
pub mod load;
pub mod observe;
pub mod random;
mod watched;
mod watcher;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::harness::{Builder, Daemon, within};
use load::{Fuse, Shared, Worker};
use observe::{Look, look};
use random::Random;
use watcher::Watcher;

const CLIENTS: usize = 8;
const ROUNDS: usize = 50;
/// Dead handles tried after each restart; at the end all are tried.
const DEAD_HANDLES: usize = 100;

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is a number")),
    )
}

/// A daemon that forgets nothing while the story lasts.
fn daemon() -> Builder {
    Daemon::builder().args(["--terminated-ttl", "86400s", "--log", "warn"])
}

/// A daemon, its clients and what they know.
struct Story {
    daemon: Daemon,
    shared: Arc<Shared>,
    watcher: Watcher,
    random: Random,
    incarnation: u64,
    round: usize,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let daemon = daemon().start().await;
        let look = look(&daemon, Vec::new(), Vec::new()).await;
        Self {
            daemon,
            shared: Arc::default(),
            watcher: Watcher::default(),
            random: Random::new(seed),
            incarnation: look.incarnation,
            round: 0,
        }
    }

    /// Loads the daemon and kills it at a random instant.
    async fn load_and_kill(&mut self) {
        self.round += 1;
        let fuse = Fuse::new(20 + self.random.below(600));
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
        let operator = self.daemon.operator().await;
        let watcher = std::mem::take(&mut self.watcher);
        let following = tokio::spawn(watcher.follow(operator, Arc::clone(&self.shared)));
        tokio::select! {
            () = within(fuse.burnt()) => {}
            Some(ended) = workers.join_next() => {
                let logs = self.daemon.logs();
                panic!("a client ended before the kill: {ended:?}\n{logs}");
            }
        }
        self.drift(40).await;
        self.daemon.kill9();
        fuse.killed();
        while let Some(ended) = within(workers.join_next()).await {
            ended.expect("a client does not panic");
        }
        self.watcher = within(following).await.expect("the watcher does not panic");
    }

    /// Lets others run for a random while.
    async fn drift(&mut self, turns: usize) {
        for _ in 0..self.random.below(turns) {
            tokio::task::yield_now().await;
        }
    }

    /// Kills some starts too, then starts for good.
    async fn restart(&mut self) {
        while self.random.one_in(6) {
            self.daemon.spawn();
            self.drift(20_000).await;
            self.daemon.kill9();
        }
        self.daemon.restart().await;
    }

    /// What contradicts the ledger now.
    async fn contradictions(&mut self, last: bool) -> Vec<String> {
        let (mut tried, mut dead) = self.shared.with(|ledger| observe::handles(ledger));
        while !last && dead.len() > DEAD_HANDLES {
            dead.swap_remove(self.random.below(dead.len()));
        }
        tried.extend(dead);
        let Look {
            view, incarnation, ..
        } = look(&self.daemon, tried, load::works(CLIENTS).collect()).await;
        let starts = incarnation - self.incarnation;
        self.incarnation = incarnation;
        self.shared.with(|ledger| {
            ledger.restarted();
            let wrong = ledger.check(&view);
            ledger.survived(starts);
            wrong
        })
    }

    /// Hears the events to the end, and what contradicts the ledger in them.
    async fn heard_wrong(&mut self) -> Vec<String> {
        let Look { revision, .. } = look(&self.daemon, Vec::new(), Vec::new()).await;
        let operator = self.daemon.operator().await;
        let heard = self.watcher.hear_until(operator, &self.shared, revision);
        if let Err(status) = within(heard).await {
            panic!("the watch ended: {status:?}\n{}", self.daemon.logs());
        }
        self.shared
            .with(|ledger| watched::check(&self.watcher.heard, ledger))
    }
}

pub fn assert_none(wrong: &[String], when: &str) {
    assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_at_random_instants() {
    let rounds = setting("CRASH_ROUNDS").map_or(ROUNDS, |n| n as usize);
    let seed = setting("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut story = Story::begin(seed).await;
    for round in 1..=rounds {
        story.load_and_kill().await;
        story.restart().await;
        let wrong = story.contradictions(round == rounds).await;
        assert_none(&wrong, &format!("after round {round} of seed {seed}"));
        observe::retry(&story.daemon, &story.shared).await;
    }
    let wrong = story.heard_wrong().await;
    assert_none(&wrong, &format!("what a watcher heard, seed {seed}"));
    let (sessions, heard) = (
        story.shared.with(|ledger| ledger.entries().len()),
        story.watcher.heard.len(),
    );
    println!("{rounds} rounds, {sessions} sessions, {heard} events: nothing lost");
}
