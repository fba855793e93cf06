use proptest::prelude::*;

use super::*;

fn words(text: &str) -> Vec<Vec<String>> {
    let commands = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    commands.into_iter().map(|command| command.words).collect()
}

fn targets(text: &str) -> Vec<(RedirectionAccess, String)> {
    let commands = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let all = commands.into_iter().flat_map(|one| one.redirections);
    all.map(|one| (one.access, one.target)).collect()
}

fn refused(why: Misread, cases: &[(&str, usize)]) {
    for (text, at) in cases {
        assert_eq!(read(text), Err(why.at(*at)), "{text:?}");
    }
}

#[test]
fn words_are_plain_and_quoted_parts_without_a_gap() {
    for (text, expected) in [
        ("ls", vec!["ls"]),
        (" \tls\t -la ", vec!["ls", "-la"]),
        ("echo 'a;b' \"c d\"", vec!["echo", "a;b", "c d"]),
        ("echo a'b c'\"d e\"f", vec!["echo", "ab cd ef"]),
        ("echo '' \"\" ''\"\"", vec!["echo", "", "", ""]),
        ("echo '$HOME `id` \\ !'", vec!["echo", "$HOME `id` \\ !"]),
        ("echo \"it's\" 'a\"b'", vec!["echo", "it's", "a\"b"]),
        (
            "echo \"* ? [a] {b} ~ # ^ & ; | < > ()\"",
            vec!["echo", "* ? [a] {b} ~ # ^ & ; | < > ()"],
        ),
        (
            "echo 'über\u{a0}\u{2028}'",
            vec!["echo", "über\u{a0}\u{2028}"],
        ),
        (
            "l's' a=b x+=y @a %b ,:/.-_",
            vec!["ls", "a=b", "x+=y", "@a", "%b", ",:/.-_"],
        ),
        ("echo if cd 2", vec!["echo", "if", "cd", "2"]),
    ] {
        assert_eq!(words(text), [expected], "{text:?}");
    }
}

#[test]
fn commands_know_what_stands_before_them() {
    let text = "\na;b&&c||\n\nd|e\n\n f ;\ng;\n";
    let commands = read(text).unwrap();
    let found: Vec<_> = commands.iter().map(|c| (&*c.words[0], c.before)).collect();
    assert_eq!(
        found,
        [
            ("a", Separator::Start),
            ("b", Separator::Then),
            ("c", Separator::And),
            ("d", Separator::Or),
            ("e", Separator::Pipe),
            ("f", Separator::Then),
            ("g", Separator::Then),
        ]
    );
}

#[test]
fn redirections_have_a_target_and_an_access() {
    use RedirectionAccess::{Read, Write};
    for (text, expected) in [
        ("a >b", vec![(Write, "b")]),
        ("a>b>>c", vec![(Write, "b"), (Write, "c")]),
        ("a 2>b 2>> 'c d'", vec![(Write, "b"), (Write, "c d")]),
        ("<b a", vec![(Read, "b")]),
        ("a < \"b\"c", vec![(Read, "bc")]),
        ("a 2>&1", vec![]),
        ("a 2>&1|b 2>&1;c 2>&1\td 2>&1&&e 2>&1\n", vec![]),
        ("a >/dev/null 2>&1", vec![(Write, "/dev/null")]),
        ("a > 2", vec![(Write, "2")]),
        ("a2>b", vec![(Write, "b")]),
        ("a >/devices/x", vec![(Write, "/devices/x")]),
    ] {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(a, t)| (a, t.to_owned()))
            .collect();
        assert_eq!(targets(text), expected, "{text:?}");
    }
    assert_eq!(words("2>&1 a2>b c"), [["a2", "c"]]);
}

#[test]
fn characters_that_mean_more_are_refused_at_their_byte() {
    for character in "$`\\!*?[]{}()~#^\u{a0}\u{2003}\u{3000}\u{feff}ü".chars() {
        for (text, at) in [
            (format!("echo a{character}"), 6),
            (format!("echo {character}a"), 5),
            (format!("{character}echo"), 0),
            (format!("echo >a{character}"), 7),
        ] {
            refused(Misread::Character, &[(&text, at)]);
        }
    }
    for character in ['\0', '\r', '\u{b}', '\u{c}', '\u{1b}', '\u{7f}', '\u{85}'] {
        refused(Misread::Control, &[(&format!("ls {character}"), 3)]);
        refused(Misread::Control, &[(&format!("ls '{character}'"), 4)]);
        refused(Misread::Control, &[(&format!("ls \"{character}\""), 4)]);
    }
    refused(Misread::Control, &[("ls 'a\nb'", 5), ("ls \"\t\"", 4)]);
    for character in "$`\\!".chars() {
        refused(Misread::Quoted, &[(&format!("ls \"a{character}\""), 5)]);
    }
    refused(
        Misread::Unclosed,
        &[("ls 'a", 3), ("ls \"a'", 3), ("'", 0), ("a'b'\"", 4)],
    );
}

#[test]
fn other_operators_are_refused() {
    refused(
        Misread::Operator,
        &[
            ("a & b", 2),
            ("a &", 2),
            ("a |& b", 2),
            ("a &> b", 2),
            ("a;;b", 1),
            ("a;&b", 1),
            ("a &&& b", 2),
            ("a ||| b", 2),
            ("a >| b", 2),
            ("a >&2", 2),
            ("a >& b", 2),
            ("a <> b", 2),
            ("a << b", 2),
            ("a <<< b", 2),
            ("a <(b)", 2),
            ("a >(b)", 2),
            ("a >>> b", 2),
            ("a 2>&1x", 2),
            ("a 2>&1>b", 2),
            ("a 2>&12", 2),
            ("a 2>&2", 2),
            ("a 2>&-", 2),
            ("a 2>&1'x'", 2),
            ("a 2>| b", 2),
            ("a <&0", 2),
            ("a>>|b", 1),
        ],
    );
    refused(
        Misread::Descriptor,
        &[
            ("a 1>b", 2),
            ("a 0<b", 2),
            ("a 2<b", 2),
            ("a 22>b", 2),
            ("a 10>&1", 2),
            ("a '2'>b", 2),
            ("a \"2\">&1", 2),
            ("a ''2>b", 2),
            ("a >2>b", 3),
            ("a <b 3>c", 5),
        ],
    );
    refused(
        Misread::NoTarget,
        &[
            ("a >", 2),
            ("a > \n", 2),
            ("a > ;b", 2),
            ("a > ''", 2),
            ("a <\"\"", 2),
            ("a > >b", 2),
        ],
    );
    refused(
        Misread::Device,
        &[
            ("a >/dev/tcp/1.2.3.4/80", 3),
            ("a </dev/udp/h/1", 3),
            ("a >/dev/null/x", 3),
            ("a > //dev/./fd/3", 4),
            ("a > /x/../dev/stdin", 4),
            ("a >/dev/null/", 3),
            ("a >'/dev/'tcp/h/1", 3),
            ("a >/dev", 3),
        ],
    );
}

#[test]
fn every_separator_has_commands_around_it() {
    refused(
        Misread::NoCommand,
        &[
            ("", 0),
            (" \t\n", 3),
            (";", 0),
            ("a; ;b", 3),
            ("a\n;b", 2),
            ("a\n&& b", 2),
            ("a &&", 4),
            ("a ||\n", 5),
            ("a |", 3),
            ("| a", 0),
            ("a && ;", 5),
            ("a && || b", 5),
            (">b", 0),
            ("a; >b", 3),
            ("2>&1", 0),
            ("a | 2>&1", 4),
        ],
    );
}

#[test]
fn first_words_of_the_shell_are_refused_however_they_are_quoted() {
    for word in [
        "cd",
        "c'd'",
        "\"eval\"",
        "'!'",
        "'{'",
        "'[['",
        ".",
        "'.'",
        "time",
        "in",
        "chdir",
        "wait",
        "local",
        "e''xec",
        "'function'",
    ] {
        refused(Misread::Shell, &[(word, 0), (&format!("a && {word} x"), 5)]);
        refused(Misread::Shell, &[(&format!(">b {word} x"), 0)]);
    }
    refused(
        Misread::Assignment,
        &[
            ("A=b c", 0),
            ("'A=b'", 0),
            ("a; b'='c", 3),
            ("x+=1", 0),
            ("=", 0),
        ],
    );
    refused(
        Misread::Program,
        &[("'' a", 0), ("\"\"", 0), ("%1", 0), ("a;'%'%", 2)],
    );
    refused(
        Misread::Variable,
        &[("printf -v x 1", 0), ("a | test -v x", 4)],
    );
    for text in [
        "./cd",
        "cd2",
        "echo",
        "test -n a",
        "true",
        "false",
        "kill 1",
        "pwd",
        ":",
    ] {
        assert!(read(text).is_ok(), "{text}");
    }
}

#[test]
fn the_limits_hold() {
    let text = "a;".repeat(MAX_COMMANDS);
    assert_eq!(read(&text).unwrap().len(), MAX_COMMANDS);
    refused(
        Misread::TooManyCommands,
        &[(&format!("{text}a"), 2 * MAX_COMMANDS)],
    );
    let text = "a ".repeat(MAX_WORDS);
    assert_eq!(words(&text)[0].len(), MAX_WORDS);
    refused(
        Misread::TooManyWords,
        &[(&format!("{text}a"), 2 * MAX_WORDS)],
    );
    refused(
        Misread::TooManyWords,
        &[(&format!("{text}>a"), 2 * MAX_WORDS + 1)],
    );
    let text = format!("a {}", "b".repeat(MAX_TEXT_BYTES - 2));
    assert!(read(&text).is_ok());
    refused(Misread::TooLong, &[(&format!("{text}b"), MAX_TEXT_BYTES)]);
}

#[test]
fn a_refusal_says_what_and_where() {
    let error = read("echo $HOME").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a character that must be in quotes at byte 5"
    );
}

#[test]
fn words_are_written_so_that_they_are_read_again() {
    for (argv, expected) in [
        (&["ls", "-la", "a=b"][..], "ls -la a=b"),
        (&["echo", "", "a b"], "echo '' 'a b'"),
        (&["echo", "x; rm -rf /"], "echo 'x; rm -rf /'"),
        (&["echo", "it's"], r#"echo 'it'"'"'s'"#),
        (&["echo", "2", ">", "$HOME"], "echo 2 '>' '$HOME'"),
    ] {
        assert_eq!(write(argv), expected);
        assert_eq!(words(expected), [argv]);
    }
    assert!(read(&write(&["echo", "a\nb"])).is_err(), "no text says it");
}

proptest! {
    #[test]
    fn whatever_the_words_are_they_are_one_command(
        words in proptest::collection::vec("[ -~é]{0,6}", 0..5)
    ) {
        let mut argv = vec!["echo".to_owned()];
        argv.extend(words);
        let read = read(&write(&argv)).unwrap();
        prop_assert_eq!(read.len(), 1);
        prop_assert!(read[0].redirections.is_empty());
        prop_assert_eq!(&read[0].words, &argv);
    }
}
