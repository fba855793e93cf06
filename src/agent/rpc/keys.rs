//! The calls that carry, name or end keys.

use hyper::body::Incoming;
use tonic::body::Body;

use super::{Begun, Presented, api::Api, fields};
use crate::{
    agent::{
        keeper::KeepError,
        owners::{OwnerError, Owners, Trust},
        put::Put,
    },
    client::Handle,
    grpc::{
        direct,
        status::{Refusal, Violations, handle_not_accepted, internal, no_session},
    },
    ids::SessionId,
    keycache::{
        arena::{Kind, NoSecureMemory, Secret},
        channel::{Agreement, Channel, NotSealed, Sealed, Way},
        entry::LockboxId,
        grant::GrantId,
    },
    proto::keycache::{self as pb, forget_key_request::Which},
    reason::Reason,
};

/// Entries of a page, and bytes of their names after which it ends.
const MAX_PAGE: usize = 1_000;
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// Serves `GetKey`.
pub(super) fn get(
    api: &Api,
    max_request: usize,
    presented: Presented,
    request: http::Request<Incoming>,
) -> impl Future<Output = http::Response<Body>> {
    direct::unary(max_request, request, async move |request| {
        api.get(&request, presented).await
    })
}

/// A channel that was opened just now.
pub(super) struct Opened {
    pub(super) id: u32,
    pub(super) server_public_key: Vec<u8>,
}

impl Api {
    pub(super) fn open_channel(&self, client_public_key: &[u8]) -> Result<Opened, Refusal> {
        let agreement = Agreement::new().map_err(|_| internal())?;
        let server_public_key = agreement.public().to_vec();
        let channel = agreement.as_server(client_public_key).map_err(|_| {
            let mut bad = Violations::default();
            let rule = "must be an X25519 public key of 32 bytes";
            bad.add(Reason::MalformedMessage, "client_public_key", rule);
            bad.into_refusal()
        })?;
        let id = self.channels.add(channel)?;
        Ok(Opened {
            id,
            server_public_key,
        })
    }

    pub(super) async fn put(
        &self,
        request: pb::PutKeyRequest,
        begun: Begun,
    ) -> Result<(), Refusal> {
        let mut bad = Violations::default();
        let id = fields::lockbox_id(&request.lockbox_id, &mut bad);
        fields::path(&request.path, &mut bad);
        let length = fields::sealed(&request.sealed_key, &mut bad);
        let keep = fields::keep(&request, &mut bad);
        let owner = request.owner.as_ref().map(|owner| {
            fields::nothing_but_owner(&request, &mut bad);
            fields::owner(owner, self.keeper.now(), &mut bad)
        });
        let Some(id) = id.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let key = self.unseal(&request, &id, length)?;
        let kept = if let Some((session, terms)) = owner.flatten() {
            Owners::admit(&self.keeper, &session)
                .await
                .map_err(|error| refuse_owner(error, &session))?;
            let id = GrantId {
                session,
                lockbox: id,
            };
            self.keeper.grant(id, key, terms, begun.0)
        } else {
            let path = Some(request.path).filter(|path| !path.is_empty());
            let put = Put {
                id,
                key,
                path,
                keep,
            };
            self.keeper.put(put, begun.0)
        };
        kept.map_err(not_kept)
    }

    /// The key of a put, where it stays.
    fn unseal(
        &self,
        request: &pb::PutKeyRequest,
        id: &LockboxId,
        length: usize,
    ) -> Result<Secret, Refusal> {
        let channel = self.channels.find(request.channel_id)?;
        let arena = &self.keeper.arena;
        let mut key = arena.take(length).ok_or_else(|| match arena.kind() {
            Kind::Nothing => {
                Refusal::new(Reason::SecureMemoryUnavailable, NoSecureMemory.to_string())
            }
            _ => full(),
        })?;
        let (counter, sealed) = (request.counter, &request.sealed_key);
        channel
            .open(Way::Put, id, counter, sealed, key.expose_mut())
            .map_err(|NotSealed| {
                let mut bad = Violations::default();
                let rule = "was not sealed for this channel, counter and lockbox, or came before";
                bad.add(Reason::MalformedMessage, "sealed_key", rule);
                bad.into_refusal()
            })?;
        Ok(key)
    }

    pub(super) async fn get(
        &self,
        request: &pb::GetKeyRequest,
        presented: Presented,
    ) -> Result<pb::GetKeyResponse, Refusal> {
        let mut bad = Violations::default();
        let id = fields::lockbox_id(&request.lockbox_id, &mut bad);
        let opens = !request.client_public_key.is_empty();
        if opens && request.channel_id != 0 {
            let rule = "must be 0 beside a client_public_key";
            bad.add(Reason::MalformedMessage, "channel_id", rule);
        }
        let Some(id) = id.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let mut answer = pb::GetKeyResponse::default();
        if opens {
            let opened = self.open_channel(&request.client_public_key)?;
            answer.channel_id = opened.id;
            answer.server_public_key = opened.server_public_key;
        }
        let channel = self
            .channels
            .find(request.channel_id.max(answer.channel_id))?;
        let sealed = match presented {
            Presented::Nothing => self.seal(&channel, &id),
            Presented::Handle(handle) => self.seal_owned(&channel, id, &handle).await?,
        };
        if let Some(sealed) = sealed {
            let sealed = sealed.map_err(|NotSealed| internal())?;
            answer.hit = true;
            answer.counter = sealed.counter;
            answer.sealed_key = sealed.bytes;
        }
        Ok(answer)
    }

    fn seal(&self, channel: &Channel, id: &LockboxId) -> Option<Result<Sealed, NotSealed>> {
        let (mut cache, now) = self.keeper.cache();
        let entry = cache.get(id, now)?;
        Some(channel.seal(Way::Get, id, entry.key().expose()))
    }

    /// The same of what a session owns.
    async fn seal_owned(
        &self,
        channel: &Channel,
        lockbox: LockboxId,
        handle: &[u8],
    ) -> Result<Option<Result<Sealed, NotSealed>>, Refusal> {
        let handle = std::str::from_utf8(handle).ok();
        let handle = handle.and_then(|handle| Handle::parse(handle).ok());
        let handle = handle.ok_or_else(handle_not_accepted)?;
        let owners = &self.keeper.owners;
        let owner = owners
            .of_handle(handle)
            .await
            .map_err(|error| match error {
                OwnerError::Unavailable(why) => unavailable(&why),
                _ => handle_not_accepted(),
            })?;
        match owners.trust(&owner, self.keeper.now()) {
            Trust::Watched => {}
            Trust::Unknown => return Ok(None),
            Trust::Lost => return Err(unavailable("the watch of the session is lost")),
            Trust::Another => {
                owners.end(&self.keeper, &owner.session);
                return Ok(None);
            }
        }
        let id = GrantId {
            session: owner.session,
            lockbox,
        };
        Ok(self
            .keeper
            .use_grant(&id, |key| channel.seal(Way::Get, &id.lockbox, key.expose())))
    }

    pub(super) fn forget(&self, request: &pb::ForgetKeyRequest) -> Result<u32, Refusal> {
        let mut bad = Violations::default();
        let session = Some(&*request.session_id).filter(|session| !session.is_empty());
        let session = session.map(|session| bad.take("session_id", SessionId::parse(session)));
        let forgotten = match (&request.which, session) {
            (Some(Which::LockboxId(id)), session) => {
                let id = fields::lockbox_id(id, &mut bad);
                id.filter(|_| bad.is_empty()).map_or(0, |id| {
                    usize::from(match session.flatten() {
                        Some(session) => self.keeper.revoke(&GrantId {
                            session,
                            lockbox: id,
                        }),
                        None => self.keeper.forget(&id),
                    })
                })
            }
            (Some(Which::Path(path)), None) if !path.is_empty() => self.keeper.forget_path(path),
            (Some(Which::Path(_)), Some(_)) => {
                let rule = "must be lockbox_id beside a session_id";
                bad.add(Reason::MalformedMessage, "which", rule);
                0
            }
            (Some(Which::Path(_)) | None, _) => {
                let rule = "must be one of lockbox_id, path";
                bad.add(Reason::MalformedMessage, "which", rule);
                0
            }
        };
        if bad.is_empty() {
            Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
        } else {
            Err(bad.into_refusal())
        }
    }

    pub(super) fn list(
        &self,
        request: &pb::ListKeysRequest,
    ) -> Result<pb::ListKeysResponse, Refusal> {
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let place = Place::parse(&request.page_token).ok_or_else(|| {
            Refusal::new(Reason::InvalidPageToken, "the page token is not of a list")
        })?;
        let (cache, now) = self.keeper.cache();
        let (key, grant) = match &place {
            Place::Start => (None, None),
            Place::Key(id) => (Some(id), None),
            Place::Grant(id) => (None, Some(id)),
        };
        let keys = cache.list(key, now);
        let keys = keys.map(|(id, entry)| fields::show_entry(id, entry, now));
        let grants = cache.grants.list(grant, now);
        let grants = grants.map(|(id, grant)| fields::show_grant(id, grant, now));
        let keys = keys.take(if grant.is_none() { usize::MAX } else { 0 });
        let mut all = keys.chain(grants).peekable();
        let mut page = pb::ListKeysResponse::default();
        let mut bytes = 0;
        while page.keys.len() < size && bytes < MAX_PAGE_BYTES {
            let Some(key) = all.next() else {
                break;
            };
            bytes += key.lockbox_id.len() + key.path.len();
            page.keys.push(key);
        }
        if all.peek().is_some()
            && let Some(last) = page.keys.last()
        {
            page.next_page_token = token(last);
        }
        Ok(page)
    }
}

fn full() -> Refusal {
    let message = "no room for another key: forget some, or wait until they expire";
    Refusal::new(Reason::CacheFull, message)
}

fn not_kept(error: KeepError) -> Refusal {
    match error {
        KeepError::Full => full(),
        KeepError::InvalidTtl => {
            let mut bad = Violations::default();
            bad.add(Reason::InvalidTtl, "ttl", "must end before the clock does");
            bad.into_refusal()
        }
        KeepError::Wiped => {
            let message =
                "all keys were forgotten while this one arrived, or the machine is about to sleep";
            Refusal::new(Reason::KeysWiped, message)
        }
        KeepError::OwnerEnded => ended(),
    }
}

fn ended() -> Refusal {
    Refusal::new(Reason::SessionTerminated, "the session has ended")
}

fn unavailable(why: &str) -> Refusal {
    let message = format!("episoded cannot say whose the key is: {why}");
    Refusal::new(Reason::EpisodedUnavailable, message)
}

fn refuse_owner(error: OwnerError, session: &SessionId) -> Refusal {
    match error {
        OwnerError::NotFound => no_session(session.as_str()),
        OwnerError::Ended => ended(),
        OwnerError::Full => full(),
        // Nobody showed a handle.
        OwnerError::HandleNotAccepted => internal(),
        OwnerError::Unavailable(why) => unavailable(&why),
    }
}

/// Where a page begins: behind what.
enum Place {
    Start,
    Key(LockboxId),
    Grant(GrantId),
}

impl Place {
    fn parse(token: &str) -> Option<Self> {
        Some(match token.split_once('.') {
            None if token.is_empty() => Self::Start,
            None => Self::Key(LockboxId::parse(&unhex(token)?).ok()?),
            Some((session, lockbox)) => Self::Grant(GrantId {
                session: SessionId::parse(&unhex(session)?).ok()?,
                lockbox: LockboxId::parse(&unhex(lockbox)?).ok()?,
            }),
        })
    }
}

/// The list goes on behind this.
fn token(last: &pb::CachedKey) -> String {
    let lockbox = hex(&last.lockbox_id);
    match &last.owner {
        None => lockbox,
        Some(owner) => format!("{}.{lockbox}", hex(&owner.session_id)),
    }
}

fn hex(text: &str) -> String {
    let digits = text.bytes().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks(2);
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    String::from_utf8(digits.map(byte).collect::<Option<_>>()?).ok()
}
