//! Who may use whom.

use proc_macro2::{Delimiter, TokenTree};

use super::tree::{Tree, is_test_file, module_of, tokens};

/// A module, the modules it may use, and the restricted crates it may use.
struct Row {
    module: &'static str,
    modules: &'static [&'static str],
    crates: &'static [&'static str],
}

const fn row(
    module: &'static str,
    modules: &'static [&'static str],
    crates: &'static [&'static str],
) -> Row {
    Row {
        module,
        modules,
        crates,
    }
}

/// Crates that belong to a layer; the others are free for all.
const RESTRICTED: &[&str] = &[
    "rusqlite",
    "tonic",
    "tonic_types",
    "tonic_prost",
    "tonic_health",
    "tonic_reflection",
    "prost",
    "prost_types",
    "clap",
    "toml",
    "secret_service",
    "zbus",
];

const WIRE: &[&str] = &[
    "tonic",
    "tonic_types",
    "tonic_prost",
    "tonic_health",
    "tonic_reflection",
    "prost",
    "prost_types",
];

/// The layering table of the design.
const TABLE: &[Row] = &[
    row("clock", &[], &[]),
    row("ids", &["secret"], &[]),
    row("secret", &["ids"], &[]),
    row("reason", &[], &[]),
    row("paths", &[], &[]),
    row("config", &["paths", "telemetry"], &["toml"]),
    row("telemetry", &[], &[]),
    row("proto", &["firewall"], WIRE),
    row("authority", &[], &[]),
    row("firewall", &["clock", "ids", "secret"], &[]),
    row(
        "session",
        &["firewall", "clock", "ids", "secret", "reason"],
        &[],
    ),
    row("keycache", &["clock", "ids", "secret"], &[]),
    row(
        "storage",
        &["firewall", "session", "clock", "ids", "secret"],
        &["rusqlite", "prost"],
    ),
    row(
        "grpc",
        &[
            "proto",
            "firewall",
            "session",
            "clock",
            "ids",
            "secret",
            "telemetry",
            "reason",
            "authority",
        ],
        WIRE,
    ),
    row(
        "client",
        &[
            "proto", "keycache", "ids", "secret", "clock", "reason", "paths",
        ],
        WIRE,
    ),
    row(
        "cli",
        &[
            "client",
            "firewall",
            "keycache",
            "proto",
            "ids",
            "secret",
            "clock",
            "reason",
            "paths",
            "config",
            "telemetry",
        ],
        &[
            "clap",
            "toml",
            "tonic",
            "prost_types",
            "prost",
            "secret_service",
        ],
    ),
    row(
        "daemon",
        &[
            "proto",
            "firewall",
            "session",
            "clock",
            "ids",
            "secret",
            "telemetry",
            "reason",
            "authority",
            "storage",
            "grpc",
            "client",
            "config",
            "paths",
        ],
        &[
            "tonic",
            "tonic_types",
            "tonic_prost",
            "tonic_health",
            "tonic_reflection",
            "prost",
            "prost_types",
            "clap",
            "toml",
        ],
    ),
    row(
        "agent",
        &[
            "keycache",
            "client",
            "clock",
            "config",
            "daemon",
            "grpc",
            "ids",
            "paths",
            "proto",
            "reason",
            "secret",
            "telemetry",
        ],
        &[
            "clap",
            "toml",
            "tonic",
            "tonic_health",
            "tonic_reflection",
            "prost_types",
            "zbus",
        ],
    ),
    row(
        "bin",
        &["agent", "daemon", "cli", "config", "telemetry", "paths"],
        &["clap"],
    ),
];

/// Every use of a module or a crate that the table does not allow. Tests may use
/// what they need.
pub fn violations(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let Some(module) = module_of(path).filter(|m| !m.is_empty()) else {
            continue;
        };
        if is_test_file(path) {
            continue;
        }
        let Some(row) = TABLE.iter().find(|row| row.module == module[0]) else {
            found.push(format!("{path}: {} has no row in the table", module[0]));
            continue;
        };
        let mut uses = Vec::new();
        walk(&tokens(path, text), &module, &mut uses);
        for (line, used) in uses {
            let allowed = if RESTRICTED.contains(&used.as_str()) {
                row.crates.contains(&used.as_str())
            } else {
                used == row.module
                    || row.modules.contains(&used.as_str())
                    || !TABLE.iter().any(|other| other.module == used)
            };
            if !allowed {
                found.push(format!("{path}:{line}: {} may not use {used}", row.module));
            }
        }
    }
    found
}

/// Collects, with their lines, the top-level modules and the restricted crates
/// that the tokens of a module name.
fn walk(tokens: &[TokenTree], module: &[String], uses: &mut Vec<(usize, String)>) {
    let mut at = 0;
    let mut only_for_tests = false;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                if is_cfg_test(tokens, at) {
                    only_for_tests = true;
                } else if group.delimiter() == Delimiter::Brace && only_for_tests {
                    only_for_tests = false;
                } else if let Some(name) = inline_module(tokens, at) {
                    let mut deeper = module.to_vec();
                    deeper.push(name);
                    walk(&inner, &deeper, uses);
                } else {
                    walk(&inner, module, uses);
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => only_for_tests = false,
            TokenTree::Ident(word) if !is_qualified(tokens, at) => {
                let word = word.to_string();
                if word == "crate" || word == "super" {
                    at = local(tokens, at, module, uses);
                    continue;
                }
                if RESTRICTED.contains(&word.as_str()) && is_crate_name(tokens, at) {
                    uses.push((line(&tokens[at]), word));
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Follows `crate::a`, `crate::{a, b}` and `super::…` up to the crate's root;
/// answers where to go on.
fn local(
    tokens: &[TokenTree],
    start: usize,
    module: &[String],
    uses: &mut Vec<(usize, String)>,
) -> usize {
    let mut at = start;
    let mut depth = if is_ident(tokens.get(at), "crate") {
        0
    } else {
        module.len()
    };
    while is_ident(tokens.get(at), "super") {
        depth = depth.saturating_sub(1);
        if !is_ident(tokens.get(at + 3), "super") {
            break;
        }
        at += 3;
    }
    at += 1;
    if !is_path_separator(tokens, at) {
        return at;
    }
    at += 2;
    match tokens.get(at) {
        Some(TokenTree::Ident(name)) if depth == 0 => {
            uses.push((line(&tokens[at]), name.to_string()));
            at + 1
        }
        Some(TokenTree::Group(group)) if depth == 0 => {
            let inner: Vec<_> = group.stream().into_iter().collect();
            for item in inner.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')) {
                if let Some(TokenTree::Ident(name)) = item.first() {
                    uses.push((line(&item[0]), name.to_string()));
                }
            }
            at + 1
        }
        _ => at,
    }
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn is_ident(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether the word goes on a path that began before it: `a::word`, `.word`.
fn is_qualified(tokens: &[TokenTree], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|i| &tokens[i]);
    if is_punct(before(1), '.') {
        return true;
    }
    let separator = is_punct(before(1), ':') && is_punct(before(2), ':');
    separator
        && matches!(before(3), Some(TokenTree::Ident(word)) if word != "use" && word != "return")
}

/// Whether the word stands where a crate's name does: before `::`, or in a `use`.
fn is_crate_name(tokens: &[TokenTree], at: usize) -> bool {
    let used = (1..=3).any(|back| {
        let word = at.checked_sub(back).and_then(|i| tokens.get(i));
        is_ident(word, "use") || (back == 1 && is_ident(word, "crate"))
    });
    is_path_separator(tokens, at + 1) || used
}

/// Whether the group is the bracket of `#[cfg(test)]`.
fn is_cfg_test(tokens: &[TokenTree], at: usize) -> bool {
    let hash = at.checked_sub(1).and_then(|i| tokens.get(i));
    is_punct(hash, '#') && tokens[at].to_string().replace(' ', "") == "[cfg(test)]"
}

/// The name of the inline module whose body the group is.
fn inline_module(tokens: &[TokenTree], at: usize) -> Option<String> {
    let keyword = at.checked_sub(2).and_then(|i| tokens.get(i));
    match at.checked_sub(1).and_then(|i| tokens.get(i)) {
        Some(TokenTree::Ident(name)) if is_ident(keyword, "mod") => Some(name.to_string()),
        _ => None,
    }
}
