use super::*;
use crate::firewall::path::{AbsolutePath, RelativePath};

fn texts(texts: &[&str]) -> Box<[Box<str>]> {
    texts.iter().map(|text| Box::from(*text)).collect()
}

fn one_of(choices: &[&str]) -> Matcher {
    Matcher::OneOf(texts(choices))
}

fn option(names: &[&str], value: Matcher) -> Matcher {
    Matcher::Option {
        names: texts(names),
        value: Box::new(value),
    }
}

fn any_number_of(matcher: Matcher) -> Matcher {
    Matcher::AnyNumberOf(Box::new(matcher))
}

fn path(text: &str) -> Matcher {
    Matcher::PathUnder(RelativePath::parse(text).unwrap())
}

fn rule(program: &str, arguments: &[Matcher]) -> Rule {
    Rule {
        program: program.into(),
        arguments: arguments.into(),
        working_directory: None,
        environment: Box::default(),
    }
}

const NUMBER: Matcher = Matcher::Integer { min: 1, max: 100 };

fn find(rules: &[Rule], text: &str) -> Result<usize, NoMatch> {
    find_in(rules, text, &[], "/project")
}

fn find_in(rules: &[Rule], text: &str, names: &[&str], cwd: &str) -> Result<usize, NoMatch> {
    let root = AbsolutePath::parse("/project").unwrap();
    let cwd = AbsolutePath::parse(cwd).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    let ground = Ground {
        root: &root,
        cwd: &cwd,
    };
    find_rule(rules, &words, names, &ground)
}

fn no(nearest: Option<usize>, word: usize, what: Misfit) -> Result<usize, NoMatch> {
    Err(NoMatch {
        nearest,
        word,
        what,
    })
}

#[test]
fn a_program_is_matched_exactly() {
    let rules = [rule("ls", &[]), rule("./a b", &[])];
    assert_eq!(find(&rules, "ls"), Ok(0));
    for text in ["", "LS", "./ls", "/bin/ls", "ls/", "lss", "l"] {
        assert_eq!(find(&rules, text), no(None, 0, Misfit::Program), "{text}");
    }
    let root = AbsolutePath::parse("/project").unwrap();
    let ground = Ground {
        root: &root,
        cwd: &root,
    };
    let none: [&str; 0] = [];
    assert_eq!(find_rule(&rules, &["./a b"], &none, &ground), Ok(1));
    assert!(find_rule(&rules, &["./a", "b"], &none, &ground).is_err());
}

#[test]
fn all_words_are_used_up_in_order() {
    let head = rule(
        "head",
        &[Matcher::Literal("-n".into()), NUMBER, path("docs")],
    );
    let rules = [head];
    assert_eq!(find(&rules, "head -n 5 docs/a.md"), Ok(0));
    for (text, word, what) in [
        ("head", 1, Misfit::TooFew),
        ("head -n", 2, Misfit::TooFew),
        ("head -n 5", 3, Misfit::TooFew),
        ("head 5", 1, Misfit::Argument),
        ("head -n 101 docs/a.md", 2, Misfit::Argument),
        ("head -n 5 docs/../../etc/passwd", 3, Misfit::Argument),
        ("head -n 5 docs/a.md docs/b.md", 4, Misfit::Argument),
    ] {
        assert_eq!(find(&rules, text), no(Some(0), word, what), "{text}");
    }
}

#[test]
fn options_take_one_word_or_two() {
    let flag = Matcher::AnyOf(
        [
            one_of(&["-q"]),
            option(&["-n", "--name"], NUMBER),
            path("."),
        ]
        .into(),
    );
    let rules = [rule("p", &[any_number_of(flag)])];
    for text in [
        "p",
        "p -n 5",
        "p -n5 -q",
        "p --name=5 --name 6 src -n 7",
        "p -q -q a b",
    ] {
        assert_eq!(find(&rules, text), Ok(0), "{text}");
    }
    for (text, word, what) in [
        ("p -n", 2, Misfit::TooFew),
        ("p -n x", 2, Misfit::Argument),
        ("p -n=5", 1, Misfit::Argument),
        ("p -q --name=x", 2, Misfit::Argument),
        ("p a --nam=5 b", 2, Misfit::Argument),
        ("p -nq", 1, Misfit::Argument),
        ("p -n -n", 2, Misfit::Argument),
    ] {
        assert_eq!(find(&rules, text), no(Some(0), word, what), "{text}");
    }
}

#[test]
fn every_way_to_divide_the_words_is_tried() {
    // `-a` alone, or with the next word: only the second way ends at the end.
    let either = Matcher::AnyOf([one_of(&["-a"]), option(&["-a"], Matcher::Text)].into());
    let rules = [rule("p", &[either.clone(), Matcher::Literal("b".into())])];
    assert_eq!(find(&rules, "p -a b"), Ok(0));
    assert_eq!(find(&rules, "p -a b b"), Ok(0));
    assert_eq!(find(&rules, "p -a b b b"), no(Some(0), 4, Misfit::Argument));
    let value = option(&["-a"], one_of(&["-a"]));
    let rules = [rule(
        "p",
        &[any_number_of(Matcher::AnyOf([either, value].into()))],
    )];
    let longest = format!("p {}", "-a ".repeat(MAX_WORDS - 1));
    assert_eq!(find(&rules, &longest), Ok(0));
    assert!(find(&rules, &longest.replacen("-a ", "-b ", 1)).is_err());
    let over = format!("{longest} -a");
    assert_eq!(find(&rules, &over), no(None, MAX_WORDS, Misfit::TooMany));
}

#[test]
fn the_nearest_rule_is_the_one_that_got_furthest() {
    let rules = [
        rule("git", &[one_of(&["status"])]),
        rule("git", &[one_of(&["log"]), option(&["-n"], NUMBER)]),
        rule("git", &[one_of(&["log"]), one_of(&["--oneline"])]),
        rule("ls", &[]),
    ];
    assert_eq!(
        find(&rules, "git log -n x"),
        no(Some(1), 3, Misfit::Argument)
    );
    assert_eq!(
        find(&rules, "git log --all"),
        no(Some(1), 2, Misfit::Argument)
    );
    assert_eq!(find(&rules, "git push"), no(Some(0), 1, Misfit::Argument));
    assert_eq!(
        find(&rules, "git status -s"),
        no(Some(0), 2, Misfit::Argument)
    );
    assert_eq!(find(&rules, "git log --oneline"), Ok(2));
}

#[test]
fn the_working_directory_is_judged() {
    let mut narrow = rule("make", &[]);
    narrow.working_directory = Some(RelativePath::parse("app").unwrap());
    let rules = [narrow, rule("ls", &[])];
    let refused = |nearest| no(Some(nearest), 1, Misfit::WorkingDirectory);
    assert_eq!(find_in(&rules, "make", &[], "/project/app/src"), Ok(0));
    assert_eq!(find_in(&rules, "make", &[], "/project/app"), Ok(0));
    assert_eq!(find_in(&rules, "make", &[], "/project/apps"), refused(0));
    assert_eq!(find_in(&rules, "make", &[], "/project"), refused(0));
    assert_eq!(find_in(&rules, "ls", &[], "/project/app"), Ok(1));
    assert_eq!(find_in(&rules, "ls", &[], "/"), refused(1));
    assert_eq!(find_in(&rules, "ls", &[], "/projects"), refused(1));
}

#[test]
fn the_environment_is_judged_by_its_names() {
    let mut logged = rule("cargo", &[]);
    logged.environment = texts(&["RUST_LOG", "CI"]);
    let rules = [rule("cargo", &[]), logged];
    let find = |names: &[&str]| find_in(&rules, "cargo", names, "/project");
    assert_eq!(find(&[]), Ok(0));
    assert_eq!(find(&["CI", "RUST_LOG"]), Ok(1));
    for name in ["LD_PRELOAD", "ci", "CI=", ""] {
        let what = Misfit::Environment(name.into());
        assert_eq!(find(&["CI", name]), no(Some(1), 1, what.clone()), "{name}");
        assert_eq!(find(&[name]), no(Some(0), 1, what), "{name}");
    }
}

#[test]
fn a_rule_as_wide_as_can_be_still_takes_no_unnamed_option() {
    let widest = Matcher::AnyOf([Matcher::Text, path("."), option(&["-o"], Matcher::Text)].into());
    let rules = [rule("p", &[any_number_of(widest)])];
    assert_eq!(rules[0].check(), Ok(()));
    assert_eq!(find(&rules, "p anything at ../all"), Ok(0));
    for text in ["p -x", "p --", "p -", "p a --exec=b", "p -o -x"] {
        assert!(find(&rules, text).is_err(), "{text}");
    }
}

#[test]
fn a_matcher_that_stands_in_the_wrong_place_matches_nothing() {
    let hidden = Matcher::AnyOf([any_number_of(Matcher::Text)].into());
    let value = option(&["-a"], option(&["-b"], Matcher::Text));
    let rules = [rule("p", &[hidden]), rule("p", &[value])];
    for text in ["p", "p a", "p -a -b c", "p -a -bc", "p -a-bc"] {
        assert!(find(&rules, text).is_err(), "{text}");
    }
}
