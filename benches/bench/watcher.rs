//! One watcher of everything, over a connection of its own, and the floor: one
//! bare stream.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    echo,
    raw::{Caller, connect},
    shape,
};

/// A watcher that sees nothing looks this often whether it has seen all.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// No revision: the watch goes on.
pub const FOR_EVER: u64 = u64::MAX;

/// When what was seen, by revision.
pub type Seen = Vec<(u64, Instant)>;

/// What a watcher saw.
pub struct Watched {
    /// All of it.
    pub seen: Seen,
    /// Bytes of an event, about.
    pub event_bytes: usize,
}

/// Watches everything from now on until that revision was seen.
pub async fn watch(socket: &Path, until: Arc<AtomicU64>) -> JoinHandle<Watched> {
    let mut caller = Caller::new(connect(socket).await, shape::WATCH);
    let mut answers = caller.stream(Bytes::new()).await.expect("a watch begins");
    let begun = answers
        .message()
        .await
        .expect("a watch tells where it begins");
    assert!(begun.is_some(), "the first answer is the bookmark");
    tokio::spawn(async move {
        let mut watched = Watched {
            seen: Vec::new(),
            event_bytes: 0,
        };
        while watched.newest() < until.load(Ordering::Relaxed) {
            if let Ok(answer) = tokio::time::timeout(LOOK_EVERY, answers.message()).await {
                let answer = answer.expect("the watch goes on");
                watched.note(answer.expect("it does not end"), Instant::now());
            }
        }
        watched
    })
}

impl Watched {
    fn newest(&self) -> u64 {
        self.seen.last().map_or(0, |(revision, _)| *revision)
    }

    fn note(&mut self, answer: Bytes, now: Instant) {
        let bytes = answer.len();
        let revisions = revisions_seen(answer);
        if !revisions.is_empty() {
            self.event_bytes = bytes / revisions.len();
        }
        self.seen
            .extend(revisions.into_iter().map(|revision| (revision, now)));
    }
}

/// The revisions in an answer, without a look at anything else in it.
fn revisions_seen(mut answer: Bytes) -> Vec<u64> {
    let mut revisions = Vec::new();
    while answer.has_remaining() {
        let (tag, wire) = decode_key(&mut answer).expect("a field has a key");
        if (tag, wire) != (1, WireType::LengthDelimited) {
            skip_field(wire, tag, &mut answer, DecodeContext::default()).expect("a field is whole");
            continue;
        }
        let length = decode_varint(&mut answer).expect("an event has a length") as usize;
        let mut event = answer.split_to(length);
        let (tag, _) = decode_key(&mut event).expect("an event has fields");
        assert_eq!(tag, 1, "the revision comes first");
        revisions.push(decode_varint(&mut event).expect("it is a number"));
    }
    revisions
}

/// Takes what a bare server sends until then: each tick and how late it came.
pub async fn bare_stream(
    socket: &Path,
    bytes: usize,
    until: Instant,
) -> JoinHandle<HashMap<u64, Duration>> {
    let mut caller = Caller::new(connect(socket).await, echo::STREAM);
    let request = echo::request_like(&[0; 16], bytes);
    let mut answers = caller.stream(request).await.expect("a stream begins");
    tokio::spawn(async move {
        let mut seen = HashMap::new();
        while Instant::now() < until {
            let answer = answers.message().await.expect("the stream goes on");
            let tick = echo::moment_of(&answer.expect("it does not end"));
            let late = echo::monotonic().saturating_sub(tick);
            seen.insert(tick, Duration::from_nanos(late));
        }
        seen
    })
}
