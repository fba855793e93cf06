//! Pages: how much one holds, and how much it looks at.

use std::time::Duration;

use episoded::proto::session as pb;
use episoded::proto::session::session_service_server::SessionService as _;
use episoded::session::limits::{Limits, MAX_ITEMS, MAX_SCAN};
use episoded::session::operation::register::RegisterMany;
use prost::Message as _;
use tonic::Request;

use super::equipment::{Registry, registration, removal, service, work_id};
use crate::crash::random::Random;

/// Who ended is forgotten after it.
const TERMINATED_TTL: Duration = Duration::from_mins(5);

/// Registers that many sessions, named by their number.
async fn fill(registry: &Registry, count: usize) {
    for first in (0..count).step_by(MAX_ITEMS) {
        let numbers = first..count.min(first + MAX_ITEMS);
        let items = numbers.map(|n| registration(&registry.sessions, &format!("s-{n}"), "work"));
        let registered = registry.call(RegisterMany(items.collect())).await;
        let registered = registered.expect("they are decided");
        assert!(registered.iter().all(Result::is_ok));
    }
}

async fn page(registry: &Registry, request: pb::ListSessionsRequest) -> pb::ListSessionsResponse {
    let answer = service(registry).list_sessions(Request::new(request)).await;
    answer.expect("it lists").into_inner()
}

#[tokio::test]
async fn a_filtered_page_looks_at_so_many_sessions_and_may_be_empty_with_a_token() {
    let registry = Registry::new(Limits::default());
    fill(&registry, MAX_SCAN).await;
    let wanted = |operation: &mut _| {
        let operation: &mut episoded::session::operation::register::Register = operation;
        operation.work = work_id("wanted");
    };
    registry.registered("wanted", wanted).await;
    let request = pb::ListSessionsRequest {
        filter: Some(pb::SessionFilter {
            work_id: "wanted".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let first = page(&registry, request.clone()).await;
    assert!(first.sessions.is_empty(), "it looked at others only");
    assert!(!first.next_page_token.is_empty(), "and says so");
    let second = pb::ListSessionsRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = page(&registry, second).await;
    let ids: Vec<_> = second.sessions.iter().map(|s| &s.session_id).collect();
    assert_eq!(ids, ["wanted"]);
    assert_eq!(second.next_page_token, "", "there is no more");
}

#[tokio::test]
async fn a_page_holds_at_most_a_thousand_sessions_and_a_hundred_unasked() {
    let registry = Registry::new(Limits::default());
    fill(&registry, 1_001).await;
    for (asked, held) in [(0, 100), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
        let request = pb::ListSessionsRequest {
            page_size: asked,
            ..Default::default()
        };
        let page = page(&registry, request).await;
        assert_eq!(page.sessions.len(), held, "of {asked} asked for");
        assert!(!page.next_page_token.is_empty());
    }
}

#[tokio::test]
async fn a_page_of_large_sessions_holds_a_mebibyte_and_the_next_goes_on_where_it_ended() {
    const LIMIT: usize = 1024 * 1024;
    const COUNT: usize = 400;
    let registry = Registry::new(Limits::default());
    let value = "v".repeat(250);
    let labels = (0..15).map(|n| (format!("label-{n}"), value.clone()));
    let labels: std::collections::BTreeMap<_, _> = labels.collect();
    let items = (0..COUNT).map(|number| {
        let mut item = registration(&registry.sessions, &format!("s-{number}"), "work");
        let labels = labels.clone();
        item.spec.labels = episoded::session::spec::Labels::new(labels).expect("they fit");
        item
    });
    let registered = registry.call(RegisterMany(items.collect())).await;
    let registered = registered.expect("they are decided");
    assert!(registered.iter().all(Result::is_ok));

    let mut seen = Vec::new();
    let mut pages = 0;
    let mut token = String::new();
    loop {
        let request = pb::ListSessionsRequest {
            page_size: 1_000,
            page_token: std::mem::take(&mut token),
            ..Default::default()
        };
        let page = page(&registry, request).await;
        let bytes: usize = page.sessions.iter().map(pb::Session::encoded_len).sum();
        assert!(bytes <= LIMIT, "{bytes} bytes");
        let one = page.sessions[0].encoded_len();
        let is_last = page.next_page_token.is_empty();
        assert!(is_last || bytes + 2 * one > LIMIT, "it is filled: {bytes}");
        seen.extend(page.sessions.into_iter().map(|s| s.session_id));
        pages += 1;
        token = page.next_page_token;
        if is_last {
            break;
        }
    }
    let all: Vec<_> = (0..COUNT).map(|number| format!("s-{number}")).collect();
    assert_eq!(seen, all, "each once, in order");
    assert!(pages > 1, "{pages} pages");
}

/// Some that pass are registered, end, are taken back; some that ended are
/// forgotten, because time passes.
async fn come_and_go(registry: &Registry, random: &mut Random, passing: &mut Vec<String>) {
    for _ in 0..random.below(12) {
        let chosen = random.below(passing.len() + 1);
        match random.below(4) {
            0 | 1 => {
                let id = format!("pass-{}", random.next());
                registry.registered(&id, |_| {}).await;
                passing.push(id);
            }
            2 if chosen < passing.len() => {
                let ended = registry.terminate(&passing.swap_remove(chosen)).await;
                ended.expect("it lived");
            }
            3 if chosen < passing.len() => {
                let removed = registry.call(removal(&passing.swap_remove(chosen)));
                removed.await.expect("nobody used it");
            }
            _ => registry.pass(TERMINATED_TTL).await,
        }
    }
}

/// A list in pages of seven, while others are registered, end, are forgotten or
/// taken back between them; who lives throughout is told once, in order.
#[tokio::test]
async fn whoever_lives_throughout_a_list_is_in_it_once_while_others_come_and_go() {
    const SEEDS: u64 = 20;
    for seed in 0..SEEDS {
        let registry = Registry::new(Limits::default());
        let mut random = Random::new(seed);
        let stay = |number: usize| format!("stay-{number}");
        let mut passing = Vec::new();
        let mut staying = 0;
        for number in 0..100 {
            if random.below(2) == 0 {
                registry.registered(&stay(staying), |_| {}).await;
                staying += 1;
            } else {
                let id = format!("pass-{number}");
                registry.registered(&id, |_| {}).await;
                passing.push(id);
            }
        }
        let expected: Vec<_> = (0..staying).map(stay).collect();
        let mut told = Vec::new();
        let mut token = String::new();
        loop {
            let request = pb::ListSessionsRequest {
                page_size: 7,
                page_token: std::mem::take(&mut token),
                ..Default::default()
            };
            let page = page(&registry, request).await;
            told.extend(page.sessions.into_iter().map(|session| session.session_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            come_and_go(&registry, &mut random, &mut passing).await;
        }
        let stayed: Vec<_> = told.iter().filter(|id| id.starts_with("stay")).collect();
        assert_eq!(stayed, expected.iter().collect::<Vec<_>>(), "seed {seed}");
        let mut once = told.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), told.len(), "seed {seed}: {told:?}");
    }
}
