//! A second opinion: a general shell parser sees the same commands and words.
//!
//! It is written after the grammar of POSIX and bash, not after their code, so
//! it does not know what a shell does with bytes beyond the grammar: control
//! characters, blanks of Unicode, bytes that bash keeps for itself. Nor does it
//! run anything, so of built-ins it knows nothing. For those there is the oracle.

use brush_parser::ast::{
    AndOr, Command, CommandPrefixOrSuffixItem, CompoundListItem, Pipeline, Program,
};
use brush_parser::word::{self, WordPiece, WordPieceWithSource};
use brush_parser::{Parser, ParserOptions, SourceInfo};
use proptest::test_runner::TestCaseError;

use super::oracle::{cases, on_texts};

/// The words of all simple commands of the text, unquoted. None if there is
/// anything in it that is not a simple command of plain words and redirections.
fn words(text: &str) -> Option<Vec<Vec<String>>> {
    let mut parser = Parser::new(
        text.as_bytes(),
        &ParserOptions::default(),
        &SourceInfo::default(),
    );
    let program = parser.parse_program().ok()?;
    pipelines(&program)
        .into_iter()
        .flat_map(|one| &one.seq)
        .map(simple)
        .collect()
}

fn pipelines(program: &Program) -> Vec<&Pipeline> {
    let lists = program.complete_commands.iter().flat_map(|list| &list.0);
    let lists = lists.map(|CompoundListItem(list, _)| list);
    let mut found = Vec::new();
    for list in lists {
        found.push(&list.first);
        found.extend(list.additional.iter().map(|one| match one {
            AndOr::And(pipeline) | AndOr::Or(pipeline) => pipeline,
        }));
    }
    found
}

fn simple(command: &Command) -> Option<Vec<String>> {
    let Command::Simple(command) = command else {
        return None;
    };
    let mut words = vec![unquoted(&command.word_or_name.as_ref()?.value)?];
    let prefix = command.prefix.iter().flat_map(|prefix| &prefix.0);
    let suffix = command.suffix.iter().flat_map(|suffix| &suffix.0);
    for item in prefix.chain(suffix) {
        match item {
            CommandPrefixOrSuffixItem::IoRedirect(_) => {}
            CommandPrefixOrSuffixItem::Word(word) => words.push(unquoted(&word.value)?),
            // To it `a=b` is an assignment behind the program, too.
            CommandPrefixOrSuffixItem::AssignmentWord(_, word) => {
                words.push(unquoted(&word.value)?);
            }
            CommandPrefixOrSuffixItem::ProcessSubstitution(..) => return None,
        }
    }
    Some(words)
}

fn unquoted(word: &str) -> Option<String> {
    let pieces = word::parse(word, &ParserOptions::default()).ok()?;
    pieces.iter().map(piece).collect()
}

fn piece(piece: &WordPieceWithSource) -> Option<String> {
    match &piece.piece {
        WordPiece::Text(text) | WordPiece::SingleQuotedText(text) => Some(text.clone()),
        WordPiece::DoubleQuotedSequence(pieces) => pieces.iter().map(self::piece).collect(),
        _ => None,
    }
}

#[test]
fn a_general_parser_sees_the_same_words() {
    on_texts(10 * cases(), |text, commands| {
        let ours: Vec<_> = commands
            .iter()
            .map(|command| command.words.clone())
            .collect();
        let theirs = words(text);
        if theirs.as_ref() == Some(&ours) {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!(
                "{text:?}: {ours:?} here, {theirs:?} there"
            )))
        }
    });
}

#[test]
fn the_second_opinion_differs_where_a_reader_would_be_wrong() {
    let said = |words: &[&[&str]]| -> Option<Vec<Vec<String>>> {
        let command = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Some(words.iter().map(command).collect())
    };
    for (text, wrong) in [
        ("echo $HOME", said(&[&["echo", "$HOME"]])),
        ("echo a\\b", said(&[&["echo", "a\\b"]])),
        ("echo a;id", said(&[&["echo", "a;id"]])),
        ("echo a #b", said(&[&["echo", "a", "#b"]])),
        ("echo `id`", said(&[&["echo", "`id`"]])),
        ("echo a\nid", said(&[&["echo", "a", "id"]])),
        ("{ id; }", said(&[&["{", "id"], &["}"]])),
    ] {
        assert_ne!(words(text), wrong, "{text:?}");
    }
    assert_eq!(words("echo 'a b'|id>x"), said(&[&["echo", "a b"], &["id"]]));
}
