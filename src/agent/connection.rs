//! One LBX2 connection: requests are answered in order until it closes.
//!
//! A key is sent straight from where it is kept, as much as the socket takes at
//! once. Nothing of the cache is held while a client is waited for: if the entry
//! has gone when the client takes more, the connection ends.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
    time::timeout,
};

use zeroize::Zeroizing;

use super::{
    activity::{Activity, ActivityError},
    frame::{self, FrameError, HEADER, Header, MAGIC, PUT, Request},
    keeper::{KeepError, Keeper},
    put,
};
use crate::keycache::entry::LockboxId;

/// A request that has begun must be whole by then. A client on the same machine
/// sends it in one piece.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// What a client that was told an error still sends is read for so long, and up to
/// so many bytes: a socket that is closed with unread bytes takes the answer away.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
const DRAIN_BYTES: usize = 256 * 1024;

/// How HTTP/2 begins, as many bytes as LBX2 begins with.
const HTTP2: &[u8; MAGIC.len()] = b"PRI ";

/// Why a connection ends early.
enum End {
    /// It speaks HTTP/2, and has begun with this.
    Other(Vec<u8>),
    /// The client went away, or was too slow.
    Gone,
    /// It is told.
    Told(FrameError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<ActivityError> for End {
    fn from(error: ActivityError) -> Self {
        Self::Told(match error {
            ActivityError::NotYours => FrameError::NotYours,
            ActivityError::Full => FrameError::Full,
            ActivityError::Sleeping => FrameError::Wiped,
        })
    }
}

impl From<KeepError> for End {
    fn from(error: KeepError) -> Self {
        Self::Told(error.into())
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Told(error)
    }
}

/// Serves a connection of that process until it ends. Answers what its client
/// began with, if that is another protocol of this socket.
pub(super) async fn serve(
    mut stream: UnixStream,
    pid: i32,
    keeper: &Arc<Keeper>,
) -> Option<(UnixStream, Vec<u8>)> {
    let ended = converse(&mut stream, pid, keeper).await;
    match ended {
        Ok(()) | Err(End::Gone) => None,
        Err(End::Other(begun)) => Some((stream, begun)),
        Err(End::Told(error)) => {
            tell(stream, pid, &error).await;
            None
        }
    }
}

/// Says what was wrong, and reads what still comes.
async fn tell(mut stream: UnixStream, pid: i32, error: &FrameError) {
    tracing::debug!(pid, ?error, "connection refused");
    let told = async {
        stream.write_all(&error.answer()).await?;
        stream.shutdown().await?;
        // It may hold a key.
        let mut rest = Zeroizing::new([0; 4096]);
        let mut read = 0;
        while read < DRAIN_BYTES {
            match stream.read(&mut *rest).await? {
                0 => break,
                some => read += some,
            }
        }
        Ok::<_, io::Error>(())
    };
    let _ = timeout(DRAIN_DEADLINE, told).await;
}

async fn converse(stream: &mut UnixStream, pid: i32, keeper: &Arc<Keeper>) -> Result<(), End> {
    let mut header = [0; HEADER];
    let mut is_first = true;
    loop {
        let read = stream.read(&mut header).await?;
        if read == 0 {
            return Ok(());
        }
        let may_be_other = std::mem::replace(&mut is_first, false);
        let request = timeout(
            FRAME_DEADLINE,
            take(stream, header, read, may_be_other, keeper),
        )
        .await;
        let request = request.map_err(|_| End::Gone)??;
        keeper.touch();
        let answer = match request {
            None => frame::ok(),
            Some(Request::Get(id)) => {
                send_key(stream, &id, keeper).await?;
                continue;
            }
            Some(Request::Forget(id)) => {
                keeper.forget(&id);
                frame::ok()
            }
            Some(Request::ForgetAll) => {
                keeper.wipe("asked by a client");
                frame::ok()
            }
            Some(Request::List) => list(keeper),
            Some(Request::Register { pid: of, kind }) => {
                let token = keeper.begin_activity(pid, Activity { pid: of, kind })?;
                frame::registered(token)
            }
            Some(Request::Unregister { pid, token }) => {
                keeper.activities.unregister(pid, token);
                frame::ok()
            }
            Some(Request::Stop) => {
                stream.write_all(&frame::ok()).await?;
                keeper.stop("stopped by a client");
                return Ok(());
            }
        };
        stream.write_all(&answer).await?;
    }
}

fn list(keeper: &Keeper) -> Vec<u8> {
    let (cache, now) = keeper.cache();
    let entries = cache.list(None, now).map(|(id, entry)| (id, entry.path()));
    let (answer, all) = frame::list(entries);
    if !all {
        tracing::warn!(entries = cache.len(), "a list did not fit its message");
    }
    answer
}

/// Takes one request, of whose header that much was read; a put is done at once, and
/// none of it is left.
async fn take(
    stream: &mut UnixStream,
    mut header: [u8; HEADER],
    mut read: usize,
    may_be_other: bool,
    keeper: &Arc<Keeper>,
) -> Result<Option<Request>, End> {
    if read < MAGIC.len() {
        let rest = stream.read_exact(&mut header[read..MAGIC.len()]).await;
        rest.map_err(|error| ended_early(&error))?;
        read = MAGIC.len();
    }
    if may_be_other && header.starts_with(HTTP2) {
        return Err(End::Other(header[..read].to_vec()));
    }
    if header.starts_with(MAGIC) {
        let rest = stream.read_exact(&mut header[read..]).await;
        rest.map_err(|error| ended_early(&error))?;
    }
    let header = Header::parse(&header)?;
    if header.kind == PUT {
        let mut wipes = keeper.wipes();
        let begun = *wipes.borrow_and_update();
        let put = tokio::select! {
            biased;
            _ = wipes.changed() => return Err(FrameError::Wiped.into()),
            put = put::read(stream, header.length, &keeper.arena) => put??,
        };
        keeper.put(put, begun)?;
        return Ok(None);
    }
    let mut payload = Zeroizing::new(vec![0; header.length]);
    stream.read_exact(&mut payload).await?;
    Ok(Some(Request::parse(header.kind, &payload)?))
}

/// Whoever says no more may still listen.
fn ended_early(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Malformed("it ends within its header").into(),
        _ => End::Gone,
    }
}

/// Sends a key, or that there is none.
async fn send_key(stream: &mut UnixStream, id: &LockboxId, keeper: &Keeper) -> Result<(), End> {
    let found = {
        let (mut cache, now) = keeper.cache();
        cache
            .get(id, now)
            .map(|entry| (entry.serial(), entry.key().len()))
    };
    let Some((serial, length)) = found else {
        stream.write_all(&frame::miss()).await?;
        return Ok(());
    };
    let header = frame::key_header(length);
    let mut sent = 0;
    while sent < HEADER + length {
        stream.writable().await?;
        let (cache, now) = keeper.cache();
        let entry = cache.peek(id, serial, now).ok_or(End::Gone)?;
        let key = entry.key().expose();
        let rest = [
            IoSlice::new(header.get(sent..).unwrap_or_default()),
            IoSlice::new(&key[sent.saturating_sub(HEADER)..]),
        ];
        // Does not wait: what the socket does not take now, it takes later.
        match stream.try_io(Interest::WRITABLE, || {
            rustix::io::writev(&*stream, &rest).map_err(io::Error::from)
        }) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
