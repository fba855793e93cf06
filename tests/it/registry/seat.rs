//! Who commits a call: the caller's thread, or the writer's.

use std::time::Duration;

use episoded::session::limits::Limits;
use episoded::session::operation::register::RegisterMany;
use episoded::session::service::Wait;

use super::equipment::{Fault, Registry, registration};
use crate::harness::within;

/// Registers until a call was committed here: the writer's thread may be in the
/// seat for a moment after it has answered.
async fn register_here(registry: &Registry, name: &str) {
    let until_here = async {
        for number in 0.. {
            let id = format!("{name}-{number}");
            registry.register(&id, "work").await.expect("it registers");
            if registry.wrote_here() {
                return;
            }
        }
    };
    within(until_here).await;
}

#[tokio::test]
async fn a_lone_call_is_committed_on_its_own_thread() {
    let registry = Registry::new(Limits::default());
    register_here(&registry, "a").await;
}

#[tokio::test]
async fn a_large_call_is_left_to_the_writer_thread() {
    let registry = Registry::new(Limits::default());
    let two = ["a", "b"].map(|id| registration(&registry.sessions, id, "work"));
    let registered = registry
        .sessions
        .call(RegisterMany(two.into()), Wait::PATIENT);
    let registered = within(registered).await.expect("it is taken");
    assert!(registered.iter().all(Result::is_ok));
    assert!(!registry.wrote_here());
}

#[tokio::test]
async fn after_a_slow_commit_the_writer_thread_commits_for_ten_seconds() {
    let registry = Registry::new(Limits::default());
    register_here(&registry, "a").await;
    // The thread may sit there once more: a slow commit of its own says nothing.
    let slow_here = async {
        for number in 0.. {
            registry.fail(&[Fault::Slow]);
            let id = format!("slow-{number}");
            registry.register(&id, "work").await.expect("it registers");
            if registry.wrote_here() {
                return;
            }
        }
    };
    within(slow_here).await;
    for id in ["b", "c"] {
        registry.register(id, "work").await.expect("it registers");
        assert!(!registry.wrote_here());
    }
    registry.clock.advance(Duration::from_millis(9_990));
    registry.register("d", "work").await.expect("it registers");
    assert!(!registry.wrote_here());
    registry.clock.advance(Duration::from_millis(10));
    register_here(&registry, "e").await;
}
