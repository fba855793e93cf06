//! Golden output of the messages users see most.

use prost_types::{Duration, Timestamp};

use super::{duration_text, to_json};
use crate::proto::session::{
    Event, EventKind, LeaseState, ListSessionsResponse, PcacPolicy, RegisterSessionResponse, Role,
    Session, SessionStatus, TerminationReason, TerminationRecord,
};

fn session() -> Session {
    Session {
        session_id: "s1".into(),
        work_id: "w1".into(),
        role: Role::GateExecutor.into(),
        ephemeral_handle: "H-canary".into(),
        lease_id: "lease-canary".into(),
        capability_manifest_hash: vec![0xab, 0x01],
        pcac_policy: Some(PcacPolicy {
            lifecycle_enforcement: Some(false),
            freshness_max_age_ticks: Some(u64::MAX),
            ..PcacPolicy::default()
        }),
        labels: [
            ("team".into(), "blue".into()),
            ("empty".into(), String::new()),
        ]
        .into(),
        status: SessionStatus::Active.into(),
        lease_state: LeaseState::Held.into(),
        create_time: Some(Timestamp {
            seconds: 1,
            nanos: 500_000_000,
        }),
        idle_timeout: Some(Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        pid: Some(-1),
        revision: 12,
        ..Session::default()
    }
}

#[test]
fn a_session_as_protojson_without_its_credentials() {
    let expected = concat!(
        r#"{"sessionId":"s1","workId":"w1","role":"ROLE_GATE_EXECUTOR","#,
        r#""capabilityManifestHash":"ab01","#,
        r#""pcacPolicy":{"lifecycleEnforcement":false,"freshnessMaxAgeTicks":"18446744073709551615"},"#,
        r#""labels":{"empty":"","team":"blue"},"status":"SESSION_STATUS_ACTIVE","#,
        r#""leaseState":"LEASE_STATE_HELD","createTime":"1970-01-01T00:00:01.500Z","#,
        r#""idleTimeout":"1.5s","pid":-1,"revision":"12"}"#
    );
    assert_eq!(
        serde_json::to_string(&to_json(&session())).unwrap(),
        expected
    );
}

#[test]
fn credentials_are_absent_at_any_depth() {
    let answer = RegisterSessionResponse {
        session: Some(session()),
        evicted: vec![session()],
        revision: 13,
        handle_withheld: true,
        shortened: false,
    };
    let text = serde_json::to_string(&to_json(&answer)).unwrap();
    assert!(
        !text.contains("canary") && !text.contains("ephemeralHandle"),
        "{text}"
    );
    assert!(
        text.ends_with(r#""revision":"13","handleWithheld":true}"#),
        "{text}"
    );
}

#[test]
fn repeated_messages_and_defaults() {
    let answer = ListSessionsResponse {
        sessions: vec![
            Session::default(),
            Session {
                session_id: "b".into(),
                ..Session::default()
            },
        ],
        ..ListSessionsResponse::default()
    };
    let text = serde_json::to_string(&to_json(&answer)).unwrap();
    assert_eq!(text, r#"{"sessions":[{},{"sessionId":"b"}]}"#);
}

#[test]
fn what_a_newer_daemon_says_is_a_number_not_a_failure() {
    let event = Event {
        kind: 99,
        ..Event::default()
    };
    assert_eq!(
        serde_json::to_string(&to_json(&event)).unwrap(),
        r#"{"kind":99}"#
    );
}

#[test]
fn an_ended_session_in_an_event() {
    let event = Event {
        revision: 3,
        kind: EventKind::Terminated.into(),
        session: Some(Session {
            termination: Some(TerminationRecord {
                reason: TerminationReason::ContextMiss.into(),
                exit_code: Some(0),
                ..TerminationRecord::default()
            }),
            ..Session::default()
        }),
        ..Event::default()
    };
    let expected = concat!(
        r#"{"revision":"3","kind":"EVENT_KIND_TERMINATED","session":{"termination":"#,
        r#"{"reason":"TERMINATION_REASON_CONTEXT_MISS","exitCode":0}}}"#
    );
    assert_eq!(serde_json::to_string(&to_json(&event)).unwrap(), expected);
}

#[test]
fn durations_take_no_more_digits_than_they_need() {
    for (seconds, nanos, text) in [
        (90, 0, "90s"),
        (1, 500_000_000, "1.5s"),
        (0, 1, "0.000000001s"),
        (10, 100_000, "10.0001s"),
        (0, 0, "0s"),
    ] {
        assert_eq!(duration_text(&Duration { seconds, nanos }), text);
    }
}
