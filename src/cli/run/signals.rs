//! The signals `run` takes part in.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Passed on to the child's process group.
const FORWARDED: [Signal; 15] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::SYS,
    Signal::XCPU,
    Signal::TRAP,
];

/// Of those, what ends a program that does not care.
pub const FATAL: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// To be passed on.
    Forward(Signal),
    /// A child stopped, went on or ended.
    Child,
    /// This process goes on after a stop.
    Continued,
}

/// All of them, from the moment they are opened.
pub struct Signals {
    streams: Vec<(Arrived, unix::Signal)>,
}

impl Signals {
    /// Replaces what each of them does by default. What was ignored when this program
    /// started, by nohup for one, stays ignored, by the child too.
    pub fn open() -> io::Result<Self> {
        let ignored = ignored()?;
        let is_ignored = |signal: &Signal| ignored >> (signal.as_raw() - 1) & 1 == 1;
        let forwarded = FORWARDED.into_iter().filter(|signal| !is_ignored(signal));
        let forwarded = forwarded.map(Arrived::Forward);
        let all = forwarded.chain([Arrived::Child, Arrived::Continued]);
        let streams = all.map(|arrived| {
            let signal = match arrived {
                Arrived::Forward(signal) => signal,
                Arrived::Child => Signal::CHILD,
                Arrived::Continued => Signal::CONT,
            };
            Ok((
                arrived,
                unix::signal(SignalKind::from_raw(signal.as_raw()))?,
            ))
        });
        Ok(Self {
            streams: streams.collect::<io::Result<_>>()?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Arrived {
        poll_fn(|context| self.poll(context)).await
    }

    /// The next one that ends a program.
    pub async fn fatal(&mut self) -> Signal {
        loop {
            match self.next().await {
                Arrived::Forward(signal) if FATAL.contains(&signal) => return signal,
                _ => {}
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Arrived> {
        for (arrived, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*arrived);
            }
        }
        Poll::Pending
    }
}

/// The signals that this process ignores, from the lowest bit on.
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.ok_or_else(|| io::Error::other("/proc/self/status has no SigIgn"))
}
