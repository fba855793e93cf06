//! Sessions as tables.

use super::protojson::{duration_text, hex};
use super::text::{Columns, fields, labels, second, short};
use crate::proto::session::{Actor, Counters, Firewall, OnDenial, Session, TerminationRecord};

/// The heading of [`row`].
pub const HEADING: [&str; 8] = [
    "SESSION", "WORK", "ROLE", "STATUS", "EPISODE", "LEASE", "CREATED", "LABELS",
];

/// One session on one line.
pub fn row(session: &Session) -> Vec<String> {
    vec![
        session.session_id.clone(),
        session.work_id.clone(),
        role(session),
        status(session),
        session.episode_id.clone().unwrap_or_default(),
        lease(session),
        second(session.create_time.as_ref()),
        labels(&session.labels),
    ]
}

/// An empty table of sessions.
pub fn columns() -> Columns {
    Columns::new(&HEADING)
}

/// One session, everything about it.
pub fn detail(session: Option<&Session>) -> String {
    let Some(session) = session else {
        return String::new();
    };
    let mut pairs = vec![
        ("Session", session.session_id.clone()),
        ("Work", session.work_id.clone()),
        ("Role", role(session)),
        ("Status", status(session)),
        ("Stop requested", flag(session.stop_requested)),
        ("Episode", session.episode_id.clone().unwrap_or_default()),
        ("Pid", optional(session.pid)),
        ("Coordination", session.coordination_id.clone()),
        ("Parent", session.parent_session_id.clone()),
        ("Labels", labels(&session.labels)),
        ("Policy", session.policy_resolved_ref.clone()),
        ("Capabilities", hex(&session.capability_manifest_hash)),
        ("Firewall", firewall(session)),
        ("Manifest", manifest(session)),
        ("Workspace", workspace(session)),
        ("Predecessor", session.predecessor_session_id.clone()),
        ("Successor", session.successor_session_id.clone()),
        ("Lease", lease(session)),
        ("Lease changed", second(session.lease_change_time.as_ref())),
        ("Created", second(session.create_time.as_ref())),
        ("Registered by", actor(session.registrant.as_ref())),
        ("Expires", second(session.expire_time.as_ref())),
        (
            "Idle timeout",
            session
                .idle_timeout
                .as_ref()
                .map(duration_text)
                .unwrap_or_default(),
        ),
        ("Last activity", second(session.last_activity_time.as_ref())),
        ("Handle used", flag(session.handle_used)),
        ("Counters", counters(session.counters.as_ref())),
        ("Revision", session.revision.to_string()),
        ("Node", session.node.clone()),
    ];
    if let Some(record) = &session.termination {
        pairs.extend(record_fields(record));
    }
    fields(&pairs)
}

fn firewall(session: &Session) -> String {
    let Some(firewall) = &session.firewall else {
        return String::new();
    };
    let mut words = vec![short(firewall.mode().as_str_name(), "FIREWALL_MODE_")];
    match firewall.on_denial() {
        OnDenial::Continue => words.push(format!("survives {} denials", firewall.max_denials)),
        OnDenial::End | OnDenial::Unspecified => words.push("ends on a denial".to_owned()),
    }
    if firewall.denials > 0 {
        words.push(format!("{} denied so far", firewall.denials));
    }
    if !firewall.lifted_paths.is_empty() {
        words.push(format!("{} entries written", firewall.lifted_paths.len()));
    }
    words.join(", ")
}

fn manifest(session: &Session) -> String {
    let shown =
        |firewall: &Firewall| format!("{} {}", firewall.manifest_id, hex(&firewall.manifest_hash));
    session.firewall.as_ref().map_or_else(String::new, shown)
}

fn workspace(session: &Session) -> String {
    let shown = |firewall: &Firewall| match firewall.host_root.as_str() {
        "" => firewall.workspace_root.clone(),
        host => format!("{} (at {host})", firewall.workspace_root),
    };
    session.firewall.as_ref().map_or_else(String::new, shown)
}

fn record_fields(record: &TerminationRecord) -> Vec<(&'static str, String)> {
    vec![
        ("Ended", second(record.end_time.as_ref())),
        ("Reason", reason(record)),
        ("Classification", classification(record)),
        ("Exit code", optional(record.exit_code)),
        ("Tokens", optional(record.tokens_consumed)),
        (
            "Duration",
            record
                .duration
                .as_ref()
                .map(duration_text)
                .unwrap_or_default(),
        ),
        ("Ended by", actor(record.actor.as_ref())),
        ("Final counters", counters(record.counters.as_ref())),
        ("Remembered until", second(record.purge_time.as_ref())),
    ]
}

/// How a session ended, in a few words; empty while it lives.
pub fn outcome(session: &Session) -> String {
    session
        .termination
        .as_ref()
        .map_or_else(String::new, |record| {
            let mut words = vec![reason(record), classification(record)];
            words.extend(record.exit_code.map(|code| format!("exit {code}")));
            words.retain(|word| !word.is_empty());
            words.join(", ")
        })
}

/// The session's status in lower case.
pub fn status(session: &Session) -> String {
    short(session.status().as_str_name(), "SESSION_STATUS_")
}

fn role(session: &Session) -> String {
    short(session.role().as_str_name(), "ROLE_")
}

fn reason(record: &TerminationRecord) -> String {
    match (record.rationale.as_str(), record.detail.as_str()) {
        (rationale, "") => rationale.to_owned(),
        (rationale, detail) => format!("{rationale} ({detail})"),
    }
}

fn classification(record: &TerminationRecord) -> String {
    let name = record.exit_classification().as_str_name();
    short(name, "EXIT_CLASSIFICATION_")
}

fn lease(session: &Session) -> String {
    let state = short(session.lease_state().as_str_name(), "LEASE_STATE_");
    if session.lease_holder.is_empty() {
        return state;
    }
    format!("{state} {}", session.lease_holder)
}

/// Who made a change.
pub fn actor(actor: Option<&Actor>) -> String {
    actor.map_or_else(String::new, |actor| match actor.socket.as_str() {
        "daemon" => "daemon".to_owned(),
        socket => format!(
            "{} (pid {}, uid {}, {socket})",
            actor.program, actor.pid, actor.uid
        ),
    })
}

fn counters(counters: Option<&Counters>) -> String {
    counters.map_or_else(String::new, |counters| {
        format!(
            "{} tool calls, {} events, {} tokens",
            counters.tool_calls, counters.events, counters.tokens
        )
    })
}

fn flag(set: bool) -> String {
    if set { "yes".to_owned() } else { String::new() }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost_types::{Duration, Timestamp};

    use super::{columns, detail, row};
    use crate::proto::session::{
        ExitClassification, Role, Session, SessionStatus, TerminationReason, TerminationRecord,
    };

    fn ended() -> Session {
        Session {
            session_id: "s1".into(),
            work_id: "w1".into(),
            role: Role::GateExecutor.into(),
            status: SessionStatus::Terminated.into(),
            labels: [("team".into(), "blue".into())].into(),
            create_time: Some(Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            ephemeral_handle: "H-canary".into(),
            lease_id: "canary".into(),
            revision: 9,
            termination: Some(TerminationRecord {
                reason: TerminationReason::Timeout.into(),
                rationale: "timeout".into(),
                detail: "idle".into(),
                exit_classification: ExitClassification::Failure.into(),
                exit_code: Some(3),
                duration: Some(Duration {
                    seconds: 1,
                    nanos: 500_000_000,
                }),
                ..TerminationRecord::default()
            }),
            ..Session::default()
        }
    }

    #[test]
    fn a_list_of_sessions() {
        let mut table = columns();
        table.row(row(&ended()));
        assert_eq!(
            table.take(),
            "SESSION  WORK  ROLE           STATUS      EPISODE  LEASE  CREATED               LABELS\n\
             s1       w1    gate-executor  terminated  -        -      1970-01-01T00:00:00Z  team=blue\n"
        );
    }

    #[test]
    fn an_ended_session_in_detail() {
        let text = detail(Some(&ended()));
        assert!(!text.contains("canary"), "{text}");
        for line in [
            "Session         s1",
            "Reason          timeout (idle)",
            "Exit code       3",
            "Duration        1.5s",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
