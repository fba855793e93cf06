//! What is added for what was denied.

use super::{Asked, Found, Review, plan};
use crate::cli::manifest::hash::Content;
use crate::cli::manifest::left::Why;
use crate::cli::manifest::words;
use crate::firewall::manifest::{
    Access, Draft, DraftEntry, DraftTree, Manifest, ToolClass, TreeAccess,
};
use crate::firewall::path::AbsolutePath;

const NOW: Content = Content {
    hash: [7; 32],
    size: 3,
};

fn look(path: &str) -> Found {
    match path {
        "src/a.rs" | "src/b.rs" | "zoom" | "old" | "made/x" => Found::File(NOW),
        "" | "src" | "made" | "made/deep" | "docs" => Found::Directory,
        "link" => Found::Refused(Why::Symlink),
        _ => Found::Missing,
    }
}

fn base() -> Manifest {
    let entry = |path: &str, access| DraftEntry {
        path: path.to_owned(),
        hash: vec![1; 32],
        access,
        stable_id: String::new(),
        size: None,
    };
    let draft = Draft {
        manifest_id: "m".to_owned(),
        profile_id: "p".to_owned(),
        entries: vec![
            entry("old", Access::Read),
            entry("zoom", Access::ReadWithZoom),
        ],
        trees: vec![DraftTree {
            path: "made".to_owned(),
            access: TreeAccess::Write,
        }],
        tools: vec![ToolClass::Read],
        ..Draft::default()
    };
    draft.build(10).unwrap()
}

fn asked(kind: &str, subject: &str, reason: &'static str) -> Asked {
    Asked {
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        reason,
        count: 1,
    }
}

fn planned(asked: &[Asked]) -> Review {
    let root = AbsolutePath::parse("/w").unwrap();
    plan(&base(), &root, asked, &look).unwrap()
}

fn all(kinds: &[(&str, &str)]) -> Review {
    let asked: Vec<_> = kinds
        .iter()
        .map(|(kind, subject)| asked(kind, subject, ""))
        .collect();
    planned(&asked)
}

fn trees(review: &Review) -> Vec<(&str, TreeAccess)> {
    let trees = review.manifest.trees().iter();
    trees.map(|tree| (tree.path.shown(), tree.access)).collect()
}

fn access(review: &Review, path: &str) -> Option<Access> {
    review.manifest.entry(path).map(|(_, entry)| entry.access)
}

#[test]
fn a_read_becomes_an_entry_and_a_write_makes_it_writable() {
    let review = all(&[
        ("read", "/w/src/a.rs"),
        ("read", "/w/src/b.rs"),
        ("edit", "/w/src/b.rs"),
    ]);
    assert_eq!(access(&review, "src/a.rs"), Some(Access::Read));
    assert_eq!(access(&review, "src/b.rs"), Some(Access::ReadWrite));
    let (_, entry) = review.manifest.entry("src/a.rs").unwrap();
    assert_eq!((entry.hash, entry.size), (NOW.hash, Some(NOW.size)));
    assert!(review.manifest.tools().has(ToolClass::Write));
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn an_entry_that_is_there_changes_as_little_as_it_must() {
    let review = planned(&[
        asked("write", "/w/old", "DENIAL_REASON_WRITE_PATH_NOT_ALLOWED"),
        asked("read", "/w/zoom", "DENIAL_REASON_CONTENT_HASH_REQUIRED"),
    ]);
    let (_, old) = review.manifest.entry("old").unwrap();
    assert_eq!((old.access, old.hash), (Access::ReadWrite, [1; 32]));
    assert_eq!(access(&review, "zoom"), Some(Access::Read));
    let review = planned(&[asked(
        "read",
        "/w/old",
        "DENIAL_REASON_CONTENT_HASH_MISMATCH",
    )]);
    let (_, old) = review.manifest.entry("old").unwrap();
    assert_eq!((old.access, old.hash), (Access::Read, NOW.hash));
}

#[test]
fn what_is_made_needs_a_tree_and_one_that_is_read_back_needs_more() {
    let review = all(&[
        ("write", "/w/new/x.txt"),
        ("mkdir", "/w/dir"),
        ("write", "/w/TOP"),
    ]);
    let made = ("made", TreeAccess::Write);
    let write = |path| (path, TreeAccess::Write);
    assert_eq!(
        trees(&review),
        [write("TOP"), write("dir"), made, write("new")]
    );
    let review = all(&[
        ("read", "/w/made/x"),
        ("write", "/w/new/x"),
        ("read", "/w/new/x"),
    ]);
    let both = |path| (path, TreeAccess::ReadWrite);
    assert_eq!(trees(&review), [both("made"), both("new")]);
    assert_eq!(access(&review, "made/x"), None);
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn a_tree_above_takes_the_place_of_those_that_were_added_below_it() {
    let review = all(&[
        ("write", "/w/new/deep/x"),
        ("write", "/w/newer/x"),
        ("write", "/w/new/x"),
        ("write", "/w/new/y/z"),
    ]);
    let write = |path| (path, TreeAccess::Write);
    assert_eq!(
        trees(&review),
        [write("made"), write("new"), write("newer")]
    );
    // What is read back is read through the one that is left.
    let review = all(&[
        ("write", "/w/new/deep/x"),
        ("read", "/w/new/deep/x"),
        ("mkdir", "/w/new"),
    ]);
    let both = ("new", TreeAccess::ReadWrite);
    assert_eq!(trees(&review), [write("made"), both]);
}

#[test]
fn a_rename_may_write_both_of_its_paths() {
    let review = all(&[
        ("rename", "/w/src/a.rs -> /w/src/b.rs"),
        ("rename", "/w/new/a -> /w/b"),
    ]);
    assert_eq!(access(&review, "src/a.rs"), Some(Access::ReadWrite));
    assert_eq!(access(&review, "src/b.rs"), Some(Access::ReadWrite));
    let write = |path| (path, TreeAccess::Write);
    assert_eq!(trees(&review), [write("b"), write("made"), write("new")]);
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn a_file_that_is_looked_at_is_listed_and_a_redirection_is_a_read_or_a_write() {
    let review = all(&[
        ("stat", "/w/src/a.rs"),
        ("command", "wc < src/b.rs >> new/log 2> /dev/null"),
    ]);
    assert_eq!(access(&review, "src/a.rs"), Some(Access::Read));
    assert_eq!(access(&review, "src/b.rs"), Some(Access::Read));
    assert!(trees(&review).contains(&("new", TreeAccess::Write)));
    for class in [ToolClass::ListFiles, ToolClass::Execute, ToolClass::Write] {
        assert!(review.manifest.tools().has(class), "{class:?}");
    }
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn nothing_is_taken_away_and_nothing_asked_is_nothing_added() {
    let review = all(&[]);
    assert_eq!((&review.manifest, review.open.len()), (&base(), 0));
    let review = all(&[("read", "/w/src/a.rs"), ("git", "git status")]);
    for entry in base().entries() {
        assert_eq!(review.manifest.entry(entry.path.as_str()).unwrap().1, entry);
    }
}

#[test]
fn words_with_a_meaning_to_a_shell_are_words_of_one_rule() {
    let review = all(&[
        ("command", "echo 'x; rm -rf /' '$HOME'"),
        ("git", "git log '--format=%h %s'"),
    ]);
    let rules: Vec<String> = review.manifest.commands().iter().map(words::rule).collect();
    assert_eq!(
        rules,
        [
            "echo \"x; rm -rf /\" \"$HOME\"",
            "git log \"--format=%h %s\""
        ]
    );
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn a_directory_is_opened_only_if_nothing_below_it_is() {
    let review = all(&[
        ("list", "/w/src"),
        ("read", "/w/src/a.rs"),
        ("search", "/w/docs"),
    ]);
    let read = ("docs", TreeAccess::Read);
    assert_eq!(trees(&review), [read, ("made", TreeAccess::Write)]);
    assert_eq!(review.open, [""; 0]);
    let review = all(&[("search", "/w")]);
    assert_eq!(trees(&review).len(), 1, "the root is not opened");
    assert_eq!(review.open.len(), 1);
}

#[test]
fn commands_become_rules_of_their_very_words() {
    let review = all(&[
        ("command", "cargo test && ls 'a b' > made/log"),
        ("command", "cargo test"),
        ("git", "git status -s"),
    ]);
    let rules: Vec<String> = review.manifest.commands().iter().map(words::rule).collect();
    assert_eq!(rules, ["cargo test", "ls \"a b\"", "git status -s"]);
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn names_are_listed() {
    let review = all(&[
        ("network", "Example.org:443"),
        ("tool", "github/issues/list"),
        ("inference", "small"),
        ("artifact", "report"),
        ("artifact", "report"),
    ]);
    let manifest = &review.manifest;
    assert!(manifest.has_host("example.org", 443) && !manifest.has_host("example.org", 80));
    assert_eq!(manifest.named_tools().len(), 1);
    assert!(manifest.has_model("small") && manifest.has_artifact("report"));
    assert_eq!(review.open, [""; 0]);
}

#[test]
fn what_no_manifest_can_allow_is_told() {
    let long = "x".repeat(1024);
    for (kind, subject) in [
        ("read", "/etc/passwd"),
        ("read", "/w/nowhere"),
        ("read", "/w/link"),
        ("read", "a\0b"),
        ("write", "/etc/x"),
        ("write", "/w"),
        ("rename", "/w/a -> b -> /w/c"),
        ("command", "echo $HOME"),
        ("command", "cd /"),
        ("command", long.as_str()),
        ("network", "nothing"),
        ("dance", "x"),
    ] {
        let review = all(&[(kind, subject)]);
        assert_eq!(review.open.len(), 1, "{kind} {subject}: {:?}", review.open);
        let left: Vec<_> = review.manifest.entries().iter().collect();
        assert_eq!(left.len(), 2, "{kind} {subject}");
        assert!(review.manifest.commands().is_empty(), "{kind} {subject}");
    }
    for (kind, subject, why) in [
        ("read", "/etc/passwd", "CONTEXT_MISS (outside of the root)"),
        ("read", "/w/nowhere", "CONTEXT_MISS (nothing is there now)"),
        ("read", "/w/link", "CONTEXT_MISS (behind a symlink)"),
        ("search", "/w", "CONTEXT_MISS (the root itself)"),
        ("read", "/w/src", "CONTEXT_MISS"),
        ("tool", "nothing", "the record does not say it whole"),
    ] {
        let open = all(&[(kind, subject)]).open;
        assert_eq!(open, [format!("{kind} {subject}: {why}")]);
    }
    let mut many = asked("read", "/w/src/a.rs", "");
    many.count = 5;
    assert_eq!(planned(&[many]).open.len(), 1);
}
