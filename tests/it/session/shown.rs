//! What the daemon shows of itself and of what happened, and what it refuses.

use std::time::Duration;

use episoded::clock::{Clock as _, SystemClock};
use episoded::proto::admin as admin_pb;
use episoded::proto::session as pb;
use episoded::reason::Reason;
use tonic::Request;

use super::events::{history, us};
use crate::harness::{
    Client, Daemon, bearer, get, normal_end, own, refusal, register, registration, repository,
    within,
};

const HOUR: Duration = Duration::from_hours(1);

const UNKNOWN: &str = "H-8a4f1f0e-63f3-4a6b-9d2e-3c5b7a9e1f02";

/// The wall clock, since the epoch.
fn wall() -> Duration {
    let clock = SystemClock::new().expect("the kernel tells its boot");
    Duration::from_millis(clock.now().wall)
}

fn since_epoch(time: Option<prost_types::Timestamp>) -> Duration {
    let time = time.expect("a time");
    Duration::new(time.seconds as u64, time.nanos as u32)
}

async fn info(daemon: &Daemon) -> admin_pb::GetServerInfoResponse {
    let request = admin_pb::GetServerInfoRequest {};
    let info = daemon.admin().await.get_server_info(request).await;
    info.expect("it answers").into_inner()
}

async fn known(operator: &mut Client, id: &str) -> pb::Session {
    get(operator, id).await.expect("it is there")
}

/// Registers that many sessions, made by `request`, in one call.
async fn register_many(
    operator: &mut Client,
    count: usize,
    request: impl Fn() -> pb::RegisterSessionRequest,
) {
    use pb::register_sessions_result::Result as Item;
    let requests = (0..count).map(|_| request()).collect();
    let request = pb::RegisterSessionsRequest { requests };
    let answer = operator.register_sessions(request).await;
    let results = answer.expect("they are decided").into_inner().results;
    let is_registered =
        |item: &pb::RegisterSessionsResult| matches!(item.result, Some(Item::Registered(_)));
    assert_eq!(
        results.iter().filter(|item| is_registered(item)).count(),
        count
    );
}

fn removal(id: &str) -> pb::RemoveSessionRequest {
    pb::RemoveSessionRequest {
        session_id: id.to_owned(),
        etag: String::new(),
    }
}

fn bind(id: &str, pid: Option<i32>) -> pb::BindEpisodeRequest {
    pb::BindEpisodeRequest {
        session_id: id.to_owned(),
        episode_id: "episode".to_owned(),
        pid,
        ..Default::default()
    }
}

#[tokio::test]
async fn the_daemon_tells_its_schema_its_start_its_boot_its_host_and_its_cap() {
    let before = wall();
    let daemon = Daemon::builder()
        .config("max_connections = 200\n")
        .start()
        .await;
    let started = wall();
    let info = info(&daemon).await;
    let after = wall();

    let migrations = std::fs::read_dir(repository().join("migrations"));
    let migrations = migrations.expect("there are migrations").count();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.schema as usize, migrations);
    let start = since_epoch(info.start_time);
    assert!(before <= start && start <= started, "{start:?}");
    let recognised = since_epoch(info.request_ids_since) + HOUR;
    assert!(before <= recognised && recognised <= after, "an hour");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    assert_eq!(info.boot_id, boot_id.expect("the kernel tells").trim());
    let limits = info.limits.expect("it tells its limits");
    assert_eq!(limits.max_connections, 200);

    let uname = rustix::system::uname();
    let host = uname.nodename().to_str().expect("a plain name");
    assert_eq!(info.node, host);
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    assert_eq!(session.node, host);
    let shown = known(&mut operator, &session.session_id).await;
    assert_eq!((&*shown.node, shown.registry_id), (host, info.registry_id));
}

#[tokio::test]
async fn an_eviction_is_an_event_of_its_own_kind() {
    let builder = Daemon::builder().args(["--max-sessions", "1"]);
    let daemon = builder.start().await;
    let mut operator = daemon.operator().await;
    let oldest = register(&mut operator, registration("work")).await;
    let request = pb::RegisterSessionRequest {
        allow_eviction: true,
        request_id: "request-7".to_owned(),
        ..registration("work")
    };
    let newest = register(&mut operator, request).await;
    let events = history(&mut operator).await;
    let told = events.iter().filter_map(|event| {
        let session = event.session.as_ref()?;
        Some((event.kind(), session.session_id.as_str()))
    });
    let expected = [
        (pb::EventKind::Created, oldest.session_id.as_str()),
        (pb::EventKind::Evicted, &oldest.session_id),
        (pb::EventKind::Created, &newest.session_id),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let evicted = events
        .into_iter()
        .find(|event| event.kind() == pb::EventKind::Evicted);
    let evicted = evicted.expect("it is told");
    let by = evicted.actor.expect("somebody made room");
    assert_eq!((&*by.socket, &*by.request_id), ("operator", "request-7"));
    let session = evicted.session.expect("it holds the session");
    assert_eq!(session.status(), pb::SessionStatus::Terminated);
    let record = session.termination.expect("with its record");
    assert_eq!(record.reason(), pb::TerminationReason::Evicted);
    assert_eq!(record.rationale, "evicted");
}

#[tokio::test]
async fn a_lease_is_shown_with_the_process_that_showed_it() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        lease_id: "the-secret-lease".to_owned(),
        lease_holder: "holder".to_owned(),
        ..registration("work")
    };
    let session = register(&mut operator, request).await;
    let shown = known(&mut operator, &session.session_id).await;
    assert_eq!(shown.lease_presenter, Some(us("operator", "")));
    assert_eq!(shown.lease_change_time, shown.create_time);
    assert_eq!(shown.lease_holder, "holder");
}

#[tokio::test]
async fn a_session_that_was_heard_of_or_bound_is_in_use() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let beaten = register(&mut operator, registration("work")).await;
    let bound = register(&mut operator, registration("work")).await;
    let unused = register(&mut operator, registration("work")).await;
    let beat = pb::HeartbeatSessionRequest {
        session_id: beaten.session_id.clone(),
        counters: None,
    };
    operator.heartbeat_session(beat).await.expect("it beats");
    let binding = operator.bind_episode(bind(&bound.session_id, None)).await;
    binding.expect("it is bound");

    for (session, is_used) in [(&beaten, true), (&bound, false)] {
        let before = known(&mut operator, &session.session_id).await;
        assert_eq!(before.handle_used, is_used);
        let refused = operator.remove_session(removal(&session.session_id)).await;
        refusal(refused).expect(Reason::SessionInUse);
        assert_eq!(known(&mut operator, &session.session_id).await, before);
    }
    let removed = operator.remove_session(removal(&unused.session_id)).await;
    removed.expect("it is taken back");
    let gone = get(&mut operator, &unused.session_id).await;
    gone.expect_err("no record is left")
        .expect(Reason::SessionNotFound);
}

#[tokio::test]
async fn a_process_that_has_ended_is_not_bound() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let before = known(&mut operator, &session.session_id).await;
    let mut child = std::process::Command::new("true")
        .spawn()
        .expect("the episode starts");
    let pid = child.id().cast_signed();
    child.wait().expect("it ends");
    for pid in [pid, 0, -1] {
        let request = bind(&session.session_id, Some(pid));
        let refused = refusal(operator.bind_episode(request).await);
        refused.expect(Reason::ProcessNotFound);
        let after = known(&mut operator, &session.session_id).await;
        assert_eq!(after, before, "nothing is bound");
    }
}

#[tokio::test]
async fn a_second_backup_is_refused_while_one_runs_and_each_step_is_64_pages() {
    const STEP: u64 = 64;
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    register_many(&mut operator, 1_000, || pb::RegisterSessionRequest {
        labels: (0..14).map(|n| (format!("{n}"), "v".repeat(255))).collect(),
        ..registration("work")
    })
    .await;
    let mut admin = daemon.admin().await;
    let first = admin.backup(admin_pb::BackupRequest {}).await;
    let mut first = first.expect("it begins").into_inner();
    let mut others = daemon.admin().await;
    let second = others.backup(admin_pb::BackupRequest {}).await;
    refusal(second).expect(Reason::BackupRunning);

    let (mut copied, mut total, mut bytes) = (0, 0, 0);
    while let Some(part) = within(first.message()).await.expect("it goes on") {
        assert!(part.chunk.len() <= 256 * 1024, "{}", part.chunk.len());
        bytes += part.chunk.len();
        if part.chunk.is_empty() {
            assert_eq!(bytes, 0, "all is copied first");
            assert!(part.pages_total > 10 * STEP, "{}", part.pages_total);
            let step = part.pages_copied - copied;
            assert!(step <= STEP, "{step} pages");
            assert!(copied > 0 || step == STEP, "the first has {step} pages");
            (copied, total) = (part.pages_copied, part.pages_total);
        }
    }
    assert!(total > 0 && copied == total, "{copied} of {total}");
    assert!(
        bytes as u64 >= total * 512,
        "{bytes} bytes of {total} pages"
    );

    let third = others.backup(admin_pb::BackupRequest {}).await;
    third.expect("it is over");
}

#[tokio::test]
async fn a_watch_from_the_beginning_hears_all_in_order_and_at_most_256_at_once() {
    const MOST: usize = 256;
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    register_many(&mut operator, 600, || registration("work")).await;
    let list = pb::ListSessionsRequest::default();
    let list = operator.list_sessions(list).await.expect("it lists");
    let newest = list.into_inner().revision;
    assert!(newest >= 600);
    let request = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::AfterRevision(0)),
        ..Default::default()
    };
    let watch = operator.watch_sessions(request).await;
    let mut watch = watch.expect("it watches").into_inner();
    let (mut heard, mut through) = (Vec::new(), 0);
    while through < newest {
        let answer = within(watch.message()).await.expect("the watch goes on");
        let answer = answer.expect("the watch does not end");
        assert!(answer.events.len() <= MOST, "{}", answer.events.len());
        heard.extend(answer.events.iter().map(|event| event.revision));
        through = answer.through;
        assert_eq!(heard.last().copied().unwrap_or(0), through, "the bookmark");
    }
    let all: Vec<_> = (1..=newest).collect();
    assert_eq!(heard, all, "each once, in order");
}

/// The request with two values of authorization.
fn twice<T>(message: T, first: &str, second: &str) -> Request<T> {
    let mut request = bearer(message, first);
    let second = format!("Bearer {second}").parse();
    let second = second.expect("it is printable");
    request.metadata_mut().append("authorization", second);
    request
}

#[tokio::test]
async fn two_handles_in_one_call_of_an_operator_are_none() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let session = register(&mut operator, registration("work")).await;
    let before = known(&mut operator, &session.session_id).await;
    let good = session.ephemeral_handle.as_str();
    for (first, second) in [(good, good), (good, UNKNOWN), (UNKNOWN, good)] {
        let lookup = twice(own(good).into_inner(), first, second);
        let refused = refusal(operator.lookup_session(lookup).await);
        refused.expect(Reason::HandleNotAccepted);
        for id in ["", &session.session_id] {
            let end = twice(normal_end(id), first, second);
            let refused = refusal(operator.terminate_session(end).await);
            refused.expect(Reason::HandleNotAccepted);
        }
        let after = known(&mut operator, &session.session_id).await;
        assert_eq!(after, before, "nothing is done");
    }
    let end = bearer(normal_end(""), good);
    let ended = operator.terminate_session(end).await;
    ended.expect("one alone is accepted");
}

#[tokio::test]
async fn an_ended_session_refuses_what_would_change_it_or_its_lease() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let request = pb::RegisterSessionRequest {
        lease_id: "the-secret-lease".to_owned(),
        ..registration("work")
    };
    let id = register(&mut operator, request).await.session_id;
    operator
        .terminate_session(normal_end(&id))
        .await
        .expect("it ends");
    let before = known(&mut operator, &id).await;
    for path in ["labels", "deadline", "idle_timeout"] {
        let update = pb::UpdateSessionRequest {
            session_id: id.clone(),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![path.to_owned()],
            }),
            ..Default::default()
        };
        refusal(operator.update_session(update).await).expect(Reason::SessionTerminated);
    }
    for (lease, take_over) in [("the-secret-lease", false), ("another", true)] {
        let renew = pb::RenewLeaseRequest {
            lease_id: lease.to_owned(),
            session_id: id.clone(),
            take_over,
            ..Default::default()
        };
        refusal(operator.renew_lease(renew).await).expect(Reason::SessionTerminated);
    }
    let us = std::process::id().cast_signed();
    refusal(operator.bind_episode(bind(&id, Some(us))).await).expect(Reason::SessionTerminated);
    let named = pb::RotateHandleRequest {
        session_id: id.clone(),
        request_id: "request-7".to_owned(),
        ..Default::default()
    };
    refusal(operator.rotate_handle(named).await).expect(Reason::SessionTerminated);
    assert_eq!(known(&mut operator, &id).await, before, "nothing changed");
}

#[tokio::test]
async fn a_registration_with_an_absolute_deadline_and_a_parent_is_shown_with_them() {
    use pb::register_session_request::Deadline;
    let daemon = Daemon::start().await;
    let mut operator = daemon.operator().await;
    let parent = register(&mut operator, registration("work")).await;
    let at = |time: Duration| prost_types::Timestamp {
        seconds: time.as_secs() as i64,
        nanos: 0,
    };
    let request = |time: Duration| pb::RegisterSessionRequest {
        parent_session_id: parent.session_id.clone(),
        coordination_id: "coordination".to_owned(),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        deadline: Some(Deadline::ExpireTime(at(time))),
        ..registration("work")
    };
    let session = register(&mut operator, request(wall() + HOUR)).await;
    let shown = known(&mut operator, &session.session_id).await;
    assert_eq!(shown.parent_session_id, parent.session_id);
    assert_eq!(shown.coordination_id, "coordination");
    assert_eq!(shown.labels["team"], "blue");
    let expires = since_epoch(shown.expire_time);
    assert_eq!(
        expires.as_secs(),
        since_epoch(session.expire_time).as_secs()
    );
    assert!(expires <= wall() + HOUR && expires > wall() + HOUR / 2);

    for wrong in [Duration::from_hours(1), wall() + 11 * 366 * 24 * HOUR] {
        let refused = refusal(operator.register_session(request(wrong)).await);
        let refused = refused.expect(Reason::InvalidTtl);
        assert_eq!(refused.fields, ["expire_time"]);
    }
}
