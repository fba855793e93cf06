//! The machine's sleep: keys are gone before it.
//!
//! ```text
//! absent --bus and logind there--> watching --PrepareForSleep(true)--> asleep
//!    ^----bus or logind lost--------'    ^-----PrepareForSleep(false)-----'
//! ```
//!
//! Watching, a *delay* inhibitor is held, so that logind waits for us, and a
//! *block* inhibitor while a program has a secret in hand. Before the machine
//! sleeps: no put is taken, all keys are forgotten, such programs are ended, and
//! then the inhibitors are let go. Where nobody tells of sleep, the clocks do
//! afterwards, see [`Keeper::cache`].

mod logind;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{Fuse, FusedFuture as _},
};
use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::{info, warn};

use self::logind::{Inhibitor, Logind, Lost};
use super::{config::AgentConfig, keeper::Keeper};

/// What programs with a secret in hand have to end by themselves. logind waits five
/// seconds, and this is the longest part of what is done before the machine sleeps.
const GRACE: Duration = Duration::from_secs(2);

/// Between two looks for a bus that was not there: at first, and at most.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Whether somebody tells us that the machine will sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Watch {
    /// Nobody, yet or any more; it is tried again.
    #[default]
    Absent,
    /// logind does, and waits for us.
    Watching,
    /// It has said so, and we are done.
    Asleep,
}

/// What can be told about sleep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) watch: Watch,
    /// Why nobody tells us, or why sleep is not held off.
    pub(super) why: String,
    /// The delay inhibitor is held.
    pub(super) delays: bool,
    /// The block inhibitor is held.
    pub(super) blocks: bool,
}

/// What everybody may see of it.
#[derive(Debug, Default)]
pub(super) struct Sleep(Mutex<Seen>);

impl Sleep {
    /// From the announcement on until the machine is awake again.
    pub(super) fn is_near(&self) -> bool {
        self.0.lock().watch == Watch::Asleep
    }

    pub(super) fn seen(&self) -> Seen {
        self.0.lock().clone()
    }

    fn show(&self, seen: Seen) {
        *self.0.lock() = seen;
    }

    /// From now on no put is taken.
    fn begin(&self) {
        self.0.lock().watch = Watch::Asleep;
    }
}

/// Attends to the machine's sleep as long as it is polled.
pub(super) async fn watch(keeper: Arc<Keeper>, config: Arc<AgentConfig>) {
    let mut retry = FIRST_RETRY;
    loop {
        let lost = match Logind::connect().await {
            Ok(logind) => {
                retry = FIRST_RETRY;
                attend(logind, &keeper, &config).await
            }
            Err(lost) => lost,
        };
        let seen = Seen {
            why: lost.to_string(),
            ..Seen::default()
        };
        if keeper.sleep.seen() != seen {
            warn!(%lost, "nobody tells of the machine's sleep; trying again");
        }
        keeper.sleep.show(seen);
        sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// What we hold of logind.
#[derive(Default)]
struct Held {
    delay: Option<Inhibitor>,
    block: Option<Inhibitor>,
}

/// Serves one connection until it is lost.
async fn attend(mut logind: Logind, keeper: &Keeper, config: &AgentConfig) -> Lost {
    let mut activities = keeper.activities.any();
    let mut held = Held::default();
    let (mut refused, mut undelayed) = (None, None);
    // What is asked for meanwhile must not keep an announcement waiting.
    let mut delay = pin!(logind.inhibit(logind::DELAY).fuse());
    let mut block = pin!(Fuse::terminated());
    let mut asleep = false;
    info!("watching for the machine's sleep");
    loop {
        let wanted = config.sleep.prevent && !asleep && *activities.borrow_and_update();
        if !wanted {
            held.block = None;
            refused = None;
            block.set(Fuse::terminated());
        } else if held.block.is_none() && refused.is_none() && block.is_terminated() {
            block.set(logind.inhibit(logind::BLOCK).fuse());
        }
        keeper.sleep.show(Seen {
            watch: if asleep {
                Watch::Asleep
            } else {
                Watch::Watching
            },
            why: undelayed.clone().or(refused.clone()).unwrap_or_default(),
            delays: held.delay.is_some(),
            blocks: held.block.is_some(),
        });
        tokio::select! {
            biased;
            told = logind.told.next() => match told {
                Some(Ok(true)) => {
                    asleep = true;
                    delay.set(Fuse::terminated());
                    block.set(Fuse::terminated());
                    prepare(keeper, config).await;
                    held = Held::default();
                    info!("ready for the machine's sleep");
                }
                Some(Ok(false)) => {
                    asleep = false;
                    info!("the machine is awake");
                    if held.delay.is_none() && delay.is_terminated() {
                        undelayed = None;
                        delay.set(logind.inhibit(logind::DELAY).fuse());
                    }
                }
                Some(Err(lost)) => return lost,
                None => return Lost::Bus,
            },
            got = &mut delay => match got {
                Ok(inhibitor) => held.delay = Some(inhibitor),
                // What is announced is heard all the same, if logind still speaks.
                Err(lost) => {
                    warn!(%lost, "the machine will not wait before it sleeps");
                    undelayed = Some(lost.to_string());
                }
            },
            got = &mut block => match got {
                Ok(inhibitor) => held.block = Some(inhibitor),
                Err(lost) => {
                    warn!(%lost, "the machine may sleep although a secret is in hand");
                    refused = Some(lost.to_string());
                }
            },
            _ = activities.changed() => {}
        }
    }
}

/// Everything that is done before the machine sleeps.
async fn prepare(keeper: &Keeper, config: &AgentConfig) {
    keeper.sleep.begin();
    keeper.wipe("the machine goes to sleep");
    if config.sleep.terminate {
        let ended = keeper.activities.terminate(GRACE).await;
        if ended > 0 {
            info!(ended, "programs with a secret in hand were ended");
        }
    }
}
