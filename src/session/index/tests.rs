//! The index against a model that is a plain list of sessions.

use std::sync::Arc;

use proptest::prelude::*;

use super::{HandleMatch, Index, IndexWriter, Interner};
use crate::{
    clock::Now,
    ids::PublicName,
    secret::{DigestKey, HandleDigest, Lease, LeaseDigest},
    session::{
        spec::{Labels, Role, Spec},
        state::{
            Actor, Counters, Deadline, ExitClassification, LeaseHold, LeaseShown, Live, Names,
            Peer, Record, Revision, Seq, Session, Socket, TerminationReason,
        },
    },
};

const NOW: Now = Now {
    boot: 1_000,
    awake: 1_000,
    wall: 1_000,
};

fn handle(n: u64) -> HandleDigest {
    DigestKey::new(&[1; 32]).presented(&n.to_le_bytes())
}

fn lease(n: u8) -> LeaseDigest {
    let lease = Lease::new(format!("lease-{n}")).unwrap();
    DigestKey::new(&[1; 32]).lease(&lease)
}

fn peer() -> Arc<Peer> {
    Arc::new(Peer {
        uid: 0,
        pid: 1,
        program: "test".into(),
        socket: Socket::Operator,
    })
}

fn hold(n: u8) -> LeaseHold {
    let holder = PublicName::parse("holder").unwrap();
    LeaseHold {
        digest: lease(n),
        shown: Arc::new(LeaseShown {
            holder,
            presenter: peer(),
        }),
        since: 0,
        is_current: true,
    }
}

fn session(interner: &mut Interner, seq: u64, work: u8, held: Option<u8>) -> Session {
    let name = |text: &str| PublicName::parse(text).unwrap();
    Session {
        seq: Seq(seq),
        revision: Revision(seq),
        created: 0,
        names: Names::new(&format!("s{seq}"), &format!("w{work}"), "").unwrap(),
        spec: interner.spec(&Spec {
            role: Role::Implementer,
            policy_resolved_ref: name(""),
            capability_manifest_hash: None,
            coordination_id: name(""),
            parent_session_id: None,
            pcac_policy: None,
            pointer_only_waiver: None,
            labels: Labels::default(),
        }),
        registrant: peer(),
        handle: Some(handle(seq)),
        lease: held.map(hold),
        expires: None,
        idle: None,
        firewall: None,
        extra: None,
    }
}

fn record(ended: u64) -> Record {
    Record {
        reason: TerminationReason::Normal,
        detail: "".into(),
        exit_classification: ExitClassification::Success,
        exit_code: None,
        tokens_consumed: None,
        counters: Counters::default(),
        ended,
        duration: 0,
        purge: Deadline::new(u64::MAX, u64::MAX),
        actor: Actor {
            peer: peer(),
            request_id: None,
        },
    }
}

/// One change; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Register { work: u8, lease: Option<u8> },
    Bind { which: usize, episode: u8 },
    Rotate { which: usize },
    Show { which: usize, lease: u8 },
    End { which: usize },
    Remove { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, prop::option::of(0..3_u8))
            .prop_map(|(work, lease)| Step::Register { work, lease }),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(which, episode)| Step::Bind { which, episode }),
        2 => any::<usize>().prop_map(|which| Step::Rotate { which }),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(which, lease)| Step::Show { which, lease }),
        3 => any::<usize>().prop_map(|which| Step::End { which }),
        1 => any::<usize>().prop_map(|which| Step::Remove { which }),
    ]
}

/// Every session, and in which order they ended and were bound.
#[derive(Default)]
struct Model {
    sessions: Vec<Session>,
    ended: Vec<Seq>,
    bound: Vec<Seq>,
    next: u64,
}

impl Model {
    fn pick(&self, which: usize) -> Option<Session> {
        let live: Vec<&Session> = self.sessions.iter().filter(|s| s.is_active()).collect();
        live.get(which.checked_rem(live.len())?)
            .map(|session| (*session).clone())
    }

    fn put(&mut self, writer: &mut IndexWriter, session: Session) {
        writer.replace(&Arc::new(session.clone()));
        let place = self.sessions.iter_mut().find(|s| s.seq == session.seq);
        *place.unwrap() = session;
    }

    fn apply(&mut self, writer: &mut IndexWriter, interner: &mut Interner, step: &Step) {
        match *step {
            Step::Register { work, lease } => {
                self.next += 1;
                let session = session(interner, self.next, work, lease);
                writer.insert(&Arc::new(session.clone()), Live::default());
                self.sessions.push(session);
            }
            Step::Bind { which, episode } => {
                let Some(mut session) = self.pick(which) else {
                    return;
                };
                let name = format!("e{episode}");
                if session.episode_id() != Some(&name) {
                    self.bound.retain(|seq| *seq != session.seq);
                    self.bound.push(session.seq);
                }
                session.names = session.names.with_episode(&name);
                self.put(writer, session);
            }
            Step::Rotate { which } => {
                let Some(mut session) = self.pick(which) else {
                    return;
                };
                self.next += 1;
                session.handle = Some(handle(self.next));
                self.put(writer, session);
            }
            Step::Show { which, lease } => {
                let Some(mut session) = self.pick(which) else {
                    return;
                };
                session.lease = Some(hold(lease));
                self.put(writer, session);
            }
            Step::End { which } => {
                let Some(mut session) = self.pick(which) else {
                    return;
                };
                session.handle = None;
                session.lease = None;
                session.extra_mut().record = Some(record(0));
                self.ended.push(session.seq);
                self.put(writer, session);
            }
            Step::Remove { which } => {
                let Some(session) = self.pick(which) else {
                    return;
                };
                writer.remove(session.seq);
                self.sessions.retain(|s| s.seq != session.seq);
            }
        }
    }

    fn live(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Seq> {
        let live = self.sessions.iter().filter(|s| s.is_active() && wanted(s));
        live.map(|s| s.seq).collect()
    }

    /// The last to end among those wanted.
    fn last_ended(&self, wanted: impl Fn(&Session) -> bool) -> Option<Seq> {
        let is_wanted = |seq: &&Seq| self.sessions.iter().any(|s| s.seq == **seq && wanted(s));
        self.ended.iter().rev().find(is_wanted).copied()
    }

    fn check(&self, index: &Index, writer: &IndexWriter) {
        let seq = |view: Option<super::View>| view.map(|view| view.session.seq);
        for session in &self.sessions {
            assert_eq!(seq(index.by_id(session.id(), NOW)), Some(session.seq));
            assert_eq!(seq(index.by_seq(session.seq)), Some(session.seq));
        }
        for n in 1..=self.next {
            let of_handle = |s: &&Session| s.handle == Some(handle(n));
            let expected = self.sessions.iter().find(of_handle).map(|s| s.seq);
            let found = match index.by_handle(&handle(n), NOW) {
                Some(HandleMatch::Current(view)) => Some(view.session.seq),
                _ => None,
            };
            assert_eq!(found, expected);
        }
        for key in 0..3 {
            let (work, episode) = (format!("w{key}"), format!("e{key}"));
            let of_work = |s: &Session| s.work_id() == work;
            let of_episode = |s: &Session| s.episode_id() == Some(&episode);
            assert_eq!(
                seq(index.by_work(&work, NOW)),
                self.live(of_work).last().copied()
            );
            assert_eq!(
                seq(index.last_ended_of_work(&work, NOW)),
                self.last_ended(of_work)
            );
            let newest = self
                .bound
                .iter()
                .rev()
                .find(|s| self.live(of_episode).contains(s));
            assert_eq!(seq(index.by_episode(&episode, NOW)), newest.copied());
            assert_eq!(
                seq(index.last_ended_of_episode(&episode, NOW)),
                self.last_ended(of_episode)
            );
            let held = writer.of_lease(&lease(key), usize::MAX);
            let mut held: Vec<Seq> = held.iter().map(|view| view.session.seq).collect();
            held.sort_unstable();
            let of_lease = |s: &Session| s.lease.as_ref().is_some_and(|l| l.digest == lease(key));
            assert_eq!(held, self.live(of_lease));
            let mut of_work_all = self.live(of_work);
            of_work_all.reverse();
            let walked = writer.of_work(&work, usize::MAX);
            let walked: Vec<Seq> = walked.iter().map(|view| view.session.seq).collect();
            assert_eq!(walked, of_work_all);
        }
        let listed: Vec<Seq> = index
            .after(Seq(0), 10_000)
            .iter()
            .map(|v| v.session.seq)
            .collect();
        let all: Vec<Seq> = self.sessions.iter().map(|s| s.seq).collect();
        assert_eq!(listed, all);
        let ended = self.sessions.len() - self.live(|_| true).len();
        assert_eq!(
            index.counts(),
            (self.live(|_| true).len() as u64, ended as u64)
        );
    }
}

proptest! {
    #[test]
    fn every_way_to_a_session_agrees_with_a_plain_list(steps in prop::collection::vec(step(), 1..80)) {
        let (index, mut writer) = Index::new(10_000);
        let mut interner = Interner::default();
        let mut model = Model::default();
        for step in &steps {
            model.apply(&mut writer, &mut interner, step);
            model.check(&index, &writer);
        }
    }
}

#[test]
fn a_slot_that_was_given_back_is_taken_again() {
    let (index, mut writer) = Index::new(10_000);
    let mut interner = Interner::default();
    let room = writer.room();
    for seq in 1..=100 {
        writer.insert(
            &Arc::new(session(&mut interner, seq, 0, Some(0))),
            Live::default(),
        );
        writer.remove(Seq(seq));
    }
    assert_eq!(writer.room(), room);
    assert_eq!(index.counts(), (0, 0));
    assert!(index.by_work("w0", NOW).is_none());
}

#[test]
fn what_is_shared_is_kept_once_and_let_go() {
    let mut interner = Interner::default();
    let one = session(&mut interner, 1, 0, None).spec;
    let two = session(&mut interner, 2, 0, None).spec;
    assert!(Arc::ptr_eq(&one, &two));
}

#[test]
fn readers_find_an_unchanged_handle_while_its_session_changes() {
    let (index, mut writer) = Index::new(10_000);
    let mut interner = Interner::default();
    let mut changing = session(&mut interner, 1, 0, Some(0));
    writer.insert(&Arc::new(changing.clone()), Live::default());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (index, stop) = (Arc::clone(&index), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut looked = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(index.by_handle(&handle(1), NOW).is_some());
                    assert!(index.by_work("w0", NOW).is_some());
                    looked += 1;
                }
                looked
            })
        })
        .collect();
    for n in 0..20_000_u64 {
        changing.revision = Revision(n + 2);
        changing.lease = Some(hold((n % 3) as u8));
        writer.replace(&Arc::new(changing.clone()));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}
