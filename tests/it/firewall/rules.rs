//! The rules that a careful operator gives an agent that edits code.

use episoded::firewall::command::{
    Ground, Matcher, RedirectionAccess, Rule, SimpleCommand, find_rule, read,
};
use episoded::firewall::path::{AbsolutePath, RelativePath};

fn texts(texts: &[&str]) -> Box<[Box<str>]> {
    texts.iter().map(|text| Box::from(*text)).collect()
}

fn one_of(choices: &[&str]) -> Matcher {
    Matcher::OneOf(texts(choices))
}

fn path(directory: &str) -> Matcher {
    Matcher::PathUnder(relative(directory))
}

fn relative(directory: &str) -> RelativePath {
    RelativePath::parse(directory).expect("a path of this file is relative")
}

fn option(names: &[&str], value: Matcher) -> Matcher {
    Matcher::Option {
        names: texts(names),
        value: Box::new(value),
    }
}

fn many(matchers: &[Matcher]) -> Matcher {
    Matcher::AnyNumberOf(Box::new(Matcher::AnyOf(matchers.into())))
}

const fn number(max: i64) -> Matcher {
    Matcher::Integer { min: 1, max }
}

fn rule(program: &str, arguments: &[Matcher]) -> Rule {
    Rule {
        program: program.into(),
        arguments: arguments.into(),
        working_directory: None,
        environment: Box::default(),
    }
}

/// The rules; each passes the check of manifests.
pub fn rules() -> Vec<Rule> {
    let mut all = of_builds();
    all.extend(of_git());
    all.extend(of_reading());
    all.extend(of_the_rest());
    for rule in &all {
        assert_eq!(rule.check(), Ok(()), "{rule:?}");
    }
    all
}

fn of_builds() -> Vec<Rule> {
    let switches = one_of(&[
        "--release",
        "--locked",
        "--all-targets",
        "--workspace",
        "-q",
    ]);
    let cargo = [
        switches,
        option(&["-p", "--package"], Matcher::Text),
        option(&["--test"], Matcher::Text),
        option(&["-j"], number(64)),
    ];
    let pytest = [
        one_of(&["-q", "-x"]),
        option(&["-k"], Matcher::Text),
        path("."),
    ];
    let pytest = [one_of(&["-m"]), one_of(&["pytest"]), many(&pytest)];
    let verbs = one_of(&["build", "test", "check", "clippy", "fmt"]);
    vec![
        rule("cargo", &[verbs, many(&cargo)]),
        rule("python3", &pytest),
        rule("npm", &[one_of(&["run"]), one_of(&["test", "lint"])]),
        rule("make", &[one_of(&["test", "lint"])]),
    ]
}

fn of_git() -> Vec<Rule> {
    let status = many(&[one_of(&["-s", "--short"])]);
    let diff = many(&[one_of(&["--stat", "--cached", "--name-only"]), path(".")]);
    let count = option(&["-n", "--max-count"], number(1000));
    let log = many(&[one_of(&["--oneline"]), count]);
    let message = option(&["-m", "--message"], Matcher::Text);
    vec![
        rule("git", &[one_of(&["status"]), status]),
        rule("git", &[one_of(&["diff"]), diff]),
        rule("git", &[one_of(&["log"]), log]),
        rule("git", &[one_of(&["commit"]), message]),
    ]
}

fn of_reading() -> Vec<Rule> {
    let rg = [
        one_of(&["-n", "-i", "-l"]),
        option(&["-g", "--glob"], Matcher::Text),
        option(&["-t", "--type"], Matcher::Text),
        option(&["-C"], number(100)),
        Matcher::Text,
    ];
    let find = [
        option(&["-name"], Matcher::Text),
        option(&["-type"], one_of(&["f", "d"])),
    ];
    let lines = Matcher::Literal("-n".into());
    vec![
        rule("ls", &[many(&[one_of(&["-l", "-a", "-la"]), path(".")])]),
        rule("cat", &[many(&[path(".")])]),
        rule("head", &[lines.clone(), number(100), path("docs")]),
        rule("head", &[lines, number(100)]),
        rule("wc", &[Matcher::Literal("-l".into()), many(&[path("src")])]),
        rule("rg", &[many(&rg)]),
        rule("grep", &[many(&[one_of(&["-rn"]), Matcher::Text])]),
        rule("find", &[path("src"), many(&find)]),
    ]
}

fn of_the_rest() -> Vec<Rule> {
    let words = || many(&[Matcher::Text]);
    vec![
        rule("echo", &[words()]),
        rule("printf", &[words()]),
        rule("mkdir", &[Matcher::Literal("-p".into()), path("out")]),
        rule("sleep", &[number(60)]),
        rule("test", &[one_of(&["-f", "-d"]), path(".")]),
        rule("kill", &[number(i64::MAX)]),
        rule("pwd", &[]),
        rule("true", &[]),
        rule("false", &[]),
        rule(":", &[]),
    ]
}

/// The commands of the text, if the rules allow them all in the root, and its
/// redirections write below `out` and read below the root.
pub fn judge(rules: &[Rule], text: &str) -> Result<Vec<SimpleCommand>, String> {
    let root = AbsolutePath::parse("/project").expect("it is absolute");
    let ground = Ground {
        root: &root,
        cwd: &root,
    };
    let commands = read(text).map_err(|error| error.to_string())?;
    for command in &commands {
        let none: [&str; 0] = [];
        find_rule(rules, &command.words, &none, &ground).map_err(|no| format!("{no:?}"))?;
        for redirection in &command.redirections {
            let tree = match redirection.access {
                RedirectionAccess::Read => relative("."),
                RedirectionAccess::Write => relative("out"),
            };
            let path = root.join(&redirection.target);
            let path = path.map_err(|error| error.to_string())?;
            let inside = path.below(&root).is_some_and(|below| tree.covers(below));
            if !inside && redirection.target != "/dev/null" {
                return Err(format!("a redirection to {path}"));
            }
        }
    }
    Ok(commands)
}
