//! What the context firewall keeps, with every field in use.

use std::sync::Arc;

use super::{Home, NOW, events, sample, told};
use crate::{
    firewall::{
        command::{Matcher, Rule},
        decide::DenialReason,
        manifest::{
            Access, Draft, DraftEntry, DraftTree, Host, Manifest, NamedTool, ToolClass, TreeAccess,
        },
        path::{AbsolutePath, RelativePath},
    },
    ids::SessionId,
    session::{
        event::{About, Event, EventKind},
        firewall::{DecisionId, Denial, Firewall, ManifestRef, Mode, OnDenial},
        index::Interner,
        refinement::{Count, Refinement, RefinementId, RefinementState},
        state::{Extra, Revision, Session},
        store::{Change, Store},
    },
    storage::Journal,
};

fn manifest() -> Arc<Manifest> {
    let entry = |path: &str, access, stable_id: &str| DraftEntry {
        path: path.into(),
        hash: vec![7; 32],
        access,
        stable_id: stable_id.into(),
        size: Some(12),
    };
    let tree = |path: &str, access| DraftTree {
        path: path.into(),
        access,
    };
    let under = || Matcher::PathUnder(RelativePath::parse("src").unwrap());
    let draft = Draft {
        manifest_id: "m-1".into(),
        profile_id: "p-1".into(),
        entries: vec![
            entry("src/main.rs", Access::ReadWrite, "main"),
            entry("README.md", Access::ReadWithZoom, ""),
            entry("Cargo.toml", Access::Read, ""),
        ],
        trees: vec![
            tree("out", TreeAccess::Write),
            tree("docs", TreeAccess::Read),
            tree("tmp", TreeAccess::ReadWrite),
        ],
        tools: ToolClass::ALL.to_vec(),
        commands: vec![Rule {
            program: "head".into(),
            arguments: [
                Matcher::Literal("-q".into()),
                Matcher::Option {
                    names: ["-n".into(), "--lines".into()].into(),
                    value: Box::new(Matcher::Integer { min: -1, max: 100 }),
                },
                Matcher::AnyOf([under(), Matcher::Text].into()),
                Matcher::AnyNumberOf(Box::new(Matcher::OneOf(["a".into(), "b".into()].into()))),
            ]
            .into(),
            working_directory: Some(RelativePath::parse("src").unwrap()),
            environment: ["RUST_LOG".into()].into(),
        }],
        named_tools: vec![NamedTool {
            server: "docs".into(),
            name: "search".into(),
        }],
        network: vec![
            Host {
                name: "localhost".into(),
                port: Some(8080),
            },
            Host {
                name: "example.org".into(),
                port: None,
            },
        ],
        models: vec!["model-1".into()],
        artifacts: vec!["artifact-1".into()],
    };
    Arc::new(draft.build(10).unwrap())
}

fn guarded(revision: u64) -> Session {
    let manifest = manifest();
    let name = |text| Some(SessionId::parse(text).unwrap());
    let firewall = Firewall {
        mode: Mode::Consume,
        on_denial: OnDenial::Continue { max_denials: 7 },
        manifest: Arc::new(ManifestRef {
            hash: manifest.hash(),
            id: "m-1".into(),
        }),
        workspace_root: AbsolutePath::parse("/work").unwrap(),
        host_root: Some(AbsolutePath::parse("/srv/work").unwrap()),
    };
    let extra = Extra {
        lifted: vec![0, 2],
        denials: 3,
        predecessor: name("before"),
        successor: name("after"),
        ..Extra::default()
    };
    Session {
        firewall: Some(Arc::new(firewall)),
        extra: Some(Box::new(extra)),
        ..sample::bare(40, revision)
    }
}

fn audited(revision: u64) -> Session {
    let mut session = guarded(revision);
    session.extra = None;
    session.seq.0 += 1;
    let firewall = Arc::make_mut(session.firewall.as_mut().unwrap());
    firewall.mode = Mode::Audit;
    firewall.on_denial = OnDenial::End;
    firewall.host_root = None;
    session
}

fn refinement(id: u64, state: RefinementState) -> Arc<Refinement> {
    let session = Arc::new(guarded(100));
    Arc::new(Refinement {
        id: RefinementId(id),
        manifest: Arc::clone(&session.firewall.as_ref().unwrap().manifest),
        session,
        path: "/work/über.rs".into(),
        count: 2,
        created: NOW.wall,
        expires: NOW.wall + 5,
        state,
        changed: NOW.wall + 1,
    })
}

fn denial(number: usize, reason: DenialReason) -> About {
    About::Denial(Arc::new(Denial {
        decision: DecisionId::kept(&format!("D-{number}")),
        reason,
        request: "read".into(),
        subject: "/etc/passwd".into(),
        rule: "default".into(),
        detail: "no".into(),
        enforced: number.is_multiple_of(2),
        count: 1 + number as u64,
    }))
}

/// One event of each kind, about one session.
fn told_events() -> Vec<Event> {
    let mut all: Vec<(EventKind, About)> = vec![(EventKind::Created, About::Session)];
    let denials = DenialReason::ALL.into_iter().enumerate();
    all.extend(denials.map(|(n, reason)| (EventKind::Denied, denial(n, reason))));
    all.push((EventKind::PinLifted, About::Session));
    let successor = SessionId::parse("after").unwrap();
    for (kind, state) in [
        (EventKind::RefinementRequested, RefinementState::Pending),
        (
            EventKind::RefinementAnswered,
            RefinementState::Answered(successor),
        ),
        (
            EventKind::RefinementDeclined,
            RefinementState::Declined("no".into()),
        ),
        (EventKind::RefinementExpired, RefinementState::Expired),
    ] {
        let id = 200 + all.len() as u64;
        all.push((kind, About::Refinement(refinement(id, state))));
    }
    let event = |(n, (kind, about)): (usize, (EventKind, About))| {
        let session = guarded(100 + n as u64);
        let mut event = sample::event(&session, sample::live(), kind, NOW.wall);
        event.about = about;
        event
    };
    all.into_iter().enumerate().map(event).collect()
}

/// Adds all of it.
pub(super) fn append(journal: &mut Journal) {
    let mut changes = vec![Change::PutManifest(manifest())];
    for event in told_events() {
        changes.push(Change::Put {
            session: event.session.clone().unwrap(),
            live: event.live,
            event: Some(Arc::new(event)),
            request: None,
        });
    }
    let audited = audited(150);
    let event = sample::event(&audited, sample::live(), EventKind::Created, NOW.wall);
    changes.push(Change::Put {
        session: Arc::new(audited),
        live: sample::live(),
        event: Some(Arc::new(event)),
        request: None,
    });
    // Of a session that is forgotten, only the event is left.
    let mut lone = sample::event(
        &guarded(160),
        sample::live(),
        EventKind::RefinementExpired,
        5,
    );
    (lone.session, lone.previous) = (None, Revision(0));
    lone.live = crate::session::state::Live::default();
    lone.about = About::Refinement(refinement(300, RefinementState::Expired));
    changes.push(Change::Note(Arc::new(lone)));
    journal.append(&changes, NOW).unwrap();
}

/// Wants all of it.
pub(super) fn is_there(journal: &mut Journal) {
    let sessions = super::sessions(journal);
    let last = told_events().pop().unwrap();
    let expected = [
        (last.session.as_deref().unwrap().clone(), last.live),
        (audited(150), sample::live()),
    ];
    assert_eq!(sessions[sessions.len() - 2..], expected);
    let told_now: Vec<String> = events(journal).iter().map(|e| told(e)).collect();
    for event in told_events() {
        let expected = told(&event);
        assert!(told_now.contains(&expected), "{expected}");
    }
    let stored = journal.firewall(&mut Interner::default()).unwrap();
    assert_eq!(stored.manifests, [manifest()]);
    assert_eq!(stored.manifests[0].encode(), manifest().encode());
    let states: Vec<_> = stored.refinements.iter().map(|it| &it.state).collect();
    assert_eq!(states.len(), 5);
    assert_eq!(
        *stored.refinements[0],
        *refinement(211, RefinementState::Pending)
    );
    assert!(matches!(states[1], RefinementState::Answered(_)));
    assert!(matches!(states[2], RefinementState::Declined(_)));
    let count = Count {
        count: 2,
        at: NOW.wall,
    };
    assert_eq!(stored.counts, [("work-1".into(), count)]);
}

#[test]
fn what_the_firewall_keeps_reads_back() {
    let home = Home::with_sample();
    append(&mut home.open());
    is_there(&mut home.open());
}

#[test]
fn what_nobody_needs_is_dropped() {
    let home = Home::with_sample();
    let mut journal = home.open();
    append(&mut journal);
    let drops = [
        Change::DropManifest(manifest().hash()),
        Change::ForgetRefinement(RefinementId(211)),
        Change::ResetRefinements("work-1".into()),
    ];
    journal.append(&drops, NOW).unwrap();
    let stored = journal.firewall(&mut Interner::default()).unwrap();
    assert!(stored.manifests.is_empty() && stored.counts.is_empty());
    assert_eq!(stored.refinements.len(), 4);
    assert!(stored.refinements.iter().all(|it| it.id.0 != 211));
}
