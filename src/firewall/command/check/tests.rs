use super::*;
use crate::firewall::path::RelativePath;

fn literal(text: &str) -> Matcher {
    Matcher::Literal(text.into())
}

fn texts(texts: &[&str]) -> Box<[Box<str>]> {
    texts.iter().map(|text| Box::from(*text)).collect()
}

fn option(names: &[&str], value: Matcher) -> Matcher {
    Matcher::Option {
        names: texts(names),
        value: Box::new(value),
    }
}

fn any_of(matchers: &[Matcher]) -> Matcher {
    Matcher::AnyOf(matchers.into())
}

fn any_number_of(matcher: Matcher) -> Matcher {
    Matcher::AnyNumberOf(Box::new(matcher))
}

fn rule(program: &str, arguments: &[Matcher]) -> Rule {
    Rule {
        program: program.into(),
        arguments: arguments.into(),
        working_directory: None,
        environment: Box::default(),
    }
}

/// The faults of the rule, as they are shown.
fn faults(rule: &Rule) -> Vec<String> {
    let faults = rule.check().err().unwrap_or_default();
    faults.iter().map(Fault::to_string).collect()
}

/// Panics unless the arguments have exactly this fault.
fn caught(arguments: &[Matcher], fault: &str) {
    assert_eq!(faults(&rule("p", arguments)), [fault], "{arguments:?}");
}

#[test]
fn a_rule_of_every_matcher_passes() {
    let value = any_of(&[
        literal("-"),
        Matcher::Integer { min: 1, max: 1 },
        Matcher::Text,
    ]);
    let everything = any_of(&[
        Matcher::OneOf(texts(&["-q", ""])),
        Matcher::PathUnder(RelativePath::default()),
        option(&["-n", "--name", "-run"], value),
        literal(""),
    ]);
    let mut rule = rule("./run.sh", &[everything.clone(), any_number_of(everything)]);
    rule.working_directory = Some(RelativePath::parse("src").unwrap());
    rule.environment = texts(&["RUST_LOG", "_a1"]);
    assert_eq!(rule.check(), Ok(()));
}

#[test]
fn a_program_is_an_exact_name() {
    let exact = "program must be an exact name, without `*`, `?` or `[`: a pattern matches nothing";
    for (program, expected) in [
        ("", "program must not be empty or blank"),
        ("  ", "program must not be empty or blank"),
        ("a\nb", "program must have no control character"),
        ("*", exact),
        ("car?o", exact),
        ("[a]", exact),
    ] {
        assert_eq!(faults(&rule(program, &[])), [expected], "{program:?}");
    }
    assert!(faults(&rule(&"p".repeat(256), &[])).is_empty());
    let longer = rule(&"p".repeat(257), &[]);
    assert_eq!(faults(&longer), ["program must be at most 256 bytes"]);
}

#[test]
fn lists_are_neither_empty_nor_hold_twins() {
    let empty = Matcher::OneOf(texts(&[]));
    caught(&[empty], "arguments[0].one_of must not be empty");
    caught(&[any_of(&[])], "arguments[0].any_of must not be empty");
    caught(
        &[literal("a"), option(&[], Matcher::Text)],
        "arguments[1].option.names must not be empty",
    );
    caught(
        &[Matcher::OneOf(texts(&["a", "a"]))],
        "arguments[0].one_of must hold nothing twice",
    );
    caught(
        &[option(&["-a", "-a"], Matcher::Text)],
        "arguments[0].option.names must hold nothing twice",
    );
}

#[test]
fn nesting_is_bounded() {
    let last = "must be the last argument, and not within another";
    let many = any_number_of(Matcher::Text);
    let choice = any_of(&[Matcher::Text]);
    let given = option(&["-a"], Matcher::Text);
    for (arguments, place, rule) in [
        (
            vec![many.clone(), literal("a")],
            "arguments[0].any_number_of",
            last,
        ),
        (
            vec![any_of(std::slice::from_ref(&many))],
            "arguments[0].any_of[0].any_number_of",
            last,
        ),
        (
            vec![option(&["-a"], many.clone())],
            "arguments[0].option.value.any_number_of",
            last,
        ),
        (
            vec![any_number_of(many)],
            "arguments[0].any_number_of.any_number_of",
            last,
        ),
        (
            vec![any_number_of(any_of(std::slice::from_ref(&choice)))],
            "arguments[0].any_number_of.any_of[0].any_of",
            "must not be within any_of",
        ),
        (
            vec![option(&["-a"], any_of(&[choice]))],
            "arguments[0].option.value.any_of[0].any_of",
            "must not be within any_of",
        ),
        (
            vec![option(&["-a"], given.clone())],
            "arguments[0].option.value.option",
            "must not be the value of an option",
        ),
        (
            vec![option(&["-a"], any_of(&[given]))],
            "arguments[0].option.value.any_of[0].option",
            "must not be the value of an option",
        ),
    ] {
        caught(&arguments, &format!("{place} {rule}"));
    }
}

#[test]
fn texts_names_and_ranges_are_well_formed() {
    let name = "arguments[0].option.names[0] must be dashes and a name, without `=`, blanks and control characters";
    for bad in ["", "a", "-", "--", "--a=b", "-a b", "-\u{1}"] {
        caught(&[option(&[bad], Matcher::Text)], name);
    }
    caught(
        &[literal("a\0")],
        "arguments[0].literal must have no control character",
    );
    caught(
        &[any_of(&[Matcher::OneOf(texts(&["a", "\t"]))])],
        "arguments[0].any_of[0].one_of[1] must have no control character",
    );
    caught(
        &[Matcher::Integer { min: 2, max: 1 }],
        "arguments[0].integer must have a min that is at most its max",
    );
    for bad in ["", "1A", "A-B", "A=", "ü", "A B", "BASH_FUNC_x%%"] {
        let mut rule = rule("p", &[]);
        rule.environment = texts(&["OK", bad]);
        let expected = "environment[1] must be letters, digits and `_`, with no digit in front";
        assert_eq!(faults(&rule), [expected], "{bad:?}");
    }
}

#[test]
fn the_size_counts_texts_and_matchers() {
    let big = "x".repeat(MAX_RULE_BYTES - 2);
    assert!(faults(&rule("p", &[literal(&big)])).is_empty());
    let mut over = rule("p", &[literal(&big)]);
    over.environment = texts(&["A"]);
    let expected = "the rule must have at most 1,024 bytes of texts and matchers";
    assert_eq!(faults(&over), [expected]);
    let many = vec![Matcher::Text; MAX_RULE_BYTES];
    assert_eq!(faults(&rule("p", &many)), [expected]);
}

#[test]
fn every_fault_is_reported() {
    let mut rule = rule(
        "*",
        &[any_of(&[]), any_number_of(Matcher::OneOf(texts(&[])))],
    );
    rule.environment = texts(&["A", "A", "="]);
    let places: Vec<_> = rule
        .check()
        .unwrap_err()
        .into_iter()
        .map(|one| one.place)
        .collect();
    assert_eq!(
        places,
        [
            "program",
            "arguments[0].any_of",
            "arguments[1].any_number_of.one_of",
            "environment[2]",
            "environment"
        ]
    );
}
