//! The rules of the source tree, enforced: who may use whom, how long files and
//! functions may be, that every file is compiled, what comments may not hold.
//!
//! Each rule is a function over a [`Tree`], so that each has a test that plants
//! a violation and sees it caught.

mod layers;
mod names;
mod sizes;
mod tree;
mod words;

use crate::harness::repository;
use tree::Tree;

/// Panics with every violation.
fn clean(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Panics unless there is exactly one violation and it says so.
fn caught(violations: &[String], says: &str) {
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert!(violations[0].contains(says), "{violations:#?}");
}

#[test]
fn modules_use_only_what_their_layer_may() {
    clean(&layers::violations(&Tree::read(repository())));
}

#[test]
fn a_use_of_a_forbidden_module_is_caught() {
    for (path, text) in [
        ("src/grpc/session.rs", "use crate::storage::Journal;"),
        ("src/grpc/session.rs", "use crate::{session, storage};"),
        (
            "src/grpc/session.rs",
            "use crate::{clock::Clock, storage::{a, b}};",
        ),
        ("src/grpc/session.rs", "fn f() { crate::storage::open(); }"),
        (
            "src/grpc/session.rs",
            "fn f() { info!(\"{}\", crate::storage::PATH); }",
        ),
        ("src/grpc.rs", "use super::storage::Journal;"),
        ("src/grpc/session.rs", "use super::super::storage;"),
        ("src/grpc.rs", "mod inner { use super::super::storage; }"),
    ] {
        let found = layers::violations(&Tree::of(&[(path, text)]));
        caught(&found, "grpc may not use storage");
    }
}

#[test]
fn a_forbidden_crate_is_caught() {
    for (path, text, says) in [
        (
            "src/session/state.rs",
            "use tonic::Status;",
            "session may not use tonic",
        ),
        (
            "src/session.rs",
            "fn f() -> prost::bytes::Bytes {}",
            "session may not use prost",
        ),
        (
            "src/session.rs",
            "use ::rusqlite;",
            "session may not use rusqlite",
        ),
        (
            "src/daemon/tasks.rs",
            "use rusqlite::Connection;",
            "daemon may not use rusqlite",
        ),
        (
            "src/bin/episodectl.rs",
            "use {std::env, rusqlite::Connection};",
            "bin may not use rusqlite",
        ),
    ] {
        caught(&layers::violations(&Tree::of(&[(path, text)])), says);
    }
}

#[test]
fn a_module_without_a_row_in_the_table_is_caught() {
    let found = layers::violations(&Tree::of(&[("src/helpers.rs", "")]));
    caught(&found, "helpers has no row");
}

#[test]
fn what_only_looks_like_a_use_is_let_through() {
    for text in [
        "// use crate::storage::Journal;",
        "/// See [`crate::storage`] and `rusqlite::Error`.",
        "const HELP: &str = \"crate::storage::open\";",
        "const HELP: &str = r#\"use rusqlite::Connection; \"quoted\" \"#;",
        "use crate::session::storage;",
        "mod inner { use super::storage; }",
        "#[cfg(test)] mod tests { use crate::storage::Journal; }",
    ] {
        clean(&layers::violations(&Tree::of(&[(
            "src/grpc/session.rs",
            text,
        )])));
    }
    clean(&layers::violations(&Tree::of(&[(
        "src/session/tests.rs",
        "use crate::storage::Journal;",
    )])));
}

#[test]
fn no_file_and_no_function_is_too_long() {
    let tree = Tree::read(repository());
    clean(&sizes::long_files(&tree));
    clean(&sizes::long_functions(&tree));
}

#[test]
fn no_file_in_the_tree_is_too_large() {
    clean(&sizes::large_files(repository()));
}

#[test]
fn a_file_that_is_too_large_is_caught_unless_it_is_ignored() {
    let tree = tempfile::tempdir().expect("a directory");
    let large = vec![0; 512 * 1024 + 1];
    for (path, octets) in [
        (".gitignore", &b"/ignored"[..]),
        ("ignored", &large),
        ("core", &large),
        ("fits", &large[1..]),
    ] {
        std::fs::write(tree.path().join(path), octets).expect("it is written");
    }
    caught(&sizes::large_files(tree.path()), "core has 524289 bytes");
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    let long = "fn f() {}\n".repeat(601);
    caught(
        &sizes::long_files(&Tree::of(&[("src/a.rs", &long)])),
        "src/a.rs has 601 lines",
    );
    clean(&sizes::long_files(&Tree::of(&[("src/a/tests.rs", &long)])));
    clean(&sizes::long_files(&Tree::of(&[("tests/it/a.rs", &long)])));
    let longer = "fn f() {}\n".repeat(901);
    caught(
        &sizes::long_files(&Tree::of(&[("tests/it/a.rs", &longer)])),
        "901 lines",
    );
}

#[test]
fn a_function_that_is_too_long_is_caught() {
    let body = "    work();\n".repeat(101);
    for text in [
        format!("fn long() {{\n{body}}}\n"),
        format!("impl A {{ async fn long(x: [u8; 3]) -> u8 where A: B {{\n{body}}} }}\n"),
    ] {
        caught(
            &sizes::long_functions(&Tree::of(&[("src/a.rs", &text)])),
            "long has 101 lines",
        );
    }
    let padded = format!("fn f() {{\n{}// why\n\n}}\n", "    work();\n".repeat(100));
    clean(&sizes::long_functions(&Tree::of(&[("src/a.rs", &padded)])));
}

#[test]
fn every_source_file_is_part_of_a_program() {
    clean(&tree::orphans(&Tree::read(repository())));
}

#[test]
fn an_orphan_file_is_caught() {
    let tree = Tree::of(&[
        ("src/lib.rs", "pub mod a; mod inline { mod deep; }"),
        ("src/a.rs", "#[cfg(test)]\nmod tests;"),
        ("src/a/tests.rs", ""),
        ("src/a/left_behind.rs", ""),
        ("src/inline/deep.rs", ""),
        ("src/bin/tool.rs", "fn main() {}"),
    ]);
    caught(&tree::orphans(&tree), "src/a/left_behind.rs");
}

#[test]
fn comments_hold_no_tickets_dates_or_intentions() {
    clean(&words::comments(&Tree::read(repository())));
}

#[test]
fn a_ticket_a_date_or_an_intention_in_a_comment_is_caught() {
    for comment in [
        "// TODO: later",
        "/* FIXME */",
        "//! See TCK-00042.",
        "/// Proves R-002-07.",
        "// issue #12",
        "// the race of issue 12",
        "let x = 1; // since 2026-11-20",
    ] {
        let text = format!("fn f() {{}}\n{comment}\n");
        let found = words::comments(&Tree::of(&[("src/a.rs", &text)]));
        assert_eq!(found.len(), 1, "{comment}: {found:?}");
        assert!(found[0].starts_with("src/a.rs:2"), "{found:?}");
    }
}

#[test]
fn harmless_words_in_comments_and_anything_in_strings_are_let_through() {
    let text = r##"
        // The issue of a handle; a tissue 12 cells wide; mastodons; PTCK-less.
        const A: &str = "// TODO and issue #12";
        const B: &str = r#"// "FIXME" "#;
        const C: char = '"'; // a quote: "
        fn f<'a>(x: &'a str) -> &'a str { x } // it's fine
        const D: u8 = b'\''; const E: &str = "\" // TODO";
    "##;
    clean(&words::comments(&Tree::of(&[("src/a.rs", text)])));
}

#[test]
fn every_public_name_lives_where_the_document_says() {
    let document = std::fs::read_to_string(repository().join("docs/requirements.md"));
    let found = names::check(&document.expect("it is there"), &Tree::read(repository()));
    assert!(found.named >= 4, "{} names", found.named);
    clean(&found.missing);
}

#[test]
fn a_public_name_that_moved_is_caught() {
    let document = "| Old | `episoded::a::New` |\n| Other | `episoded::a::Gone` |\n";
    let found = names::check(
        document,
        &Tree::of(&[("src/a.rs", "pub struct New;\nstruct Gone;")]),
    );
    assert_eq!(found.named, 2);
    caught(&found.missing, "episoded::a::Gone");
}

#[test]
fn every_method_of_the_protos_has_a_comment() {
    clean(&words::bare_methods(&Tree::read(repository())));
}

#[test]
fn a_method_without_a_comment_is_caught() {
    let text = "service S {\n  // Does a.\n  rpc A(B) returns (C);\n\n  rpc D(E) returns (F);\n}\n";
    let found = words::bare_methods(&Tree::of(&[("proto/s.proto", text)]));
    caught(&found, "proto/s.proto:5: D");
}
