//! A put, received field by field: the key goes from the socket to the place where
//! it stays, and is nowhere else.

use std::{io, sync::Arc};

use tokio::{io::AsyncReadExt as _, net::UnixStream};

use super::frame::{FrameError, lockbox_id};
use crate::keycache::{
    arena::{Arena, Kind, MAX_KEY, Secret},
    entry::{Keep, LockboxId, MAX_ID},
};

/// Lengths of key and path, and the TTL.
const NUMBERS: usize = 4 + 4 + 8;

/// What arrived.
pub(super) struct Put {
    pub(super) id: LockboxId,
    pub(super) key: Secret,
    pub(super) path: Option<String>,
    pub(super) keep: Keep,
}

/// Reads the payload of a put, `length` bytes.
pub(super) async fn read(
    stream: &mut UnixStream,
    length: usize,
    arena: &Arc<Arena>,
) -> io::Result<Result<Put, FrameError>> {
    let wrong = || Ok(Err(FrameError::Malformed("its lengths do not add up")));
    let Some(after_ids) = length.checked_sub(2) else {
        return wrong();
    };
    let id_length = usize::from(stream.read_u16_le().await?);
    if after_ids < id_length + NUMBERS {
        return wrong();
    }
    // One more than an id may have is enough to refuse it.
    let mut id = vec![0; id_length.min(MAX_ID + 1)];
    stream.read_exact(&mut id).await?;
    let id = match lockbox_id(&id) {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    let key_length = stream.read_u32_le().await? as usize;
    let path_length = stream.read_u32_le().await? as usize;
    let ttl = stream.read_u64_le().await?;
    if key_length.checked_add(path_length) != Some(after_ids - id_length - NUMBERS) {
        return wrong();
    }
    if key_length == 0 || key_length > MAX_KEY {
        return Ok(Err(FrameError::Malformed("a key must be 1 to 65536 bytes")));
    }
    let Some(mut key) = arena.take(key_length) else {
        return Ok(Err(match arena.kind() {
            Kind::Nothing => FrameError::NoMemory,
            _ => FrameError::Full,
        }));
    };
    stream.read_exact(key.expose_mut()).await?;
    let mut path = vec![0; path_length];
    stream.read_exact(&mut path).await?;
    let Ok(path) = String::from_utf8(path) else {
        return Ok(Err(FrameError::Malformed("a path must be UTF-8")));
    };
    Ok(Ok(Put {
        id,
        key,
        path: (!path.is_empty()).then_some(path),
        // Too long for a number is too long for the clock.
        keep: Keep::for_ttl(ttl.saturating_mul(1000)),
    }))
}
