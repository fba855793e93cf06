//! Patterns of paths, written as in `.gitignore`.

use std::cell::RefCell;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::cli::error::CliError;

/// Patterns, and which of them matched something.
pub struct Patterns {
    texts: Vec<String>,
    set: GlobSet,
    used: RefCell<Vec<bool>>,
}

impl Patterns {
    /// A pattern without a slash is a name at any depth; with one it begins at
    /// the root. `*` stays within a name, `**` does not. A directory stands for
    /// all below it, and `.` for all there is. None takes anything back with `!`.
    pub fn new(texts: &[String]) -> Result<Self, CliError> {
        let mut set = GlobSetBuilder::new();
        for text in texts {
            let pattern = from_root(text)?;
            // One for the file, one for what lies below the directory.
            for pattern in [&pattern, &format!("{pattern}/**")] {
                let glob = GlobBuilder::new(pattern).literal_separator(true).build();
                let glob = glob.map_err(|error| {
                    let message = format!("`{text}` is no pattern: {}", error.kind());
                    CliError::usage(message, "patterns are written as in .gitignore")
                })?;
                set.add(glob);
            }
        }
        let set = set.build().map_err(|error| {
            CliError::usage(error.to_string(), "patterns are written as in .gitignore")
        })?;
        Ok(Self {
            texts: texts.to_vec(),
            used: RefCell::new(vec![false; texts.len()]),
            set,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether one of them matches the path.
    pub fn matches(&self, path: &str) -> bool {
        let matched = self.set.matches(path);
        let mut used = self.used.borrow_mut();
        for at in &matched {
            used[at / 2] = true;
        }
        !matched.is_empty()
    }

    /// Those that matched nothing.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let unused = self
            .texts
            .iter()
            .zip(used.iter())
            .filter(|(_, used)| !**used);
        unused.map(|(text, _)| text.clone()).collect()
    }
}

/// The pattern as one that begins at the root.
fn from_root(text: &str) -> Result<String, CliError> {
    let refused = |why: &str, hint: &str| {
        let message = format!("`{text}` is no pattern: {why}");
        Err(CliError::usage(message, hint))
    };
    if text.is_empty() {
        return refused("it is empty", "`.` stands for all files");
    }
    if text.starts_with('!') {
        let hint = "name what is wanted; a file that begins with `!` is `/!name`";
        return refused("nothing is taken back with `!`", hint);
    }
    if matches!(text, "." | "./" | "/") {
        return Ok("**".to_owned());
    }
    let trimmed = text.trim_end_matches('/');
    let pattern = match trimmed.strip_prefix("./").or(trimmed.strip_prefix('/')) {
        Some(rest) => rest.to_owned(),
        None if trimmed.contains('/') => trimmed.to_owned(),
        None => format!("**/{trimmed}"),
    };
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    #[test]
    fn patterns_are_read_as_in_gitignore() {
        for (pattern, takes, leaves) in [
            ("*.rs", &["a.rs", "src/b/a.rs"][..], &["a.rsx"][..]),
            ("src", &["src", "src/a", "x/src/a/b"], &["srcs/a"]),
            ("/src/", &["src/a"], &["x/src/a"]),
            ("./a.rs", &["a.rs"], &["x/a.rs"]),
            ("src/*.rs", &["src/a.rs"], &["src/b/a.rs", "x/src/a.rs"]),
            ("src/**/*.rs", &["src/a.rs", "src/b/c/a.rs"], &["src/a"]),
            ("a/{b,c}", &["a/b", "a/c/d"], &["a/d"]),
            (".", &["a", "a/b", ".x"], &[]),
            ("/", &["a", "a/b"], &[]),
            ("/!a", &["!a"], &["a"]),
        ] {
            let patterns = Patterns::new(&[pattern.to_owned()]).unwrap();
            for path in takes {
                assert!(patterns.matches(path), "{pattern} {path}");
            }
            for path in leaves {
                assert!(!patterns.matches(path), "{pattern} {path}");
            }
        }
        for text in ["a[", "", "!a"] {
            assert!(Patterns::new(&[text.to_owned()]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_known() {
        let patterns = Patterns::new(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert!(patterns.matches("b/x"));
        assert_eq!(patterns.unused(), ["a"]);
    }
}
