//! What a manifest leaves out, told by directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::output::note;
use crate::cli::output::text::clean;

/// Lines that are told; the rest is counted.
const MAX_LINES: usize = 40;
/// Names told in a line.
const MAX_NAMES: usize = 3;

/// Why a file is not in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Git ignores it, or the directory with all below it.
    Ignored,
    /// No pattern asks for it.
    NotMatched,
    /// It is a symlink.
    Symlink,
    /// It is a socket, a pipe or a device.
    Special,
    /// It is another repository.
    Submodule,
    /// It is larger than 64 MiB.
    TooLarge,
    /// Its name is not UTF-8, or has a control character.
    Name,
    /// It cannot be read.
    Unreadable,
    /// Git tracks it and it is not there.
    Missing,
    /// The manifest itself goes there.
    Output,
}

impl Why {
    /// In a word or two.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::NotMatched => "not matched",
            Self::Symlink => "symlink",
            Self::Special => "special",
            Self::Submodule => "submodule",
            Self::TooLarge => "larger than 64 MiB",
            Self::Name => "with a name that cannot be listed",
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::Output => "being written",
        }
    }
}

#[derive(Default)]
struct Some {
    count: usize,
    names: Vec<String>,
}

/// What was left out so far.
#[derive(Default)]
pub struct LeftOut(BTreeMap<(String, Why), Some>);

impl LeftOut {
    /// Adds a file, or a directory as one.
    pub fn add(&mut self, path: &Path, why: Why) {
        let directory = path.parent().unwrap_or(Path::new(""));
        let directory = match directory.to_string_lossy() {
            text if text.is_empty() => ".".to_owned(),
            text => text.into_owned(),
        };
        let some = self.0.entry((directory, why)).or_default();
        some.count += 1;
        if some.names.len() < MAX_NAMES {
            let name = path.file_name().unwrap_or_default();
            some.names.push(name.to_string_lossy().into_owned());
        }
    }

    /// A line for every directory and reason.
    pub fn lines(&self) -> Vec<String> {
        let line = |((directory, why), some): (&(String, Why), &Some)| {
            let more = if some.count > some.names.len() {
                ", …"
            } else {
                ""
            };
            let mut names = some.names.clone();
            names.sort_unstable();
            let (count, why, names) = (some.count, why.text(), names.join(", "));
            clean(&format!(
                "left out in {directory}: {count} {why} ({names}{more})"
            ))
        };
        let mut lines: Vec<String> = self.0.iter().map(line).take(MAX_LINES).collect();
        if self.0.len() > MAX_LINES {
            let rest: usize = self.0.values().skip(MAX_LINES).map(|some| some.count).sum();
            lines.push(format!("left out elsewhere: {rest}"));
        }
        lines
    }

    /// Tells it on stderr.
    pub fn tell(&self) {
        self.lines().iter().for_each(note);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LeftOut, Why};

    #[test]
    fn what_is_left_out_is_told_by_directory() {
        let mut left = LeftOut::default();
        for path in ["target", "src/b", "src/a", "src/c", "src/d"] {
            left.add(Path::new(path), Why::Ignored);
        }
        left.add(Path::new("src/link"), Why::Symlink);
        assert_eq!(
            left.lines(),
            [
                "left out in .: 1 ignored (target)",
                "left out in src: 4 ignored (a, b, c, …)",
                "left out in src: 1 symlink (link)",
            ]
        );
    }

    #[test]
    fn many_lines_end_in_a_count() {
        let mut left = LeftOut::default();
        for at in 0..100 {
            left.add(Path::new(&format!("{at:03}/x\n")), Why::NotMatched);
        }
        let lines = left.lines();
        assert_eq!(lines.len(), 41);
        assert_eq!(lines[40], "left out elsewhere: 60");
        assert!(lines[0].contains("x\\n"), "{}", lines[0]);
    }
}
