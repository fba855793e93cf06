//! Leases: who holds one, who may take it over, and what showing it does.

use episoded::proto::session as pb;
use episoded::reason::Reason;

use crate::harness::{Client, Daemon, get, normal_end, refusal, register, registration};

const FIRST: &str = "the-secret-lease-of-the-first";
const SECOND: &str = "the-secret-lease-of-the-second";

fn leased(lease: &str, holder: &str) -> pb::RegisterSessionRequest {
    pb::RegisterSessionRequest {
        lease_id: lease.to_owned(),
        lease_holder: holder.to_owned(),
        ..registration("work")
    }
}

/// Shows a lease to one session; to all of that lease if none is named.
fn renewal(lease: &str, holder: &str, session_id: &str) -> pb::RenewLeaseRequest {
    pb::RenewLeaseRequest {
        lease_id: lease.to_owned(),
        lease_holder: holder.to_owned(),
        session_id: session_id.to_owned(),
        ..Default::default()
    }
}

async fn renew(operator: &mut Client, request: pb::RenewLeaseRequest) -> pb::RenewLeaseResponse {
    let renewed = operator.renew_lease(request).await;
    renewed.expect("it is shown").into_inner()
}

/// Which sessions an end by lease would reach.
async fn reached(operator: &mut Client, lease: &str) -> Vec<String> {
    let selector = pb::terminate_sessions_request::Selector::LeaseId(lease.to_owned());
    let request = pb::TerminateSessionsRequest {
        selector: Some(selector),
        reason: pb::TerminationReason::Operator.into(),
        exit_classification: pb::ExitClassification::Cancelled.into(),
        dry_run: true,
        ..Default::default()
    };
    let answer = operator.terminate_sessions(request).await;
    answer.expect("it is answered").into_inner().session_ids
}

async fn known(operator: &mut Client, id: &str) -> pb::Session {
    get(operator, id).await.expect("it is there")
}

#[tokio::test]
async fn a_lease_that_another_holds_is_refused_with_its_holder_unless_taken_over() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let id = register(&mut operator, leased(FIRST, "first"))
        .await
        .session_id;
    let before = known(&mut operator, &id).await;
    let show = renewal(SECOND, "second", &id);
    let refused = refusal(operator.renew_lease(show.clone()).await);
    let refused = refused.expect(Reason::LeaseHeld);
    assert_eq!(refused.metadata["holder"], "first");
    assert_eq!(known(&mut operator, &id).await, before, "nothing changed");
    assert_eq!(reached(&mut operator, FIRST).await, [id.as_str()]);
    assert!(reached(&mut operator, SECOND).await.is_empty());

    let take_over = pb::RenewLeaseRequest {
        take_over: true,
        ..show
    };
    let answer = renew(&mut operator, take_over).await;
    assert_eq!(answer.renewed, 1);
    let session = answer.session.expect("the one that was named");
    assert_eq!(session.lease_holder, "second");
    assert_eq!(session.lease_state(), pb::LeaseState::Held);
    assert_eq!(session, known(&mut operator, &id).await);
    assert!(reached(&mut operator, FIRST).await.is_empty());
    assert_eq!(reached(&mut operator, SECOND).await, [id.as_str()]);

    let refused = refusal(operator.renew_lease(renewal(FIRST, "first", &id)).await);
    let holder = refused.expect(Reason::LeaseHeld).metadata["holder"].clone();
    assert_eq!(holder, "second");
}

#[tokio::test]
async fn whoever_shows_the_same_lease_holds_it_from_then_on() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let id = register(&mut operator, leased(FIRST, "first"))
        .await
        .session_id;
    let answer = renew(&mut operator, renewal(FIRST, "another", &id)).await;
    let session = answer.session.expect("the one that was named");
    assert_eq!(session.lease_holder, "another");
    assert!(session.revision > 0 && session.revision == answer.revision);
}

#[tokio::test]
async fn a_lease_that_a_restart_revoked_gives_way_to_another() {
    let mut daemon = Daemon::start().await;
    let id = register(&mut daemon.operator().await, leased(FIRST, "first"))
        .await
        .session_id;
    daemon.kill9();
    daemon.restart().await;
    let mut operator = daemon.operator().await;
    let answer = renew(&mut operator, renewal(SECOND, "second", &id)).await;
    let session = answer.session.expect("the one that was named");
    assert_eq!(session.lease_holder, "second");
    assert_eq!(session.lease_state(), pb::LeaseState::Held);
    assert_eq!(reached(&mut operator, SECOND).await, [id.as_str()]);
}

#[tokio::test]
async fn a_renewal_applies_its_new_deadline_and_otherwise_leaves_the_old_one() {
    use pb::renew_lease_request::Deadline;
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let session = register(&mut operator, leased(FIRST, "first")).await;
        ids.push(session.session_id);
    }
    let first = known(&mut operator, &ids[0]).await;
    let time = first.expire_time.expect("the default deadline");
    let later = prost_types::Timestamp {
        seconds: time.seconds + 86_400,
        ..time
    };
    let same = renew(&mut operator, renewal(FIRST, "first", &ids[0])).await;
    let same = same.session.expect("the one that was named");
    assert_eq!(same.expire_time, Some(time), "none was given");

    let request = pb::RenewLeaseRequest {
        deadline: Some(Deadline::ExpireTime(later)),
        ..renewal(FIRST, "first", &ids[0])
    };
    let moved = renew(&mut operator, request).await.session;
    let moved = moved.expect("the one that was named");
    assert_eq!(moved.expire_time, Some(later));
    let other = known(&mut operator, &ids[1]).await.expire_time;
    assert!(other.is_some_and(|other| other.seconds < later.seconds));

    let hour = prost_types::Duration {
        seconds: 3_600,
        nanos: 0,
    };
    let request = pb::RenewLeaseRequest {
        deadline: Some(Deadline::Ttl(hour)),
        ..renewal(FIRST, "first", "")
    };
    assert_eq!(renew(&mut operator, request).await.renewed, 2);
    for id in &ids {
        let session = known(&mut operator, id).await;
        let (shown, ends) = (session.lease_change_time, session.expire_time);
        let (shown, ends) = (shown.expect("it was shown"), ends.expect("a deadline"));
        assert_eq!(
            (ends.seconds - shown.seconds, ends.nanos),
            (3_600, shown.nanos)
        );
    }
}

#[tokio::test]
async fn a_lease_shown_once_after_a_restart_is_held_again_by_every_session_that_has_it() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut mine = Vec::new();
    for _ in 0..3 {
        let session = register(&mut operator, leased(FIRST, "first")).await;
        mine.push(session.session_id);
    }
    let ended = register(&mut operator, leased(FIRST, "first")).await;
    operator
        .terminate_session(normal_end(&ended.session_id))
        .await
        .expect("it ends");
    let other = register(&mut operator, leased(SECOND, "second")).await;
    let free = register(&mut operator, registration("work")).await;
    daemon.kill9();
    daemon.restart().await;

    let mut operator = daemon.operator().await;
    for id in mine.iter().chain([&other.session_id]) {
        let state = known(&mut operator, id).await.lease_state();
        assert_eq!(state, pb::LeaseState::Revoked);
    }
    let unknown = renew(&mut operator, renewal("nobody-has-it", "x", "")).await;
    assert_eq!(unknown.renewed, 0);
    let answer = renew(&mut operator, renewal(FIRST, "again", "")).await;
    assert_eq!((answer.renewed, answer.session), (3, None));
    let mut newest = 0;
    for id in &mine {
        let session = known(&mut operator, id).await;
        assert_eq!(session.lease_state(), pb::LeaseState::Held, "{id}");
        assert_eq!(session.lease_holder, "again", "{id}");
        newest = newest.max(session.revision);
    }
    assert_eq!(answer.revision, newest, "the revision that has all of it");
    let other = known(&mut operator, &other.session_id).await;
    assert_eq!(other.lease_state(), pb::LeaseState::Revoked);
    assert_eq!(other.lease_holder, "second");
    let free = known(&mut operator, &free.session_id).await;
    assert_eq!(free.lease_state(), pb::LeaseState::Unspecified);
    let ended = known(&mut operator, &ended.session_id).await;
    assert_eq!(ended.status(), pb::SessionStatus::Terminated);
}

#[tokio::test]
async fn a_named_renewal_of_all_is_made_once_and_its_name_is_for_nothing_else() {
    let mut daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let session = register(&mut operator, leased(FIRST, "first")).await;
        ids.push(session.session_id);
    }
    let named = pb::RenewLeaseRequest {
        request_id: "renewal-1".to_owned(),
        ..renewal(FIRST, "second", "")
    };
    let answer = renew(&mut operator, named.clone()).await;
    assert_eq!(answer.renewed, 3);
    let shown = known(&mut operator, &ids[0]).await;
    let later = register(&mut operator, leased(FIRST, "later")).await;
    operator
        .terminate_session(normal_end(&ids[1]))
        .await
        .expect("it ends");

    for is_restarted in [false, true] {
        assert_eq!(renew(&mut operator, named.clone()).await, answer);
        let holder = known(&mut operator, &later.session_id).await.lease_holder;
        assert_eq!(holder, "later", "it was not shown to this one");
        let other = pb::RenewLeaseRequest {
            lease_holder: "third".to_owned(),
            ..named.clone()
        };
        let refused = refusal(operator.renew_lease(other).await);
        refused.expect(Reason::RequestIdReused);
        if !is_restarted {
            assert_eq!(known(&mut operator, &ids[0]).await, shown, "made once");
            daemon.kill9();
            daemon.restart().await;
            operator = daemon.operator().await;
        }
    }
}

#[tokio::test]
async fn a_named_renewal_that_found_nothing_is_not_remembered() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let named = pb::RenewLeaseRequest {
        request_id: "renewal-1".to_owned(),
        ..renewal(FIRST, "first", "")
    };
    assert_eq!(renew(&mut operator, named.clone()).await.renewed, 0);
    register(&mut operator, leased(FIRST, "first")).await;
    assert_eq!(renew(&mut operator, named).await.renewed, 1);
}

#[tokio::test]
async fn what_is_about_one_session_needs_its_name() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let id = register(&mut operator, leased(FIRST, "first"))
        .await
        .session_id;
    let before = known(&mut operator, &id).await;
    let request = pb::RenewLeaseRequest {
        take_over: true,
        etag: before.etag.clone(),
        ..renewal(FIRST, "second", "")
    };
    let refused = refusal(operator.renew_lease(request).await);
    let refused = refused.expect(Reason::MalformedMessage);
    assert_eq!(refused.fields, ["take_over", "etag"]);
    assert_eq!(known(&mut operator, &id).await, before, "nothing changed");
}
