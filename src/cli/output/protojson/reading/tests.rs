//! Whatever is printed is read again, and nothing else.

use prost::Message as _;

use super::super::{Json, to_json};
use super::{Misread, from_json};
use crate::proto::manifest::{
    Access, CommandRule, Entry, Host, IntegerRange, Manifest, Matcher, Matchers, NamedTool, Option,
    Text, ToolClass, Tree, TreeAccess, Words, matcher::Matcher as Kind,
};

fn matcher(kind: Kind) -> Matcher {
    Matcher {
        matcher: Some(kind),
    }
}

fn everything() -> Manifest {
    let option = Kind::Option(Box::new(Option {
        names: vec!["-n".into()],
        value: Some(Box::new(matcher(Kind::Integer(IntegerRange {
            min: i64::MIN,
            max: i64::MAX,
        })))),
    }));
    let choice = Kind::AnyOf(Matchers {
        matchers: vec![matcher(option), matcher(Kind::Text(Text {}))],
    });
    Manifest {
        manifest_id: "m".into(),
        profile_id: "p".into(),
        entries: vec![Entry {
            path: "src/ü \"x\".rs".into(),
            hash: vec![0xab; 32],
            access: Access::ReadWithZoom.into(),
            stable_id: "s".into(),
            size: Some(0),
        }],
        trees: vec![Tree {
            path: "out".into(),
            access: TreeAccess::ReadWrite.into(),
        }],
        tools: vec![ToolClass::Read.into(), ToolClass::ListFiles.into()],
        commands: vec![CommandRule {
            program: "head".into(),
            arguments: vec![
                matcher(Kind::Literal(String::new())),
                matcher(Kind::OneOf(Words {
                    words: vec!["a".into()],
                })),
                matcher(Kind::PathUnder(".".into())),
                matcher(Kind::AnyNumberOf(Box::new(matcher(choice)))),
            ],
            working_directory: Some(".".into()),
            environment: vec!["CI".into()],
        }],
        named_tools: vec![NamedTool {
            server: "s".into(),
            name: "n".into(),
        }],
        network: vec![Host {
            host: "h".into(),
            port: Some(u32::MAX),
        }],
        models: vec!["m".into()],
        artifacts: vec!["a".into()],
    }
}

fn read(text: &str) -> Result<Manifest, Vec<Misread>> {
    let json: Json = serde_json::from_str(text).unwrap();
    from_json(&json)
}

#[test]
fn what_is_printed_is_read_again() {
    for manifest in [everything(), Manifest::default()] {
        let text = serde_json::to_string(&to_json(&manifest)).unwrap();
        let again = read(&text).unwrap();
        assert_eq!(again.encode_to_vec(), manifest.encode_to_vec(), "{text}");
    }
}

#[test]
fn names_and_numbers_come_in_their_other_forms_too() {
    let text = r#"{"manifest_id": "m", "tools": ["READ", "TOOL_CLASS_LIST_FILES"],
        "entries": [{"access": "READ_WRITE", "size": "12"}, {"size": 12}],
        "network": [{"port": "443"}]}"#;
    let manifest = read(text).unwrap();
    assert_eq!(manifest.manifest_id, "m");
    assert_eq!(manifest.tools, [1, 8]);
    assert_eq!(manifest.entries[0].access(), Access::ReadWrite);
    assert!(manifest.entries.iter().all(|entry| entry.size == Some(12)));
    assert_eq!(manifest.network[0].port, Some(443));
}

#[test]
fn whatever_does_not_fit_is_refused_at_its_place() {
    let both = r#"{"commands": [{"arguments": [{"literal": "a", "text": {}}]}]}"#;
    for (text, place) in [
        ("[]", ""),
        (r#"{"ids": 1}"#, "ids"),
        (r#"{"manifestId": 1}"#, "manifestId"),
        (r#"{"manifestId": null}"#, "manifestId"),
        (r#"{"manifestId": "a", "manifest_id": "a"}"#, "manifest_id"),
        (r#"{"entries": {}}"#, "entries"),
        (r#"{"entries": ["a"]}"#, "entries[0]"),
        (r#"{"entries": [{}, {"acces": 1}]}"#, "entries[1].acces"),
        (r#"{"entries": [{"access": 1}]}"#, "entries[0].access"),
        (r#"{"entries": [{"access": "read"}]}"#, "entries[0].access"),
        (
            r#"{"entries": [{"access": "UNSPECIFIED"}]}"#,
            "entries[0].access",
        ),
        (r#"{"entries": [{"hash": "abc"}]}"#, "entries[0].hash"),
        (r#"{"entries": [{"hash": "zz"}]}"#, "entries[0].hash"),
        (r#"{"entries": [{"size": -1}]}"#, "entries[0].size"),
        (r#"{"entries": [{"size": 1.5}]}"#, "entries[0].size"),
        (r#"{"entries": [{"size": "+1"}]}"#, "entries[0].size"),
        (r#"{"network": [{"port": 4294967296}]}"#, "network[0].port"),
        (both, "commands[0].arguments[0].text"),
        (
            r#"{"commands": [{"arguments": [{"text": {"a": 1}}]}]}"#,
            "commands[0].arguments[0].text.a",
        ),
    ] {
        let misread = read(text).unwrap_err();
        assert_eq!(misread.len(), 1, "{text}: {misread:?}");
        assert_eq!(misread[0].place, place, "{text}: {misread:?}");
    }
}

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let text = r#"{"ids": 1, "manifestId": 1, "entries": [{"acces": 1, "hash": "zz"}, 7],
        "tools": ["READ", "FLY"], "trees": {},
        "commands": [{"arguments": [{"literal": 1, "text": {}}]}]}"#;
    let misread = read(text).unwrap_err();
    let places: Vec<&str> = misread.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "ids",
            "manifestId",
            "entries[0].acces",
            "entries[0].hash",
            "entries[1]",
            "tools[1]",
            "trees",
            "commands[0].arguments[0].literal",
            "commands[0].arguments[0].text",
        ]
    );
}

#[test]
fn a_key_twice_is_refused_where_it_is() {
    let error = serde_json::from_str::<Json>("{\"a\": 1,\n \"a\": 2}").unwrap_err();
    assert_eq!(error.line(), 2, "{error}");
}

#[test]
fn a_matcher_within_a_hundred_is_refused() {
    let deep = format!(
        "{}{{\"text\":{{}}}}{}",
        "{\"anyNumberOf\":".repeat(110),
        "}".repeat(110)
    );
    let text = format!("{{\"commands\":[{{\"arguments\":[{deep}]}}]}}");
    assert!(read(&text).is_err());
}
