//! A call to the writer: what it decides, and how its answer gets back.

pub mod bind;
pub mod deny;
pub mod lease;
pub mod lift;
pub mod manifest;
pub mod register;
pub mod reissue;
pub mod rotate;
pub mod terminate;
pub mod update;

use tokio::sync::oneshot;

use crate::{
    clock::Now,
    session::{batch::Batch, error::CallError},
};

/// One kind of change, decided purely from what the batch shows.
///
/// A decision that refuses has changed nothing.
pub trait Operation: Send + 'static {
    /// What it answers.
    type Answer: Send + 'static;
    /// Why it refuses.
    type Error: Send + 'static;

    /// Whether a handle must be refused even if the change cannot be written.
    const REVOKES: bool = false;

    /// Whether it must be alone in its batch, because it looks at more than the
    /// sessions it names. It waits for the calls about few that came with it.
    fn is_alone(&self) -> bool {
        false
    }

    /// How many sessions it is about, for the size of a batch.
    fn weight(&self) -> usize {
        1
    }

    /// Decides. May be called again after a commit that failed.
    fn decide(&mut self, batch: &mut Batch<'_>) -> Result<Self::Answer, Self::Error>;
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable and visible.
    Committed,
    /// Not written: the disk is full.
    DiskFull,
    /// Not written.
    StoreFailed,
    /// The commit failed; what is on disk is unknown.
    Unknown,
    /// Not taken: its deadline passed.
    Late,
    /// Not taken: the daemon is stopping.
    Stopping,
}

/// An operation on its way through the writer, whatever its kind.
pub trait Job: Send {
    /// See [`Operation::REVOKES`].
    fn revokes(&self) -> bool;
    /// See [`Operation::is_alone`].
    fn is_alone(&self) -> bool;
    /// See [`Operation::weight`].
    fn weight(&self) -> usize;
    /// Whether nobody waits for it any more.
    fn is_late(&self, now: Now) -> bool;
    /// Decides, and keeps the answer until it is settled.
    fn decide(&mut self, batch: &mut Batch<'_>);
    /// Answers.
    fn settle(self: Box<Self>, outcome: Outcome);
}

/// The answer of an operation, or why there is none.
pub type Settled<O> = Result<<O as Operation>::Answer, CallError<<O as Operation>::Error>>;

/// An operation, its deadline, and who waits.
pub struct Pending<O: Operation> {
    operation: O,
    /// On the awake clock.
    deadline: Option<u64>,
    decided: Option<Result<O::Answer, O::Error>>,
    reply: oneshot::Sender<Settled<O>>,
}

impl<O: Operation> Pending<O> {
    /// A job, and where its answer will arrive.
    pub fn new(operation: O, deadline: Option<u64>) -> (Box<Self>, oneshot::Receiver<Settled<O>>) {
        let (reply, answer) = oneshot::channel();
        (
            Box::new(Self {
                operation,
                deadline,
                decided: None,
                reply,
            }),
            answer,
        )
    }
}

impl<O: Operation> Job for Pending<O> {
    fn revokes(&self) -> bool {
        O::REVOKES
    }

    fn is_alone(&self) -> bool {
        self.operation.is_alone()
    }

    fn weight(&self) -> usize {
        self.operation.weight()
    }

    fn is_late(&self, now: Now) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now.awake)
    }

    fn decide(&mut self, batch: &mut Batch<'_>) {
        self.decided = Some(self.operation.decide(batch));
    }

    fn settle(self: Box<Self>, outcome: Outcome) {
        let answer = match (outcome, self.decided) {
            (Outcome::Committed, Some(decided)) => decided.map_err(CallError::Refused),
            (Outcome::DiskFull, _) => Err(CallError::DiskFull),
            (Outcome::Unknown, _) => Err(CallError::OutcomeUnknown),
            (Outcome::Late, _) => Err(CallError::Late),
            (Outcome::Stopping, _) => Err(CallError::Stopping),
            (Outcome::StoreFailed | Outcome::Committed, _) => Err(CallError::StoreFailed),
        };
        // Nobody waits when the caller went away; the change stands.
        let _ = self.reply.send(answer);
    }
}
