//! Manifests and rules in files.
//!
//! Owns the format: JSON, as the CLI prints the messages. A file is read strictly:
//! what its JSON does not say right is one error with every place, and what of it is
//! no manifest is one with every fault.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::cli::error::{CliError, exit};
use crate::cli::output::protojson::{Json, Misread, from_json, read_json, to_json};
use crate::cli::output::{Format, Printer};
use crate::client::error::FieldViolation;
use crate::firewall::manifest::{Fault, Manifest};
use crate::proto::{manifest as pb, manifests};

/// Largest file that is read, in bytes: several times what the daemon takes.
const MAX_FILE: u64 = 256 << 20;

/// The manifest in a file, `-` for stdin, as requests carry it.
pub fn read(path: &Path) -> Result<pb::Manifest, CliError> {
    Ok((&load(path)?).into())
}

/// The manifest in a file, `-` for stdin.
pub fn load(path: &Path) -> Result<Manifest, CliError> {
    let (wire, misreads) = read_json(&json(path)?);
    let built = valid(wire);
    if misreads.is_empty() {
        return built.map_err(|faults| invalid(&named(path), "no manifest", &faults));
    }
    let rest = built.err().map(|faults| besides(&misreads, faults));
    let all = misreads.into_iter().chain(rest.into_iter().flatten());
    Err(misread(path, all.collect()))
}

/// The faults of what could be read, but for those that what could not be read has
/// brought about.
fn besides(misreads: &[Misread], faults: Vec<Fault>) -> Vec<Misread> {
    let places: Vec<String> = misreads.iter().map(|it| proto_name(&it.place)).collect();
    let is_known = |fault: &Fault| {
        let field = fault.field.as_str();
        let mut places = places.iter();
        places.any(|place| is_within(field, place) || is_within(place, field))
    };
    let rest = faults.into_iter().filter(|fault| !is_known(fault));
    rest.map(|fault| Misread {
        place: fault.field,
        what: fault.rule,
        hint: None,
    })
    .collect()
}

/// Whether a place is another, or a part of it.
fn is_within(place: &str, whole: &str) -> bool {
    let rest = place.strip_prefix(whole);
    whole.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A place as faults name it: `named_tools[0].name` for `namedTools[0].name`.
fn proto_name(place: &str) -> String {
    let mut name = String::with_capacity(place.len());
    for letter in place.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The command rules in a file, `-` for stdin: a JSON list of them.
pub fn rules(path: &Path) -> Result<Vec<pb::CommandRule>, CliError> {
    match json(path)? {
        Json::Array(items) => rules_of(&items).map_err(|faults| misread(path, faults)),
        Json::Object(_) | Json::Leaf(_) => {
            let message = format!("{} is no list of command rules", named(path));
            Err(malformed(message).with_hint("rules stand in `[…]`; `manifest presets` shows some"))
        }
    }
}

fn rules_of(items: &[Json]) -> Result<Vec<pb::CommandRule>, Vec<Misread>> {
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        match from_json(item) {
            Ok(rule) => rules.push(rule),
            Err(more) => faults.extend(more.into_iter().map(|fault| Misread {
                place: match fault.place.as_str() {
                    "" => format!("[{at}]"),
                    place => format!("[{at}].{place}"),
                },
                ..fault
            })),
        }
    }
    if faults.is_empty() {
        Ok(rules)
    } else {
        Err(faults)
    }
}

/// The manifest of a message. How many entries a daemon takes is its own to say.
pub fn valid(wire: pb::Manifest) -> Result<Manifest, Vec<Fault>> {
    manifests::build(wire, usize::MAX)
}

/// What is said of a manifest with faults.
pub fn invalid(subject: &str, what: &str, faults: &[Fault]) -> CliError {
    let count = match faults.len() {
        1 => "one fault".to_owned(),
        many => format!("{many} faults"),
    };
    let violation = |fault: &Fault| FieldViolation {
        field: fault.field.clone(),
        description: fault.rule.clone(),
    };
    malformed(format!("{subject} is {what}: {count}"))
        .with_violations(faults.iter().map(violation).collect())
}

/// Writes a manifest to a file.
pub fn write(path: &Path, manifest: &Manifest) -> Result<(), CliError> {
    fs::write(path, text(manifest)).map_err(|error| CliError::writing(path, &error))
}

/// Prints a manifest as its file has it, on one line if lines are asked for.
pub fn print(printer: &mut Printer, manifest: &Manifest) -> Result<(), CliError> {
    match printer.format() {
        Format::Jsonl => printer.json(&to_json(&pb::Manifest::from(manifest))),
        Format::Table | Format::Json => printer.text(&text(manifest)),
    }
}

fn text(manifest: &Manifest) -> String {
    let json = to_json(&pb::Manifest::from(manifest));
    let text = serde_json::to_string_pretty(&json).expect("texts and numbers are JSON");
    text + "\n"
}

/// What a path is called in messages.
pub fn named(path: &Path) -> String {
    if is_stdin(path) {
        return "stdin".to_owned();
    }
    path.display().to_string()
}

/// The whole text of a file, `-` for stdin.
pub fn contents(path: &Path) -> Result<String, CliError> {
    let failed = |error: io::Error| CliError::reading(Path::new(&named(path)), &error);
    let mut text = String::new();
    let read = if is_stdin(path) {
        io::stdin()
            .lock()
            .take(MAX_FILE + 1)
            .read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text)
    };
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE => {
            Err(malformed(format!("{} is larger than 256 MiB", named(path))))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(malformed(format!("{} is not UTF-8", named(path))))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Something given is malformed.
pub fn malformed(message: String) -> CliError {
    CliError::local(exit::DATA, "INVALID_ARGUMENT", message)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn json(path: &Path) -> Result<Json, CliError> {
    let text = contents(path)?;
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is not JSON: {error}", named(path));
        malformed(message).with_hint("`manifest build` writes such files")
    })
}

/// What is said of JSON that says something else than it should.
fn misread(path: &Path, mut faults: Vec<Misread>) -> CliError {
    for fault in &mut faults {
        if fault.place.is_empty() {
            "the whole".clone_into(&mut fault.place);
        }
    }
    if let [Misread { place, what, hint }] = &faults[..] {
        let error = malformed(format!("{}: {place} {what}", named(path)));
        let usual = "`manifest build` writes such files";
        return error.with_hint(hint.as_deref().unwrap_or(usual));
    }
    let violation = |fault: Misread| FieldViolation {
        field: fault.place,
        description: match fault.hint {
            Some(hint) => format!("{} ({hint})", fault.what),
            None => fault.what,
        },
    };
    let message = format!("{} cannot be read: {} faults", named(path), faults.len());
    malformed(message).with_violations(faults.into_iter().map(violation).collect())
}
