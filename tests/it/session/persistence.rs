//! What a crash, a stop and a start leave.

use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{Daemon, find, get, normal_end, of_work, own, register, registration};

const LEASE: &str = "canary-lease-51fe0c";

fn leased(work_id: &str) -> pb::RegisterSessionRequest {
    pb::RegisterSessionRequest {
        lease_id: LEASE.to_owned(),
        lease_holder: "orchestrator".to_owned(),
        ..registration(work_id)
    }
}

#[tokio::test]
async fn a_live_session_is_live_again_after_a_kill_and_found_in_every_way() {
    let mut daemon = Daemon::start().await;
    let session = register(&mut daemon.operator().await, leased("work")).await;
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    for found in [
        get(&mut operator, &session.session_id).await,
        find(&mut operator, of_work("work")).await,
        find(&mut daemon.session().await, own(&session.ephemeral_handle)).await,
    ] {
        let found = found.expect("it is found");
        assert_eq!(found.session_id, session.session_id);
        assert_eq!(found.status(), pb::SessionStatus::Active);
        assert_eq!(found.lease_state(), pb::LeaseState::Revoked);
        assert_eq!(found.create_time, session.create_time);
        assert_eq!(found.expire_time, session.expire_time);
    }
    let renewal = pb::RenewLeaseRequest {
        lease_id: LEASE.to_owned(),
        lease_holder: "orchestrator".to_owned(),
        ..Default::default()
    };
    let renewed = operator.renew_lease(renewal).await.expect("it is shown");
    assert_eq!(renewed.into_inner().renewed, 1);
    let held = get(&mut operator, &session.session_id)
        .await
        .expect("it is there");
    assert_eq!(held.lease_state(), pb::LeaseState::Held);
}

#[tokio::test]
async fn what_was_answered_is_there_when_the_daemon_is_killed_right_after() {
    let mut daemon = Daemon::start().await;
    let mut kept: Vec<pb::Session> = Vec::new();
    for round in 0..5 {
        let mut operator = daemon.operator().await;
        kept.push(register(&mut operator, registration(&format!("work-{round}"))).await);
        daemon.kill9();
        daemon.restart().await;
        for session in &kept {
            let found = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
            assert_eq!(found.expect("it is there").session_id, session.session_id);
        }
    }
}

#[tokio::test]
async fn an_ended_session_stays_ended_and_its_record_is_not_extended() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, leased("work")).await;
    let ended = operator
        .terminate_session(normal_end(&session.session_id))
        .await
        .expect("it ends")
        .into_inner()
        .session
        .and_then(|session| session.termination)
        .expect("with a record");
    assert!(ended.purge_time.is_some());
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let kept = get(&mut operator, &session.session_id)
        .await
        .expect("it is remembered");
    assert_eq!(kept.status(), pb::SessionStatus::Terminated);
    assert_eq!(
        kept.termination,
        Some(ended),
        "the record, its purge time too"
    );
    let dead = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    dead.expect_err("its handle stays dead")
        .expect(Reason::HandleNotAccepted);
    let none = find(&mut operator, of_work("work")).await;
    none.expect_err("its work has none")
        .expect(Reason::SessionNotFound);
}

/// Whether any file below the directory, or the log, holds the text.
fn found_in(daemon: &Daemon, text: &str) -> Vec<String> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(daemon.dirs().state()).expect("it can be listed") {
        let path = entry.expect("an entry can be read").path();
        let bytes = std::fs::read(&path).expect("a file can be read");
        if bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            places.push(path.display().to_string());
        }
    }
    if daemon.logs().contains(text) {
        places.push("the log".to_owned());
    }
    places
}

#[tokio::test]
async fn neither_the_state_nor_the_log_holds_a_lease_or_a_handle() {
    let mut daemon = Daemon::builder().args(["--log", "trace"]).start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, leased("canary-work")).await;
    let handle = session.ephemeral_handle.as_str();
    let uuid = &handle[2..];
    find(&mut daemon.session().await, own(handle))
        .await
        .expect("it is used");
    for secret in [LEASE, "lease_id", handle, uuid, &uuid.replace('-', "")] {
        assert!(
            found_in(&daemon, secret).is_empty(),
            "{secret}: {:?}",
            found_in(&daemon, secret)
        );
    }
    assert!(
        !found_in(&daemon, "canary-work").is_empty(),
        "a name would be found"
    );
    daemon.kill9();
    daemon.restart().await;
    for secret in [LEASE, "lease_id", handle, uuid] {
        assert!(found_in(&daemon, secret).is_empty(), "{secret}");
    }
}

#[tokio::test]
async fn a_policy_and_a_waiver_and_their_absence_survive_a_kill() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let waiver = pb::PointerOnlyWaiver {
        waiver_id: "waiver-1".to_owned(),
        expires_at_tick: 99,
        scope_binding_hash: vec![3; 32],
    };
    let request = pb::RegisterSessionRequest {
        pcac_policy: Some(pb::PcacPolicy {
            lifecycle_enforcement: Some(false),
            tier2_sovereignty_mode: Some(pb::SovereigntyMode::Monitor.into()),
            ..Default::default()
        }),
        pointer_only_waiver: Some(waiver.clone()),
        ..registration("with")
    };
    let with = register(&mut operator, request).await.session_id;
    let without = register(&mut operator, registration("without"))
        .await
        .session_id;
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let with = get(&mut operator, &with).await.expect("it is there");
    let policy = with.pcac_policy.expect("its policy is kept");
    assert_eq!(policy.lifecycle_enforcement, Some(false));
    assert_eq!(
        policy.tier2_sovereignty_mode(),
        pb::SovereigntyMode::Monitor
    );
    assert_eq!(
        policy.min_tier2_identity_evidence(),
        pb::IdentityEvidence::Verified
    );
    assert_eq!(policy.freshness_max_age_ticks, Some(100));
    assert_eq!(with.pointer_only_waiver, Some(waiver));
    let without = get(&mut operator, &without).await.expect("it is there");
    assert_eq!(
        (without.pcac_policy, without.pointer_only_waiver),
        (None, None)
    );
}

#[tokio::test]
async fn a_bound_episode_survives_a_kill_unless_its_process_is_gone() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("an episode starts");
    let mut ids = Vec::new();
    for (episode, pid) in [
        ("alive", Some(std::process::id())),
        ("gone", Some(child.id())),
        ("unknown", None),
    ] {
        let session_id = register(&mut operator, registration("work"))
            .await
            .session_id;
        let bind = pb::BindEpisodeRequest {
            session_id: session_id.clone(),
            episode_id: episode.to_owned(),
            pid: pid.map(u32::cast_signed),
            ..Default::default()
        };
        operator.bind_episode(bind).await.expect("it is bound");
        ids.push(session_id);
    }
    daemon.kill9();
    child.kill().and_then(|()| child.wait()).expect("it ends");
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    for (id, episode) in ids.iter().zip(["alive", "gone", "unknown"]) {
        let session = get(&mut operator, id).await.expect("it is known");
        assert_eq!(session.episode_id.as_deref(), Some(episode));
        if episode == "gone" {
            let record = session.termination.expect("it was ended");
            assert_eq!(record.reason(), pb::TerminationReason::Crash);
            assert_eq!(record.detail, "process_gone");
        } else {
            assert_eq!(session.status(), pb::SessionStatus::Active, "{episode}");
        }
    }
}

#[tokio::test]
async fn a_graceful_stop_leaves_sessions_live() {
    let mut daemon = Daemon::start().await;
    let session = register(&mut daemon.operator().await, registration("work")).await;
    let exit = daemon.sigterm().await;
    assert_eq!(exit.code(), Some(0), "{exit:?}");
    daemon.restart().await;
    let found = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    let found = found.expect("its handle works");
    assert_eq!(found.session_id, session.session_id);
    assert_eq!(found.status(), pb::SessionStatus::Active);
}

#[tokio::test]
async fn with_recovery_terminate_a_start_ends_what_was_live() {
    let mut daemon = Daemon::builder()
        .args(["--recovery", "terminate"])
        .start()
        .await;
    let session = register(&mut daemon.operator().await, registration("work")).await;
    daemon.kill9();
    daemon.restart().await;
    let ended = get(&mut daemon.operator().await, &session.session_id).await;
    let ended = ended.expect("it is remembered");
    assert_eq!(ended.status(), pb::SessionStatus::Terminated);
    let record = ended.termination.expect("with a record");
    assert_eq!(record.reason(), pb::TerminationReason::DaemonRestart);
    assert_eq!(record.rationale, "daemon_restart");
    let dead = find(&mut daemon.session().await, own(&session.ephemeral_handle)).await;
    dead.expect_err("its handle is dead")
        .expect(Reason::HandleNotAccepted);
}
