//! The story of `make demo`, told by the programs under test.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{EPISODECTL, repository, within};

/// What each step must show: its number, and lines that are in it, in this order.
/// A line is found by how it begins, spaces aside.
const STEPS: [(&str, &[&str]); 15] = [
    ("1.", &["episodectl: running at ", "srw------- "]),
    ("2.", &["Session s-17", "Status active", "Lease held demo"]),
    ("3.", &[]),
    ("4.", &["Session s-17", "Session s-17", "Handle used yes"]),
    (
        "5.",
        &[
            "I am the episode of s-18",
            "(exit code 3, the command's own)",
            "s-17 task-17 implementer active",
            "s-18 task-18 implementer terminated",
        ],
    ),
    ("6.", &["$ kill -9 ", "episodectl: running at "]),
    (
        "7.",
        &[
            "Session s-17",
            "Status active",
            "Lease revoked demo",
            "Renewed 1",
        ],
    ),
    (
        "8.",
        &[
            "Status terminated",
            "Exit code 0",
            "episodectl: the handle is not accepted (HANDLE_NOT_ACCEPTED)",
            "(exit code 77)",
            "Status terminated",
        ],
    ),
    (
        "9.",
        &[
            "episodectl: no session s-17 (SESSION_NOT_FOUND)",
            "(exit code 66)",
        ],
    ),
    (
        "10.",
        &[
            "3 ",
            "4 ",
            "5 ",
            "episodectl: the daemon is back; nothing was missed",
            "6 ",
            "7 ",
            "8 ",
            "9 ",
            "REVISION TIME",
        ],
    ),
    ("11.", &["episodectl: left out in src: 1 not matched"]),
    ("12.", &[]),
    (
        "13.",
        &["R-15 pending task-30", "Session s-31", "Predecessor s-30"],
    ),
    (
        "14.",
        &[
            "fn main() {",
            "ALLOW ",
            "fn main() {}",
            "ALLOW git status --short",
            "It wants a file that is not listed.",
            "// what main was never told of",
            "It goes on as the successor.",
            "17 ",
        ],
    ),
    ("15.", &["episodectl: stopped"]),
];

/// What does not show what it must: the step, and the line that is missing.
fn missing(told: &str) -> Vec<(String, String)> {
    let lines = told.lines().map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.join(" ") + " "
    });
    let mut lines = lines.peekable();
    let mut missing = Vec::new();
    let mut expected = STEPS.iter().peekable();
    while let Some((step, shown)) = expected.next() {
        let is_step = |line: &String| line.starts_with(step);
        if !lines.by_ref().any(|line| is_step(&line)) {
            missing.push(((*step).to_owned(), String::new()));
            break;
        }
        let next = expected.peek().map(|(next, _)| *next);
        let mut rest = Vec::new();
        while let Some(line) =
            lines.next_if(|line| !next.is_some_and(|next| line.starts_with(next)))
        {
            rest.push(line);
        }
        let mut after = 0;
        for line in *shown {
            match rest[after..].iter().position(|one| one.starts_with(line)) {
                Some(at) => after += at + 1,
                None => missing.push(((*step).to_owned(), (*line).to_owned())),
            }
        }
    }
    missing
}

#[tokio::test]
async fn the_demo_tells_its_whole_story() {
    let programs = Path::new(EPISODECTL).parent().expect("it lies in one");
    let output = Command::new(repository().join("packaging/demo"))
        .arg(programs)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(output).await.expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    assert_eq!(missing(&told), [], "{told}\n{errors}");
    assert_eq!(errors, "");
    // A story in which something is missing is noticed.
    let without_one = told.replace("I am the episode of s-18", "");
    let [(step, _)] = &missing(&without_one)[..] else {
        panic!("one is missing: {without_one}");
    };
    assert_eq!(step, "5.");
}
