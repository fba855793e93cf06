//! Events as lines.

use super::session::{actor, outcome};
use super::text::{clean, labels, milli, short};
use crate::proto::session::{Event, EventKind, Refinement, Session};

/// The heading of [`row`].
pub const HEADING: [&str; 7] = [
    "REVISION", "TIME", "EVENT", "SESSION", "WORK", "BY", "DETAIL",
];

/// One event on one line.
pub fn row(event: &Event) -> Vec<String> {
    let session = event.session.as_ref();
    let asked = event.refinement.as_ref();
    let named = |of_session: fn(&Session) -> &String, of_refinement: fn(&Refinement) -> &String| {
        let name = session.map(of_session).or(asked.map(of_refinement));
        name.cloned().unwrap_or_default()
    };
    vec![
        event.revision.to_string(),
        milli(event.time.as_ref()),
        short(event.kind().as_str_name(), "EVENT_KIND_"),
        named(|it| &it.session_id, |it| &it.session_id),
        named(|it| &it.work_id, |it| &it.work_id),
        actor(event.actor.as_ref()),
        detail(event),
    ]
}

/// The same as a line of its own, for a stream that no column can wait for.
pub fn line(event: &Event) -> String {
    joined(row(event))
}

/// A session of a snapshot, in the shape of an event's line.
pub fn snapshot_line(session: &Session) -> String {
    joined(vec![
        session.revision.to_string(),
        milli(session.create_time.as_ref()),
        "snapshot".to_owned(),
        session.session_id.clone(),
        session.work_id.clone(),
        actor(session.registrant.as_ref()),
        super::session::status(session),
    ])
}

fn joined(mut cells: Vec<String>) -> String {
    cells.retain(|cell| !cell.is_empty());
    format!("{}\n", clean(&cells.join("  ")))
}

/// What is particular to the event's kind.
pub fn detail(event: &Event) -> String {
    if let Some(restart) = &event.restart {
        return format!("incarnation {}, {} live", restart.incarnation, restart.live);
    }
    if let Some(denial) = &event.denial {
        return super::refinement::denial(denial);
    }
    if let Some(refinement) = &event.refinement {
        return format!("{} {}", refinement.refinement_id, refinement.missed_path);
    }
    let Some(session) = &event.session else {
        return String::new();
    };
    match event.kind() {
        EventKind::Bound => session.episode_id.clone().unwrap_or_default(),
        EventKind::LeaseRenewed => session.lease_holder.clone(),
        EventKind::Created | EventKind::Updated => labels(&session.labels),
        EventKind::PinLifted => lifted(session),
        _ => outcome(session),
    }
}

/// Every path that the session has written by then.
fn lifted(session: &Session) -> String {
    let firewall = session.firewall.as_ref();
    firewall
        .map(|firewall| firewall.lifted_paths.join(" "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::line;
    use crate::proto::session::{Event, EventKind, Restart, Session};

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let event = Event {
            revision: 7,
            time: Some(Timestamp {
                seconds: 1,
                nanos: 2_000_000,
            }),
            kind: EventKind::Created.into(),
            session: Some(Session {
                session_id: "s1".into(),
                work_id: "w1".into(),
                labels: [("note".into(), "two\nlines".into())].into(),
                ..Session::default()
            }),
            ..Event::default()
        };
        let expected = "7  1970-01-01T00:00:01.002Z  created  s1  w1  note=two\\nlines\n";
        assert_eq!(line(&event), expected);
    }

    #[test]
    fn a_restart_says_how_many_lived() {
        let event = Event {
            revision: 8,
            kind: EventKind::Restarted.into(),
            restart: Some(Restart {
                incarnation: 2,
                live: 5,
                ..Restart::default()
            }),
            ..Event::default()
        };
        assert_eq!(line(&event), "8  restarted  incarnation 2, 5 live\n");
    }
}
