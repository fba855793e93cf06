//! Reads that race with an attacker who owns the tree: he swaps files, links and
//! directories, and overwrites the file in place, as fast as the machine lets him.
//!
//! Every attack is first shown to beat a reader that checks and then reads.
//! `EPISODED_RACE_ROUNDS` sets the reads of each race.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};

use episoded::firewall::read::{Expected, ReadError, Root, Verified};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::under_attack;

/// Reads of a race where nothing else is said.
const ROUNDS: u64 = 2_000;
/// Reads after which an attack that was not met is none.
const PATIENCE: u64 = 2_000_000;
/// Several pages, so that a read can see two states of the file.
const SIZE: usize = 16 << 10;
const PATH: &str = "directory/file";

/// A root with the pinned file, and everything an attack needs:
///
/// ```text
/// root/directory/file    pinned     root/other    a file of the same size
/// outside/file           a secret   root/link  -> outside/file
///                                   root/away  -> outside
/// ```
struct Arena {
    dir: TempDir,
}

impl Arena {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("there is room");
        let arena = Self { dir };
        fs::create_dir_all(arena.at("root/directory")).unwrap();
        fs::create_dir(arena.at("outside")).unwrap();
        fs::write(arena.at("root/directory/file"), pinned()).unwrap();
        fs::write(arena.at("root/other"), planted()).unwrap();
        fs::write(arena.at("outside/file"), planted()).unwrap();
        symlink(arena.at("outside/file"), arena.at("root/link")).unwrap();
        symlink("../outside", arena.at("root/away")).unwrap();
        arena
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    /// Swaps two names, so that neither is ever missing.
    fn exchange(&self, one: &str, two: &str) -> impl FnMut() + Send + use<> {
        let (one, two) = (self.at(one), self.at(two));
        move || renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).expect("both are there")
    }

    /// Overwrites the file, with something else and back.
    fn overwrite(&self) -> impl FnMut() + Send + use<> {
        let path = self.at("root/directory/file");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut contents = [planted(), pinned()].into_iter().cycle();
        move || {
            let content = contents.next().expect("it goes round");
            file.write_all_at(&content, 0).expect("there is room");
        }
    }
}

fn pinned() -> Vec<u8> {
    vec![b'p'; SIZE]
}

fn planted() -> Vec<u8> {
    vec![b'x'; SIZE]
}

fn rounds() -> u64 {
    std::env::var("EPISODED_RACE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"))
}

/// The positive control: what a reader that checks the content and then reads it
/// serves in the end is, sooner or later, what the attacker planted.
fn beats_a_naive_reader(arena: &Arena, attack: impl FnMut() + Send) {
    let path = arena.at("root").join(PATH);
    let beaten = under_attack(attack, || {
        (0..PATIENCE).any(|_| {
            let checked = fs::read(&path).expect("there is always a file");
            let served = fs::read(&path).expect("there is always a file");
            checked == pinned() && served != pinned()
        })
    });
    assert!(beaten, "the attacker does not attack");
}

/// Reads until enough rounds are over and the attack was met and missed. What is
/// served is the pinned content; what is not is refused in this way.
fn withstands(
    arena: &Arena,
    attack: impl FnMut() + Send,
    expected: &Expected,
    is_refusal: fn(&ReadError) -> bool,
) {
    let root = Root::open(arena.at("root").to_str().expect("names are text")).unwrap();
    let (content, hash) = (pinned(), *blake3::hash(&pinned()).as_bytes());
    let (mut served, mut refused) = (0, 0);
    under_attack(attack, || {
        while served + refused < rounds() || served == 0 || refused == 0 {
            assert!(served + refused < rounds() + PATIENCE, "{served} {refused}");
            match root.read(PATH, expected, SIZE as u64) {
                Ok(Verified { bytes, hash: of }) => {
                    assert!(bytes == content && of == hash, "after {served} reads");
                    served += 1;
                }
                Err(error) => {
                    assert!(is_refusal(&error), "{error:?}");
                    refused += 1;
                }
            }
        }
    });
}

fn pin() -> Expected {
    Expected::Pinned {
        hash: *blake3::hash(&pinned()).as_bytes(),
        size: Some(SIZE as u64),
    }
}

fn is_mismatch(error: &ReadError) -> bool {
    matches!(error, ReadError::Mismatch)
}

fn is_symlink(error: &ReadError) -> bool {
    matches!(error, ReadError::Symlink)
}

#[test]
fn a_file_that_is_swapped_for_another_is_never_served() {
    let arena = Arena::new();
    let attack = || arena.exchange("root/directory/file", "root/other");
    beats_a_naive_reader(&arena, attack());
    withstands(&arena, attack(), &pin(), is_mismatch);
}

#[test]
fn a_file_that_is_swapped_for_a_link_out_of_the_root_is_never_served() {
    let arena = Arena::new();
    let attack = || arena.exchange("root/directory/file", "root/link");
    beats_a_naive_reader(&arena, attack());
    withstands(&arena, attack(), &pin(), is_symlink);
    withstands(&arena, attack(), &Expected::Any, is_symlink);
}

#[test]
fn a_directory_that_is_swapped_for_a_link_out_of_the_root_is_never_entered() {
    let arena = Arena::new();
    let attack = || arena.exchange("root/directory", "root/away");
    beats_a_naive_reader(&arena, attack());
    withstands(&arena, attack(), &pin(), is_symlink);
    withstands(&arena, attack(), &Expected::Any, is_symlink);
}

#[test]
fn a_file_that_is_overwritten_in_place_is_never_served() {
    let arena = Arena::new();
    beats_a_naive_reader(&arena, arena.overwrite());
    withstands(&arena, arena.overwrite(), &pin(), is_mismatch);
}
