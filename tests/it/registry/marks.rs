//! What the writer notes by itself, before anybody asks for it.

use std::time::Duration;

use episoded::session::error::{CallError, RemoveError};
use episoded::session::limits::Limits;
use episoded::session::state::Counters;

use super::equipment::{Fault, Registry, removal};

#[tokio::test]
async fn the_first_use_of_a_handle_is_written_within_a_second() {
    let registry = Registry::new(Limits::default());
    let handle = registry.registered("used", |_| {}).await;
    registry.registered("unused", |_| {}).await;
    assert!(registry.opened_by(&handle).is_some());
    registry.pass(Duration::from_secs(1)).await;
    // What the stop itself would write gets lost, as in a crash.
    registry.fail(&[Fault::Failed]);
    let registry = registry.restart();
    let refused = registry.call(removal("used")).await;
    let refused = refused.expect_err("somebody has its handle");
    assert!(
        matches!(refused, CallError::Refused(RemoveError::InUse(_))),
        "{refused:?}"
    );
    assert!(registry.opened_by(&handle).is_some(), "it lives on");
    registry
        .call(removal("unused"))
        .await
        .expect("nobody used it");
    assert!(registry.get("unused").is_none());
}

/// The tool calls that a session is known for after a crash, where a heartbeat told
/// of one more each second, from the first second to the last.
async fn known_after_a_crash(seconds: u64) -> u64 {
    let registry = Registry::new(Limits::default());
    let handle = registry.registered("beating", |_| {}).await;
    for second in 1..=seconds {
        let view = registry.opened_by(&handle).expect("it lives");
        let counters = Counters {
            tool_calls: second,
            ..Counters::default()
        };
        let heard = registry.sessions.heartbeat(view.session.seq, counters);
        let heard = heard.expect("it lives").live.counters.tool_calls;
        assert_eq!(heard, second, "readers see it at once");
        registry.pass(Duration::from_secs(1)).await;
    }
    // What the stop itself would write gets lost, as in a crash.
    registry.fail(&[Fault::Failed]);
    let registry = registry.restart();
    let view = registry.get("beating").expect("it lives on");
    view.live.counters.tool_calls
}

#[tokio::test]
async fn heartbeats_are_written_once_a_minute() {
    // The first comes with the first use of the handle, which is written at once.
    for (seconds, known) in [(1, 1), (59, 1), (60, 60), (119, 60), (120, 120)] {
        assert_eq!(known_after_a_crash(seconds).await, known, "{seconds} s");
    }
}
