//! The child from its start to its end.
//!
//! Owns the decision what to do to the child: pass a signal on, stop with it,
//! ask it to end, kill it. It is over only after the first attempt to bind, so
//! that the end of the session never comes before its beginning.

use std::time::Duration;

use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::time::{Instant, sleep_until};

use super::child::{Episode, Exit};
use super::keeper::{News, Newspaper};
use super::signals::{Arrived, FATAL, Signals};
use crate::cli::output::note;

/// How often a group is looked at whose leader has ended.
const POLL: Duration = Duration::from_millis(20);

/// How it ended, and why.
#[derive(Debug)]
pub struct Ending {
    /// How the child ended.
    pub exit: Exit,
    /// Somebody else ended the session: there is nothing to report.
    pub session_ended: bool,
    /// The child was asked to stop.
    pub stop_requested: bool,
    /// What was passed on that ends a program.
    pub forwarded: Vec<Signal>,
}

/// What is next for a child that has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Term,
    Kill,
}

struct Supervision<'a> {
    episode: &'a mut Episode,
    kill_after: Duration,
    ending: Ending,
    is_bound: bool,
    next: Option<(Instant, Step)>,
}

/// Runs until the child, and what must end with it, has ended.
pub async fn supervise(
    episode: &mut Episode,
    news: &mut Newspaper,
    signals: &mut Signals,
    kill_after: Duration,
) -> Ending {
    let ending = Ending {
        exit: Exit::Code(0),
        session_ended: false,
        stop_requested: false,
        // The keys of a terminal go to the child without passing through here.
        forwarded: if episode.has_terminal() {
            vec![Signal::INT, Signal::QUIT, Signal::HUP]
        } else {
            Vec::new()
        },
    };
    let mut supervision = Supervision {
        episode,
        kill_after,
        ending,
        is_bound: false,
        next: None,
    };
    supervision.ending.exit = supervision.until_exit(news, signals).await;
    supervision.until_group_ends().await;
    supervision.episode.release_terminal();
    supervision.ending
}

impl Supervision<'_> {
    async fn until_exit(&mut self, news: &mut Newspaper, signals: &mut Signals) -> Exit {
        loop {
            if let (true, Some(exit)) = (self.is_bound, self.episode.exit()) {
                return exit;
            }
            let due = self.next;
            tokio::select! {
                news = news.next() => self.told(news),
                arrived = signals.next() => self.arrived(arrived),
                () = until(due) => self.step(),
            }
        }
    }

    fn told(&mut self, news: News) {
        match news {
            News::Bound => self.is_bound = true,
            News::StopRequested => {
                note("a stop was requested: the command gets SIGTERM");
                self.ending.stop_requested = true;
                self.term();
            }
            News::Ended => {
                note("the session was ended: the command gets SIGTERM");
                self.ending.session_ended = true;
                self.term();
            }
            News::EndedItself => self.plan(Step::Term),
        }
    }

    fn plan(&mut self, step: Step) {
        self.next = Some((Instant::now() + self.kill_after, step));
    }

    fn term(&mut self) {
        self.episode.signal(Signal::TERM);
        // A stopped process does not end before it goes on.
        self.episode.signal(Signal::CONT);
        self.plan(Step::Kill);
    }

    fn step(&mut self) {
        match self.next.take() {
            Some((_, Step::Term)) => {
                note("the session was ended: the command gets SIGTERM");
                self.ending.session_ended = true;
                self.term();
            }
            Some((_, Step::Kill)) => {
                note("the command does not end: it gets SIGKILL");
                self.episode.signal(Signal::KILL);
            }
            None => {}
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Forward(signal) => {
                if FATAL.contains(&signal) && !self.ending.forwarded.contains(&signal) {
                    self.ending.forwarded.push(signal);
                }
                self.episode.signal(signal);
            }
            Arrived::Child if self.episode.has_terminal() && self.episode.was_stopped() => {
                // A job stops as a whole, or its shell would wait for it. This
                // goes on when the shell lets it, or at once where there is none.
                let _ = kill_process_group(getpgrp(), Signal::TSTP);
                self.episode.resume();
            }
            Arrived::Child => {}
            Arrived::Continued => self.episode.resume(),
        }
    }

    /// A child that was told to end takes its whole group along.
    async fn until_group_ends(&mut self) {
        if self.next.is_some() {
            // The leader would count as alive. The daemon was there a moment ago.
            self.episode.reap();
        }
        while let Some((due, Step::Kill)) = self.next {
            if !self.episode.is_group_alive() {
                return;
            }
            if Instant::now() >= due {
                self.step();
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn until(due: Option<(Instant, Step)>) {
    match due {
        Some((due, _)) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
