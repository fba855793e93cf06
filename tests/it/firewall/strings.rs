//! Texts that look like commands: most are built as the grammar says, some with
//! odd parts thrown in.

use proptest::prelude::*;

/// Programs that a text may begin with. Those that begin with `fail` do.
const PROGRAMS: &[&str] = &[
    "ls", "cargo", "git", "fail", "fails'x'", "'a b'", "\"if x\"", "a,b", "@x", "a:b", "x@y", "+",
    "-x", "'*'", "'$HOME'", "'{a,b}'", "'#'", "2", "2x", "''ls", "l''s", "\"l\"'s'", "echo",
    "printf", "test", "pwd", "true", "false", "kill", ":", "type",
];

const WORDS: &[&str] = &[
    "a",
    "-la",
    "--x=y",
    "a=b",
    "x+=y",
    "2",
    "22",
    "if",
    "done",
    "cd",
    "%1",
    "@a",
    "a,b",
    "1..3",
    "in",
    "''",
    "\"\"",
    "'a b'",
    "\"a  b\"",
    "'$HOME'",
    "'`id`'",
    "'\\'",
    "'a\\nb'",
    "\"*\"",
    "'{a,b}'",
    "'a'\"b\"c",
    "\"it's\"",
    "'\"'",
    "\"'\"'\"'",
    "'#'x",
    "x'#'",
    "\"~\"",
    "'~'a",
    "'&& ls'",
    "'; ls'",
    "\"| ls\"",
    "'!'",
    "'über\u{a0}'",
    "\"\u{2028}\"",
    "\"$\"",
    "'%n'",
    "'>'",
    "\"2>&1\"",
    "./a",
    "/",
    "..",
    ":",
    "=",
    "==",
    "a2",
    "-n",
    "--",
];

const TARGETS: &[&str] = &[
    "out",
    "'out 2'",
    "\"o>t\"",
    "2",
    "a2",
    "/dev/null",
    "o'u't",
    "-",
    "'&1'",
    "'$x'",
    "'*'",
    "=",
];

const SEPARATORS: &[&str] = &[
    ";", " ; ", "&&", " && ", "||", " || ", "|", " | ", "\n", "\n\n", " \n\t", ";\n", "&&\n",
    "||\n \n", "|\n", " 2>&1|", "\t|\t",
];

const OPERATORS: &[&str] = &[">", ">>", " >", " > ", " >> ", " 2>", " 2>> ", "\t2>\t"];

/// Parts that must be refused, or that change what stands beside them.
const ODD: &[&str] = &[
    "$", "`", "\\", "\\\n", "!", "*", "?", "[", "]", "{", "}", "(", ")", "~", "#", "^", "&", "|&",
    "&>", ";;", ">|", ">&2", "<>", "<<", "<<<", "<(", ">(", "1>", "0<", "22>", "2<", "'2'>",
    "''2>", "{fd}>", "\r", "\u{b}", "\u{c}", "\u{a0}", "\u{2003}", "\u{feff}", "\u{1}", "\u{7f}",
    "'", "\"", "=", "%", " ", "\t", "\n", ";", "&&", "|", "||", ">", "<", "2>&1", "2>", "$'",
    "$\"", "${IFS}", "$(id)", "{a,b}", "$HOME", "time ", "! ", "A=b ", "cd ", "eval ", ": ", "2",
    "<in", ">out", "''", "\"\"", "-v ", "%n",
];

fn one(choices: &'static [&'static str]) -> BoxedStrategy<String> {
    let chosen = proptest::sample::select(choices);
    chosen.prop_map(str::to_owned).boxed()
}

fn redirection() -> impl Strategy<Value = String> {
    let write = (one(OPERATORS), one(TARGETS)).prop_map(|(operator, target)| operator + &target);
    prop_oneof![
        4 => write,
        2 => one(&[" 2>&1", " 2>&1 "]),
        1 => one(&["<in", " < in", " <'in'", " </dev/null"]),
    ]
}

fn command() -> impl Strategy<Value = String> {
    let blank = || one(&[" ", "  ", "\t", " \t "]);
    let glued = || (one(WORDS), one(WORDS)).prop_map(|(a, b)| a + &b);
    let word = prop_oneof![5 => one(WORDS), 1 => glued()];
    let argument = (blank(), word).prop_map(|(blank, word)| blank + &word);
    let part = prop_oneof![5 => argument, 1 => redirection()];
    let parts = proptest::collection::vec(part, 0..5);
    let before = prop_oneof![
        12 => one(&["", " "]),
        1 => one(&[">out ", "2>&1 ", "<in ", "2>o "]),
    ];
    (before, one(PROGRAMS), parts)
        .prop_map(|(before, program, parts)| before + &program + &parts.concat())
}

/// A text by the grammar, now and then with odd parts in it.
pub fn text() -> impl Strategy<Value = String> {
    let commands = proptest::collection::vec((command(), one(SEPARATORS)), 0..4);
    let joined = (
        commands,
        command(),
        one(&["", "", ";", "\n", " ", " ;\n\n"]),
    );
    let joined = joined.prop_map(|(commands, last, end)| {
        let front: String = commands.into_iter().map(|(a, b)| a + &b).collect();
        front + &last + &end
    });
    let place = any::<proptest::sample::Index>();
    let odd = prop_oneof![
        3 => Just(Vec::new()).boxed(),
        1 => proptest::collection::vec((place, one(ODD)), 1..3).boxed(),
    ];
    (joined, odd).prop_map(|(text, odd)| odd.into_iter().fold(text, |text, odd| insert(&text, odd)))
}

fn insert(text: &str, (place, odd): (proptest::sample::Index, String)) -> String {
    let places: Vec<_> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let (front, back) = text.split_at(places[place.index(places.len())]);
    format!("{front}{odd}{back}")
}
