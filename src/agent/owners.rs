//! The sessions that own keys: whether they still live, and whose a handle is.
//!
//! Only episoded knows. A session is watched from before its first key is kept until
//! its last has gone:
//!
//! ```text
//! unknown --admit: it lives--> watched --it ended--> unknown, its keys are gone
//!                                | ^
//!                    connection  | |  connection back, it lives
//!                        lost    v |
//!                               lost --five seconds--> its keys are refused, and kept
//! ```
//!
//! A handle is asked about at each use: it may have been replaced since the last.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prost_types::Timestamp;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::keeper::Keeper;
use crate::{
    client::{Client, ClientError, Follow, Handle, Update},
    clock::Now,
    ids::SessionId,
    paths::Env,
    proto::session::{
        Event, EventKind, GetSessionRequest, LookupSessionRequest, Session, SessionStatus,
        WatchFilter, lookup_session_request::Key,
    },
    reason::Reason,
};

/// Sessions at once: each holds a connection.
const MAX_OWNERS: usize = 1_024;

/// episoded answers by then; who asks us may not wait longer than two seconds.
const ANSWER: Duration = Duration::from_secs(1);

/// Between two questions whether a session still lives, once the connection is back.
const AGAIN: Duration = Duration::from_millis(250);

/// So long after its watch was lost, a session may still have its keys; in
/// milliseconds.
const TRUSTED: u64 = 5_000;

/// A session cannot own, or have, a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnerError {
    /// It is no handle of a live session.
    HandleNotAccepted,
    /// There is no such session.
    NotFound,
    /// It has ended.
    Ended,
    /// There are too many already.
    Full,
    /// episoded does not answer, or not as expected.
    Unavailable(String),
}

impl From<ClientError> for OwnerError {
    fn from(error: ClientError) -> Self {
        match error.reason {
            Some(Reason::HandleNotAccepted) => Self::HandleNotAccepted,
            Some(Reason::SessionNotFound) => Self::NotFound,
            _ => Self::Unavailable(error.message),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owners {
    operator: PathBuf,
    session: PathBuf,
    watched: Mutex<HashMap<SessionId, Watched>>,
    /// What asks about handles.
    asking: tokio::sync::Mutex<Option<Client>>,
}

/// A session that is known by more than its name, which may be used again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub(super) session: SessionId,
    birth: Birth,
}

/// Where and when a session was registered: no two of one name share both.
#[derive(Debug, Clone, PartialEq)]
struct Birth {
    registry: String,
    time: Option<Timestamp>,
}

impl Birth {
    fn of(session: &Session) -> Self {
        Self {
            registry: session.registry_id.clone(),
            time: session.create_time,
        }
    }
}

/// Whether a session may have its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its end would have been seen, up to a few seconds ago.
    Watched,
    /// Nobody can say whether it lives.
    Lost,
    /// It owns nothing.
    Unknown,
    /// It only has the name of one that owned keys, and has ended.
    Another,
}

#[derive(Debug)]
struct Watched {
    watch: AbortHandle,
    birth: Birth,
    /// On the boot clock.
    lost: Option<u64>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Owners {
    /// Finds episoded where that environment says; a place that it cannot say is one
    /// where nobody answers.
    pub(super) fn new(env: &Env) -> Self {
        Self {
            operator: env.operator_socket().unwrap_or_default(),
            session: env.session_socket().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Whose handle it is.
    pub(super) async fn of_handle(&self, handle: Handle) -> Result<Owner, OwnerError> {
        let client = self.asking().await?.with_handle(handle);
        let request = LookupSessionRequest {
            key: Some(Key::Own(true)),
            include_terminated: false,
        };
        let found = client.lookup_session(request).await?.session;
        let found = found.unwrap_or_default();
        let session = SessionId::parse(&found.session_id)
            .map_err(|error| OwnerError::Unavailable(error.to_string()))?;
        Ok(Owner {
            session,
            birth: Birth::of(&found),
        })
    }

    async fn asking(&self) -> Result<Client, OwnerError> {
        let mut asking = self.asking.lock().await;
        if let Some(client) = &*asking {
            return Ok(client.clone());
        }
        let client = connect(&self.session).await?;
        *asking = Some(client.clone());
        Ok(client)
    }

    /// Watches a session that lives, if it is not watched already.
    pub(super) async fn admit(keeper: &Arc<Keeper>, session: &SessionId) -> Result<(), OwnerError> {
        let owners = &keeper.owners;
        let known = {
            let watched = owners.watched.lock();
            if !watched.contains_key(session) && watched.len() >= MAX_OWNERS {
                return Err(OwnerError::Full);
            }
            let known = watched.get(session);
            known.map(|known| (known.birth.clone(), known.lost.is_some()))
        };
        let client = connect(&owners.operator).await?;
        match known {
            Some((_, true)) => Err(OwnerError::Unavailable("its watch is lost".to_owned())),
            Some((birth, false)) => match birth_of(&client, session).await? {
                Some(found) if found == birth => Ok(()),
                _ => Err(OwnerError::Ended),
            },
            None => Self::begin(keeper, session, client).await,
        }
    }

    async fn begin(
        keeper: &Arc<Keeper>,
        session: &SessionId,
        client: Client,
    ) -> Result<(), OwnerError> {
        let filter = WatchFilter {
            session_id: session.as_str().to_owned(),
            ..WatchFilter::default()
        };
        // First the watch, then the look: what ends in between is seen.
        let follow = Follow::from_now(client.clone(), filter).await?;
        let birth = birth_of(&client, session).await?;
        let birth = birth.ok_or(OwnerError::Ended)?;
        let mut watched = keeper.owners.watched.lock();
        // Another may have been faster.
        watched.entry(session.clone()).or_insert_with(|| {
            let owner = Owner {
                session: session.clone(),
                birth: birth.clone(),
            };
            let watching = watch(Arc::clone(keeper), owner, client, follow);
            Watched {
                watch: tokio::spawn(watching).abort_handle(),
                birth,
                lost: None,
            }
        });
        Ok(())
    }

    /// Whether its end would be seen.
    pub(super) fn is_watched(&self, session: &SessionId) -> bool {
        self.watched.lock().contains_key(session)
    }

    /// Whether it may have what it owns.
    pub(super) fn trust(&self, owner: &Owner, now: Now) -> Trust {
        let watched = self.watched.lock();
        match watched.get(&owner.session) {
            None => Trust::Unknown,
            Some(watched) if watched.birth != owner.birth => Trust::Another,
            Some(Watched { lost: None, .. }) => Trust::Watched,
            Some(Watched {
                lost: Some(since), ..
            }) if now.boot.saturating_sub(*since) < TRUSTED => Trust::Watched,
            Some(_) => Trust::Lost,
        }
    }

    /// Watches no more those that own nothing.
    pub(super) fn retain(&self, owns: impl Fn(&SessionId) -> bool) {
        self.watched.lock().retain(|session, _| owns(session));
    }

    fn set_lost(&self, session: &SessionId, lost: Option<u64>) {
        if let Some(watched) = self.watched.lock().get_mut(session) {
            watched.lost = lost;
        }
    }

    /// Ends what a session owns.
    pub(super) fn end(&self, keeper: &Keeper, session: &SessionId) {
        // In this order: a key that comes in between finds no watch.
        self.watched.lock().remove(session);
        keeper.end_session(session);
    }
}

async fn connect(socket: &std::path::Path) -> Result<Client, OwnerError> {
    let connected = timeout(ANSWER, Client::connect(socket)).await;
    let silent = |_| OwnerError::Unavailable(format!("{} is silent", socket.display()));
    Ok(connected.map_err(silent)??.with_timeout(ANSWER))
}

/// Which session has that name; none if it has ended.
async fn birth_of(client: &Client, session: &SessionId) -> Result<Option<Birth>, ClientError> {
    let request = GetSessionRequest {
        session_id: session.as_str().to_owned(),
    };
    let found = client.get_session(request).await?.session;
    Ok(found.filter(is_active).as_ref().map(Birth::of))
}

fn is_active(session: &Session) -> bool {
    session.status() == SessionStatus::Active
}

/// Watches until the session has ended, and ends its keys with it.
async fn watch(keeper: Arc<Keeper>, owner: Owner, client: Client, mut follow: Follow) {
    let why = watch_to_the_end(&keeper, &owner, &client, &mut follow).await;
    let session = owner.session;
    info!(%session, why, "a session owns no keys any more");
    keeper.owners.end(&keeper, &session);
}

async fn watch_to_the_end(
    keeper: &Keeper,
    owner: &Owner,
    client: &Client,
    follow: &mut Follow,
) -> &'static str {
    let (owners, session) = (&keeper.owners, &owner.session);
    let mut shown = false;
    loop {
        match follow.next().await {
            Ok(Update::Events(events)) if events.iter().any(is_end) => return "it ended",
            Ok(Update::Events(_) | Update::Reset(_)) => {}
            Ok(Update::Snapshot { sessions, complete }) => {
                shown |= sessions
                    .iter()
                    .any(|session| is_active(session) && Birth::of(session) == owner.birth);
                if complete && !std::mem::take(&mut shown) {
                    return "it has ended";
                }
            }
            Ok(Update::Lost(error)) => {
                warn!(%session, %error, "the watch of an owner of keys is lost");
                owners.set_lost(session, Some(keeper.now().boot));
            }
            Ok(Update::Resumed) => {
                if !still_lives(client, owner).await {
                    return "it has ended meanwhile";
                }
                owners.set_lost(session, None);
            }
            Err(error) => {
                warn!(%session, %error, "an owner of keys cannot be watched");
                return "nobody can say whether it lives";
            }
        }
    }
}

/// Asks until there is an answer.
async fn still_lives(client: &Client, owner: &Owner) -> bool {
    loop {
        match birth_of(client, &owner.session).await {
            Ok(birth) => return birth.as_ref() == Some(&owner.birth),
            Err(error) if error.is_transient() => sleep(AGAIN).await,
            Err(_) => return false,
        }
    }
}

fn is_end(event: &Event) -> bool {
    let ends = matches!(
        event.kind(),
        EventKind::Terminated | EventKind::Evicted | EventKind::Removed
    );
    ends || event
        .session
        .as_ref()
        .is_some_and(|session| !is_active(session))
}
