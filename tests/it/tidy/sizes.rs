//! How long files and functions may be.

use std::path::Path;

use ignore::WalkBuilder;
use proc_macro2::{Delimiter, Group, TokenTree};

use super::tree::{Tree, is_test_file, tokens};
use super::words::code_lines;

const FILE: usize = 600;
const TEST_FILE: usize = 900;
/// Lines of a body, blank ones and comments not counted.
const FUNCTION: usize = 100;

/// Bytes of any file: a core file or a program among the sources is a mistake.
const ANY_FILE: u64 = 512 * 1024;

/// Files that are too large, of all that are not ignored.
pub fn large_files(root: &Path) -> Vec<String> {
    let mut walk = WalkBuilder::new(root);
    walk.hidden(false).require_git(false);
    walk.filter_entry(|entry| entry.file_name() != ".git");
    let mut found = Vec::new();
    for entry in walk.build() {
        let entry = entry.expect("the tree can be listed");
        let metadata = entry.metadata().expect("it is there");
        if metadata.is_file() && metadata.len() > ANY_FILE {
            let (path, bytes) = (entry.path().display(), metadata.len());
            found.push(format!("{path} has {bytes} bytes, more than {ANY_FILE}"));
        }
    }
    found
}

pub fn long_files(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let limit = if is_test_file(path) { TEST_FILE } else { FILE };
        let lines = text.lines().count();
        if lines > limit {
            found.push(format!("{path} has {lines} lines, more than {limit}"));
        }
    }
    found
}

pub fn long_functions(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let counted = code_lines(text);
        functions(&tokens(path, text), &mut |name, body| {
            let (first, last) = (body.span_open().start().line, body.span_close().end().line);
            let lines = counted.range(first + 1..last.max(first + 1)).count();
            if lines > FUNCTION {
                found.push(format!(
                    "{path}:{first}: {name} has {lines} lines, more than {FUNCTION}"
                ));
            }
        });
    }
    found
}

/// Calls `each` with the name and body of every function, nested ones too.
fn functions(tokens: &[TokenTree], each: &mut impl FnMut(String, &Group)) {
    let mut pending: Option<String> = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                    pending = Some(name.to_string());
                }
            }
            TokenTree::Punct(end) if end.as_char() == ';' => pending = None,
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                if group.delimiter() == Delimiter::Brace
                    && let Some(name) = pending.take()
                {
                    each(name, group);
                }
                functions(&inner, each);
            }
            _ => {}
        }
    }
}
