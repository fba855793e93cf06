//! README's tables against the tables in the code.

use episoded::config::Config;
use episoded::reason::Reason;

use crate::harness::repository;

/// The rows, without their quotes, of every table whose first column has that
/// heading.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|r| r.strip_suffix(" |")) else {
            inside = inside && line.starts_with("|--");
            continue;
        };
        let cells = row.split(" | ").map(|cell| cell.replace('`', ""));
        let cells: Vec<_> = cells.map(|cell| cell.trim().to_owned()).collect();
        if inside {
            found.push(cells);
        } else {
            inside = cells[0] == heading;
        }
    }
    found
}

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).expect("there is a README")
}

/// What the README must say of the keys, in their order.
fn keys() -> Vec<Vec<String>> {
    let row = |key: episoded::config::KeyDoc| {
        let live = if key.live { "yes" } else { "no" };
        [key.key, &key.env, key.default, live, key.meaning]
            .map(str::to_owned)
            .to_vec()
    };
    Config::keys().map(row).collect()
}

/// `INVALID_ARGUMENT` for `InvalidArgument`.
fn code_name(code: i32) -> String {
    let name = format!("{:?}", tonic::Code::from_i32(code));
    let words = name.char_indices().flat_map(|(at, letter)| {
        let gap = (at > 0 && letter.is_uppercase()).then_some('_');
        gap.into_iter().chain([letter.to_ascii_uppercase()])
    });
    words.collect()
}

/// What the README must say of the reasons, in their order.
fn reasons() -> Vec<Vec<String>> {
    let row = |reason: &Reason| {
        let code = code_name(reason.code());
        vec![
            reason.as_str().to_owned(),
            code,
            reason.exit_code().to_string(),
        ]
    };
    Reason::ALL.iter().map(row).collect()
}

#[test]
fn readme_lists_every_configuration_key_with_its_default() {
    assert_eq!(rows(&readme(), "key"), keys());
}

#[test]
fn readme_lists_every_reason_with_its_code_and_exit_code() {
    let mut found = rows(&readme(), "reason");
    for row in &mut found {
        assert_eq!(row.len(), 4, "reason, code, exit code, meaning: {row:?}");
        row.truncate(3);
    }
    assert_eq!(found, reasons());
}

#[test]
fn a_row_that_is_missing_or_differs_is_caught() {
    let table = |rows: &[Vec<String>]| -> String {
        let lines = rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
        format!(
            "text\n\n| key | v | d | l | m |\n|---|---|---|---|---|\n{}\n| other |\n",
            lines.collect::<String>()
        )
    };
    assert_eq!(rows(&table(&keys()), "key"), keys());
    assert_ne!(rows(&table(&keys()[1..]), "key"), keys());
    for cell in 0..5 {
        let mut wrong = keys();
        wrong[0][cell].push('x');
        assert_ne!(rows(&table(&wrong), "key"), keys());
    }
}
