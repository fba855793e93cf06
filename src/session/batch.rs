//! What one commit will hold: the index plus the batch's own changes so far.
//!
//! A decision sees the changes decided before it in the same batch, so two
//! registrations of one id cannot both win. Nothing here touches the index; a
//! failed commit drops the batch.

mod firewall;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{
    clock::Now,
    ids::{RequestId, SessionId, WorkId},
    secret::HandleDigest,
    session::{
        error::TargetError,
        event::{About, Event, EventKind},
        expiry,
        index::{HandleMatch, IndexWriter, Interner, View},
        limits::Limits,
        manifests::Manifests,
        refinement::Refinements,
        requests::{Led, Requests},
        state::{
            Actor, Counters, Deadline, Live, Peer, Record, Revision, Seq, Session, Status,
            TerminationReason,
        },
        store::{Change, Request},
    },
};

/// Decisions whose room is kept at most: to clear more takes each small batch longer
/// than to make room for itself.
const KEPT_ROOM: usize = 2 * 1024;

/// Changes decided but not yet committed.
#[derive(Debug, Default)]
pub struct Overlay {
    changes: Vec<Change>,
    touched: HashMap<Seq, Option<View>>,
    ids: HashMap<SessionId, Seq>,
    works: HashMap<WorkId, Seq>,
    requests: HashMap<RequestId, (Request, Led)>,
    live: i64,
    /// Sessions up to this one have ended, in this batch at the latest.
    evict_from: Seq,
    asked: firewall::Asked,
}

impl Overlay {
    /// Makes room for decisions about so many sessions.
    pub fn reserve(&mut self, sessions: usize) {
        self.changes.reserve(sessions);
        self.touched.reserve(sessions);
        self.ids.reserve(sessions);
        self.works.reserve(sessions);
    }

    /// Decisions that there is room for.
    fn room(&self) -> usize {
        self.changes.capacity().max(self.touched.capacity())
    }

    /// Takes all decisions back, and keeps their room unless it is much.
    pub fn clear(&mut self) {
        if self.room() > KEPT_ROOM {
            *self = Self::default();
            return;
        }
        let Self {
            changes,
            touched,
            ids,
            works,
            requests,
            live,
            evict_from,
            asked,
        } = self;
        changes.clear();
        touched.clear();
        ids.clear();
        works.clear();
        requests.clear();
        *live = 0;
        *evict_from = Seq::default();
        *asked = firewall::Asked::default();
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is to be committed.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The same, to keep.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// The named calls in it.
    pub fn requests(&self) -> impl Iterator<Item = &(Request, Led)> {
        self.requests.values()
    }
}

/// The numbers that are given out next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    /// The last registration.
    pub seq: Seq,
    /// The newest revision.
    pub revision: Revision,
}

/// What a decision sees and changes.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) overlay: &'a mut Overlay,
    pub(super) index: &'a IndexWriter,
    pub(super) interner: &'a mut Interner,
    pub(super) requests: &'a Requests,
    pub(super) manifests: &'a Manifests,
    pub(super) refinements: &'a Refinements,
    pub(super) numbers: &'a mut Numbers,
    /// The time of the batch.
    pub now: Now,
    /// The limits of the batch.
    pub limits: Limits,
    pub(super) daemon: &'a Arc<Peer>,
    pub(super) evict_from: &'a mut Seq,
}

/// How a caller names a session.
#[derive(Debug, Clone)]
pub enum Target {
    /// The operator, by its id.
    Named(SessionId),
    /// The session itself, by its handle.
    Own(HandleDigest),
}

/// How a session is to end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Why.
    pub reason: TerminationReason,
    /// More on why.
    pub detail: Box<str>,
    /// How it came out.
    pub exit_classification: crate::session::state::ExitClassification,
    /// The process's exit code.
    pub exit_code: Option<i32>,
    /// Tokens consumed in all.
    pub tokens_consumed: Option<u64>,
    /// Last counters.
    pub counters: Counters,
}

impl Batch<'_> {
    fn newest(&self, view: View) -> Option<View> {
        match self.overlay.touched.get(&view.session.seq) {
            Some(changed) => changed.clone(),
            None => Some(view),
        }
    }

    /// The session of that id, live or remembered.
    pub fn by_id(&self, id: &SessionId) -> Option<View> {
        if let Some(seq) = self.overlay.ids.get(id) {
            return self.overlay.touched.get(seq)?.clone();
        }
        self.newest(self.index.index().by_id(id.as_str(), self.now)?)
    }

    /// The session of that number, live or remembered.
    pub fn by_seq(&self, seq: Seq) -> Option<View> {
        match self.overlay.touched.get(&seq) {
            Some(changed) => changed.clone(),
            None => self.index.index().by_seq(seq),
        }
    }

    /// A session that the caller may act on, live or ended. A handle finds only
    /// its own live session.
    pub fn target(&self, target: &Target) -> Result<View, TargetError> {
        match target {
            Target::Named(id) => self.by_id(id).ok_or(TargetError::NotFound),
            Target::Own(digest) => match self.index.index().by_handle(digest, self.now) {
                Some(HandleMatch::Current(view)) => self
                    .newest(view)
                    .filter(|view| view.session.handle.as_ref() == Some(digest))
                    .ok_or(TargetError::HandleNotAccepted),
                _ => Err(TargetError::HandleNotAccepted),
            },
        }
    }

    /// As [`Batch::target`], live, and unchanged since the caller's etag. One whose
    /// deadline has passed is not live, whether or not the writer has ended it yet:
    /// its handle is refused since then.
    pub fn live_target(
        &self,
        target: &Target,
        etag: Option<Revision>,
    ) -> Result<View, TargetError> {
        let view = self.target(target)?;
        if !self.is_live(&view) {
            return Err(TargetError::Terminated(view.session));
        }
        self.check_etag(&view.session, etag)?;
        Ok(view)
    }

    /// Whether a session is active and no deadline of it has passed.
    pub fn is_live(&self, view: &View) -> bool {
        let heard_since = self.index.index().heard_since();
        let due = expiry::due(&view.session, &view.live, heard_since, self.now);
        view.session.is_active() && due.is_none()
    }

    /// Refuses a change to a session that is not as the caller saw it.
    pub fn check_etag(&self, session: &Session, etag: Option<Revision>) -> Result<(), TargetError> {
        let current = self.index.index().revision_of(session);
        match etag {
            Some(seen) if seen != current => Err(TargetError::StaleEtag { current }),
            _ => Ok(()),
        }
    }

    /// A live session of a work id, in the index or in this batch.
    pub fn live_of_work(&self, work: &WorkId) -> Option<Arc<Session>> {
        if let Some(seq) = self.overlay.works.get(work)
            && let Some(view) = self.by_seq(*seq)
            && view.session.is_active()
        {
            return Some(view.session);
        }
        let live = self
            .index
            .of_work(work.as_str(), 1 + self.overlay.touched.len());
        let newest = |view| self.newest(view).filter(|view| view.session.is_active());
        live.into_iter().find_map(newest).map(|view| view.session)
    }

    /// The session that a named call was about, if it was made before.
    pub fn repeated(&self, request: Option<&Request>) -> Result<Option<Seq>, ReusedRequest> {
        Ok(self.led(request)?.map(|led| led.seq))
    }

    /// What a named call led to, if it was made before.
    pub fn led(&self, request: Option<&Request>) -> Result<Option<Led>, ReusedRequest> {
        let Some(request) = request else {
            return Ok(None);
        };
        let known = match self.overlay.requests.get(&request.id) {
            Some((known, led)) => Some((known.body, *led)),
            None => self
                .requests
                .find(request)
                .map(|known| (known.body, known.led)),
        };
        match known {
            Some((body, led)) if body == request.body => Ok(Some(led)),
            Some(_) => Err(ReusedRequest),
            None => Ok(None),
        }
    }

    /// Live sessions, this batch's included.
    pub fn live_count(&self) -> usize {
        let (live, _) = self.index.index().counts();
        usize::try_from(i64::try_from(live).unwrap_or(i64::MAX) + self.overlay.live).unwrap_or(0)
    }

    /// Slots left for new sessions.
    pub fn has_room(&self) -> bool {
        self.index.room() > self.overlay.ids.len()
    }

    /// The number of the next registration.
    pub fn next_seq(&self) -> Seq {
        Seq(self.numbers.seq.0 + 1)
    }

    /// Keeps one copy of what many share.
    pub fn intern(&mut self) -> &mut Interner {
        self.interner
    }

    /// Adds a session that was just registered.
    pub fn insert(&mut self, session: Session, work: WorkId, id: SessionId, call: &Call) -> View {
        let live = Live {
            last_wall: self.now.wall,
            last_awake: self.now.awake,
            ..Live::default()
        };
        self.numbers.seq = session.seq;
        self.overlay.ids.insert(id, session.seq);
        self.overlay.works.insert(work, session.seq);
        self.overlay.live += 1;
        self.put(session, live, EventKind::Created, call)
    }

    /// Puts a new version of a session, under the next revision.
    pub fn put(&mut self, session: Session, live: Live, kind: EventKind, call: &Call) -> View {
        self.put_about(session, live, kind, About::Session, call)
    }

    /// The same, with an event that tells more.
    fn put_about(
        &mut self,
        mut session: Session,
        live: Live,
        kind: EventKind,
        about: About,
        call: &Call,
    ) -> View {
        let previous = match kind {
            EventKind::Created => Revision::default(),
            _ => self.index.index().revision_of(&session),
        };
        self.numbers.revision.0 += 1;
        session.revision = self.numbers.revision;
        let session = Arc::new(session);
        let view = View {
            session: Arc::clone(&session),
            live,
        };
        if let Some(request) = &call.request {
            self.note_request(request, &session);
        }
        let event = self.event(kind, previous, Some(view.clone()), about, &call.actor);
        self.overlay.touched.insert(session.seq, Some(view.clone()));
        self.overlay.changes.push(Change::Put {
            session,
            live,
            event: Some(event),
            request: call.request.clone(),
        });
        view
    }

    fn note_request(&mut self, request: &Request, session: &Session) {
        let changes = match self.overlay.requests.get(&request.id) {
            Some((_, led)) => led.changes,
            None => 0,
        };
        let led = Led {
            seq: session.seq,
            revision: session.revision,
            changes: changes + 1,
        };
        let named = (request.clone(), led);
        self.overlay.requests.insert(request.id.clone(), named);
    }

    fn event(
        &self,
        kind: EventKind,
        previous: Revision,
        view: Option<View>,
        about: About,
        actor: &Actor,
    ) -> Arc<Event> {
        let live = view.as_ref().map(|view| view.live).unwrap_or_default();
        Arc::new(Event {
            revision: self.numbers.revision,
            previous,
            kind,
            at: self.now.wall,
            actor: actor.clone(),
            session: view.map(|view| view.session),
            live,
            about,
            encoded: std::sync::OnceLock::new(),
        })
    }

    /// Ends a session, durably or again if the last attempt was not.
    pub fn end(&mut self, view: &View, ending: &Ending, kind: EventKind, call: &Call) -> View {
        let mut session = (*view.session).clone();
        let record = match session.record() {
            Some(record) => record.clone(),
            None => self.record(view, ending, call.actor.clone()),
        };
        let mut live = view.live;
        live.counters = record.counters;
        session.handle = None;
        session.lease = None;
        let extra = session.extra_mut();
        extra.ending = false;
        extra.rotated = None;
        extra.record = Some(record);
        if view.session.status() != Status::Ending {
            self.overlay.live -= 1;
        }
        self.put(session, live, kind, call)
    }

    fn record(&self, view: &View, ending: &Ending, actor: Actor) -> Record {
        Record {
            reason: ending.reason,
            detail: ending.detail.clone(),
            exit_classification: ending.exit_classification,
            exit_code: ending.exit_code,
            tokens_consumed: ending.tokens_consumed,
            counters: view.live.counters.merged(ending.counters),
            ended: self.now.wall,
            duration: self.now.wall.saturating_sub(view.session.created),
            purge: Deadline::after(self.now, self.limits.terminated_ttl),
            actor,
        }
    }

    /// Takes a session back: gone, no record.
    pub fn remove(&mut self, view: &View, call: &Call) {
        let previous = view.session.revision;
        self.numbers.revision.0 += 1;
        let event = self.event(
            EventKind::Removed,
            previous,
            Some(view.clone()),
            About::Session,
            &call.actor,
        );
        self.overlay.touched.insert(view.session.seq, None);
        self.overlay.live -= 1;
        self.overlay.changes.push(Change::Delete {
            seq: view.session.seq,
            event: Some(event),
        });
    }

    /// Forgets an ended session.
    pub fn purge(&mut self, seq: Seq) {
        self.overlay.touched.insert(seq, None);
        self.overlay
            .changes
            .push(Change::Delete { seq, event: None });
    }

    /// Writes down what moved without a revision.
    pub fn note(&mut self, view: &View) {
        self.overlay.changes.push(Change::Put {
            session: Arc::clone(&view.session),
            live: view.live,
            event: None,
            request: None,
        });
    }

    /// The live sessions that were registered first, `count` of them; none if
    /// there are fewer. Those before them have ended, and are not looked at again:
    /// in this batch, or, where that is durable, ever.
    pub fn oldest_live(&mut self, count: usize) -> Option<Vec<View>> {
        const LEAST: usize = 16;
        const MOST: usize = 1024;
        let durable = *self.evict_from;
        let mut cursor = durable.max(self.overlay.evict_from);
        let mut all_ended_durably = cursor == durable;
        let mut found = Vec::with_capacity(count);
        let mut size = count.clamp(LEAST, MOST);
        while found.len() < count {
            let slice = self.index.index().after(cursor, size);
            cursor = slice.last()?.session.seq;
            size = (2 * size).min(MOST);
            for view in slice {
                let seq = view.session.seq;
                all_ended_durably &= !view.session.is_active();
                if all_ended_durably {
                    *self.evict_from = seq;
                }
                match self.newest(view).filter(|view| view.session.is_active()) {
                    Some(live) => found.push(live),
                    None if found.is_empty() => self.overlay.evict_from = seq,
                    None => {}
                }
                if found.len() == count {
                    break;
                }
            }
        }
        Some(found)
    }

    /// The daemon itself, for what it does on its own.
    pub fn daemon_call(&self) -> Call {
        Call {
            actor: Actor {
                peer: Arc::clone(self.daemon),
                request_id: None,
            },
            request: None,
        }
    }
}

/// Who calls, and by which name.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who.
    pub actor: Actor,
    /// The named call, where a repetition must be recognised.
    pub request: Option<Request>,
}

/// The request id was used with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReusedRequest;
