//! The load: clients that do everything a client may, one operation at a time
//! each, and report to the ledger what was answered.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use episoded::proto::session as pb;
use episoded::reason::Reason;
use tokio::sync::{Notify, watch};
use tonic::{Response, Status};

use super::ledger::{Change, Ending, Fate, Lease, Ledger, Operation};
use super::random::Random;
use crate::harness::{Client, Refusal, bearer, registration, within};

/// A client notices that its connection is gone, but for tonic's, which has been
/// seen to keep a call for ever whose connection ended as it was made.
const NOTICE: Duration = Duration::from_secs(10);

/// More live sessions than this, and a client ends some.
const LIVE_PER_CLIENT: usize = 30;
const WORKS_PER_CLIENT: usize = 4;
/// Heartbeat counters never repeat, so that a lost one is told from a kept one.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The connection broke: nobody knows what became of the call.
pub struct CutOff;

/// Counts sent and answered calls, and says when it is time to kill.
pub struct Fuse {
    steps: AtomicUsize,
    limit: usize,
    burnt: Notify,
    killed: watch::Sender<bool>,
}

impl Fuse {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            steps: AtomicUsize::new(0),
            limit,
            burnt: Notify::new(),
            killed: watch::Sender::new(false),
        })
    }

    fn step(&self) {
        if self.steps.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.burnt.notify_one();
        }
    }

    pub async fn burnt(&self) {
        self.burnt.notified().await;
    }

    /// The daemon was killed: nothing that is not answered by now ever is.
    pub fn killed(&self) {
        self.killed.send_replace(true);
    }

    /// Resolves some time after the daemon was killed.
    async fn lost(&self) {
        let mut killed = self.killed.subscribe();
        let _ = killed.wait_for(|killed| *killed).await;
        tokio::time::sleep(NOTICE).await;
    }
}

/// A call whose answer was lost and which its client repeats after the restart.
pub enum Retry {
    Register(Box<pb::RegisterSessionRequest>),
    Rotate {
        id: String,
        request: pb::RotateHandleRequest,
        handle: Option<String>,
    },
}

/// What all clients share.
#[derive(Default)]
pub struct Shared {
    pub ledger: Mutex<Ledger>,
    pub retries: Mutex<Vec<Retry>>,
}

impl Shared {
    pub fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.ledger.lock().expect("no client panicked"))
    }

    fn retry(&self, retry: Retry) {
        self.retries.lock().expect("no client panicked").push(retry);
    }
}

/// One client.
pub struct Worker {
    pub owner: usize,
    pub round: usize,
    pub operator: Client,
    pub session: Client,
    pub shared: Arc<Shared>,
    pub fuse: Arc<Fuse>,
    pub random: Random,
    pub names: usize,
}

/// A live session as the worker needs it.
struct Target {
    id: String,
    handle: String,
    bound: bool,
    used: bool,
}

/// Every work id the clients use.
pub fn works(clients: usize) -> impl Iterator<Item = String> {
    (0..clients).flat_map(|owner| (0..WORKS_PER_CLIENT).map(move |n| work(owner, n)))
}

fn work(owner: usize, number: usize) -> String {
    format!("work-{owner}-{number}")
}

fn lease(owner: usize) -> String {
    format!("the-secret-lease-of-client-{owner}")
}

impl Worker {
    /// Works until the connection breaks.
    pub async fn run(mut self) {
        while Box::pin(self.step()).await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), CutOff> {
        let target = self.target();
        let crowded = self.live_count() > LIVE_PER_CLIENT;
        let Some(target) = target else {
            return Box::pin(self.register()).await;
        };
        match self.random.below(100) {
            _ if crowded => self.terminate(&target).await,
            0..22 => Box::pin(self.register()).await,
            22..32 => self.register_batch().await,
            32..42 => self.bind(&target).await,
            42..48 => self.renew().await,
            48..56 => self.rotate(&target).await,
            56..62 => self.label(&target).await,
            62..66 => self.request_stop(&target).await,
            66..76 => self.heartbeat(&target).await,
            76..86 => self.terminate(&target).await,
            86..89 => self.terminate_work().await,
            89..94 => self.remove(&target).await,
            _ => self.be_refused(&target).await,
        }
    }

    fn live_count(&self) -> usize {
        self.shared.with(|ledger| ledger.live_of(self.owner).len())
    }

    fn target(&mut self) -> Option<Target> {
        let shared = Arc::clone(&self.shared);
        shared.with(|ledger| {
            let live = ledger.live_of(self.owner);
            let (id, entry) = self.random.pick(&live)?;
            Some(Target {
                id: (*id).clone(),
                handle: entry.state.live_handle()?.clone(),
                bound: entry.state.episode.is_some(),
                used: entry.used,
            })
        })
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("c{}-r{}-{}", self.owner, self.round, self.names)
    }

    /// Makes a call; the refusal, if the daemon refused it.
    async fn call<T>(
        &self,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Refusal>, CutOff> {
        self.fuse.step();
        let result = tokio::select! {
            result = within(future) => result,
            () = self.fuse.lost() => return Err(CutOff),
        };
        self.fuse.step();
        match result {
            Ok(answer) => Ok(Ok(answer.into_inner())),
            Err(status) => match Refusal::of(&status) {
                Some(refusal) => Ok(Err(refusal)),
                None => Err(CutOff),
            },
        }
    }

    /// Makes a call that must be answered, and that does the operation.
    async fn change<T>(
        &self,
        operation: &Operation,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CutOff> {
        match self.call(future).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refusal)) => panic!("{operation:?} is refused: {refusal:?}"),
            Err(cut_off) => {
                self.shared.with(|l| l.cut_off(operation.clone()));
                Err(cut_off)
            }
        }
    }

    /// A single change whose answer is the session after it.
    fn answered(&self, operation: &Operation, session: Option<pb::Session>) -> pb::Session {
        let session = session.expect("the answer holds the session");
        let (id, change) = &operation[0];
        assert_eq!(&session.session_id, id);
        self.shared.with(|ledger| {
            ledger.told(session.revision, id, change);
            ledger.acknowledged(operation);
        });
        session
    }

    fn registration(&mut self) -> (pb::RegisterSessionRequest, Change) {
        let id = self.name();
        let number = self.random.next() >> 16;
        let leased = self.random.one_in(2);
        let mut request = registration(&work(self.owner, self.random.below(WORKS_PER_CLIENT)));
        request.request_id = format!("register-{id}");
        request.labels = [("number".to_owned(), number.to_string())].into();
        if leased {
            request.lease_id = lease(self.owner);
            request.lease_holder = format!("client-{}", self.owner);
        }
        self.shared
            .with(|ledger| ledger.planned(&id, self.owner, &request.work_id));
        request.session_id = id;
        let change = Change::Registered {
            handle: None,
            number,
            leased,
        };
        (request, change)
    }

    async fn register(&mut self) -> Result<(), CutOff> {
        let (request, change) = self.registration();
        let operation = vec![(request.session_id.clone(), change)];
        let mut operator = self.operator.clone();
        let call = operator.register_session(request.clone());
        match Box::pin(self.change(&operation, call)).await {
            Ok(answer) => {
                self.registered(&operation[0], answer);
                Ok(())
            }
            Err(cut_off) => {
                self.shared.retry(Retry::Register(Box::new(request)));
                Err(cut_off)
            }
        }
    }

    fn registered(&self, planned: &(String, Change), answer: pb::RegisterSessionResponse) {
        assert!(!answer.handle_withheld);
        let session = answer.session.expect("the answer holds the session");
        assert!(session.ephemeral_handle.starts_with("H-"));
        let (id, Change::Registered { number, leased, .. }) = planned else {
            panic!("{planned:?} is a registration");
        };
        let change = Change::Registered {
            handle: Some(session.ephemeral_handle.clone()),
            number: *number,
            leased: *leased,
        };
        self.answered(&vec![(id.clone(), change)], Some(session));
    }

    /// Several good registrations, one without a role and one whose id is taken
    /// by another in the same call.
    async fn register_batch(&mut self) -> Result<(), CutOff> {
        let mut requests = Vec::new();
        let mut operation = Vec::new();
        for _ in 0..2 + self.random.below(6) {
            let (request, change) = self.registration();
            operation.push((request.session_id.clone(), change));
            requests.push(request);
        }
        let good = requests.clone();
        let (mut bad, _) = self.registration();
        bad.role = 0;
        requests.push(bad);
        let mut taken = requests[0].clone();
        taken.request_id.push_str("-again");
        requests.push(taken);
        let mut operator = self.operator.clone();
        let call = operator.register_sessions(pb::RegisterSessionsRequest { requests });
        let answer = match Box::pin(self.change(&operation, call)).await {
            Ok(answer) => answer,
            Err(cut_off) => {
                for request in good {
                    self.shared.retry(Retry::Register(Box::new(request)));
                }
                return Err(cut_off);
            }
        };
        assert_eq!(answer.results.len(), operation.len() + 2);
        let mut refused = Vec::new();
        for (at, result) in answer.results.into_iter().enumerate() {
            use pb::register_sessions_result::Result as Item;
            match result.result.expect("an item has a result") {
                Item::Registered(registered) => self.registered(&operation[at], registered),
                Item::Error(error) => refused.push(error.reason),
            }
        }
        assert_eq!(refused, ["MALFORMED_MESSAGE", "SESSION_EXISTS"]);
        Ok(())
    }

    async fn bind(&mut self, target: &Target) -> Result<(), CutOff> {
        if target.bound {
            return Ok(());
        }
        let episode = format!("episode-of-{}", target.id);
        let change = Change::Bound {
            episode: episode.clone(),
        };
        let operation = vec![(target.id.clone(), change)];
        let request = pb::BindEpisodeRequest {
            session_id: target.id.clone(),
            episode_id: episode,
            pid: self
                .random
                .one_in(2)
                .then(|| std::process::id().cast_signed()),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let answer = self
            .change(&operation, operator.bind_episode(request))
            .await?;
        self.answered(&operation, answer.session);
        Ok(())
    }

    /// Shows the client's lease to all its sessions at once.
    async fn renew(&mut self) -> Result<(), CutOff> {
        let operation: Operation = self.shared.with(|ledger| {
            let live = ledger.live_of(self.owner).into_iter();
            live.filter(|(_, entry)| entry.state.lease != Lease::None)
                .map(|(id, _)| (id.clone(), Change::Renewed))
                .collect()
        });
        let request = pb::RenewLeaseRequest {
            lease_id: lease(self.owner),
            lease_holder: format!("client-{}", self.owner),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let answer = self
            .change(&operation, operator.renew_lease(request))
            .await?;
        assert_eq!(answer.renewed, operation.len() as u64);
        self.shared.with(|ledger| ledger.acknowledged(&operation));
        Ok(())
    }

    async fn rotate(&mut self, target: &Target) -> Result<(), CutOff> {
        let by_handle = self.random.one_in(2);
        let mut request = pb::RotateHandleRequest {
            request_id: format!("rotate-{}", self.name()),
            ..Default::default()
        };
        let lost = vec![(target.id.clone(), Change::Rotated { handle: None })];
        let result = if by_handle {
            self.shared.with(|ledger| ledger.used(&target.id));
            let mut session = self.session.clone();
            let call = session.rotate_handle(bearer(request.clone(), &target.handle));
            self.change(&lost, call).await
        } else {
            request.session_id.clone_from(&target.id);
            let mut operator = self.operator.clone();
            let call = operator.rotate_handle(request.clone());
            self.change(&lost, call).await
        };
        match result {
            Ok(answer) => {
                let session = answer.session.expect("the answer holds the session");
                let handle = session.ephemeral_handle.clone();
                assert!(handle.starts_with("H-") && handle != target.handle);
                let change = Change::Rotated {
                    handle: Some(handle),
                };
                self.answered(&vec![(target.id.clone(), change)], Some(session));
                Ok(())
            }
            Err(cut_off) => {
                self.shared.retry(Retry::Rotate {
                    id: target.id.clone(),
                    request,
                    handle: by_handle.then(|| target.handle.clone()),
                });
                Err(cut_off)
            }
        }
    }

    async fn label(&mut self, target: &Target) -> Result<(), CutOff> {
        let number = self.random.next() >> 16;
        let operation = vec![(target.id.clone(), Change::Labelled { number })];
        let request = pb::UpdateSessionRequest {
            session_id: target.id.clone(),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["labels".to_owned()],
            }),
            labels: [("number".to_owned(), number.to_string())].into(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let answer = self
            .change(&operation, operator.update_session(request))
            .await?;
        self.answered(&operation, answer.session);
        Ok(())
    }

    async fn request_stop(&mut self, target: &Target) -> Result<(), CutOff> {
        let asked = self
            .shared
            .with(|ledger| ledger.entries()[&target.id].state.stop_requested);
        if asked {
            return Ok(());
        }
        let operation = vec![(target.id.clone(), Change::StopRequested)];
        let request = pb::RequestStopRequest {
            session_id: target.id.clone(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let answer = self
            .change(&operation, operator.request_stop(request))
            .await?;
        self.answered(&operation, answer.session);
        Ok(())
    }

    async fn heartbeat(&mut self, target: &Target) -> Result<(), CutOff> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) as u64;
        self.shared.with(|ledger| ledger.beating(&target.id, count));
        let request = pb::HeartbeatSessionRequest {
            counters: Some(pb::Counters {
                tool_calls: count,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut session = self.session.clone();
        let call = session.heartbeat_session(bearer(request, &target.handle));
        let answer = self
            .call(call)
            .await?
            .unwrap_or_else(|refusal| panic!("a heartbeat is refused: {refusal:?}"));
        assert_eq!(answer.status(), pb::SessionStatus::Active);
        self.shared.with(|ledger| ledger.beaten(&target.id, count));
        Ok(())
    }

    fn ending(&mut self) -> Ending {
        let reasons = [
            pb::TerminationReason::Normal,
            pb::TerminationReason::Crash,
            pb::TerminationReason::Quarantined,
        ];
        Ending {
            reason: (*self.random.pick(&reasons).expect("there are some")).into(),
            exit_code: self
                .random
                .one_in(2)
                .then_some(self.random.below(200) as i32),
            detail: format!("ended in round {}", self.round),
        }
    }

    /// Ends a session, as its operator or by its handle.
    async fn terminate(&mut self, target: &Target) -> Result<(), CutOff> {
        let ending = self.ending();
        let operation = vec![(target.id.clone(), Change::Ended(ending.clone()))];
        let mut request = termination(&ending);
        let answer = if self.random.one_in(2) {
            self.shared.with(|ledger| ledger.used(&target.id));
            let mut session = self.session.clone();
            let call = session.terminate_session(bearer(request, &target.handle));
            self.change(&operation, call).await?
        } else {
            request.session_id.clone_from(&target.id);
            let mut operator = self.operator.clone();
            let call = operator.terminate_session(request);
            self.change(&operation, call).await?
        };
        assert!(!answer.already_terminated);
        self.answered(&operation, answer.session);
        Ok(())
    }

    /// Ends every live session of one work id in one commit.
    async fn terminate_work(&mut self) -> Result<(), CutOff> {
        let work_id = work(self.owner, self.random.below(WORKS_PER_CLIENT));
        let ending = Ending {
            exit_code: None,
            ..self.ending()
        };
        let operation: Operation = self.shared.with(|ledger| {
            let live = ledger.live_of(self.owner).into_iter();
            live.filter(|(_, entry)| entry.work_id == work_id)
                .map(|(id, _)| (id.clone(), Change::Ended(ending.clone())))
                .collect()
        });
        let request = pb::TerminateSessionsRequest {
            reason: ending.reason,
            exit_classification: pb::ExitClassification::Failure.into(),
            detail: ending.detail,
            selector: Some(pb::terminate_sessions_request::Selector::WorkId(work_id)),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let call = operator.terminate_sessions(request);
        let mut answer = self.change(&operation, call).await?;
        let mut due: Vec<_> = operation.iter().map(|(id, _)| id.clone()).collect();
        due.sort();
        answer.session_ids.sort();
        assert_eq!((answer.session_ids, answer.remaining), (due, 0));
        self.shared.with(|ledger| ledger.acknowledged(&operation));
        Ok(())
    }

    /// Takes back a registration of this round that nothing has used.
    async fn remove(&mut self, target: &Target) -> Result<(), CutOff> {
        let fresh = target
            .id
            .starts_with(&format!("c{}-r{}-", self.owner, self.round));
        if target.used || !fresh {
            return Ok(());
        }
        let operation = vec![(target.id.clone(), Change::Removed)];
        let request = pb::RemoveSessionRequest {
            session_id: target.id.clone(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let answer = self
            .change(&operation, operator.remove_session(request))
            .await?;
        assert_eq!(answer.session.expect("as it was").session_id, target.id);
        self.shared.with(|ledger| ledger.acknowledged(&operation));
        Ok(())
    }

    /// Operations that must change nothing.
    async fn be_refused(&mut self, target: &Target) -> Result<(), CutOff> {
        let mut operator = self.operator.clone();
        let mut request = registration(&work(self.owner, 0));
        let reason = match self.random.below(4) {
            0 => {
                request.session_id.clone_from(&target.id);
                Reason::SessionExists
            }
            1 => {
                request = self.registration().0;
                request.request_id.clear();
                request.exclusive_work = true;
                request.work_id = self
                    .shared
                    .with(|ledger| ledger.entries()[&target.id].work_id.clone());
                Reason::WorkBusy
            }
            2 if target.bound => {
                let request = pb::RemoveSessionRequest {
                    session_id: target.id.clone(),
                    ..Default::default()
                };
                let answer = self.call(operator.remove_session(request)).await?;
                expect(answer, Reason::SessionInUse);
                return Ok(());
            }
            _ => return self.touch_the_dead().await,
        };
        let answer = self.call(operator.register_session(request)).await?;
        expect(answer, reason);
        Ok(())
    }

    /// An ended session answers its first record, and its handle is refused.
    async fn touch_the_dead(&mut self) -> Result<(), CutOff> {
        let shared = Arc::clone(&self.shared);
        let dead = shared.with(|ledger| {
            let ended: Vec<_> = ledger
                .entries()
                .iter()
                .filter(|(_, e)| e.owner == self.owner && matches!(e.state.fate, Fate::Ended(_)))
                .collect();
            let (id, entry) = self.random.pick(&ended)?;
            let Fate::Ended(ending) = &entry.state.fate else {
                return None;
            };
            Some((
                (*id).clone(),
                ending.clone(),
                entry.state.last_handle()?.clone(),
            ))
        });
        let Some((id, first, handle)) = dead else {
            return Ok(());
        };
        let mut request = termination(&self.ending());
        let mut session = self.session.clone();
        let call = session.terminate_session(bearer(request.clone(), &handle));
        expect(self.call(call).await?, Reason::HandleNotAccepted);
        request.session_id.clone_from(&id);
        let mut operator = self.operator.clone();
        let answer = self
            .call(operator.terminate_session(request))
            .await?
            .unwrap_or_else(|refusal| panic!("a second end is refused: {refusal:?}"));
        assert!(answer.already_terminated);
        let record = answer
            .session
            .and_then(|session| session.termination)
            .expect("it has a record");
        assert_eq!(ending_of(&record), first, "{id} keeps its first record");
        Ok(())
    }
}

fn expect<T: std::fmt::Debug>(answer: Result<T, Refusal>, reason: Reason) {
    answer.expect_err("it must be refused").expect(reason);
}

fn termination(ending: &Ending) -> pb::TerminateSessionRequest {
    pb::TerminateSessionRequest {
        reason: ending.reason,
        exit_classification: pb::ExitClassification::Failure.into(),
        exit_code: ending.exit_code,
        detail: ending.detail.clone(),
        ..Default::default()
    }
}

/// What of a record must never change.
pub fn ending_of(record: &pb::TerminationRecord) -> Ending {
    Ending {
        reason: record.reason,
        exit_code: record.exit_code,
        detail: record.detail.clone(),
    }
}
