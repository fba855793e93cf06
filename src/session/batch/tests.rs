//! What a batch sees of its own changes.

use std::{sync::Arc, time::Duration};

use super::{Batch, Call, Ending, KEPT_ROOM, Numbers, Overlay};
use crate::{
    clock::Now,
    ids::PublicName,
    session::{
        event::EventKind,
        index::{Index, IndexWriter, Interner},
        limits::Limits,
        manifests::Manifests,
        refinement::Refinements,
        requests::Requests,
        spec::{Labels, Role, Spec},
        state::{
            Actor, Counters, ExitClassification, Live, Names, Peer, Revision, Seq, Session, Socket,
            TerminationReason,
        },
    },
};

const NOW: Now = Now {
    boot: 1_000,
    awake: 1_000,
    wall: 1_000,
};

/// What a batch borrows.
struct Around {
    index: IndexWriter,
    interner: Interner,
    requests: Requests,
    manifests: Manifests,
    refinements: Refinements,
    numbers: Numbers,
    daemon: Arc<Peer>,
    evict_from: Seq,
}

impl Around {
    /// So many live sessions.
    fn new(count: u64) -> Self {
        let (_, mut index) = Index::new(1024);
        let mut interner = Interner::default();
        let daemon = Arc::new(Peer {
            uid: 0,
            pid: 1,
            program: "test".into(),
            socket: Socket::Daemon,
        });
        for seq in 1..=count {
            let session = session(seq, &mut interner, &daemon);
            index.insert(&Arc::new(session), Live::default());
        }
        Self {
            index,
            interner,
            requests: Requests::default(),
            manifests: Manifests::default(),
            refinements: Refinements::default(),
            numbers: Numbers::default(),
            daemon,
            evict_from: Seq::default(),
        }
    }

    fn batch<'a>(&'a mut self, overlay: &'a mut Overlay) -> Batch<'a> {
        Batch {
            overlay,
            index: &self.index,
            interner: &mut self.interner,
            requests: &self.requests,
            manifests: &self.manifests,
            refinements: &self.refinements,
            numbers: &mut self.numbers,
            now: NOW,
            limits: Limits {
                terminated_ttl: Duration::from_mins(1),
                ..Limits::default()
            },
            daemon: &self.daemon,
            evict_from: &mut self.evict_from,
        }
    }
}

fn session(seq: u64, interner: &mut Interner, registrant: &Arc<Peer>) -> Session {
    let none = || PublicName::parse("").unwrap();
    Session {
        seq: Seq(seq),
        revision: Revision(seq),
        created: 0,
        names: Names::new(&format!("s{seq}"), "work", "").unwrap(),
        spec: interner.spec(&Spec {
            role: Role::Implementer,
            policy_resolved_ref: none(),
            capability_manifest_hash: None,
            coordination_id: none(),
            parent_session_id: None,
            pcac_policy: None,
            pointer_only_waiver: None,
            labels: Labels::default(),
        }),
        registrant: Arc::clone(registrant),
        handle: None,
        lease: None,
        expires: None,
        idle: None,
        firewall: None,
        extra: None,
    }
}

/// Ends the oldest so many; their numbers.
fn evict(batch: &mut Batch<'_>, count: usize) -> Option<Vec<u64>> {
    let ending = Ending {
        reason: TerminationReason::Evicted,
        detail: "".into(),
        exit_classification: ExitClassification::Cancelled,
        exit_code: None,
        tokens_consumed: None,
        counters: Counters::default(),
    };
    let call = Call {
        actor: Actor {
            peer: Arc::clone(batch.daemon),
            request_id: None,
        },
        request: None,
    };
    let oldest = batch.oldest_live(count)?;
    let mut end = |view| batch.end(&view, &ending, EventKind::Evicted, &call);
    Some(
        oldest
            .into_iter()
            .map(|view| end(view).session.seq.0)
            .collect(),
    )
}

#[test]
fn what_a_batch_has_evicted_is_not_looked_at_again() {
    let mut around = Around::new(100);
    let mut overlay = Overlay::default();
    for turn in 0..30 {
        let mut batch = around.batch(&mut overlay);
        let evicted = evict(&mut batch, 3).unwrap();
        let first = 1 + 3 * turn;
        assert_eq!(evicted, [first, first + 1, first + 2]);
        assert_eq!(overlay.evict_from, Seq(first - 1));
    }
    assert_eq!(around.evict_from, Seq(0), "nothing of it is durable");
}

#[test]
fn nothing_of_a_batch_is_left_for_the_next() {
    let mut around = Around::new(10);
    let mut overlay = Overlay::default();
    evict(&mut around.batch(&mut overlay), 3).unwrap();
    let fresh = format!("{:?}", Overlay::default());
    assert_ne!(format!("{overlay:?}"), fresh, "something was decided");
    overlay.clear();
    assert_eq!(format!("{overlay:?}"), fresh);
}

#[test]
fn too_few_live_sessions_are_none() {
    let mut around = Around::new(5);
    let mut overlay = Overlay::default();
    let mut batch = around.batch(&mut overlay);
    assert_eq!(evict(&mut batch, 2).unwrap(), [1, 2]);
    assert_eq!(evict(&mut batch, 4), None);
    assert_eq!(evict(&mut batch, 3).unwrap(), [3, 4, 5]);
    assert_eq!(evict(&mut batch, 1), None);
}

#[test]
fn the_room_of_small_batches_is_kept_and_that_of_a_large_one_is_not() {
    let mut overlay = Overlay::default();
    overlay.reserve(64);
    overlay.clear();
    assert!(overlay.room() >= 64);
    overlay.reserve(KEPT_ROOM + 1);
    overlay.clear();
    assert_eq!(overlay.room(), 0);
}
