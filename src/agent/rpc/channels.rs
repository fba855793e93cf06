//! The channels of one connection.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{grpc::status::Refusal, keycache::channel::Channel, reason::Reason};

/// Channels of a connection: a client needs one.
const MAX_CHANNELS: usize = 16;

/// By number, from 1 on.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<Vec<Arc<Channel>>>);

impl Channels {
    /// Keeps one; its number.
    pub(super) fn add(&self, channel: Channel) -> Result<u32, Refusal> {
        let mut all = self.0.lock();
        if all.len() >= MAX_CHANNELS {
            let message = "this connection has its 16 channels: take one of them";
            return Err(Refusal::new(Reason::RateLimited, message));
        }
        all.push(Arc::new(channel));
        Ok(all.len() as u32)
    }

    /// That of a number.
    pub(super) fn find(&self, number: u32) -> Result<Arc<Channel>, Refusal> {
        let at = (number as usize).checked_sub(1);
        let found = at.and_then(|at| self.0.lock().get(at).cloned());
        found.ok_or_else(|| {
            let message = "this connection has no such channel: open one";
            Refusal::new(Reason::ChannelUnknown, message)
        })
    }
}
