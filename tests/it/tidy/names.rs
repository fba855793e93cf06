//! Whether the documents name things where they are.

use super::tree::Tree;

/// What a document names.
pub struct Found {
    pub named: usize,
    pub missing: Vec<String>,
}

/// Looks up every path of this crate that stands in a table row.
pub fn check(document: &str, tree: &Tree) -> Found {
    let mut found = Found {
        named: 0,
        missing: Vec::new(),
    };
    let rows = document.lines().filter(|line| line.starts_with("| "));
    for path in rows
        .flat_map(|line| line.split('`'))
        .filter(|part| part.starts_with("episoded::"))
    {
        found.named += 1;
        if !is_public(path, tree) {
            found.missing.push(format!("{path} is not a public item"));
        }
    }
    found
}

fn is_public(path: &str, tree: &Tree) -> bool {
    let Some((module, name)) = path.trim_start_matches("episoded::").rsplit_once("::") else {
        return false;
    };
    let file = format!("src/{}.rs", module.replace("::", "/"));
    let Some((_, text)) = tree.rust().find(|(path, _)| *path == file) else {
        return false;
    };
    ["struct", "enum", "trait", "fn"].iter().any(|kind| {
        let item = format!("pub {kind} {name}");
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        text.lines()
            .any(|line| line.strip_prefix(&item).is_some_and(ends))
    })
}
