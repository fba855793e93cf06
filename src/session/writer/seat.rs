//! Who writes: the writer's thread, or a caller in its place.
//!
//! There is one writer, and whoever sits here has it. Its thread takes the seat
//! when calls wait and when something is due. A caller who finds nobody waiting and
//! the seat free commits its call itself, in a task of its own: to hand it over and
//! back takes two switches of threads, which is more than deciding it. Whatever
//! takes long (many sessions, checkpoints, upkeep) is left to the thread.
//!
//! While the disk is slow all of it is left to the thread: a worker of the runtime
//! that sits here looks after nothing else for as long as its commit takes. The
//! other workers do, once one of them is awake, and the writer's thread sees to
//! that: nobody but itself may sit here unless it looks every few milliseconds.
//!
//! A commit whose outcome is unknown, or a panic, leaves the seat empty for good;
//! the thread then ends, and with it the process.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle as Runtime;
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

/// How often the thread looks at who sits here: how much later than its deadline a
/// call may be answered whose commit is stuck, and less than anybody notices.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks without any caller after which the thread sleeps as long as it likes.
const LOOKS: u32 = 100;

/// See the module.
pub struct Seat {
    place: Mutex<Place>,
    left: Condvar,
}

struct Place {
    writer: Held,
    /// Callers that sat here so far, and how many the thread knows of.
    callers: u64,
    seen: u64,
    /// Looks since the last of them.
    looks: u32,
    /// The thread looks, or will in a moment.
    is_watched: bool,
    /// Where the caller who sits here came from.
    runtime: Option<Runtime>,
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
            place: Mutex::new(Place {
                writer: Held::Here(Box::new(writer)),
                callers: 0,
                seen: 0,
                looks: 0,
                is_watched: false,
                runtime: None,
            }),
            left: Condvar::new(),
        }
    }

    /// The seat for a caller, in a task of this runtime. None: the call is for the
    /// queue, and so wakes the thread, which looks from then on.
    pub fn take(self: &Arc<Self>, runtime: &Runtime) -> Option<Sitting> {
        let mut place = self.place.lock();
        let is_watched = std::mem::replace(&mut place.is_watched, true);
        let is_slow = matches!(&place.writer, Held::Here(writer) if writer.is_slow());
        if !is_watched || is_slow {
            return None;
        }
        let writer = place.take()?;
        place.callers += 1;
        place.runtime = Some(runtime.clone());
        Some(self.sitting(writer))
    }

    fn sitting(self: &Arc<Self>, writer: Box<Writer>) -> Sitting {
        Sitting {
            seat: Arc::clone(self),
            writer: Some(writer),
        }
    }

    /// The seat for the thread, as soon as it is free. None: it is empty for good.
    fn wait_for(self: &Arc<Self>) -> Option<Sitting> {
        let mut place = self.place.lock();
        while matches!(place.writer, Held::Taken) {
            if self.left.wait_for(&mut place, LOOK_EVERY).timed_out() {
                place.wake_runtime();
            }
        }
        place.take().map(|writer| self.sitting(writer))
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
        let first = match self.sleep(messages, wait) {
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

    /// Waits for a message, but no longer than `wait`; looks at who sits here as
    /// long as callers come.
    fn sleep(
        &self,
        messages: &Receiver<Message>,
        mut wait: Duration,
    ) -> Result<Message, RecvTimeoutError> {
        loop {
            let is_watched = self.place.lock().is_watched;
            let slice = if is_watched {
                wait.min(LOOK_EVERY)
            } else {
                wait
            };
            wait -= slice;
            match messages.recv_timeout(slice) {
                Err(RecvTimeoutError::Timeout) if !wait.is_zero() => {}
                received => return received,
            }
            if self.place.lock().look().is_break() {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }
}

impl Place {
    fn take(&mut self) -> Option<Box<Writer>> {
        match std::mem::replace(&mut self.writer, Held::Taken) {
            Held::Here(writer) => Some(writer),
            Held::Taken => None,
            Held::Gone => {
                self.writer = Held::Gone;
                None
            }
        }
    }

    /// Notices a caller who has sat here since the last look, and that none comes
    /// any more. Breaks if there is no writer any more.
    fn look(&mut self) -> ControlFlow<()> {
        let is_same = self.callers == self.seen;
        self.seen = self.callers;
        self.looks = if is_same { self.looks + 1 } else { 0 };
        match self.writer {
            Held::Here(_) => self.is_watched &= self.looks < LOOKS,
            Held::Taken if is_same => self.wake_runtime(),
            Held::Taken => {}
            Held::Gone => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Has another worker wake. It finds nothing to do, and so begins to look after
    /// sockets and timers, which the one that sits here does not.
    fn wake_runtime(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async {});
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
        self.seat.place.lock().writer = match writer {
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
