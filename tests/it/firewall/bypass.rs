//! What beat the allow-lists of others is refused, and ordinary work is not.

use std::collections::{BTreeMap, BTreeSet};

use episoded::firewall::command::read;
use serde_json::Value;

use super::rules::{judge, rules};
use crate::harness::repository;

/// The classes in which some texts can be read and it is the rules that refuse
/// them. The others are refused whatever the rules are.
const BY_RULES: &[&str] = &[
    "separator",
    "wrapper",
    "option injection",
    "prefix without separator",
    "unicode blanks and lookalikes",
    "many commands",
    "redirection",
    "quoting trick",
    "shell paths",
];

fn lines(name: &str) -> Vec<Value> {
    let path = repository().join("tests/data").join(name);
    let text = std::fs::read_to_string(path).expect("the corpus is there");
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("a line is JSON")).collect()
}

fn field<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().expect("a line has its fields")
}

#[test]
fn every_known_bypass_is_refused() {
    let rules = rules();
    let lines = lines("bypass.jsonl");
    let mut classes = BTreeMap::new();
    let mut texts = BTreeSet::new();
    let mut passed = Vec::new();
    for line in &lines {
        let text = field(line, "text");
        assert!(texts.insert(text), "{text:?} is there twice");
        let class = field(line, "class");
        *classes.entry(class).or_insert(0) += 1;
        let unread = BY_RULES.contains(&class) || read(text).is_err();
        if judge(&rules, text).is_ok() || !unread {
            passed.push(text);
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    assert!(texts.len() >= 300, "{} texts", texts.len());
    assert!(classes.len() >= 25, "{classes:?}");
    assert!(classes.values().all(|count| *count >= 5), "{classes:?}");
}

#[test]
fn ordinary_commands_are_allowed() {
    let rules = rules();
    let lines = lines("ordinary.jsonl");
    assert!(lines.len() >= 40, "{} texts", lines.len());
    let texts = lines.iter().map(|line| line.as_str().expect("a string"));
    let refused: Vec<_> = texts
        .filter_map(|text| judge(&rules, text).err().map(|why| (text, why)))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
