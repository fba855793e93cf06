//! Many threads on one registry.

use std::collections::BTreeSet;

use episoded::session::filter::Filter;
use episoded::session::limits::Limits;
use episoded::session::operation::register::RegisterMany;
use episoded::session::operation::terminate::{Selector, Terminate, TerminateMany};
use episoded::session::service::{Sessions, Wait};
use episoded::session::state::Seq;

use super::equipment::{Fault, Registry, registration, termination, work_id};
use crate::harness::within;

const THREADS: usize = 16;
const EACH: usize = 60;

/// Sessions of a call that the writer does not put together with others.
const LARGE: usize = 65;

fn shared_between_threads<T: Send + Sync + 'static>() {}

#[test]
fn the_registry_is_send_and_sync() {
    shared_between_threads::<Sessions>();
}

/// Registers, ends every third, and looks each up in every way.
async fn work_alone(sessions: Sessions, thread: usize) -> Vec<(String, bool)> {
    let mut known = Vec::new();
    for number in 0..EACH {
        let id = format!("t{thread}-{number}");
        let work = format!("work-{}", number % 4);
        let operation = registration(&sessions, &id, &work);
        let registered = sessions
            .call(operation, Wait::PATIENT)
            .await
            .expect("it registers");
        let handle = registered.handle.expect("its handle");
        let digest = sessions.digest_handle(&handle);
        let found = sessions.use_handle(&digest).expect("found by its handle");
        assert_eq!(found.session.id(), id);
        let of_work = sessions.by_work(&work_id(&work)).expect("its work has one");
        assert_eq!(of_work.session.work_id(), work);
        let ends = number % 3 == 0;
        if ends {
            sessions
                .call(termination(&id), Wait::PATIENT)
                .await
                .expect("it ends");
            assert!(sessions.use_handle(&digest).is_none(), "the handle is dead");
        }
        known.push((id, !ends));
    }
    known
}

#[test]
fn sixteen_threads_leave_every_table_consistent() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime is built")
    };
    let outer = runtime();
    let registry = Registry::new(Limits::default());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sessions = registry.sessions.clone();
            std::thread::spawn(move || runtime().block_on(work_alone(sessions, thread)))
        })
        .collect();
    let mut known = Vec::new();
    for thread in threads {
        known.extend(thread.join().expect("no thread panics"));
    }
    check(&registry, &known);
    let registry = registry.restart();
    check(&registry, &known);
    drop(outer);
}

fn check(registry: &Registry, known: &[(String, bool)]) {
    let live: BTreeSet<&str> = known
        .iter()
        .filter(|(_, live)| *live)
        .map(|(id, _)| id.as_str())
        .collect();
    for (id, live) in known {
        let view = registry.get(id).expect("found by its id");
        assert_eq!(view.session.is_active(), *live, "{id}");
    }
    let info = registry.sessions.info();
    assert_eq!(info.live as usize, live.len());
    assert_eq!(info.terminated as usize, known.len() - live.len());
    let page = registry
        .sessions
        .list(&Filter::default(), Seq(0), known.len() + 1);
    let listed: BTreeSet<String> = page
        .views
        .iter()
        .map(|view| view.session.id().to_owned())
        .collect();
    assert_eq!(listed.len(), page.views.len(), "each is listed once");
    assert_eq!(listed.len(), known.len(), "live and ended");
    for number in 0..4 {
        let newest = registry
            .sessions
            .by_work(&work_id(&format!("work-{number}")));
        let newest = newest.expect("some are live").session;
        let expected = page
            .views
            .iter()
            .filter(|v| v.session.is_active() && v.session.work_id() == newest.work_id())
            .map(|v| v.session.seq)
            .max();
        assert_eq!(Some(newest.seq), expected, "the newest live one");
    }
}

#[tokio::test]
async fn a_small_call_waits_for_one_thing_that_takes_long() {
    let registry = Registry::new(Limits::default());
    let ask = |id: &str| {
        let operation = registration(&registry.sessions, id, "work");
        registry.sessions.call(operation, Wait::PATIENT)
    };
    registry.fail(&[Fault::Held]);
    let first = ask("first");
    registry.until_held();
    registry.pause(&[false, true]);
    let many = (0..LARGE).map(|n| registration(&registry.sessions, &format!("m-{n}"), "work"));
    let large = RegisterMany(many.collect());
    let large = registry.sessions.call(large, Wait::PATIENT);
    registry.let_go();
    registry.until_held();
    let small = ask("small");
    registry.let_go();
    let answers = async {
        first.await.expect("it registers");
        let many = large.await.expect("they are decided");
        assert_eq!(many.len(), LARGE);
        small.await.expect("it registers");
    };
    within(answers).await;
    let seq = |id| registry.get(id).expect("it is there").session.seq;
    assert!(seq("first") < seq("small") && seq("small") < seq("m-0"));
}

#[tokio::test]
async fn small_calls_have_their_turn_between_those_that_look_at_everything() {
    let registry = Registry::new(Limits::default());
    for work in ["one", "two"] {
        registry.register(work, work).await.expect("it registers");
    }
    let ask = |id: &str| {
        let operation = registration(&registry.sessions, id, "work");
        registry.sessions.call(operation, Wait::PATIENT)
    };
    let end = |work: &str| {
        let Terminate { ending, call, .. } = termination(work);
        let many = TerminateMany {
            selector: Selector::Work(work_id(work)),
            ending,
            dry_run: false,
            call,
        };
        registry.sessions.call(many, Wait::PATIENT)
    };
    // The first, the small one, and the first of those that look at everything.
    registry.fail(&[Fault::Held; 3]);
    let first = ask("first");
    registry.until_held();
    let ends = [end("one"), end("two")];
    let small = ask("small");
    registry.let_go();
    registry.until_held();
    registry.let_go();
    registry.until_held();
    let next = ask("next");
    registry.let_go();
    let answers = async {
        for registered in [first, small, next] {
            registered.await.expect("it registers");
        }
        for end in ends {
            assert_eq!(end.await.expect("it ends them").views.len(), 1);
        }
    };
    within(answers).await;
    let revision = |id| registry.get(id).expect("it is there").session.revision;
    let order = ["first", "small", "one", "next", "two"].map(revision);
    assert!(order.is_sorted(), "{order:?}");
}
