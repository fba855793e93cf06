//! A stream out of a future that sends: what a task and a channel would do, inside
//! the task that reads the stream.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio_stream::Stream;

/// Where the future puts what it sends; holds one thing.
#[derive(Debug)]
pub(super) struct Outbox<T>(Arc<Mutex<Option<T>>>);

impl<T> Outbox<T> {
    /// Sends; waits while what was sent before has not been taken.
    pub(super) async fn send(&self, item: T) {
        let mut item = Some(item);
        // Needs no waker: the stream takes what is here before it waits.
        poll_fn(|_| {
            let mut slot = self.0.lock();
            if slot.is_none() {
                *slot = item.take();
            }
            if item.is_none() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// What a future sends, until it ends. The future makes progress only while the
/// stream is polled, and is dropped with it.
pub(super) struct Sent<T> {
    sender: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    slot: Arc<Mutex<Option<T>>>,
}

impl<T: Send + 'static> Sent<T> {
    /// What the future that `make` makes will send.
    pub(super) fn by<F>(make: impl FnOnce(Outbox<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = Arc::new(Mutex::new(None));
        let sender = make(Outbox(Arc::clone(&slot)));
        Self {
            sender: Some(Box::pin(sender)),
            slot,
        }
    }
}

impl<T> Stream for Sent<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let waiting = self.slot.lock().take();
        if waiting.is_some() {
            return Poll::Ready(waiting);
        }
        let Some(sender) = &mut self.sender else {
            return Poll::Ready(None);
        };
        if sender.as_mut().poll(cx).is_ready() {
            self.sender = None;
        }
        let sent = self.slot.lock().take();
        if sent.is_none() && self.sender.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(sent)
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::Sent;

    #[tokio::test]
    async fn everything_arrives_in_order_and_then_it_ends() {
        let mut sent = Sent::by(|outbox| async move {
            for n in 0..5 {
                outbox.send(n).await;
                if n == 2 {
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut seen = Vec::new();
        while let Some(n) = sent.next().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(sent.next().await, None);
    }
}
