//! What another boot of the machine leaves of the sessions of the last.

use std::time::Duration;

use episoded::ids::EpisodeId;
use episoded::session::batch::Target;
use episoded::session::limits::Limits;
use episoded::session::operation::bind::Bind;
use episoded::session::operation::register::Until;
use episoded::session::recovery;
use episoded::session::state::{ExitClassification, Status, TerminationReason};

use super::equipment::{HandClock, Registry, call, session_id};

/// Binds a session to an episode, and to the process of this test.
fn binding(id: &str, with_process: bool) -> Bind {
    let process = recovery::process(std::process::id().cast_signed());
    assert!(process.is_some(), "this process runs");
    Bind {
        target: Target::Named(session_id(id)),
        episode: EpisodeId::parse("episode").expect("an episode id"),
        process: process.filter(|_| with_process),
        etag: None,
        call: call(),
    }
}

#[tokio::test]
async fn a_process_of_another_boot_is_gone_even_if_its_number_runs_again() {
    let registry = Registry::new(Limits::default());
    let mut handles = Vec::new();
    for id in ["process", "episode", "unbound"] {
        handles.push(registry.registered(id, |_| {}).await);
    }
    for (id, with_process) in [("process", true), ("episode", false)] {
        let bound = registry.call(binding(id, with_process)).await;
        bound.expect("it is bound");
    }
    let registry = registry.restart();
    assert_eq!(
        registry.status("process"),
        Status::Active,
        "the process runs on in this boot"
    );
    let reboot = |clock: &HandClock| clock.reboot(Duration::from_mins(3));
    let registry = registry.restart_after(reboot);
    let record = registry.record("process");
    assert_eq!(record.reason, TerminationReason::HostReboot);
    assert_eq!(record.exit_classification, ExitClassification::Failure);
    assert!(registry.opened_by(&handles[0]).is_none());
    for (id, handle) in [("episode", &handles[1]), ("unbound", &handles[2])] {
        assert_eq!(registry.status(id), Status::Active, "{id}");
        assert!(registry.opened_by(handle).is_some(), "{id}");
    }
}

#[tokio::test]
async fn a_deadline_counts_the_time_that_the_machine_was_off() {
    let registry = Registry::new(Limits::default());
    for (id, minutes) in [("near", 10), ("far", 60)] {
        let until = Until::After(Duration::from_mins(minutes));
        registry
            .registered(id, |operation| operation.until = until)
            .await;
    }
    let reboot = |clock: &HandClock| clock.reboot(Duration::from_mins(10));
    let registry = registry.restart_after(reboot);
    registry.look().await;
    assert_eq!(&*registry.record("near").detail, "expire_time");
    assert_eq!(registry.status("far"), Status::Active);
    registry.pass(Duration::from_mins(50)).await;
    assert_eq!(&*registry.record("far").detail, "expire_time");
}
