//! What denials do, and what is kept of them.

use episoded::proto::firewall as pb;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use episoded::reason::Reason;
use spb::DenialReason;
use spb::EventKind::{Created, Denied, PinLifted, Terminated};

use super::equipment::{
    Firewall, Guarded, allowed, consuming, denied, entry, history, kinds, manifest, operator, read,
    small, tree, write,
};
use crate::harness::{
    Client, Daemon, bearer, find, get, own, refusal, register, registration, within,
};

/// Waits until that many denials of a session are in its history.
async fn written(operator: &mut Client, id: &str, count: usize) -> Vec<spb::Event> {
    within(async {
        loop {
            let events = history(operator, id).await;
            let denials = events.iter().filter(|e| e.denial.is_some()).count();
            if denials >= count {
                return events;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_denial_that_ends_the_session_is_told_before_its_end() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut session = Guarded::register(&daemon, &mut operator, consuming("w", small())).await;
    allowed(session.check(read("src/main.rs")).await);
    let verdict = session.check(write("/etc/cron.d/x")).await;
    let verdict = denied(verdict, DenialReason::WritePathNotAllowed, true);
    assert!(verdict.decision_id.starts_with("D-"), "{verdict:?}");
    assert!(verdict.refinement_id.is_empty());

    let ended = get(&mut operator, &session.id).await.unwrap();
    let record = ended.termination.unwrap();
    assert_eq!(record.reason(), spb::TerminationReason::PolicyViolation);
    assert_eq!(record.detail, "WRITE_PATH_NOT_ALLOWED");
    assert_eq!(
        record.exit_classification(),
        spb::ExitClassification::Failure
    );
    refusal(
        session
            .try_check(read("src/main.rs"))
            .await
            .map(tonic::Response::new),
    )
    .expect(Reason::HandleNotAccepted);

    let events = history(&mut operator, &session.id).await;
    assert_eq!(kinds(&events), [Created, Denied, Terminated]);
    let denial = events[1].denial.clone().unwrap();
    assert_eq!(denial.decision_id, verdict.decision_id);
    assert_eq!(denial.subject, "/etc/cron.d/x");
    assert_eq!((denial.request.as_str(), denial.count), ("write", 1));
    assert!(denial.enforced);
}

#[tokio::test]
async fn an_audit_session_is_never_refused_and_every_verdict_says_so() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut request = consuming("w", small());
    request.mode = spb::FirewallMode::Audit.into();
    let mut session = Guarded::register(&daemon, &mut operator, request).await;
    for tool in [
        read("/etc/passwd"),
        write("/etc/cron.d/x"),
        read("a/../../../x"),
    ] {
        let verdict = session.check(tool).await;
        assert_eq!(verdict.decision(), pb::Decision::WouldDeny);
        assert!(!verdict.enforced && !verdict.session_ended);
    }
    assert!(!allowed(session.check(read("src/main.rs")).await).enforced);
    let events = written(&mut operator, &session.id, 3).await;
    assert!(
        events
            .iter()
            .filter_map(|e| e.denial.as_ref())
            .all(|d| !d.enforced)
    );
    let live = get(&mut operator, &session.id).await.unwrap();
    assert_eq!(live.status(), spb::SessionStatus::Active);
    assert_eq!(live.firewall.unwrap().denials, 3);
}

#[tokio::test]
async fn a_session_that_continues_survives_so_many_denials_and_no_more() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut request = consuming("w", small());
    request.on_denial = spb::OnDenial::Continue.into();
    request.max_denials = Some(3);
    let mut session = Guarded::register(&daemon, &mut operator, request).await;
    for _ in 0..3 {
        let verdict = session.check(write("/etc/x")).await;
        denied(verdict, DenialReason::WritePathNotAllowed, false);
    }
    let verdict = session.check(write("/etc/x")).await;
    denied(verdict, DenialReason::WritePathNotAllowed, true);
    let record = get(&mut operator, &session.id)
        .await
        .unwrap()
        .termination
        .unwrap();
    assert_eq!(record.reason(), spb::TerminationReason::PolicyViolation);
    assert_eq!(record.detail, "max_denials");
}

#[tokio::test]
async fn denials_are_counted_over_a_crash() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut request = consuming("w", small());
    request.on_denial = spb::OnDenial::Continue.into();
    request.max_denials = Some(2);
    let mut session = Guarded::register(&daemon, &mut operator, request).await;
    for _ in 0..2 {
        let verdict = session.check(write("/etc/x")).await;
        denied(verdict, DenialReason::WritePathNotAllowed, false);
    }
    written(&mut operator, &session.id, 2).await;
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    session.reconnect(&daemon).await;
    let verdict = session.check(write("/etc/x")).await;
    denied(verdict, DenialReason::WritePathNotAllowed, true);
    let told = kinds(&history(&mut operator, &session.id).await);
    assert_eq!(told, [Created, Denied, Denied, Denied, Terminated]);
}

#[tokio::test]
async fn two_hundred_denials_are_kept_each_and_the_rest_are_counted() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut request = consuming("w", small());
    request.mode = spb::FirewallMode::Audit.into();
    let mut session = Guarded::register(&daemon, &mut operator, request).await;
    for _ in 0..230 {
        let verdict = session.check(write("/etc/x")).await;
        assert_eq!(verdict.decision(), pb::Decision::WouldDeny);
    }
    written(&mut operator, &session.id, 200).await;
    // What was counted is written with the minute, or at an orderly stop.
    let mut daemon = daemon;
    daemon.sigterm().await;
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let events = history(&mut operator, &session.id).await;
    let counts: Vec<u64> = events
        .iter()
        .filter_map(|e| Some(e.denial.as_ref()?.count))
        .collect();
    assert_eq!(counts.len(), 201);
    assert_eq!((counts[..200].iter().sum::<u64>(), counts[200]), (200, 30));
    assert_eq!(
        get(&mut operator, &session.id)
            .await
            .unwrap()
            .firewall
            .unwrap()
            .denials,
        230
    );
}

#[tokio::test]
async fn a_pinned_entry_is_free_after_the_sessions_first_write_even_over_a_crash() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let entries = vec![
        entry("a.rs", m::Access::ReadWrite, "a"),
        entry("b.rs", m::Access::ReadWrite, "b"),
        entry("c.rs", m::Access::Read, "c"),
    ];
    let request = consuming("w", manifest(entries, Vec::new()));
    let mut session = Guarded::register(&daemon, &mut operator, request).await;
    assert!(allowed(session.check(read("a.rs")).await).pinned);
    allowed(session.check(write("a.rs")).await);
    assert!(!allowed(session.check(read("a.rs")).await).pinned);
    assert!(allowed(session.check(read("b.rs")).await).pinned);
    // A second write lifts nothing, and writes nothing down.
    allowed(session.check(write("a.rs")).await);
    let events = history(&mut operator, &session.id).await;
    assert_eq!(kinds(&events), [Created, PinLifted]);

    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    session.reconnect(&daemon).await;
    assert!(!allowed(session.check(read("a.rs")).await).pinned);
    let live = get(&mut operator, &session.id).await.unwrap();
    assert_eq!(live.firewall.unwrap().lifted_paths, ["a.rs"]);
    denied(
        session.check(write("c.rs")).await,
        DenialReason::WritePathNotAllowed,
        true,
    );
}

#[tokio::test]
async fn an_explanation_counts_as_no_attempt() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let mut firewall = operator(&daemon).await;
    let request = pb::ExplainRequestRequest {
        session_id: session.id.clone(),
        tool: Some(pb::ToolRequest {
            request: Some(read("/etc/passwd")),
        }),
    };
    let verdict = firewall
        .explain_request(request)
        .await
        .unwrap()
        .into_inner();
    let verdict = verdict.verdict.unwrap();
    assert_eq!(verdict.reason(), DenialReason::ContextMiss);
    assert_eq!(
        (verdict.decision_id.as_str(), verdict.session_ended),
        ("", false)
    );
    let live = get(&mut client, &session.id).await.unwrap();
    assert_eq!(live.status(), spb::SessionStatus::Active);
    assert_eq!(history(&mut client, &session.id).await.len(), 1);
}

#[tokio::test]
async fn a_stream_is_decided_in_order_and_ends_with_the_session() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let ask = |tool| pb::CheckToolRequestsRequest {
        session_id: String::new(),
        tool: Some(pb::ToolRequest {
            request: Some(tool),
        }),
    };
    let asked: Vec<_> = (0..100)
        .map(|n| {
            ask(if n % 2 == 0 {
                read("src/main.rs")
            } else {
                write("out/x")
            })
        })
        .chain([ask(read("/etc/passwd")), ask(read("src/main.rs"))])
        .collect();
    let mut firewall = super::equipment::session(&daemon).await;
    let requests = bearer(tokio_stream::iter(asked), &session.handle);
    let mut verdicts = firewall
        .check_tool_requests(requests)
        .await
        .unwrap()
        .into_inner();
    for n in 0..100 {
        let verdict = verdicts.message().await.unwrap().unwrap().verdict.unwrap();
        let path = if n % 2 == 0 {
            "/project/src/main.rs"
        } else {
            "/project/out/x"
        };
        assert_eq!(allowed(verdict).path, path);
    }
    let last = verdicts.message().await.unwrap().unwrap().verdict.unwrap();
    denied(last, DenialReason::ContextMiss, true);
    assert_eq!(verdicts.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_whose_handle_dies_ends_and_says_why() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let (_sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut firewall = super::equipment::session(&daemon).await;
    let verdicts = firewall
        .check_tool_requests(bearer(requests, &session.handle))
        .await;
    let mut verdicts = verdicts.unwrap().into_inner();
    let end = crate::harness::normal_end(&session.id);
    client.terminate_session(end).await.unwrap();
    let ended = within(verdicts.message())
        .await
        .map(|_| tonic::Response::new(()));
    refusal(ended).expect(Reason::HandleNotAccepted);
}

#[tokio::test]
async fn a_stream_decides_nothing_for_a_handle_that_has_died() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let mut firewall = super::equipment::session(&daemon).await;
    for _ in 0..20 {
        let session = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let verdicts = firewall.check_tool_requests(bearer(requests, &session.handle));
        let mut verdicts = verdicts.await.unwrap().into_inner();
        let request = || pb::CheckToolRequestsRequest {
            session_id: String::new(),
            tool: Some(pb::ToolRequest {
                request: Some(read("src/main.rs")),
            }),
        };
        sender.send(request()).await.unwrap();
        within(verdicts.message())
            .await
            .unwrap()
            .expect("it is decided");
        let end = crate::harness::normal_end(&session.id);
        client.terminate_session(end).await.unwrap();
        // The stream may have ended by itself.
        let _ = sender.send(request()).await;
        let ended = within(verdicts.message()).await;
        refusal(ended.map(tonic::Response::new)).expect(Reason::HandleNotAccepted);
    }
}

#[tokio::test]
async fn a_session_without_a_firewall_has_nothing_to_decide() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let plain = register(&mut client, registration("w")).await;
    let mut firewall: Firewall = super::equipment::session(&daemon).await;
    let request = pb::CheckToolRequestRequest::default();
    let answer = firewall
        .check_tool_request(bearer(request, &plain.ephemeral_handle))
        .await;
    refusal(answer).expect(Reason::NoFirewall);
    assert!(
        find(&mut client, own(&plain.ephemeral_handle))
            .await
            .unwrap()
            .firewall
            .is_none()
    );
}

#[tokio::test]
async fn a_session_reaches_its_own_firewall_only() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let one = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let other = Guarded::register(&daemon, &mut client, consuming("w", small())).await;
    let mut firewall = super::equipment::session(&daemon).await;
    let request = pb::CheckToolRequestRequest {
        session_id: other.id.clone(),
        ..Default::default()
    };
    let answer = firewall
        .check_tool_request(bearer(request, &one.handle))
        .await;
    refusal(answer).expect(Reason::OperatorOnly);
    for answer in [
        firewall
            .reissue_context(bearer(pb::ReissueContextRequest::default(), &one.handle))
            .await
            .map(|_| tonic::Response::new(())),
        firewall
            .decline_refinement(bearer(pb::DeclineRefinementRequest::default(), &one.handle))
            .await
            .map(|_| tonic::Response::new(())),
        firewall
            .list_refinements(bearer(pb::ListRefinementsRequest::default(), &one.handle))
            .await
            .map(|_| tonic::Response::new(())),
    ] {
        refusal(answer).expect(Reason::OperatorOnly);
    }
}

#[tokio::test]
async fn a_rename_lifts_both_ends_and_takes_nothing_pinned_along() {
    let daemon = Daemon::start().await;
    let mut client = daemon.operator().await;
    let entries = vec![
        entry("out/kept.txt", m::Access::Read, "kept"),
        entry("a.rs", m::Access::ReadWrite, "a"),
    ];
    let trees = vec![tree("out", m::TreeAccess::Write)];
    let mut request = consuming("w", manifest(entries, trees));
    request.on_denial = spb::OnDenial::Continue.into();
    let mut session = Guarded::register(&daemon, &mut client, request).await;
    let rename = |from: &str, to: &str| {
        pb::tool_request::Request::Rename(pb::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    };
    let verdict = allowed(session.check(rename("a.rs", "out/b.rs")).await);
    assert_eq!(
        (verdict.path.as_str(), verdict.to_path.as_str()),
        ("/project/a.rs", "/project/out/b.rs")
    );
    assert!(!allowed(session.check(read("a.rs")).await).pinned);
    for (from, to) in [
        ("out", "out2"),
        ("out", "out/x"),
        ("out/x", "out/kept.txt"),
        ("out/x", "x"),
    ] {
        let verdict = session.check(rename(from, to)).await;
        denied(verdict, DenialReason::WritePathNotAllowed, false);
    }
}
