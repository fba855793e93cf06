mod faults;

use std::sync::Arc;

use super::{Allowed, Arena, MAX_KEY, MAX_LOCKED, memory::BLOCK};

/// The test's user may not be allowed to lock much.
const ANY: Allowed = Allowed {
    secret: true,
    unlocked: true,
};

fn arena(limit: usize) -> Arc<Arena> {
    Arena::new(limit, ANY).unwrap()
}

#[test]
fn a_secret_is_zero_at_first_and_keeps_what_is_put() {
    let arena = arena(MAX_LOCKED);
    for length in [1, 63, 64, 65, 4096, MAX_KEY] {
        let mut secret = arena.take(length).unwrap();
        assert!(secret.expose().iter().all(|byte| *byte == 0));
        assert_eq!(secret.len(), length);
        secret.expose_mut().fill(9);
        assert!(secret.expose().iter().all(|byte| *byte == 9));
    }
    assert!(arena.take(0).is_none());
    assert!(arena.take(MAX_KEY + 1).is_none());
}

#[test]
fn what_is_let_go_is_zero_for_the_next() {
    let arena = arena(BLOCK);
    let mut first = arena.take(64).unwrap();
    first.expose_mut().fill(0xAA);
    let place = first.expose().as_ptr().addr();
    // Keeps the block in its class.
    let _other = arena.take(64).unwrap();
    drop(first);
    let again = arena.take(64).unwrap();
    assert_eq!(again.expose().as_ptr().addr(), place, "the same slot");
    assert!(again.expose().iter().all(|byte| *byte == 0));
}

#[test]
fn no_two_secrets_share_a_byte() {
    let arena = arena(8 * BLOCK);
    let mut secrets = Vec::new();
    for n in 0..200_u8 {
        let mut secret = arena.take(1 + usize::from(n) * 7).unwrap();
        secret.expose_mut().fill(n);
        secrets.push((n, secret));
        if n % 3 == 0 {
            secrets.swap_remove(secrets.len() / 2);
        }
    }
    for (n, secret) in &secrets {
        assert!(secret.expose().iter().all(|byte| byte == n), "{n}");
    }
}

#[test]
fn it_is_full_at_its_limit_and_has_room_again() {
    let arena = arena(3 * BLOCK);
    let mut large: Vec<_> = (0..3).map(|_| arena.take(MAX_KEY).unwrap()).collect();
    assert!(arena.take(1).is_none());
    assert_eq!(arena.locked_bytes(), 3 * BLOCK);
    large.pop();
    // A block that is empty serves another class.
    let small = BLOCK / (64 + 8);
    let small: Vec<_> = (0..small).map(|_| arena.take(32).unwrap()).collect();
    assert!(arena.take(32).is_none());
    drop(small);
    assert!(arena.take(MAX_KEY).is_some());
}

#[test]
fn a_hundred_thousand_small_keys_fit() {
    let arena = arena(MAX_LOCKED);
    let all: Vec<_> = (0..100_000).map(|_| arena.take(32).unwrap()).collect();
    assert_eq!(all.len(), 100_000);
    assert!(arena.locked_bytes() <= 8 * 1024 * 1024);
}

#[test]
fn nothing_of_a_secret_is_in_its_debug() {
    let mut secret = arena(BLOCK).take(4).unwrap();
    secret.expose_mut().copy_from_slice(b"abcd");
    assert_eq!(format!("{secret:?}"), "Secret");
}
