//! What the writer notes by itself, before anybody asks for it.

use std::time::Duration;

use episoded::session::batch::Target;
use episoded::session::error::{CallError, RemoveError};
use episoded::session::limits::Limits;
use episoded::session::operation::terminate::Remove;

use super::equipment::{Fault, Registry, call, session_id};

fn removal(id: &str) -> Remove {
    Remove {
        target: Target::Named(session_id(id)),
        etag: None,
        call: call(),
    }
}

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
