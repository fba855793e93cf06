//! Who writes: the writer's thread, or a caller in its place.
//!
//! There is one writer, and whoever sits here has it. Its thread takes the seat
//! when calls wait and when something is due. A caller who finds nobody waiting and
//! the seat free commits its call itself: to hand it over and back takes two
//! switches of threads, which is more than deciding it. Whatever takes long (many
//! sessions, checkpoints, upkeep) is left to the thread.
//!
//! While the disk is slow all of it is left to the thread: a caller that sits here
//! does not look after its connections, and those of others, for as long as its
//! commit takes.
//!
//! A commit whose outcome is unknown, or a panic, leaves the seat empty for good;
//! the thread then ends, and with it the process.

use std::sync::{
    Mutex, TryLockError,
    mpsc::{Receiver, RecvTimeoutError},
};

use tracing::error;

use super::{Ended, Flow, Message, Writer};
use crate::session::{
    operation::{Job, Outcome},
    store::AppendError,
};

/// A commit that takes longer, in milliseconds, is slow: some ten times what an
/// ordinary disk takes.
const SLOW: u64 = 2;

/// How long after a slow commit all of it is left to the thread, in milliseconds.
const SLOW_FOR: u64 = 10_000;

/// See the module.
pub struct Seat(Mutex<Option<Writer>>);

/// What became of a call that was to be committed at once.
pub enum Taken {
    /// It was decided and settled; whether the thread has something to do now.
    Settled {
        /// It must be woken.
        wake: bool,
    },
    /// The seat is not free: the thread has to take it.
    Occupied(Box<dyn Job>),
}

impl Seat {
    /// The seat of that writer.
    pub fn new(writer: Writer) -> Self {
        Self(Mutex::new(Some(writer)))
    }

    /// Decides and commits a call on this thread, if the seat is free.
    pub fn commit_now(&self, job: Box<dyn Job>) -> Taken {
        let mut seat = match self.0.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {
                return Taken::Occupied(job);
            }
        };
        let Some(writer) = seat.as_mut().filter(|writer| !writer.is_slow()) else {
            return Taken::Occupied(job);
        };
        let began = writer.clock.now().awake;
        let committed = writer.commit(vec![job]);
        if writer.clock.now().awake > began + SLOW {
            writer.slow_until = began + SLOW_FOR;
        }
        match committed {
            Ok(()) => Taken::Settled {
                wake: writer.is_wanted(),
            },
            Err(fatal) => {
                say_fatal(&fatal);
                *seat = None;
                Taken::Settled { wake: true }
            }
        }
    }

    /// The writer's thread: works until it is stopped or must stop. What still
    /// waits then is answered.
    pub fn work(&self, messages: &Receiver<Message>) -> Ended {
        let ended = loop {
            if let Some(ended) = self.turn(messages) {
                break ended;
            }
        };
        if let Ok(mut seat) = self.0.lock() {
            // Closes the journal.
            *seat = None;
        }
        let outcome = match ended {
            Ended::StoreFailed => Outcome::Unknown,
            Ended::Stopped => Outcome::Stopping,
        };
        while let Ok(message) = messages.try_recv() {
            if let Message::Job(job) = message {
                job.settle(outcome);
            }
        }
        ended
    }

    /// Sleeps until there is something to do, and does it.
    fn turn(&self, messages: &Receiver<Message>) -> Option<Ended> {
        let wait = match self.0.lock().as_deref_mut() {
            Ok(Some(writer)) => writer.wait(),
            Ok(None) | Err(_) => return Some(Ended::StoreFailed),
        };
        let first = match messages.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
        };
        let Ok(mut seat) = self.0.lock() else {
            return Some(Ended::StoreFailed);
        };
        let Some(writer) = seat.as_mut() else {
            return Some(Ended::StoreFailed);
        };
        match writer.turn(first, messages) {
            Ok(Flow::Continue) => None,
            Ok(Flow::Stop) => Some(writer.finish()),
            Err(fatal) => {
                say_fatal(&fatal);
                Some(Ended::StoreFailed)
            }
        }
    }
}

impl Writer {
    fn is_slow(&self) -> bool {
        self.clock.now().awake < self.slow_until
    }
}

fn say_fatal(fatal: &AppendError) {
    let error = fatal as &dyn std::error::Error;
    error!(error, "commit failed, stopping");
}
