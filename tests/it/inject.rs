//! Storage that fails: every system call of the real daemon in turn, a full disk,
//! a file system that turns read-only. Each call gets a definite answer, or the
//! daemon says that nobody knows and ends with 74; the next start holds what was
//! acknowledged and nothing that was refused.

mod calls;
mod disks;
mod script;

use crate::crash::ledger::Ledger;
use crate::crash::observe::{self, look};
use crate::harness::Daemon;

/// What contradicts the ledger after a start.
async fn contradictions(daemon: &Daemon, ledger: &mut Ledger) -> Vec<String> {
    let (mut tried, dead) = observe::handles(ledger);
    tried.extend(dead);
    ledger.restarted();
    ledger.check(&look(daemon, tried, vec!["work".to_owned()]).await.view)
}
