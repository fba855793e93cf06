//! The oracle: what bash and dash do with a text is what the reader said.
//!
//! The number of texts a shell is asked about is `EPISODED_ORACLE_CASES`, by
//! default a few hundred.

use std::cell::Cell;
use std::process::Command;

use episoded::firewall::command::{
    Misread, Redirection, RedirectionAccess, Separator, SimpleCommand, read,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{shells::Shell, strings};
use crate::harness::need_command;

/// The texts for each shell.
pub fn cases() -> u32 {
    let set = std::env::var("EPISODED_ORACLE_CASES").ok();
    set.map_or(600, |count| {
        count.parse().expect("EPISODED_ORACLE_CASES is a number")
    })
}

/// Runs `check` on what the reader says of as many texts; at least a third must
/// be readable.
pub fn on_texts(cases: u32, check: impl Fn(&str, &[SimpleCommand]) -> Result<(), TestCaseError>) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };
    let (all, readable) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&strings::text(), |text| {
        all.set(all.get() + 1);
        let Ok(commands) = read(&text) else {
            return Ok(());
        };
        readable.set(readable.get() + 1);
        check(&text, &commands)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let (all, readable) = (all.get(), readable.get());
    assert!(
        3 * readable >= all,
        "{readable} of {all} texts are readable"
    );
}

fn agrees(name: &'static str) {
    if !need_command(name) {
        return;
    }
    let shell = Shell::new(name);
    let asked = Cell::new(0);
    on_texts(cases(), |text, commands| {
        if !shell.can_run(commands) {
            return Ok(());
        }
        asked.set(asked.get() + 1);
        let difference = shell.difference(text, commands);
        difference.map_or(Ok(()), |difference| Err(TestCaseError::fail(difference)))
    });
    let asked = asked.get();
    assert!(4 * asked >= cases(), "{name} was asked about {asked} texts");
}

#[test]
fn what_bash_runs_is_what_was_read() {
    agrees("bash");
}

#[test]
fn what_dash_runs_is_what_was_read() {
    agrees("dash");
}

fn command(words: &[&str]) -> SimpleCommand {
    SimpleCommand {
        before: Separator::Start,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        redirections: Vec::new(),
    }
}

fn behind(before: Separator, words: &[&str]) -> SimpleCommand {
    SimpleCommand {
        before,
        ..command(words)
    }
}

fn writing(words: &[&str], target: &str) -> SimpleCommand {
    SimpleCommand {
        redirections: vec![Redirection {
            access: RedirectionAccess::Write,
            target: target.to_owned(),
        }],
        ..command(words)
    }
}

/// What readers with one fault each would say, and the shells that show it.
fn faulty() -> Vec<(&'static str, &'static str, Vec<SimpleCommand>)> {
    let both = "bash dash";
    vec![
        (both, "echo $HOME", vec![command(&["echo", "$HOME"])]),
        (both, "echo \"$HOME\"", vec![command(&["echo", "$HOME"])]),
        (both, "echo `id`", vec![command(&["echo", "`id`"])]),
        (both, "echo $(id)", vec![command(&["echo", "$(id)"])]),
        ("bash", "echo {a,b}", vec![command(&["echo", "{a,b}"])]),
        (both, "echo *", vec![command(&["echo", "*"])]),
        (both, "ls [i]n i?", vec![command(&["ls", "[i]n", "i?"])]),
        (both, "ls ~", vec![command(&["ls", "~"])]),
        (both, "ls a\\b", vec![command(&["ls", "a\\b"])]),
        (both, "ls \"a\\\"b\"", vec![command(&["ls", "a\\\"b"])]),
        (both, "ls a\\\nb", vec![command(&["ls", "a\\\nb"])]),
        (both, "ls a #b", vec![command(&["ls", "a", "#b"])]),
        (both, "ls a\nid", vec![command(&["ls", "a", "id"])]),
        (both, "ls a&id", vec![command(&["ls", "a&id"])]),
        (both, "ls;id", vec![command(&["ls"])]),
        (
            both,
            "ls",
            vec![command(&["ls"]), behind(Separator::Then, &["id"])],
        ),
        (
            both,
            "ls && id",
            vec![command(&["ls"]), behind(Separator::Or, &["id"])],
        ),
        (
            both,
            "fail || id",
            vec![command(&["fail"]), behind(Separator::And, &["id"])],
        ),
        (both, "ls\u{a0}a", vec![command(&["ls", "a"])]),
        (both, "ls\ra", vec![command(&["ls", "a"])]),
        (both, "A=b ls", vec![command(&["A=b", "ls"])]),
        (both, "cd /", vec![command(&["cd", "/"])]),
        (both, "eval id", vec![command(&["eval", "id"])]),
        (both, "! ls", vec![command(&["!", "ls"])]),
        ("bash", "time ls", vec![command(&["time", "ls"])]),
        (both, "ls >b", vec![command(&["ls", ">b"])]),
        (both, "ls a>b", vec![command(&["ls", "a"])]),
        (both, "ls 1>b", vec![writing(&["ls", "1"], "b")]),
        ("bash", "ls 22>b", vec![writing(&["ls", "22"], "b")]),
        (both, "ls >b", vec![writing(&["ls"], "c")]),
        (both, "ls '2'>b", vec![writing(&["ls"], "b")]),
        ("bash", "ls $'a'", vec![command(&["ls", "$a"])]),
        ("bash", "ls <(id)", vec![command(&["ls", "<(id)"])]),
        (
            both,
            "ls <<a\nid\na",
            vec![command(&["ls"]), behind(Separator::Then, &["id"])],
        ),
        (both, "ls '", vec![command(&["ls", ""])]),
        (both, "ls | id", vec![command(&["ls"])]),
        (both, "no'-'such ls", vec![command(&["ls"])]),
        ("bash", ": a", vec![command(&[":", "b"])]),
    ]
}

#[test]
fn the_oracle_sees_the_faults_of_a_reader() {
    for name in ["bash", "dash"] {
        if !need_command(name) {
            continue;
        }
        let shell = Shell::new(name);
        for (shells, text, commands) in faulty() {
            if shells.contains(name) {
                let seen = shell.difference(text, &commands);
                assert!(seen.is_some(), "{name} shows nothing wrong with {text:?}");
            }
        }
        let right = [
            command(&["ls", "a b"]),
            behind(Separator::Pipe, &["echo", ""]),
        ];
        assert_eq!(shell.difference("ls 'a b' | echo ''", &right), None);
    }
}

/// A reader that takes `odd` for a plain character.
fn too_kind(text: &str, odd: char) -> Option<Vec<SimpleCommand>> {
    // No generated text has an underscore.
    let mut commands = read(&text.replace(odd, "_")).ok()?;
    let odd = odd.to_string();
    for command in &mut commands {
        for word in &mut command.words {
            *word = word.replace('_', &odd);
        }
        for redirection in &mut command.redirections {
            redirection.target = redirection.target.replace('_', &odd);
        }
    }
    Some(commands)
}

#[test]
fn generated_texts_find_a_reader_that_is_too_kind() {
    if !need_command("bash") {
        return;
    }
    let shell = Shell::new("bash");
    let mut runner = TestRunner::deterministic();
    for odd in ['$', '`', '\\', '*', '~', '#', '(', '&', '{', ';', '>'] {
        let mut tries = 0..20_000;
        let found = tries.any(|_| {
            let tree = strings::text().new_tree(&mut runner);
            let text = tree.expect("a text is made").current();
            let said = text.contains(odd).then(|| too_kind(&text, odd)).flatten();
            let said = said.filter(|commands| shell.can_run(commands));
            said.is_some_and(|commands| shell.difference(&text, &commands).is_some())
        });
        assert!(found, "nothing shows that {odd:?} is not plain");
    }
}

#[test]
fn every_built_in_and_reserved_word_of_bash_is_known() {
    if !need_command("bash") {
        return;
    }
    let output = Command::new("bash")
        .args(["-c", "compgen -b; compgen -k"])
        .output();
    let output = output.expect("bash starts").stdout;
    let words = String::from_utf8(output).expect("words are text");
    let harmless = [
        ":", "[", "echo", "false", "kill", "printf", "pwd", "test", "true", "type",
    ];
    let mut count = 0;
    for word in words.lines() {
        count += 1;
        let refused = read(&format!("'{word}' a")).is_err();
        assert_eq!(refused, !harmless.contains(&word), "{word}");
    }
    assert!(count > 70, "{count} words");
}

#[test]
fn bash_looks_into_variables_where_printf_and_test_are_refused() {
    if !need_command("bash") {
        return;
    }
    for (text, shown) in [
        ("printf 'abc%n' x >/dev/null", "3"),
        ("printf -v x abc", "abc"),
        ("test -v 'a[$(echo ran >&2)]'", "ran"),
    ] {
        let refused = read(text).map_err(|error| error.why);
        assert_eq!(refused, Err(Misread::Variable), "{text}");
        let script = format!("exec 2>&1; {text}; echo $x");
        let output = Command::new("bash").args(["-c", &script]).output();
        let output = String::from_utf8(output.expect("bash starts").stdout);
        assert_eq!(output.expect("it is text").trim(), shown, "{text}");
    }
}
