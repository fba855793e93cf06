//! The connections that are open, and who has to go when there are too many.
//!
//! Whoever has most of them loses the oldest, and of several who have as many the one
//! whose oldest is older: so nobody, however many connections they open, keeps another
//! from locking all keys.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// See the module.
#[derive(Debug)]
pub(super) struct Crowd {
    /// The oldest first.
    open: Mutex<VecDeque<Open>>,
    most: usize,
}

#[derive(Debug)]
struct Open {
    pid: u32,
    task: JoinHandle<()>,
}

impl Crowd {
    /// Has room for so many, at least one.
    pub(super) fn new(most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Self {
            open: Mutex::default(),
            most,
        }
    }

    /// One more, which that task serves, of that process. Waits until whoever has to go
    /// has gone.
    pub(super) async fn add(&self, pid: u32, task: JoinHandle<()>) {
        let gone = self.make_room();
        self.open.lock().push_back(Open { pid, task });
        if let Some(gone) = gone {
            gone.abort();
            let _ = gone.await;
        }
    }

    fn make_room(&self) -> Option<JoinHandle<()>> {
        let mut open = self.open.lock();
        if open.len() < self.most {
            return None;
        }
        open.retain(|open| !open.task.is_finished());
        if open.len() < self.most {
            return None;
        }
        let oldest = oldest_of_most(&open)?;
        open.remove(oldest).map(|gone| gone.task)
    }
}

fn oldest_of_most(open: &VecDeque<Open>) -> Option<usize> {
    let mut counts = HashMap::<u32, usize>::new();
    for open in open {
        *counts.entry(open.pid).or_default() += 1;
    }
    let most = counts.values().max()?;
    open.iter().position(|open| counts[&open.pid] == *most)
}

#[cfg(test)]
mod tests {
    use tokio::task::AbortHandle;

    use super::Crowd;

    #[tokio::test]
    async fn whoever_has_most_loses_the_oldest() {
        let crowd = Crowd::new(4);
        let mut tasks = Vec::new();
        for pid in [1, 2, 2, 3, 4, 5] {
            let task = tokio::spawn(std::future::pending::<()>());
            tasks.push(task.abort_handle());
            crowd.add(pid, task).await;
        }
        let ended: Vec<_> = tasks.iter().map(AbortHandle::is_finished).collect();
        // The first of 2 for 4; then each has one, and the oldest goes for 5.
        assert_eq!(ended, [true, true, false, false, false, false]);
    }
}
