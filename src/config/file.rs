//! Reading of one configuration file.
//!
//! Owns the way from a path to values of known keys. Refuses files that are no
//! TOML, or longer than any that a person writes; a key that is not in the
//! table is reported and the rest of the file is still looked at.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::error::ConfigError;
use super::keys::Key;
use super::value::Raw;

/// A hundred times a file with every key and a comment on each.
const MAX_BYTES: u64 = 1 << 20;

/// The values in the file; none where there is no file and none was asked for.
pub(super) fn read(
    path: &Path,
    required: bool,
    errors: &mut Vec<ConfigError>,
) -> Vec<(&'static Key, Raw)> {
    let text = match File::open(path).and_then(read_text) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound && !required => return Vec::new(),
        Err(source) => {
            errors.push(ConfigError::Read {
                file: path.to_owned(),
                source,
            });
            return Vec::new();
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(source) => {
            let before = source.span().map_or(0, |span| span.start);
            errors.push(ConfigError::Syntax {
                file: path.to_owned(),
                line: text.bytes().take(before).filter(|b| *b == b'\n').count() + 1,
                source: Box::new(source),
            });
            return Vec::new();
        }
    };
    let mut values = Vec::with_capacity(table.len());
    for (name, value) in table {
        match Key::find(&name) {
            Some(key) => values.push((key, Raw::Toml(value))),
            None => errors.push(ConfigError::UnknownKey {
                key: name,
                file: path.to_owned(),
            }),
        }
    }
    values
}

/// What an open file holds, if that is text and not too long.
pub(crate) fn read_text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}
