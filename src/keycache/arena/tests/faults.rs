//! Faults that must not go unseen. Each is committed in a process of its own, which
//! it is to end.
//!
//! A write behind a slot is what the canary sees; a byte outside the opened blocks
//! nobody may touch. The two faults on the heap are for a sanitizer alone, which has
//! to prove with them that it looks (`tests/tools/sanitize`).

#![expect(unsafe_code, reason = "safe code cannot commit a fault")]

use std::{
    env,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output},
    ptr, str,
};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::super::{Allowed, Arena, BLOCK, CANARY, MAX_KEY};

/// Names the fault to a process that is to commit it: whether in secret memory,
/// which, and a number.
const FAULT: &str = "ARENA_FAULT";

/// Said right before.
const BEGUN: &str = "the fault is committed now";
/// Said if it had no effect.
const UNSEEN: &str = "the fault went unseen";

const BLOCKS: usize = 2;

#[test]
#[ignore = "ends its process; the other tests, and tests/tools/sanitize, run it with a fault to commit"]
fn commits_the_fault_that_it_is_told() {
    let Ok(told) = env::var(FAULT) else {
        return;
    };
    let told: Vec<_> = told.split(' ').collect();
    let [secret, fault, number] = told[..] else {
        panic!("{told:?}");
    };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).expect("less is always allowed");
    let (secret, number) = (secret.parse().unwrap(), number.parse().unwrap());
    println!("{BEGUN}");
    match fault {
        "overrun" => overrun_a_slot(secret, usize::try_from(number).unwrap()),
        "touch" => touch(secret, number),
        "heap-overrun" => write_behind_an_allocation(),
        "heap-freed" => read_what_was_freed(),
        other => panic!("{other}"),
    }
    println!("{UNSEEN}");
}

fn arena(secret: bool) -> std::sync::Arc<Arena> {
    let allowed = Allowed {
        secret,
        unlocked: true,
    };
    Arena::new(BLOCKS * BLOCK, allowed).unwrap()
}

/// Changes the byte so far behind the first slot, and lets the slot go.
fn overrun_a_slot(secret: bool, behind: usize) {
    let arena = arena(secret);
    let slot = arena.take(64).unwrap();
    let end = slot.offset as usize + 64;
    let byte = arena.canary.get(behind).map_or(1, |byte| !byte);
    arena.memory.write(end + behind, &[byte]);
}

/// Reads the byte at that distance from the first of the first block, the only one
/// that is open.
fn touch(secret: bool, distance: isize) {
    let arena = arena(secret);
    let slot = arena.take(MAX_KEY).unwrap();
    assert_eq!((slot.offset, arena.locked_bytes()), (0, BLOCK));
    let at = slot.expose().as_ptr().wrapping_offset(distance);
    // SAFETY: none if the byte is outside; the process must end for it.
    unsafe { ptr::read_volatile(at) };
}

fn write_behind_an_allocation() {
    let mut bytes = vec![0_u8; 64];
    let end = bytes.as_mut_ptr().wrapping_add(bytes.len());
    // SAFETY: none; a sanitizer must end the process for it.
    unsafe { ptr::write_volatile(end, 1) };
}

fn read_what_was_freed() {
    let bytes = vec![0_u8; 64];
    let at = bytes.as_ptr();
    drop(bytes);
    // SAFETY: none; a sanitizer must end the process for it.
    unsafe { ptr::read_volatile(at) };
}

/// What becomes of a process that commits it.
fn end_of(fault: &str) -> Output {
    // The canary and the guard pages are to see it, not a sanitizer.
    let mut sanitizer = env::var("ASAN_OPTIONS").unwrap_or_default();
    sanitizer.push_str(":handle_segv=0:handle_abort=0");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg("keycache::arena::tests::faults::commits_the_fault_that_it_is_told")
        .env(FAULT, fault)
        .env("ASAN_OPTIONS", sanitizer)
        .output()
        .unwrap();
    assert!(said(&output.stdout, BEGUN), "{fault}: {output:?}");
    output
}

fn said(output: &[u8], what: &str) -> bool {
    str::from_utf8(output).unwrap().contains(what)
}

/// Panics unless that signal ended it.
fn ended_by(signal: Signal, fault: &str) -> Output {
    let output = end_of(fault);
    let ended = output.status.signal();
    assert_eq!(ended, Some(signal.as_raw()), "{fault}: {output:?}");
    assert!(!said(&output.stdout, UNSEEN), "{fault}: {output:?}");
    output
}

/// Panics if it ended otherwise than a test that passes.
fn passes(fault: &str) {
    let output = end_of(fault);
    assert!(output.status.success(), "{fault}: {output:?}");
    assert!(said(&output.stdout, UNSEEN), "{fault}: {output:?}");
}

#[test]
fn a_write_behind_a_slot_ends_the_process_when_the_slot_is_let_go() {
    for secret in [true, false] {
        for behind in 0..CANARY {
            let output = ended_by(Signal::ABORT, &format!("{secret} overrun {behind}"));
            let why = "memory behind a key was overwritten";
            assert!(said(&output.stderr, why), "{output:?}");
        }
        // Of the next slot, which nobody has.
        passes(&format!("{secret} overrun {CANARY}"));
    }
}

#[test]
fn a_byte_outside_the_opened_blocks_can_not_be_touched() {
    let (first, last) = (0, BLOCK as isize - 1);
    let end = (BLOCKS * BLOCK) as isize;
    for secret in [true, false] {
        for inside in [first, last] {
            passes(&format!("{secret} touch {inside}"));
        }
        // Before, in the block that is not open, and behind.
        for outside in [first - 1, last + 1, end - 1, end] {
            ended_by(Signal::SEGV, &format!("{secret} touch {outside}"));
        }
    }
}
