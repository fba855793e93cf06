//! The channels of one connection.
//!
//! They end with it, and all of them when all keys are forgotten: what a buffer
//! still holds of a sealed key can then be opened by nobody.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{grpc::status::Refusal, keycache::channel::Channel, reason::Reason};

/// Channels of a connection: a client needs one.
const MAX_CHANNELS: usize = 16;

/// By number, from 1 on; no number comes twice.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u32,
    all: Vec<(u32, Arc<Channel>)>,
}

impl Channels {
    /// Keeps one; its number.
    pub(super) fn add(&self, channel: Channel) -> Result<u32, Refusal> {
        let mut open = self.0.lock();
        let number = open.last.checked_add(1);
        let Some(number) = number.filter(|_| open.all.len() < MAX_CHANNELS) else {
            let message = "this connection has its 16 channels: take one of them";
            return Err(Refusal::new(Reason::RateLimited, message));
        };
        open.last = number;
        open.all.push((number, Arc::new(channel)));
        Ok(number)
    }

    /// That of a number.
    pub(super) fn find(&self, number: u32) -> Result<Arc<Channel>, Refusal> {
        let open = self.0.lock();
        let found = open.all.iter().find(|(known, _)| *known == number);
        found
            .map(|(_, channel)| Arc::clone(channel))
            .ok_or_else(|| {
                let message = "this connection has no such channel, or no more: open one";
                Refusal::new(Reason::ChannelUnknown, message)
            })
    }

    /// Ends all.
    pub(super) fn end(&self) {
        self.0.lock().all.clear();
    }
}
