//! Disks that fill up or turn read-only under the daemon.

use std::io::Write as _;
use std::path::PathBuf;

use episoded::proto::session as pb;
use episoded::reason::Reason;

use super::contradictions;
use super::script::{Said, Teller};
use crate::crash::assert_none;
use crate::crash::ledger::Ledger;
use crate::harness::{Daemon, Disk, need_disks, need_mounts, normal_end, refusal, within};

/// Room for the reserve and a small registry.
const SMALL: u64 = 12 * 1024 * 1024;
const RESERVE: u64 = 8 * 1024 * 1024;
const SESSIONS: usize = 20;

fn builder() -> crate::harness::Builder {
    Daemon::builder().args(["--terminated-ttl", "86400s", "--log", "warn"])
}

/// Takes every byte that is left on the daemon's disk; the file to remove.
fn fill(daemon: &Daemon) -> PathBuf {
    let path = daemon.dirs().state().join("filler");
    let mut file = std::fs::File::create(&path).expect("a file is made");
    for size in [64 * 1024, 4096] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
    path
}

fn reserve(daemon: &Daemon) -> u64 {
    let path = daemon.dirs().state().join("registry.ballast");
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

async fn a_few_sessions(daemon: &Daemon) -> Teller {
    let mut teller = Teller::new(daemon, Ledger::default()).await;
    for number in 0..SESSIONS {
        let registered = teller.register(&format!("s-{number}")).await;
        registered.expect("there is room");
    }
    teller
}

/// Makes the writer take turns until this holds: it looks after the disk between
/// two calls.
async fn until(daemon: &Daemon, holds: impl Fn() -> bool) {
    let mut operator = daemon.operator().await;
    let turns = async {
        while !holds() {
            let unknown = operator.terminate_session(normal_end("nobody")).await;
            refusal(unknown).expect(Reason::SessionNotFound);
        }
    };
    within(turns).await;
}

#[tokio::test]
async fn on_a_full_disk_reads_and_ends_go_on_and_registrations_wait_for_space() {
    if !need_mounts() {
        return;
    }
    let builder = builder();
    let _disk = Disk::in_memory(builder.directories(), SMALL);
    let mut daemon = builder.start().await;
    let mut teller = a_few_sessions(&daemon).await;
    assert_eq!(reserve(&daemon), RESERVE);

    let filler = fill(&daemon);
    teller.said.clear();
    assert!(teller.register("refused").await.is_none());
    assert_eq!(teller.said, [Said::Full].into());
    teller.assert_opens("s-0").await;
    teller.heartbeat("s-0").await;

    teller.said.clear();
    for number in 1..SESSIONS - 1 {
        teller.terminate(&format!("s-{number}")).await;
    }
    teller.rotate("s-0").await;
    assert_eq!(teller.said, [Said::Done].into(), "the reserve serves them");

    // What was freed for them serves nothing else.
    teller.said.clear();
    assert!(teller.register("refused-too").await.is_none());
    assert_eq!(teller.said, [Said::Full].into());
    assert!((1..RESERVE).contains(&reserve(&daemon)));

    daemon.restart().await;
    let mut ledger = teller.ledger;
    let wrong = contradictions(&daemon, &mut ledger).await;
    assert_none(&wrong, "after a start on a full disk");
    let mut teller = Teller::new(&daemon, ledger).await;
    assert!(teller.register("refused-again").await.is_none());
    assert_eq!(teller.said, [Said::Full].into());

    std::fs::remove_file(filler).expect("somebody makes room");
    teller.register("welcome").await.expect("there is room");
    until(&daemon, || reserve(&daemon) == RESERVE).await;
    daemon.kill9();
    daemon.restart().await;
    let wrong = contradictions(&daemon, &mut teller.ledger).await;
    assert_none(&wrong, "after space was made");
}

/// With nothing in reserve an end cannot be written, is refused, and holds all
/// the same.
#[tokio::test]
async fn an_end_without_any_space_refuses_the_handle_and_lands_when_there_is_some() {
    if !need_mounts() {
        return;
    }
    let builder = builder();
    let _disk = Disk::in_memory(builder.directories(), SMALL);
    let mut daemon = builder.start().await;
    let mut teller = a_few_sessions(&daemon).await;
    let state = daemon.dirs().state();
    std::fs::remove_file(state.join("registry.ballast")).expect("the reserve is taken");
    let filler = fill(&daemon);
    teller.said.clear();
    teller.terminate("s-1").await;
    assert_eq!(teller.said, [Said::Full].into());
    let mut operator = daemon.operator().await;
    let ending = crate::harness::get(&mut operator, "s-1").await;
    let status = ending.expect("it is there").status();
    assert_eq!(status, pb::SessionStatus::Ending);

    std::fs::remove_file(filler).expect("somebody makes room");
    until(&daemon, || reserve(&daemon) == RESERVE).await;
    let ended = crate::harness::get(&mut operator, "s-1").await;
    let status = ended.expect("it is there").status();
    assert_eq!(status, pb::SessionStatus::Terminated);
    daemon.kill9();
    daemon.restart().await;
    let wrong = contradictions(&daemon, &mut teller.ledger).await;
    assert_none(&wrong, "after it landed");
}

#[tokio::test]
async fn a_disk_that_turns_read_only_gives_definite_answers_and_loses_nothing() {
    if !need_disks() {
        return;
    }
    let builder = builder();
    let disk = Disk::on_image(builder.directories());
    let mut daemon = builder.start().await;
    let mut teller = a_few_sessions(&daemon).await;
    disk.turn_read_only();
    teller.said.clear();
    teller.assert_opens("s-0").await;
    teller.register("refused").await;
    assert!(!teller.said.contains(&Said::Done), "{:?}", teller.said);
    teller.terminate("s-1").await;
    assert!(!teller.said.contains(&Said::Done), "{:?}", teller.said);
    let lost = teller.said.contains(&Said::Unknown) || teller.said.contains(&Said::Gone);
    let exit = if lost {
        daemon.ended().await
    } else {
        daemon.sigterm().await
    };
    assert_eq!(exit.code(), Some(74), "{exit:?}");
    let exit = daemon.spawn().exited().await;
    assert_eq!(
        exit.code(),
        Some(69),
        "nothing can be locked there: {exit:?}"
    );

    let _disk = disk.repair();
    daemon.restart().await;
    let wrong = contradictions(&daemon, &mut teller.ledger).await;
    assert_none(&wrong, "after the repair");
    let mut teller = Teller::new(&daemon, teller.ledger).await;
    teller.register("welcome").await.expect("it is writable");
}
