//! One system call on the registry fails: the first, the second, and so on until
//! a story is told to its end without that fault.

use std::ffi::OsString;
use std::path::PathBuf;

use episoded::proto::session as pb;

use super::contradictions;
use super::script::{Said, Teller, said};
use crate::crash::assert_none;
use crate::crash::ledger::Ledger;
use crate::harness::{Daemon, Refusal, need_command, registration, within};

/// No fault is injected later than this.
const MOST: usize = 200;

/// A registry with two sessions, closed, and what is known of them.
struct Before {
    daemon: Daemon,
    ledger: Ledger,
}

impl Before {
    async fn new() -> Self {
        let mut daemon = builder().start().await;
        let mut teller = Teller::new(&daemon, Ledger::default()).await;
        teller.register("old-1").await.expect("it registers");
        teller.register("old-2").await.expect("it registers");
        let ledger = std::mem::take(&mut teller.ledger);
        daemon.sigterm().await;
        Self { daemon, ledger }
    }

    /// The same again, so that its log is long enough to be moved into the file
    /// at the next start.
    async fn with_a_long_log() -> Self {
        let mut before = Self::new().await;
        before.daemon.restart().await;
        let ledger = std::mem::take(&mut before.ledger);
        let mut teller = Teller::new(&before.daemon, ledger).await;
        teller.ledger.restarted();
        let log = before.daemon.dirs().state().join("registry.db-wal");
        while std::fs::metadata(&log).expect("it is there").len() < 4 * 1024 * 1024 {
            teller.rotate("old-1").await;
        }
        before.ledger = std::mem::take(&mut teller.ledger);
        before.daemon.sigterm().await;
        before
    }

    fn copy(&self) -> Daemon {
        builder().dirs(self.daemon.dirs().copy_of_state()).stopped()
    }
}

fn builder() -> crate::harness::Builder {
    Daemon::builder().args(["--terminated-ttl", "86400s", "--log", "warn"])
}

/// Makes `calls` on these files of the state fail with `error`, the `nth` time.
fn failing(daemon: &Daemon, files: &[&str], calls: &str, error: &str, nth: usize) -> Fault {
    let trace = daemon.dirs().root().join("trace");
    let mut words: Vec<OsString> = ["strace", "-D", "-f", "-qq", "-o"].map(Into::into).into();
    words.push(trace.clone().into());
    for file in files {
        words.extend(["-P".into(), daemon.dirs().state().join(file).into()]);
    }
    words.extend(["-e".into(), format!("trace={calls}").into()]);
    let inject = format!("inject={calls}:error={error}:when={nth}");
    words.extend(["-e".into(), inject.into()]);
    Fault { words, trace }
}

struct Fault {
    words: Vec<OsString>,
    trace: PathBuf,
}

impl Fault {
    fn happened(&self) -> bool {
        std::fs::read_to_string(&self.trace)
            .expect("strace writes it")
            .contains("(INJECTED)")
    }
}

/// Tells the story with one fault; whether the fault happened.
async fn tell(before: &Before, files: &[&str], calls: &str, error: &str, nth: usize) -> bool {
    let case = format!("{calls} {nth} of {files:?} fails with {error}");
    let mut daemon = before.copy();
    let fault = failing(&daemon, files, calls, error, nth);
    daemon.wrap(fault.words.clone());
    let mut ledger = before.ledger.clone();
    let exit = if let Err(exit) = daemon.spawn().ready().await {
        assert_eq!(exit.code(), Some(74), "{case}: {exit:?}");
        exit
    } else {
        let mut teller = Teller::new(&daemon, ledger).await;
        teller.tell().await;
        ledger = teller.ledger;
        if teller.said.contains(&Said::Gone) || teller.said.contains(&Said::Unknown) {
            let exit = daemon.ended().await;
            assert_eq!(exit.code(), Some(74), "{case}: {exit:?}");
            exit
        } else {
            daemon.sigterm().await
        }
    };
    let happened = fault.happened();
    let expected: &[i32] = if happened { &[0, 74] } else { &[0] };
    let code = exit.code().expect("it ends by itself");
    assert!(expected.contains(&code), "{case}: {exit:?}");
    daemon.wrap(Vec::new());
    daemon.restart().await;
    let wrong = contradictions(&daemon, &mut ledger).await;
    assert_none(&wrong, &case);
    happened
}

/// Every such call in turn, until the story is told without the fault.
async fn every(before: &Before, files: &[&str], calls: &str, error: &str) {
    for nth in 1..=MOST {
        if !tell(before, files, calls, error, nth).await {
            println!("{calls} {error}: {} faults", nth - 1);
            assert!(nth > 3, "{calls}: faults do happen");
            return;
        }
    }
    panic!("{calls} {error}: more than {MOST} calls");
}

/// The detector itself: of a write that is reported done and was not, nothing is
/// told by the daemon, and what it answered is missing at the next start.
#[tokio::test]
async fn a_write_that_is_swallowed_is_caught() {
    if !need_command("strace") {
        return;
    }
    let before = Before::new().await;
    let mut daemon = before.copy();
    let mut fault = failing(&daemon, &["registry.db-wal"], "pwrite64", "EIO", 1);
    let injection = fault.words.last_mut().expect("it has words");
    // The head of a frame is written apart from its page.
    *injection = "inject=pwrite64:retval=24:when=1".into();
    daemon.wrap(fault.words.clone());
    daemon.restart().await;
    let mut teller = Teller::new(&daemon, before.ledger.clone()).await;
    teller.tell().await;
    assert!(teller.said.iter().all(|said| *said == Said::Done));
    let mut ledger = teller.ledger;
    // An orderly stop would move the page into the file and so mend it.
    daemon.kill9();
    assert!(fault.happened());
    daemon.wrap(Vec::new());
    daemon.restart().await;
    let wrong = contradictions(&daemon, &mut ledger).await;
    assert!(
        wrong.iter().any(|one| one.contains("new: missing")),
        "{wrong:#?}"
    );
}

/// Sessions as large as they may be, in a message as large as it may be: their
/// pages do not fit into memory.
fn more_than_fits() -> pb::RegisterSessionsRequest {
    let labels = (0..15).map(|n| (format!("label-{n}"), "v".repeat(255)));
    let wide = pb::RegisterSessionRequest {
        labels: labels.collect(),
        policy_resolved_ref: "p".repeat(256),
        coordination_id: "c".repeat(256),
        ..registration("work")
    };
    pb::RegisterSessionsRequest {
        requests: vec![wide; 900],
    }
}

/// Pages that do not fit into memory are written before the commit, and nothing is
/// unknown about what fails there.
#[tokio::test]
async fn a_write_that_fails_before_the_commit_is_answered_as_not_written() {
    const FAR_BEHIND_THE_START: usize = 500;
    if !need_command("strace") {
        return;
    }
    for (error, answer) in [("EIO", Said::Failed), ("ENOSPC", Said::Full)] {
        let before = Before::new().await;
        let mut daemon = before.copy();
        let log = ["registry.db-wal"];
        let fault = failing(&daemon, &log, "pwrite64", error, FAR_BEHIND_THE_START);
        daemon.wrap(fault.words.clone());
        daemon.restart().await;
        let mut teller = Teller::new(&daemon, before.ledger.clone()).await;
        teller.register("first").await.expect("it registers");
        assert!(!fault.happened());
        let mut operator = daemon.operator().await;
        let call = within(operator.register_sessions(more_than_fits())).await;
        let refused = call.expect_err("it cannot be written");
        assert_eq!(said(Refusal::of(&refused)), answer);
        assert!(fault.happened());

        teller.assert_opens("first").await;
        teller.register("second").await.expect("the store goes on");
        let mut ledger = teller.ledger;
        daemon.kill9();
        daemon.wrap(Vec::new());
        daemon.restart().await;
        let wrong = contradictions(&daemon, &mut ledger).await;
        assert_none(&wrong, error);
    }
}

const ALL: [&str; 2] = ["registry.db", "registry.db-wal"];

#[tokio::test]
async fn a_sync_that_fails_anywhere_loses_and_invents_nothing() {
    if need_command("strace") {
        let before = Before::new().await;
        every(&before, &ALL, "fsync,fdatasync", "EIO").await;
    }
}

#[tokio::test]
async fn a_write_on_a_full_disk_anywhere_loses_and_invents_nothing() {
    if need_command("strace") {
        let before = Before::new().await;
        every(&before, &ALL, "pwrite64", "ENOSPC").await;
    }
}

#[tokio::test]
async fn a_write_that_fails_anywhere_loses_and_invents_nothing() {
    if need_command("strace") {
        let before = Before::new().await;
        every(&before, &ALL, "pwrite64", "EIO").await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_fails_anywhere_loses_and_invents_nothing() {
    if need_command("strace") {
        let before = Before::with_a_long_log().await;
        for (calls, error) in [("fsync,fdatasync", "EIO"), ("pwrite64", "ENOSPC")] {
            for nth in 1..=MOST {
                if !tell(&before, &["registry.db"], calls, error, nth).await {
                    println!("checkpoint {calls} {error}: {} faults", nth - 1);
                    assert!(nth > 1, "a checkpoint is made");
                    break;
                }
            }
        }
    }
}
