//! The secret store of the user's desktop session: the Secret Service on the bus.
//!
//! Owns under which attributes a key lies there, and how long the store may take.
//! Opens no window: one that is locked is refused and not asked to unlock itself,
//! because nobody may be there to answer. Nothing else knows the bus.
//!
//! A key travels sealed with a key of this connection alone (Diffie-Hellman of 1024
//! bits, which the protocol prescribes, then AES), so that the bus's own daemon holds
//! none in clear; the store itself does, as long as it is unlocked. Of what the
//! `secret-service` crate makes in this process, the key that it opens is wiped here,
//! in the buffer in which it was opened; it never wipes the connection's key, nor the
//! block of 16 bytes at the end of a key that is sealed. They are left to the end of
//! this process, which is near and leaves no dump.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use secret_service::{EncryptionType, Item, SearchItemsResult, SecretService};
use zeroize::Zeroizing;

use crate::keycache::arena::MAX_KEY;
use crate::keycache::entry::LockboxId;

/// A store that does not answer by then hangs. Time enough for the bus to start one.
pub const ANSWER: Duration = Duration::from_secs(5);

/// The application, as the store shows it to its user.
const SERVICE: &str = "lockbox";
/// A key is any bytes.
const CONTENT: &str = "application/octet-stream";

/// A connection to the store.
pub struct Store {
    service: SecretService<'static>,
}

impl Store {
    /// Connects; the bus starts the store if it knows how.
    pub async fn connect() -> Result<Self, StoreError> {
        let service = SecretService::connect(EncryptionType::Dh).await;
        Ok(Self {
            service: service.map_err(StoreError::Unreachable)?,
        })
    }

    /// Whether a key could be stored now.
    pub async fn is_locked(&self) -> Result<bool, StoreError> {
        let place = self.service.get_default_collection().await;
        Ok(place.map_err(no_place)?.is_locked().await?)
    }

    /// Stores the key in the place of any other of that lockbox.
    pub async fn put(&self, id: &LockboxId, key: &[u8]) -> Result<(), StoreError> {
        let place = self.service.get_default_collection().await;
        let place = place.map_err(no_place)?;
        let before = self.find(id).await?;
        if place.is_locked().await? || !before.locked.is_empty() {
            return Err(StoreError::Locked);
        }
        let label = format!("Lockbox {}", id.as_str());
        let made = place.create_item(&label, attributes(id), key, true, CONTENT);
        let made = made.await?;
        // In another place than today's.
        for old in before.unlocked.iter().filter(|old| **old != made) {
            old.delete().await?;
        }
        Ok(())
    }

    /// The key of that lockbox, if it is there.
    pub async fn key(&self, id: &LockboxId) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let found = self.find(id).await?;
        let Some(item) = found.unlocked.first() else {
            return if found.locked.is_empty() {
                Ok(None)
            } else {
                Err(StoreError::Locked)
            };
        };
        let key = Zeroizing::new(item.get_secret().await?);
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(StoreError::NoKey);
        }
        Ok(Some(key))
    }

    /// Whether a key of that lockbox is there, as a locked store says it, too.
    pub async fn holds(&self, id: &LockboxId) -> Result<bool, StoreError> {
        let found = self.find(id).await?;
        Ok(!found.unlocked.is_empty() || !found.locked.is_empty())
    }

    /// Removes whatever is there of that lockbox; whether anything was.
    pub async fn remove(&self, id: &LockboxId) -> Result<bool, StoreError> {
        let found = self.find(id).await?;
        if !found.locked.is_empty() {
            return Err(StoreError::Locked);
        }
        for item in &found.unlocked {
            item.delete().await?;
        }
        Ok(!found.unlocked.is_empty())
    }

    async fn find(&self, id: &LockboxId) -> Result<SearchItemsResult<Item<'_>>, StoreError> {
        Ok(self.service.search_items(attributes(id)).await?)
    }
}

/// As the keyring crates of Rust and Python name theirs.
fn attributes(id: &LockboxId) -> HashMap<&str, &str> {
    HashMap::from([("service", SERVICE), ("username", id.as_str())])
}

fn no_place(error: secret_service::Error) -> StoreError {
    match error {
        secret_service::Error::NoResult => StoreError::NoPlace,
        error => error.into(),
    }
}

/// What comes of the work, or that the store took too long.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(StoreError::Silent(limit)))
}

/// The store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// There is no bus, or no store on it.
    Unreachable(secret_service::Error),
    /// No answer in that time.
    Silent(Duration),
    /// It wants its password first.
    Locked,
    /// It has no place for keys that have none of their own.
    NoPlace,
    /// What is stored is empty, or too long.
    NoKey,
    /// It was asked and failed.
    Failed(secret_service::Error),
}

impl StoreError {
    /// How to mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "run this inside the desktop session, or name its bus in DBUS_SESSION_BUS_ADDRESS; a service such as gnome-keyring must be on it"
            }
            Self::Silent(_) => "see whether the store waits for somebody, and try again",
            Self::Locked => "unlock it with its own manager, or by logging in to the desktop",
            Self::NoPlace => "make a default keyring with the store's own manager",
            Self::NoKey => "`episodectl key auto-unlock enable ID` stores the key anew",
            Self::Failed(_) => "the store's own manager or log may say more",
        }
    }
}

impl From<secret_service::Error> for StoreError {
    fn from(error: secret_service::Error) -> Self {
        match error {
            secret_service::Error::Locked => Self::Locked,
            error => Self::Failed(error),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the secret store cannot be reached"),
            Self::Silent(limit) => {
                write!(f, "no answer from the secret store in {limit:?}")
            }
            Self::Locked => f.write_str("the secret store is locked"),
            Self::NoPlace => f.write_str("the secret store has no default keyring"),
            Self::NoKey => f.write_str("what the secret store holds is no key"),
            Self::Failed(_) => f.write_str("the secret store failed"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::Failed(error) => Some(error),
            Self::Silent(_) | Self::Locked | Self::NoPlace | Self::NoKey => None,
        }
    }
}
