//! A registry that a test can stop, start, age and break.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use episoded::clock::{BootId, Clock, Now};
use episoded::grpc::caller::Caller;
use episoded::grpc::session::SessionApi;
use episoded::ids::{PublicName, RegistryId, SessionId, WorkId};
use episoded::secret::{DigestKey, Handle};
use episoded::session::batch::{Call, Ending, Target};
use episoded::session::error::RotateError;
use episoded::session::error::{CallError, RegisterError, TargetError};
use episoded::session::event::Event;
use episoded::session::filter::EventFilter;
use episoded::session::index::{Interner, View};
use episoded::session::limits::Limits;
use episoded::session::operation::Operation;
use episoded::session::operation::Settled;
use episoded::session::operation::register::{Register, RegisterMany, Registered, Until};
use episoded::session::operation::rotate::{NewHandle, Rotate};
use episoded::session::operation::terminate::{Ended as EndedSession, Remove, Terminate};
use episoded::session::recovery::{Policy, Setup, recover};
use episoded::session::service::{Sessions, Wait, WriterThread, start};
use episoded::session::spec::{Labels, Role, Spec};
use episoded::session::state::{
    Actor, Counters, ExitClassification, Peer, Record, Revision, Socket, Status, TerminationReason,
};
use episoded::session::store::{
    AppendError, BackupProgress, Change, CopyCheck, Meta, Order, PastRequest, ReadError, Start,
    Store, Stored, StoredFirewall,
};
use episoded::session::writer::Ended;
use episoded::storage::{Files, Journal, read_or_make_key};
use parking_lot::{Mutex, RwLock};
use tonic::Request;

use crate::harness::{Dirs, within};

/// A clock that stands until it is moved.
pub struct HandClock(Mutex<Now>, Mutex<BootId>);

impl HandClock {
    pub fn new() -> Arc<Self> {
        let now = Now {
            boot: 1_000_000,
            awake: 900_000,
            wall: 1_800_000_000_000,
        };
        let boot_id = BootId::new("11111111-2222-4333-8444-555555555555");
        Arc::new(Self(Mutex::new(now), Mutex::new(boot_id)))
    }

    /// Time passes, awake.
    pub fn advance(&self, by: Duration) {
        let millis = by.as_millis() as u64;
        let mut now = self.0.lock();
        now.boot += millis;
        now.awake += millis;
        now.wall += millis;
    }

    /// Time passes while the machine sleeps.
    pub fn sleep(&self, for_: Duration) {
        let millis = for_.as_millis() as u64;
        let mut now = self.0.lock();
        now.boot += millis;
        now.wall += millis;
    }

    /// Somebody sets the wall clock back.
    pub fn set_back(&self, by: Duration) {
        self.0.lock().wall -= by.as_millis() as u64;
    }

    /// The machine is off for that time, and boots.
    pub fn reboot(&self, off: Duration) {
        let mut now = self.0.lock();
        now.boot = 20_000;
        now.awake = 20_000;
        now.wall += off.as_millis() as u64;
        *self.1.lock() = BootId::new("66666666-7777-4888-8999-aaaaaaaaaaaa");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }

    fn boot_id(&self) -> BootId {
        self.1.lock().clone()
    }
}

/// How the next append fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Full,
    Failed,
    Unknown,
    /// Not at all, but it takes until the test lets it go.
    Held,
}

/// The real journal, and a queue of failures for its writes.
struct Faulty {
    journal: Journal,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    pauses: Arc<Mutex<VecDeque<bool>>>,
    passing: Arc<Mutex<Duration>>,
    clock: Arc<HandClock>,
    held: mpsc::Sender<()>,
    let_go: mpsc::Receiver<()>,
}

impl Faulty {
    /// The next failure in the queue, if there is one.
    fn fault(&mut self) -> Result<(), AppendError> {
        let cause = || "a test wanted it".into();
        // Not in the match: it would hold the queue for as long as the store is held.
        let next = self.faults.lock().pop_front();
        match next {
            Some(Fault::Full) => Err(AppendError::Full(cause())),
            Some(Fault::Failed) => Err(AppendError::Failed(cause())),
            Some(Fault::Unknown) => Err(AppendError::Unknown(cause())),
            Some(Fault::Held) => {
                self.hold();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn hold(&self) {
        self.held.send(()).expect("the test waits");
        self.let_go.recv().expect("the test lets it go");
    }
}

impl Store for Faulty {
    fn append(&mut self, changes: &[Change], now: Now) -> Result<(), AppendError> {
        self.fault()?;
        self.journal.append(changes, now)
    }

    fn meta(&mut self) -> Result<Meta, ReadError> {
        self.journal.meta()
    }

    fn load(
        &mut self,
        boot: &BootId,
        interner: &mut Interner,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<(), ReadError> {
        self.journal.load(boot, interner, visit)
    }

    fn firewall(&mut self, interner: &mut Interner) -> Result<StoredFirewall, ReadError> {
        self.journal.firewall(interner)
    }

    fn requests(
        &mut self,
        since: u64,
        limit: usize,
        visit: &mut dyn FnMut(PastRequest),
    ) -> Result<(), ReadError> {
        self.journal.requests(since, limit, visit)
    }

    fn start(&mut self, start: &Start, changes: &[Change]) -> Result<(), AppendError> {
        self.journal.start(start, changes)
    }

    fn events(
        &mut self,
        from: Revision,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, ReadError> {
        self.clock
            .advance(std::mem::take(&mut *self.passing.lock()));
        self.journal.events(from, order, limit)
    }

    fn compact(
        &mut self,
        before: u64,
        keep: u64,
        limit: usize,
    ) -> Result<Option<Revision>, AppendError> {
        self.journal.compact(before, keep, limit)
    }

    fn alive(&mut self, now: Now) -> Result<(), AppendError> {
        self.fault()?;
        self.journal.alive(now)
    }

    fn release_ballast(&mut self) {
        self.journal.release_ballast();
    }

    fn restore_ballast(&mut self) -> bool {
        self.journal.restore_ballast()
    }

    fn backup_begin(&mut self, to: &Path) -> Result<(), ReadError> {
        self.journal.backup_begin(to)
    }

    fn backup_step(&mut self, pages: u32) -> Result<BackupProgress, ReadError> {
        self.journal.backup_step(pages)
    }

    fn backup_end(&mut self) {
        self.journal.backup_end();
    }

    fn copy_check(&self) -> CopyCheck {
        self.journal.copy_check()
    }

    fn rest(&mut self) {
        self.journal.rest();
    }

    fn idle(&mut self) -> bool {
        let takes_long = self.pauses.lock().pop_front();
        match takes_long {
            Some(true) => {
                self.hold();
                true
            }
            Some(false) => false,
            None => self.journal.idle(),
        }
    }
}

/// A registry and its directory.
pub struct Registry {
    pub sessions: Sessions,
    pub clock: Arc<HandClock>,
    dirs: Dirs,
    limits: Limits,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    pauses: Arc<Mutex<VecDeque<bool>>>,
    passing: Arc<Mutex<Duration>>,
    held: mpsc::Receiver<()>,
    let_go: mpsc::Sender<()>,
    thread: WriterThread,
}

impl Registry {
    pub fn new(limits: Limits) -> Self {
        Self::open(Dirs::new(), HandClock::new(), limits)
    }

    fn open(dirs: Dirs, clock: Arc<HandClock>, limits: Limits) -> Self {
        let key: DigestKey =
            read_or_make_key(&dirs.state().join("registry.key")).expect("the key is made");
        let journal = Journal::open(&Files::in_dir(&dirs.state()), &key).expect("it opens");
        let faults = Arc::default();
        let pauses = Arc::default();
        let passing = Arc::default();
        let (tell_held, held) = mpsc::channel();
        let (let_go, wait) = mpsc::channel();
        let store = Faulty {
            journal,
            faults: Arc::clone(&faults),
            pauses: Arc::clone(&pauses),
            passing: Arc::clone(&passing),
            clock: Arc::clone(&clock),
            held: tell_held,
            let_go: wait,
        };
        let shared = Arc::new(RwLock::new(limits));
        let setup = Setup {
            clock: clock.clone(),
            limits: Arc::clone(&shared),
            policy: Policy::Keep,
            daemon: peer(Socket::Daemon),
        };
        let recovered = recover(Box::new(store), setup).expect("it comes back");
        let (sessions, thread) =
            start(recovered, key, clock.clone(), shared).expect("the writer starts");
        Self {
            sessions,
            clock,
            dirs,
            limits,
            faults,
            pauses,
            passing,
            held,
            let_go,
            thread,
        }
    }

    /// Stops it and starts it again on the same journal.
    pub fn restart(self) -> Self {
        self.restart_after(|_| {})
    }

    /// Stops it, lets something happen to the clock, and starts it again.
    pub fn restart_after(self, meanwhile: impl FnOnce(&HandClock)) -> Self {
        self.sessions.stop();
        let ended = self.thread.join();
        assert!(matches!(ended, Ended::Stopped), "{ended:?}");
        meanwhile(&self.clock);
        Self::open(self.dirs, self.clock, self.limits)
    }

    /// Waits until the writer has ended by itself.
    pub async fn ended(&self) {
        within(self.thread.ended()).await;
    }

    /// Starts it again on the same journal after its writer ended by itself.
    pub async fn restart_after_failure(self) -> Self {
        self.ended().await;
        let ended = self.thread.join();
        assert!(matches!(ended, Ended::StoreFailed), "{ended:?}");
        Self::open(self.dirs, self.clock, self.limits)
    }

    /// Lets the writer's thread look at what is due.
    pub async fn look(&self) {
        self.sessions.tick();
        self.rest().await;
    }

    /// Time passes, and the writer's thread looks at what is due: once, because the
    /// time passes on that thread, between two looks.
    pub async fn pass(&self, time: Duration) {
        *self.passing.lock() = time;
        let newest = Revision(self.sessions.revision().0 + 1);
        let history = self.sessions.history(EventFilter::default(), newest, 1);
        within(history).await.expect("the journal is read");
        self.rest().await;
    }

    /// Waits until the writer's thread has nothing to do. It looks at what is due
    /// after it has answered, so the second of two answers comes after the look of
    /// the first.
    pub async fn rest(&self) {
        for _ in 0..2 {
            // Nothing to register.
            let nothing = self.sessions.call(RegisterMany(Vec::new()), Wait::PATIENT);
            within(nothing).await.expect("it changes nothing");
        }
    }

    /// The next appends fail so, in this order.
    pub fn fail(&self, faults: &[Fault]) {
        self.faults.lock().extend(faults);
    }

    /// What the store does in the next pauses between calls: something that takes
    /// until the test lets it go, or nothing.
    pub fn pause(&self, takes_long: &[bool]) {
        self.pauses.lock().extend(takes_long);
    }

    /// Waits until an append is held, or a pause.
    pub fn until_held(&self) {
        self.held.recv().expect("the writer is there");
    }

    /// Lets it go on.
    pub fn let_go(&self) {
        self.let_go.send(()).expect("the writer is there");
    }

    /// Whether every failure in the queue has happened.
    pub fn has_failed(&self) -> bool {
        self.faults.lock().is_empty()
    }

    /// How it comes out, without a deadline. The writer's thread rests afterwards,
    /// if there still is one: what a test does next to clock and store is not for it.
    pub async fn call<O: Operation>(&self, operation: O) -> Settled<O> {
        let settled = within(self.sessions.call(operation, Wait::PATIENT)).await;
        if !matches!(
            settled,
            Err(CallError::OutcomeUnknown | CallError::Stopping)
        ) {
            self.rest().await;
        }
        settled
    }

    pub async fn register(
        &self,
        id: &str,
        work: &str,
    ) -> Result<Registered, CallError<RegisterError>> {
        self.call(registration(&self.sessions, id, work)).await
    }

    /// Registers what must not be refused, changed by `change`; its handle.
    pub async fn registered(&self, id: &str, change: impl FnOnce(&mut Register)) -> Handle {
        let mut operation = registration(&self.sessions, id, "work");
        change(&mut operation);
        let registered = self.call(operation).await.expect("it registers");
        registered.handle.expect("a new session has a handle")
    }

    pub async fn terminate(&self, id: &str) -> Result<EndedSession, CallError<TargetError>> {
        self.call(termination(id)).await
    }

    pub async fn rotate(&self, id: &str) -> Result<NewHandle, CallError<RotateError>> {
        let handle = Handle::random();
        let operation = Rotate {
            target: Target::Named(session_id(id)),
            digest: self.sessions.digest_handle(&handle),
            handle,
            etag: None,
            call: termination(id).call,
        };
        self.call(operation).await
    }

    pub fn get(&self, id: &str) -> Option<View> {
        self.sessions.by_id(&session_id(id))
    }

    /// How a session stands that is there.
    pub fn status(&self, id: &str) -> Status {
        self.get(id).expect("it is there").session.status()
    }

    /// The record of a session that has ended.
    pub fn record(&self, id: &str) -> Record {
        let session = self.get(id).expect("it is there").session;
        session.record().expect("it has ended").clone()
    }

    /// The sessions that the handle opens.
    pub fn opened_by(&self, handle: &Handle) -> Option<View> {
        let digest = self.sessions.digest_handle(handle);
        self.sessions.use_handle(&digest)
    }
}

pub fn session_id(id: &str) -> SessionId {
    SessionId::parse(id).expect("a session id")
}

pub fn work_id(work: &str) -> WorkId {
    WorkId::parse(work).expect("a work id")
}

fn no_name() -> PublicName {
    PublicName::parse("").expect("a name may be absent")
}

pub fn peer(socket: Socket) -> Arc<Peer> {
    Arc::new(Peer {
        uid: 1000,
        pid: 4711,
        program: "test".into(),
        socket,
    })
}

pub fn call() -> Call {
    let actor = Actor {
        peer: peer(Socket::Operator),
        request_id: None,
    };
    Call {
        actor,
        request: None,
    }
}

pub fn registration(sessions: &Sessions, id: &str, work: &str) -> Register {
    let handle = Handle::random();
    let digest = sessions.digest_handle(&handle);
    Register {
        id: session_id(id),
        work: work_id(work),
        spec: Spec {
            role: Role::Implementer,
            policy_resolved_ref: no_name(),
            capability_manifest_hash: None,
            coordination_id: no_name(),
            parent_session_id: None,
            pcac_policy: None,
            pointer_only_waiver: None,
            labels: Labels::default(),
        },
        lease: None,
        episode: None,
        until: Until::Default,
        idle: None,
        allow_eviction: false,
        exclusive_work: false,
        firewall: None,
        reset_refinements: false,
        handle,
        digest,
        call: call(),
    }
}

pub fn termination(id: &str) -> Terminate {
    Terminate {
        target: Target::Named(session_id(id)),
        ending: Ending {
            reason: TerminationReason::Normal,
            detail: "".into(),
            exit_classification: ExitClassification::Success,
            exit_code: Some(0),
            tokens_consumed: None,
            counters: Counters::default(),
        },
        etag: None,
        call: call(),
    }
}

pub fn removal(id: &str) -> Remove {
    Remove {
        target: Target::Named(session_id(id)),
        etag: None,
        call: call(),
    }
}

/// The calls of the operator that only read, without a socket.
pub fn service(registry: &Registry) -> SessionApi {
    let (_, never) = tokio::sync::watch::channel(false);
    SessionApi::new(registry.sessions.clone(), "node", never)
}

/// The message as an operator sends it.
pub fn by_operator<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller {
        peer: peer(Socket::Operator),
        own: None,
        deadline: None,
    });
    request
}

/// The identity stays over restarts.
pub fn identity(registry: &Registry) -> RegistryId {
    registry.sessions.registry_id().clone()
}
