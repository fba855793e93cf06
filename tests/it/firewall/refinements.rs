//! Reads outside the manifest, asked back to the coordinator.

use episoded::proto::firewall as pb;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use episoded::reason::Reason;
use spb::DenialReason;
use spb::EventKind::{Created, RefinementRequested, Terminated};

use super::equipment::{
    Firewall, Guarded, allowed, consuming, denied, entry, history, kinds, manifest, operator, read,
    small, write,
};
use crate::harness::{Client, Daemon, get, refusal, within};

async fn pending(firewall: &mut Firewall) -> Vec<spb::Refinement> {
    let filter = pb::RefinementFilter {
        state: spb::RefinementState::Pending.into(),
        ..Default::default()
    };
    let request = pb::ListRefinementsRequest {
        page_size: 1000,
        filter: Some(filter),
        ..Default::default()
    };
    let answer = firewall.list_refinements(request).await.expect("it lists");
    answer.into_inner().refinements
}

fn additions(path: &str) -> pb::reissue_context_request::Context {
    pb::reissue_context_request::Context::Additions(pb::Additions {
        entries: vec![entry(path, m::Access::Read, "more")],
        trees: Vec::new(),
    })
}

fn reissue(id: &str, path: &str) -> pb::ReissueContextRequest {
    pb::ReissueContextRequest {
        refinement_id: id.to_owned(),
        context: Some(additions(path)),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_miss_ends_the_session_and_asks_back_exactly_once() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut request = consuming("work-7", small());
    request.coordination_id = "c-1".to_owned();
    request.labels.insert("team".to_owned(), "blue".to_owned());
    let session = Guarded::register(&daemon, &mut client, request).await;
    let mut together = Vec::new();
    for n in 0..16 {
        let mut one = session.another(&daemon).await;
        together.push(tokio::spawn(async move {
            one.try_check(read(&format!("missing/{n}"))).await
        }));
    }
    let mut ids = Vec::new();
    for one in together {
        // Whoever comes too late finds the handle dead.
        match one.await.unwrap() {
            Ok(verdict) => ids.push(denied(verdict, DenialReason::ContextMiss, true).refinement_id),
            Err(status) => drop(refusal::<()>(Err(status)).expect(Reason::HandleNotAccepted)),
        }
    }
    ids.dedup();
    let [id] = <[String; 1]>::try_from(ids).unwrap();

    let ended = get(&mut client, &session.id).await.unwrap();
    let record = ended.termination.unwrap();
    assert_eq!(record.reason(), spb::TerminationReason::ContextMiss);
    assert_eq!(record.rationale, "CONTEXT_MISS");
    assert_eq!(
        record.exit_classification(),
        spb::ExitClassification::Failure
    );

    let events = history(&mut client, &session.id).await;
    let told: Vec<_> = kinds(&events)
        .into_iter()
        .filter(|k| *k != spb::EventKind::Denied)
        .collect();
    assert_eq!(told, [Created, Terminated, RefinementRequested]);
    let asked = events.last().unwrap().refinement.clone().unwrap();
    assert_eq!(asked.refinement_id, id);
    assert_eq!(
        (asked.session_id.as_str(), asked.work_id.as_str()),
        (session.id.as_str(), "work-7")
    );
    assert_eq!((asked.coordination_id.as_str(), asked.count), ("c-1", 1));
    assert_eq!(asked.labels["team"], "blue");
    assert!(asked.missed_path.starts_with("/project/missing/"));
    assert_eq!(asked.manifest_hash, ended.firewall.unwrap().manifest_hash);

    let mut firewall = operator(&daemon).await;
    assert_eq!(pending(&mut firewall).await, [asked]);
}

#[tokio::test]
async fn a_work_id_gets_ten_refinements_across_its_sessions_and_restarts() {
    let mut daemon = Daemon::start().await;
    for n in 1..=11 {
        if n == 6 {
            daemon.kill9();
            daemon.restart().await;
        }
        let mut client = daemon.operator().await;
        let mut session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
        let verdict = session.check(read("missing")).await;
        let ended = get(&mut client, &session.id)
            .await
            .unwrap()
            .termination
            .unwrap();
        assert_eq!(ended.reason(), spb::TerminationReason::ContextMiss);
        if n <= 10 {
            let verdict = denied(verdict, DenialReason::ContextMiss, true);
            assert!(verdict.refinement_id.starts_with("R-"));
        } else {
            let verdict = denied(verdict, DenialReason::MaxRefinementsExceeded, true);
            assert_eq!(verdict.refinement_id, "");
        }
    }
    let mut firewall = operator(&daemon).await;
    let counts: Vec<u32> = pending(&mut firewall)
        .await
        .iter()
        .map(|it| it.count)
        .collect();
    assert_eq!(counts, (1..=10).collect::<Vec<u32>>());

    let mut client = daemon.operator().await;
    let mut session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let refused = session
        .read_file("missing")
        .await
        .map(|_| tonic::Response::new(()));
    let refused = refusal(refused).expect(Reason::MaxRefinementsExceeded);
    assert_eq!(
        (
            refused.metadata["work_id"].as_str(),
            refused.metadata["max"].as_str()
        ),
        ("w", "10")
    );

    let mut fresh = consuming("w", small());
    fresh.reset_refinements = true;
    let mut session = Guarded::register(&daemon, &mut client, fresh).await;
    denied(
        session.check(read("missing")).await,
        DenialReason::ContextMiss,
        true,
    );
    assert_eq!(pending(&mut firewall).await.last().unwrap().count, 1);
}

#[tokio::test]
async fn a_session_that_continues_asks_back_once_for_each_path() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut request = consuming("w", small());
    request.on_denial = spb::OnDenial::Continue.into();
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    let mut ids = Vec::new();
    for path in ["missing/a", "missing/a", "missing/b", "missing//a"] {
        let verdict = session.check(read(path)).await;
        ids.push(denied(verdict, DenialReason::ContextMiss, false).refinement_id);
    }
    assert!(
        ids[0] == ids[1] && ids[0] == ids[3] && ids[0] != ids[2],
        "{ids:?}"
    );
    let mut firewall = operator(&daemon).await;
    assert_eq!(pending(&mut firewall).await.len(), 2);
}

async fn missed(
    daemon: &Daemon,
    client: &mut Client,
    request: spb::RegisterSessionRequest,
) -> (String, String) {
    let mut session = Guarded::register(daemon, client, request).await;
    let verdict = session.check(read("more.rs")).await;
    let id = denied(verdict, DenialReason::ContextMiss, true).refinement_id;
    (session.id, id)
}

#[tokio::test]
async fn the_successor_goes_on_where_the_session_ended() {
    let mut daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut request = consuming("w", small());
    request.lease_id = "a lease".to_owned();
    request.lease_holder = "boss".to_owned();
    request.policy_resolved_ref = "policy".to_owned();
    request.host_root = "/srv/project".to_owned();
    request.labels.insert("team".to_owned(), "blue".to_owned());
    request.idle_timeout = Some(prost_types::Duration {
        seconds: 90,
        nanos: 0,
    });
    request.deadline = Some(spb::register_session_request::Deadline::Ttl(
        prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        },
    ));
    let (session_id, id) = missed(&daemon, &mut client, request).await;
    let before = get(&mut client, &session_id).await.unwrap();
    // It can be answered long after, over a crash.
    daemon.kill9();
    daemon.restart().await;

    let mut firewall = operator(&daemon).await;
    let mut named = reissue(&id, "more.rs");
    named.request_id = "answer-1".to_owned();
    let answer = firewall
        .reissue_context(named.clone())
        .await
        .unwrap()
        .into_inner();
    let next = answer.session.unwrap();
    assert_eq!(next.predecessor_session_id, session_id);
    assert_eq!(
        (next.work_id.as_str(), next.policy_resolved_ref.as_str()),
        ("w", "policy")
    );
    assert_eq!((next.role, &next.labels), (before.role, &before.labels));
    assert_eq!(
        (next.expire_time, next.idle_timeout),
        (before.expire_time, before.idle_timeout)
    );
    assert_eq!(next.lease_holder, "boss");
    let (was, is) = (before.firewall.unwrap(), next.firewall.clone().unwrap());
    assert_eq!(
        (is.workspace_root, is.host_root),
        (was.workspace_root, was.host_root)
    );
    assert_ne!(is.manifest_hash, was.manifest_hash);
    assert_eq!(
        answer.refinement.unwrap().successor_session_id,
        next.session_id
    );

    let mut client = daemon.operator().await;
    let ended = get(&mut client, &session_id).await.unwrap();
    assert_eq!(ended.successor_session_id, next.session_id);
    let renew = spb::RenewLeaseRequest {
        lease_id: "a lease".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client
            .renew_lease(renew)
            .await
            .unwrap()
            .into_inner()
            .renewed,
        1
    );

    // The same answer again gives the same session, and a fresh handle.
    let again = firewall.reissue_context(named).await.unwrap().into_inner();
    let fresh = again.session.unwrap();
    assert_eq!(fresh.session_id, next.session_id);
    assert_ne!(fresh.ephemeral_handle, next.ephemeral_handle);
    let mut session = Guarded::of(&daemon, &fresh.session_id, &fresh.ephemeral_handle).await;
    assert!(allowed(session.check(read("more.rs")).await).pinned);
    allowed(session.check(read("src/main.rs")).await);

    // Another comes too late.
    let late = firewall.reissue_context(reissue(&id, "more.rs")).await;
    let late = refusal(late).expect(Reason::RefinementAnswered);
    assert_eq!(late.metadata["successor_session_id"], next.session_id);
    let late = firewall.decline_refinement(pb::DeclineRefinementRequest {
        refinement_id: id,
        reason: String::new(),
    });
    refusal(late.await).expect(Reason::RefinementAnswered);
}

#[tokio::test]
async fn a_successor_reads_back_what_was_written_unless_it_is_pinned_anew() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut firewall = operator(&daemon).await;
    let edited = |content| entry("src/main.rs", m::Access::ReadWrite, content);
    for (replaced, is_pinned) in [(None, false), (Some("as it is now"), true)] {
        let before = manifest(vec![edited("as it was")], vec![]);
        let mut session = Guarded::register(&daemon, &mut client, consuming("w", before)).await;
        allowed(session.check(write("src/main.rs")).await);
        assert!(!allowed(session.check(read("src/main.rs")).await).pinned);
        let id = session.check(read("more.rs")).await.refinement_id;
        let mut answer = reissue(&id, "more.rs");
        if let Some(content) = replaced {
            let whole = manifest(vec![edited(content)], vec![]);
            let stored = super::manifests::put(&mut firewall, vec![whole])
                .await
                .unwrap();
            let hash = stored.manifest_hash;
            let hash = pb::reissue_context_request::Context::ManifestHash(hash);
            answer.context = Some(hash);
        }
        let next = firewall.reissue_context(answer).await.unwrap().into_inner();
        let next = next.session.unwrap();
        let mut next = Guarded::of(&daemon, &next.session_id, &next.ephemeral_handle).await;
        let verdict = allowed(next.check(read("src/main.rs")).await);
        assert_eq!(verdict.pinned, is_pinned);
    }
}

#[tokio::test]
async fn a_refinement_that_was_declined_cannot_be_answered() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let (session_id, id) = missed(&daemon, &mut client, consuming("w", small())).await;
    let mut firewall = operator(&daemon).await;
    let decline = pb::DeclineRefinementRequest {
        refinement_id: id.clone(),
        reason: "not for you".to_owned(),
    };
    let declined = firewall
        .decline_refinement(decline)
        .await
        .unwrap()
        .into_inner();
    let declined = declined.refinement.unwrap();
    assert_eq!(declined.state(), spb::RefinementState::Declined);
    assert_eq!(declined.decline_reason, "not for you");
    refusal(firewall.reissue_context(reissue(&id, "more.rs")).await)
        .expect(Reason::RefinementClosed);
    refusal(
        firewall
            .reissue_context(reissue("R-999999", "more.rs"))
            .await,
    )
    .expect(Reason::RefinementNotFound);
    let last = history(&mut client, &session_id).await.pop().unwrap();
    assert_eq!(last.kind(), spb::EventKind::RefinementDeclined);
    assert_eq!(last.refinement.unwrap(), declined);
    assert!(pending(&mut firewall).await.is_empty());
}

#[tokio::test]
async fn an_answer_that_is_wrong_leaves_the_refinement_open() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let (_, id) = missed(&daemon, &mut client, consuming("w", small())).await;
    let mut firewall = operator(&daemon).await;
    let mut nothing = reissue(&id, "more.rs");
    nothing.context = None;
    assert_eq!(
        refusal(firewall.reissue_context(nothing).await).fields,
        ["context"]
    );
    let climbing = firewall.reissue_context(reissue(&id, "../more.rs")).await;
    refusal(climbing).expect(Reason::InvalidManifest);
    let mut unknown = reissue(&id, "more.rs");
    unknown.context = Some(pb::reissue_context_request::Context::ManifestHash(vec![
        1;
        32
    ]));
    refusal(firewall.reissue_context(unknown).await).expect(Reason::ManifestNotFound);
    assert_eq!(pending(&mut firewall).await.len(), 1);
    let counted = client
        .get_session(spb::GetSessionRequest {
            session_id: "none".into(),
        })
        .await;
    refusal(counted).expect(Reason::SessionNotFound);
    firewall
        .reissue_context(reissue(&id, "more.rs"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_watch_begins_with_the_pending_ones_and_resumes_without_a_gap() {
    let mut daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let (_, first) = missed(&daemon, &mut client, consuming("w", small())).await;
    let mut firewall = operator(&daemon).await;
    let request = pb::WatchRefinementsRequest::default();
    let mut watch = firewall
        .watch_refinements(request)
        .await
        .unwrap()
        .into_inner();
    let snapshot = within(watch.message()).await.unwrap().unwrap();
    assert!(snapshot.snapshot_complete);
    let id = |change: &pb::RefinementChange| change.refinement.clone().unwrap().refinement_id;
    assert_eq!(snapshot.changes.iter().map(id).collect::<Vec<_>>(), [first]);

    let (_, second) = missed(&daemon, &mut client, consuming("w", small())).await;
    let told = within(watch.message()).await.unwrap().unwrap();
    assert_eq!(told.changes.iter().map(id).collect::<Vec<_>>(), [second]);
    assert!(
        told.changes[0].revision > snapshot.through && told.through >= told.changes[0].revision
    );

    let (_, third) = missed(&daemon, &mut client, consuming("w", small())).await;
    daemon.kill9();
    daemon.restart().await;
    let mut firewall = operator(&daemon).await;
    let resume = pb::WatchRefinementsRequest {
        after_revision: Some(told.through),
        registry_id: told.registry_id,
        ..Default::default()
    };
    let mut watch = firewall
        .watch_refinements(resume)
        .await
        .unwrap()
        .into_inner();
    let changes = within(async {
        loop {
            let answer = watch.message().await.unwrap().unwrap();
            if !answer.changes.is_empty() {
                return answer.changes;
            }
        }
    })
    .await;
    assert_eq!(changes.iter().map(id).collect::<Vec<_>>(), [third]);
    let other = pb::WatchRefinementsRequest {
        registry_id: "R-other".to_owned(),
        ..Default::default()
    };
    refusal(
        firewall
            .watch_refinements(other)
            .await
            .map(|_| tonic::Response::new(())),
    )
    .expect(Reason::RegistryChanged);
}
