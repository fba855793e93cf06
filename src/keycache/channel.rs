//! Keys on their way between two processes: sealed, so that no buffer of a
//! transport holds one.
//!
//! X25519 for each channel, HKDF-SHA256, ChaCha20-Poly1305 with a counter; the
//! proto of the key cache says it for other languages. Proves nobody's identity:
//! the socket does that. A counter that was seen, or is too old to tell, is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use parking_lot::Mutex;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use super::entry::LockboxId;

/// Bytes of a public key.
pub const PUBLIC: usize = 32;
/// Bytes that a sealed key is longer.
pub const TAG: usize = 16;

const KEY: usize = 32;
const INFO: &[u8] = b"episoded.keycache.v1";

/// Counters behind the newest that can still come: calls overtake each other, small
/// ones a large one by far. A multiple of 64.
const WINDOW: u64 = 4096;

/// It was not sealed for this channel and lockbox, or came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSealed;

/// The kernel has no random numbers, or the other's key is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAgreement;

/// Which way a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the cache.
    Put,
    /// From the cache.
    Get,
}

impl Way {
    /// What a sealed key is about: it opens for nothing else.
    fn about(self, id: &LockboxId) -> Vec<u8> {
        let word: &[u8] = match self {
            Self::Put => b"put\0",
            Self::Get => b"get\0",
        };
        [word, id.as_str().as_bytes()].concat()
    }
}

/// One side before the other has answered.
pub struct Agreement(StaticSecret);

impl Agreement {
    /// A new private key.
    pub fn new() -> Result<Self, NoAgreement> {
        let mut bytes = Zeroizing::new([0; KEY]);
        getrandom::fill(&mut *bytes).map_err(|_| NoAgreement)?;
        Ok(Self(StaticSecret::from(*bytes)))
    }

    /// What the other side is told.
    pub fn public(&self) -> [u8; PUBLIC] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The server's end, with the client's public key.
    pub fn as_server(self, client: &[u8]) -> Result<Channel, NoAgreement> {
        let own = self.public();
        let (theirs, ours) = self.keys(client, client, &own)?;
        Ok(Channel::new(ours, theirs))
    }

    /// The client's end, with the server's public key.
    pub fn as_client(self, server: &[u8]) -> Result<Channel, NoAgreement> {
        let own = self.public();
        let (ours, theirs) = self.keys(server, &own, server)?;
        Ok(Channel::new(ours, theirs))
    }

    /// What seals the client's messages, and what the server's.
    fn keys(self, other: &[u8], client: &[u8], server: &[u8]) -> Result<(Key, Key), NoAgreement> {
        let other = <[u8; PUBLIC]>::try_from(other).map_err(|_| NoAgreement)?;
        let shared = self.0.diffie_hellman(&PublicKey::from(other));
        if !shared.was_contributory() {
            return Err(NoAgreement);
        }
        let mut keys = Zeroizing::new([0; 2 * KEY]);
        Hkdf::<Sha256>::new(None, shared.as_bytes())
            .expand_multi_info(&[INFO, client, server], &mut *keys)
            .map_err(|_| NoAgreement)?;
        let (first, second) = keys.split_at(KEY);
        let key = |half: &[u8]| Key(Zeroizing::new(half.try_into().unwrap_or([0; KEY])));
        Ok((key(first), key(second)))
    }
}

struct Key(Zeroizing<[u8; KEY]>);

impl Key {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

/// A key as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number on this way.
    pub counter: u64,
    /// Ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// Bytes of stack below a call into the cipher that are wiped: twice what it was seen
/// to use in a build without optimisation.
const STACK: usize = 16 * 1024;

/// One end of a channel.
pub struct Channel {
    seals: Key,
    opens: Key,
    sealed: AtomicU64,
    seen: Mutex<Seen>,
}

impl Channel {
    fn new(seals: Key, opens: Key) -> Self {
        Self {
            seals,
            opens,
            sealed: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Seals a key. It is copied to where its ciphertext will be, and nowhere else.
    pub fn seal(&self, way: Way, id: &LockboxId, key: &[u8]) -> Result<Sealed, NotSealed> {
        let counter = self.sealed.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(key.len() + TAG);
        bytes.extend_from_slice(key);
        let tag = leaving_no_trace(|| {
            let cipher = self.seals.cipher();
            cipher.encrypt_in_place_detached(&nonce(counter), &way.about(id), &mut bytes)
        });
        bytes.extend_from_slice(&tag.map_err(|_| NotSealed)?);
        Ok(Sealed { counter, bytes })
    }

    /// Opens a key into `key`, which is as long as the key is and stays zero if it
    /// is not one.
    pub fn open(
        &self,
        way: Way,
        id: &LockboxId,
        counter: u64,
        sealed: &[u8],
        key: &mut [u8],
    ) -> Result<(), NotSealed> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG>().ok_or(NotSealed)?;
        if ciphertext.len() != key.len() || !self.seen.lock().is_new(counter) {
            return Err(NotSealed);
        }
        key.copy_from_slice(ciphertext);
        let opened = leaving_no_trace(|| {
            let (cipher, tag) = (self.opens.cipher(), Tag::from_slice(tag));
            cipher.decrypt_in_place_detached(&nonce(counter), &way.about(id), key, tag)
        });
        // Noted only now: what is not the other side's cannot use its numbers up.
        if opened.is_err() || !self.seen.lock().note(counter) {
            key.fill(0);
            return Err(NotSealed);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel")
    }
}

/// Does it, and wipes the stack that it had: a cipher works on blocks of the key
/// there, and leaves them.
#[inline(never)]
fn leaving_no_trace<T>(work: impl FnOnce() -> T) -> T {
    let done = within(work);
    wipe_stack();
    done
}

#[inline(never)]
fn within<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe_stack() {
    let mut had = [0_u64; STACK / size_of::<u64>()];
    had.zeroize();
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

/// The counters that came.
#[derive(Debug)]
struct Seen {
    /// One more than the newest.
    next: u64,
    /// Which of the last [`WINDOW`] came, by their number modulo it.
    came: [u64; (WINDOW / 64) as usize],
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            next: 0,
            came: [0; (WINDOW / 64) as usize],
        }
    }
}

impl Seen {
    fn bit(counter: u64) -> (usize, u64) {
        let at = counter % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        let (word, bit) = Self::bit(counter);
        self.next - counter <= WINDOW && self.came[word] & bit == 0
    }

    /// Whether it was new until now.
    fn note(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter >= self.next {
            let ahead = (counter - self.next).min(WINDOW);
            for passed in counter - ahead..counter {
                let (word, bit) = Self::bit(passed);
                self.came[word] &= !bit;
            }
            self.next = counter + 1;
        }
        let (word, bit) = Self::bit(counter);
        self.came[word] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Agreement, Channel, NoAgreement, NotSealed, PUBLIC, Seen, Way};
    use crate::keycache::entry::LockboxId;

    const SECRET: &[u8] = b"thirty-two bytes of a content key";

    fn ends() -> (Channel, Channel) {
        let (client, server) = (Agreement::new().unwrap(), Agreement::new().unwrap());
        let (c, s) = (client.public(), server.public());
        (client.as_client(&s).unwrap(), server.as_server(&c).unwrap())
    }

    fn id(text: &str) -> LockboxId {
        LockboxId::parse(text).unwrap()
    }

    #[test]
    fn what_one_end_seals_the_other_opens_once() {
        let (client, server) = ends();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let sealed = from.seal(Way::Put, &id("a"), SECRET).unwrap();
            let seen = sealed.bytes.windows(8).any(|part| SECRET.starts_with(part));
            assert!(!seen, "it is sealed");
            let mut key = vec![0; SECRET.len()];
            let open =
                |key: &mut [u8]| to.open(Way::Put, &id("a"), sealed.counter, &sealed.bytes, key);
            assert_eq!(open(&mut key), Ok(()));
            assert_eq!(key, SECRET);
            key.fill(0);
            assert_eq!(open(&mut key), Err(NotSealed), "a second time");
            assert_eq!(key, [0; SECRET.len()]);
        }
    }

    #[test]
    fn it_opens_for_nothing_else_and_leaves_nothing() {
        let (client, server) = ends();
        let (_, stranger) = ends();
        let sealed = client.seal(Way::Put, &id("a"), SECRET).unwrap();
        let mut changed = sealed.bytes.clone();
        changed[0] ^= 1;
        let (number, bytes) = (sealed.counter, &sealed.bytes);
        let short = &bytes[..bytes.len() - 1];
        for (end, way, lockbox, counter, bytes) in [
            (&server, Way::Get, "a", number, &bytes[..]),
            (&server, Way::Put, "b", number, bytes),
            (&server, Way::Put, "a", number + 1, bytes),
            (&server, Way::Put, "a", number, &changed),
            (&server, Way::Put, "a", number, short),
            (&server, Way::Put, "a", number, &[]),
            (&stranger, Way::Put, "a", number, bytes),
            (&client, Way::Put, "a", number, bytes),
        ] {
            let mut key = vec![0; SECRET.len()];
            let opened = end.open(way, &id(lockbox), counter, bytes, &mut key);
            assert_eq!(opened, Err(NotSealed));
            assert_eq!(key, [0; SECRET.len()]);
        }
        let mut key = vec![0; SECRET.len()];
        let opened = server.open(Way::Put, &id("a"), number, bytes, &mut key);
        assert_eq!(opened, Ok(()), "none of them used its number up");
    }

    #[test]
    fn a_public_key_that_is_none_is_refused() {
        for bad in [&[0; PUBLIC][..], &[1; 31], &[]] {
            let agreed = Agreement::new().unwrap().as_server(bad);
            assert_eq!(agreed.err(), Some(NoAgreement));
        }
    }

    #[test]
    fn a_counter_counts_once_and_may_be_overtaken() {
        let mut seen = Seen::default();
        for (counter, is_new) in [
            (0, true),
            (0, false),
            (2, true),
            (1, true),
            (1, false),
            (4_097, true),
            (3, true),
            (2, false),
            (1, false),
            (4_097, false),
            (4_096, true),
            (4_099, true),
            (4, true),
            (3, false),
            (20_000, true),
            (15_904, false),
            (15_905, true),
            (19_999, true),
            (u64::MAX, false),
            (u64::MAX - 1, true),
            (u64::MAX - 1, false),
        ] {
            assert_eq!(seen.note(counter), is_new, "{counter}");
        }
    }
}
