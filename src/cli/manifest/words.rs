//! The parts of a manifest in words, for people.

use std::fmt::Write as _;

use crate::firewall::command::{Matcher, Rule};
use crate::firewall::manifest::{Access, Host, TreeAccess};

/// An entry's access.
pub fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::ReadWithZoom => "read-with-zoom",
        Access::ReadWrite => "read-write",
    }
}

/// A tree's access.
pub fn tree_access(access: TreeAccess) -> &'static str {
    match access {
        TreeAccess::Read => "read",
        TreeAccess::Write => "write",
        TreeAccess::ReadWrite => "read-write",
    }
}

/// A host, with its port if it has one.
pub fn host(host: &Host) -> String {
    match host.port {
        Some(port) if host.name.contains(':') => format!("[{}]:{port}", host.name),
        Some(port) => format!("{}:{port}", host.name),
        None => host.name.to_string(),
    }
}

/// A rule on one line: `cargo (build|test) {--release|-p <text>}…`.
pub fn rule(rule: &Rule) -> String {
    let mut text = word(&rule.program);
    for argument in &rule.arguments {
        text.push(' ');
        text.push_str(&matcher(argument));
    }
    if let Some(directory) = &rule.working_directory {
        let _ = write!(text, "  [in {}]", directory.shown());
    }
    if !rule.environment.is_empty() {
        let _ = write!(text, "  [may set {}]", rule.environment.join(" "));
    }
    text
}

fn matcher(matcher: &Matcher) -> String {
    let joined = |parts: Vec<String>| parts.join("|");
    match matcher {
        Matcher::Literal(text) => word(text),
        Matcher::OneOf(texts) => format!("({})", joined(texts.iter().map(|t| word(t)).collect())),
        Matcher::PathUnder(directory) => format!("<path in {}>", directory.shown()),
        Matcher::Integer { min, max } => format!("<{min}..{max}>"),
        Matcher::Text => "<text>".to_owned(),
        Matcher::Option { names, value } => {
            let all = joined(names.iter().map(|name| word(name)).collect());
            let all = if names.len() > 1 {
                format!("({all})")
            } else {
                all
            };
            format!("{all} {}", self::matcher(value))
        }
        Matcher::AnyOf(matchers) => {
            format!("({})", joined(matchers.iter().map(self::matcher).collect()))
        }
        Matcher::AnyNumberOf(inner) => match &**inner {
            Matcher::AnyOf(matchers) => {
                let all = matchers.iter().map(self::matcher).collect();
                format!("{{{}}}…", joined(all))
            }
            inner => format!("{{{}}}…", self::matcher(inner)),
        },
    }
}

/// A word, in quotes if it could be taken for something else.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::rule;
    use crate::firewall::command::{Matcher, Rule};
    use crate::firewall::path::RelativePath;

    #[test]
    fn a_rule_is_one_line_that_says_all_of_it() {
        let relative = |path| RelativePath::parse(path).unwrap();
        let option = |names: &[&str], value| Matcher::Option {
            names: names.iter().map(|name| (*name).into()).collect(),
            value: Box::new(value),
        };
        let any = Matcher::AnyOf(
            [
                option(&["-j", "--jobs"], Matcher::Integer { min: 1, max: 8 }),
                option(&["-p"], Matcher::Text),
                Matcher::PathUnder(relative("src")),
            ]
            .into(),
        );
        let said = rule(&Rule {
            program: "cargo".into(),
            arguments: [
                Matcher::OneOf(["test".into(), "a b".into()].into()),
                Matcher::Literal("".into()),
                Matcher::AnyNumberOf(Box::new(any)),
            ]
            .into(),
            working_directory: Some(relative(".")),
            environment: ["CI".into()].into(),
        });
        assert_eq!(
            said,
            "cargo (test|\"a b\") \"\" {(-j|--jobs) <1..8>|-p <text>|<path in src>}…  [in .]  \
             [may set CI]"
        );
    }
}
