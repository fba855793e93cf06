//! Who writes: the writer's thread, or a caller in its place.
//!
//! There is one writer, and whoever sits here has it. Its thread takes the seat
//! when calls wait and when something is due. A caller who finds nobody waiting and
//! the seat free commits its call itself, in a task of its own: to hand it over and
//! back takes two switches of threads, which is more than deciding it. Whatever
//! takes long (many sessions, checkpoints, upkeep) is left to the thread.
//!
//! A worker of the runtime that sits here hands all else that it has to do to
//! another thread first: sockets and timers are looked after however long the
//! commit takes. While the disk is slow all of it is left to the thread.
//!
//! A commit whose outcome is unknown, or a panic, leaves the seat empty for good;
//! the thread then ends, and with it the process.

use std::sync::{
    Arc,
    mpsc::{Receiver, RecvTimeoutError},
};

use parking_lot::{Condvar, Mutex};
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
pub struct Seat {
    writer: Mutex<Held>,
    left: Condvar,
}

enum Held {
    /// The seat is free.
    Here(Box<Writer>),
    /// Somebody sits there.
    Taken,
    /// There will be no writer any more.
    Gone,
}

/// The writer, for whoever sits there.
pub struct Sitting {
    seat: Arc<Seat>,
    writer: Option<Box<Writer>>,
}

impl Seat {
    /// The seat of that writer.
    pub fn new(writer: Writer) -> Self {
        Self {
            writer: Mutex::new(Held::Here(Box::new(writer))),
            left: Condvar::new(),
        }
    }

    /// The seat for a caller. None: the call is for the queue.
    pub fn take(self: &Arc<Self>) -> Option<Sitting> {
        let mut held = self.writer.lock();
        if matches!(&*held, Held::Here(writer) if writer.is_slow()) {
            return None;
        }
        held.take().map(|writer| self.sitting(writer))
    }

    fn sitting(self: &Arc<Self>, writer: Box<Writer>) -> Sitting {
        Sitting {
            seat: Arc::clone(self),
            writer: Some(writer),
        }
    }

    /// The seat for the thread, as soon as it is free. None: it is empty for good.
    fn wait_for(self: &Arc<Self>) -> Option<Sitting> {
        let mut held = self.writer.lock();
        while matches!(*held, Held::Taken) {
            self.left.wait(&mut held);
        }
        held.take().map(|writer| self.sitting(writer))
    }

    /// The writer's thread: works until it is stopped or must stop. What still
    /// waits then is answered.
    pub fn work(self: &Arc<Self>, messages: &Receiver<Message>) -> Ended {
        let ended = loop {
            if let Some(ended) = self.turn(messages) {
                break ended;
            }
        };
        if let Some(sitting) = self.wait_for() {
            // Closes the journal.
            sitting.leave_empty();
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
    fn turn(self: &Arc<Self>, messages: &Receiver<Message>) -> Option<Ended> {
        let wait = match self.wait_for() {
            Some(mut sitting) => sitting.writer().wait(),
            None => return Some(Ended::StoreFailed),
        };
        let first = match messages.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
        };
        let Some(mut sitting) = self.wait_for() else {
            return Some(Ended::StoreFailed);
        };
        match sitting.writer().turn(first, messages) {
            Ok(Flow::Continue) => None,
            Ok(Flow::Stop) => Some(sitting.writer().finish()),
            Err(fatal) => {
                say_fatal(&fatal);
                Some(Ended::StoreFailed)
            }
        }
    }
}

impl Held {
    fn take(&mut self) -> Option<Box<Writer>> {
        match std::mem::replace(self, Self::Taken) {
            Self::Here(writer) => Some(writer),
            Self::Taken => None,
            Self::Gone => {
                *self = Self::Gone;
                None
            }
        }
    }
}

impl Sitting {
    /// Decides and commits a call on this thread; whether the writer's thread must
    /// be woken.
    pub fn commit(mut self, job: Box<dyn Job>) -> bool {
        let writer = self.writer();
        let began = writer.clock.now().awake;
        let committed = writer.commit(vec![job]);
        if writer.clock.now().awake > began + SLOW {
            writer.slow_until = began + SLOW_FOR;
        }
        match committed {
            Ok(()) => writer.is_wanted(),
            Err(fatal) => {
                say_fatal(&fatal);
                self.leave_empty();
                true
            }
        }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("it is given back at the end")
    }

    /// For good.
    fn leave_empty(mut self) {
        self.writer = None;
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let writer = self.writer.take();
        *self.seat.writer.lock() = match writer {
            Some(writer) if !std::thread::panicking() => Held::Here(writer),
            _ => Held::Gone,
        };
        self.seat.left.notify_one();
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
