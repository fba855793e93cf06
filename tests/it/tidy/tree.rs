//! Source files in memory, and how they hang together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

/// Files by their path from the root, with `/` between the parts.
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// The Rust files of src and tests, and the protos.
    pub fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        for top in ["src", "tests", "benches", "proto"] {
            collect(root, &root.join(top), &mut files);
        }
        assert!(files.contains_key("src/lib.rs"), "this is the source tree");
        Self { files }
    }

    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self {
            files: files.collect(),
        }
    }

    /// Files with that ending, in order.
    pub fn with_ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_ending(".rs")
    }
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "proto") {
            let name = path.strip_prefix(root).expect("it is below the root");
            let text = std::fs::read_to_string(&path).expect("source is text");
            files.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

/// The tokens of a file.
pub fn tokens(path: &str, text: &str) -> Vec<TokenTree> {
    let stream: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{path} is Rust: {error}"));
    stream.into_iter().collect()
}

/// The module path of a file below src: `["session", "state"]`; a program is the
/// module `bin`.
pub fn module_of(path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    match parts[0].as_str() {
        "lib" | "main" => Some(Vec::new()),
        "bin" => Some(vec!["bin".to_owned()]),
        _ => Some(parts),
    }
}

/// Whether a file below src holds nothing but tests.
pub fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Files below src that no `mod` leads to.
pub fn orphans(tree: &Tree) -> Vec<String> {
    let mut reached = BTreeSet::new();
    for (path, _) in tree.rust() {
        if path == "src/lib.rs" || path == "src/main.rs" || is_program(path) {
            reach(tree, path, &mut reached);
        }
    }
    tree.rust()
        .filter(|(path, _)| path.starts_with("src/") && !reached.contains(*path))
        .map(|(path, _)| format!("{path}: no mod leads here"))
        .collect()
}

fn is_program(path: &str) -> bool {
    path.strip_prefix("src/bin/")
        .is_some_and(|name| !name.contains('/'))
}

fn reach(tree: &Tree, path: &str, reached: &mut BTreeSet<String>) {
    let Some(text) = tree.files.get(path) else {
        return;
    };
    if !reached.insert(path.to_owned()) {
        return;
    }
    let stem = path.strip_suffix(".rs").expect("it is Rust");
    let dir = match stem.rsplit_once('/') {
        Some((dir, "lib" | "main")) => dir.to_owned(),
        Some((dir, _)) if is_program(path) => dir.to_owned(),
        _ => stem.to_owned(),
    };
    for child in declared(&tokens(path, text), &dir) {
        reach(tree, &child, reached);
    }
}

/// The files that `mod name;` declares, also inside inline modules.
fn declared(tokens: &[TokenTree], dir: &str) -> Vec<String> {
    let mut files = Vec::new();
    for window in tokens.windows(3) {
        let [TokenTree::Ident(word), TokenTree::Ident(name), last] = window else {
            continue;
        };
        if word != "mod" {
            continue;
        }
        match last {
            TokenTree::Punct(end) if end.as_char() == ';' => files.push(format!("{dir}/{name}.rs")),
            TokenTree::Group(body) => {
                let inner: Vec<_> = body.stream().into_iter().collect();
                files.extend(declared(&inner, &format!("{dir}/{name}")));
            }
            _ => {}
        }
    }
    files
}
