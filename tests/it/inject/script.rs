//! A small story of every kind of write, and what became of each call of it.

use std::collections::BTreeSet;
use std::future::Future;

use episoded::proto::session as pb;
use episoded::reason::Reason;
use tonic::{Response, Status};

use crate::crash::ledger::{Change, Ending, Ledger, Operation};
use crate::harness::{Client, Daemon, Refusal, bearer, find, own, registration};

const LEASE: &str = "the-secret-lease-of-the-story";

/// What may be said of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It happened.
    Done,
    /// It did not, and the disk was full.
    Full,
    /// It did not, for another reason of the store.
    Failed,
    /// It did not, because the daemon was stopping.
    Stopping,
    /// Nobody knows, and the daemon says so.
    Unknown,
    /// The daemon went away.
    Gone,
}

/// A client that goes on whatever it is told.
pub struct Teller {
    operator: Client,
    session: Client,
    pub ledger: Ledger,
    pub said: BTreeSet<Said>,
}

fn registered(id: &str, handle: Option<String>) -> Operation {
    let change = Change::Registered {
        handle,
        number: 1,
        leased: true,
    };
    vec![(id.to_owned(), change)]
}

pub fn said(refusal: Option<Refusal>) -> Said {
    let Some(refusal) = refusal else {
        return Said::Gone;
    };
    if refusal.reason == Reason::DiskFull.as_str() {
        refusal.expect(Reason::DiskFull);
        return Said::Full;
    }
    if refusal.reason == Reason::ShuttingDown.as_str() {
        refusal.expect(Reason::ShuttingDown);
        return Said::Stopping;
    }
    let refusal = refusal.expect(Reason::StoreFailed);
    if refusal.message.contains("unknown") {
        Said::Unknown
    } else {
        assert!(
            refusal.message.contains("the change was not written"),
            "{refusal:?}"
        );
        Said::Failed
    }
}

impl Teller {
    pub async fn new(daemon: &Daemon, ledger: Ledger) -> Self {
        Self {
            operator: daemon.operator().await,
            session: daemon.session().await,
            ledger,
            said: BTreeSet::new(),
        }
    }

    /// Makes a call and enters what was said into the ledger, but for a done one.
    async fn call<T>(
        &mut self,
        operation: &Operation,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Said> {
        let said = match future.await {
            Ok(answer) => {
                self.said.insert(Said::Done);
                return Ok(answer.into_inner());
            }
            Err(status) => said(Refusal::of(&status)),
        };
        self.said.insert(said);
        if matches!(said, Said::Unknown | Said::Gone) {
            self.ledger.cut_off(operation.clone());
        }
        Err(said)
    }

    async fn change<T>(
        &mut self,
        operation: &Operation,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Option<T> {
        let answer = self.call(operation, future).await.ok()?;
        self.ledger.acknowledged(operation);
        Some(answer)
    }

    /// A revocation that is refused has taken effect in memory all the same; it
    /// is written as soon as it can be.
    async fn revoke<T>(
        &mut self,
        operation: &Operation,
        old: Option<&String>,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Option<T> {
        match self.call(operation, future).await {
            Ok(answer) => Some(answer),
            Err(said) => {
                if matches!(said, Said::Full | Said::Failed) {
                    self.ledger.cut_off(operation.clone());
                    self.assert_dead(old).await;
                }
                None
            }
        }
    }

    /// The handle is refused, if anybody is there to refuse it.
    async fn assert_dead(&mut self, handle: Option<&String>) {
        let Some(handle) = handle else { return };
        match self.session.lookup_session(own(handle)).await {
            Ok(found) => panic!("the handle still opens {found:?}"),
            Err(status) => {
                if let Some(refusal) = Refusal::of(&status)
                    && refusal.reason != Reason::ShuttingDown.as_str()
                {
                    refusal.expect(Reason::HandleNotAccepted);
                }
            }
        }
    }

    fn handle(&self, id: &str) -> Option<String> {
        self.ledger.entries().get(id)?.state.live_handle().cloned()
    }

    pub async fn register(&mut self, id: &str) -> Option<String> {
        self.ledger.planned(id, 0, "work");
        let mut request = registration("work");
        id.clone_into(&mut request.session_id);
        request.labels = [("number".to_owned(), "1".to_owned())].into();
        LEASE.clone_into(&mut request.lease_id);
        let mut operator = self.operator.clone();
        let call = operator.register_session(request);
        let answer = self.call(&registered(id, None), call).await.ok()?;
        let handle = answer
            .session
            .expect("the answer holds it")
            .ephemeral_handle;
        self.ledger
            .acknowledged(&registered(id, Some(handle.clone())));
        Some(handle)
    }

    pub async fn bind(&mut self, id: &str) {
        let episode = format!("episode-of-{id}");
        let change = Change::Bound {
            episode: episode.clone(),
        };
        let request = pb::BindEpisodeRequest {
            session_id: id.to_owned(),
            episode_id: episode,
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let call = operator.bind_episode(request);
        self.change(&vec![(id.to_owned(), change)], call).await;
    }

    pub async fn request_stop(&mut self, id: &str) {
        let request = pb::RequestStopRequest {
            session_id: id.to_owned(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let call = operator.request_stop(request);
        self.change(&vec![(id.to_owned(), Change::StopRequested)], call)
            .await;
    }

    /// Memory only: a heartbeat is answered as long as there is a daemon.
    pub async fn heartbeat(&mut self, id: &str) {
        let Some(handle) = self.handle(id) else {
            return;
        };
        self.ledger.used(id);
        let request = pb::HeartbeatSessionRequest::default();
        let call = self.session.heartbeat_session(bearer(request, &handle));
        if let Err(status) = call.await {
            let said = said(Refusal::of(&status));
            assert!(matches!(said, Said::Gone | Said::Stopping), "{status:?}");
        }
    }

    pub async fn rotate(&mut self, id: &str) {
        let old = self.handle(id);
        let rotated = |handle| vec![(id.to_owned(), Change::Rotated { handle })];
        let request = pb::RotateHandleRequest {
            session_id: id.to_owned(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let call = operator.rotate_handle(request);
        if let Some(answer) = self.revoke(&rotated(None), old.as_ref(), call).await {
            let session = answer.session.expect("the answer holds it");
            self.ledger
                .acknowledged(&rotated(Some(session.ephemeral_handle)));
        }
    }

    pub async fn terminate(&mut self, id: &str) {
        let handle = self.handle(id);
        let ending = Ending {
            reason: pb::TerminationReason::Normal.into(),
            exit_code: Some(0),
            detail: String::new(),
        };
        let operation = vec![(id.to_owned(), Change::Ended(ending))];
        let mut operator = self.operator.clone();
        let call = operator.terminate_session(crate::harness::normal_end(id));
        let answer = self.revoke(&operation, handle.as_ref(), call).await;
        if answer.is_some() {
            self.ledger.acknowledged(&operation);
            self.assert_dead(handle.as_ref()).await;
        }
    }

    pub async fn remove(&mut self, id: &str) {
        let there = self.handle(id).is_some();
        if !there {
            return;
        }
        let request = pb::RemoveSessionRequest {
            session_id: id.to_owned(),
            ..Default::default()
        };
        let mut operator = self.operator.clone();
        let call = operator.remove_session(request);
        self.change(&vec![(id.to_owned(), Change::Removed)], call)
            .await;
    }

    /// A read is answered from memory whatever the disk does.
    pub async fn assert_opens(&mut self, id: &str) {
        let handle = self.handle(id).expect("its handle is known");
        let found = find(&mut self.session, own(&handle)).await;
        assert_eq!(found.expect("reads go on").session_id, id);
    }

    /// One of everything, on sessions that were there and on a new one.
    pub async fn tell(&mut self) {
        if self.register("new").await.is_some() {
            self.bind("new").await;
        }
        self.request_stop("old-1").await;
        self.heartbeat("old-1").await;
        self.rotate("old-1").await;
        self.terminate("old-2").await;
        if self.register("brief").await.is_some() {
            self.remove("brief").await;
        }
        self.register("last").await;
    }
}
