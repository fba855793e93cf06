use std::sync::Arc;

use super::{Cache, MAX_ENTRIES};
use crate::{
    clock::Now,
    keycache::{
        arena::{Allowed, Arena},
        entry::{Expiry, Keep, LockboxId},
        error::PutError,
    },
};

const MINUTE: u64 = 60_000;

/// The test's user may not be allowed to lock much.
const ANY: Allowed = Allowed {
    secret: true,
    unlocked: true,
};

fn arena() -> Arc<Arena> {
    Arena::new(1 << 20, ANY).unwrap()
}

fn at(boot: u64) -> Now {
    Now {
        boot,
        awake: boot,
        wall: boot,
    }
}

fn id(text: &str) -> LockboxId {
    LockboxId::parse(text).unwrap()
}

fn put(cache: &mut Cache, arena: &Arc<Arena>, name: &str, keep: Keep, now: Now) {
    let mut key = arena.take(32).unwrap();
    key.expose_mut().fill(7);
    cache.put(id(name), key, Some("/a"), keep, now).unwrap();
}

fn for_millis(ttl: u64) -> Keep {
    Keep {
        ttl,
        ..Keep::default()
    }
}

#[test]
fn without_a_ttl_it_is_there_for_fifteen_minutes_less_a_second() {
    let (mut cache, arena) = (Cache::default(), arena());
    for (asked, there) in [(899_000, true), (900_000, false)] {
        put(&mut cache, &arena, "a", Keep::default(), at(0));
        let found = cache.get(&id("a"), at(asked));
        assert_eq!(found.is_some(), there, "{asked}");
    }
    assert!(cache.is_empty(), "what is over is gone");
}

#[test]
fn a_hit_prolongs_to_now_and_the_ttl() {
    let (mut cache, arena) = (Cache::default(), arena());
    put(&mut cache, &arena, "a", Keep::default(), at(0));
    for minute in [14, 28] {
        assert!(cache.get(&id("a"), at(minute * MINUTE)).is_some());
    }
    assert!(cache.get(&id("a"), at(43 * MINUTE)).is_none());
}

#[test]
fn an_absolute_entry_is_not_prolonged_and_a_list_prolongs_nothing() {
    let (mut cache, arena) = (Cache::default(), arena());
    let absolute = Keep {
        expiry: Expiry::Absolute,
        ..Keep::default()
    };
    put(&mut cache, &arena, "a", absolute, at(0));
    put(&mut cache, &arena, "b", Keep::default(), at(0));
    assert!(cache.get(&id("a"), at(14 * MINUTE)).is_some());
    assert_eq!(cache.list(None, at(14 * MINUTE)).count(), 2);
    for name in ["a", "b"] {
        assert!(cache.get(&id(name), at(15 * MINUTE)).is_none(), "{name}");
    }
}

#[test]
fn no_number_of_hits_keeps_it_beyond_its_lifetime() {
    let (mut cache, arena) = (Cache::default(), arena());
    put(&mut cache, &arena, "a", Keep::default(), at(0));
    for minutes in (10..480).step_by(10) {
        assert!(cache.get(&id("a"), at(minutes * MINUTE)).is_some());
    }
    assert_eq!(cache.list(None, at(480 * MINUTE - 1)).count(), 1);
    assert!(cache.get(&id("a"), at(480 * MINUTE)).is_none());
}

#[test]
fn a_ttl_of_nothing_or_beyond_the_clock_is_refused() {
    let (mut cache, arena) = (Cache::default(), arena());
    for ttl in [0, u64::MAX] {
        let key = arena.take(1).unwrap();
        let refused = cache.put(id("a"), key, None, for_millis(ttl), at(1));
        assert_eq!(refused, Err(PutError::InvalidTtl), "{ttl}");
    }
    assert!(cache.is_empty());
}

#[test]
fn pruning_finds_what_nobody_asks_for_and_nothing_else() {
    let (mut cache, arena) = (Cache::default(), arena());
    for (name, ttl) in [("a", 10), ("b", 20), ("c", 30)] {
        put(&mut cache, &arena, name, for_millis(ttl), at(0));
    }
    assert!(cache.get(&id("a"), at(5)).is_some());
    assert_eq!(cache.prune(at(14)), 0, "a slid to 15");
    assert_eq!(cache.prune(at(20)), 2);
    assert_eq!(cache.prune(at(29)), 0);
    assert_eq!(cache.prune(at(30)), 1);
    assert_eq!(cache.len(), 0);
}

#[test]
fn forgetting_is_by_id_by_path_or_all() {
    let (mut cache, arena) = (Cache::default(), arena());
    for name in ["a", "b", "c"] {
        put(&mut cache, &arena, name, Keep::default(), at(0));
    }
    assert!(cache.forget(&id("a")));
    assert!(!cache.forget(&id("a")));
    assert_eq!(cache.forget_path("/b"), []);
    assert_eq!(cache.forget_path("/a").len(), 2);
    put(&mut cache, &arena, "d", Keep::default(), at(0));
    assert_eq!((cache.wipe(), cache.wipes(), cache.len()), (1, 1, 0));
}

/// An answer that was begun must not go on with the bytes of another key.
#[test]
fn an_entry_that_was_replaced_is_another_one() {
    let (mut cache, arena) = (Cache::default(), arena());
    put(&mut cache, &arena, "a", Keep::default(), at(0));
    let first = cache.get(&id("a"), at(1)).unwrap().serial();
    assert!(cache.peek(&id("a"), first, at(1)).is_some());
    put(&mut cache, &arena, "a", Keep::default(), at(2));
    assert!(cache.peek(&id("a"), first, at(2)).is_none());
    let second = cache.get(&id("a"), at(3)).unwrap().serial();
    assert!(cache.peek(&id("a"), second, at(900_002)).is_some());
    assert!(cache.peek(&id("a"), second, at(900_003)).is_none());
}

#[test]
fn one_entry_too_many_is_refused_unless_another_is_over() {
    let (mut cache, arena) = (Cache::default(), Arena::new(16 << 20, ANY).unwrap());
    put(&mut cache, &arena, "short", for_millis(10), at(0));
    for n in 1..MAX_ENTRIES {
        put(&mut cache, &arena, &n.to_string(), Keep::default(), at(0));
    }
    let mut more = |now| {
        let key = arena.take(1).unwrap();
        cache.put(id("more"), key, None, Keep::default(), now)
    };
    assert_eq!(more(at(9)), Err(PutError::Full));
    assert_eq!(more(at(10)), Ok(()));
}

#[test]
fn names_have_a_limit_of_their_own_and_what_goes_makes_room() {
    let (mut cache, arena) = (Cache::default(), arena());
    let path = "p".repeat(128 * 1024);
    let put = |cache: &mut Cache, name: &str| {
        let key = arena.take(1).unwrap();
        cache.put(id(name), key, Some(&path), Keep::default(), at(0))
    };
    let fits = super::MAX_NAMES / (path.len() + 3);
    for n in 0..fits {
        put(&mut cache, &format!("{n:03}")).unwrap();
    }
    assert_eq!(put(&mut cache, "new"), Err(PutError::Full));
    assert_eq!(put(&mut cache, "000"), Ok(()), "in place of the old one");
    cache.forget(&id("001"));
    assert_eq!(put(&mut cache, "new"), Ok(()));
    cache.prune(at(15 * MINUTE));
    assert_eq!(put(&mut cache, "001"), Ok(()));
    cache.wipe();
    for n in 0..fits {
        put(&mut cache, &format!("{n:03}")).unwrap();
    }
}
