//! Paths in their normal form: what is judged is what is opened.
//!
//! A path is made normal lexically, without a look at the file system: empty and
//! `.` components go, `..` takes the one before it away, a slash at the end goes.
//! Normal paths are compared as bytes; two spellings that look alike are two paths.

use std::fmt;

/// Longest path, in bytes, before and after it is made normal.
pub const MAX_PATH_BYTES: usize = 4096;
/// Most components, before and after.
pub const MAX_COMPONENTS: usize = 256;

/// Why a text is not a path, in words that complete "the path".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It is empty.
    Empty,
    /// It has a NUL or another control character.
    Control,
    /// It has more than [`MAX_PATH_BYTES`].
    TooLong,
    /// It has more than [`MAX_COMPONENTS`].
    TooDeep,
    /// It must begin with `/` and does not.
    Relative,
    /// It must not begin with `/` and does.
    Absolute,
    /// Its `..` climb above `/`, or above the directory it must stay below.
    Climbs,
}

impl PathError {
    /// The rule that is broken.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Empty => "must not be empty",
            Self::Control => "must have no NUL and no control character",
            Self::TooLong => "must be at most 4,096 bytes",
            Self::TooDeep => "must have at most 256 components",
            Self::Relative => "must begin with `/`",
            Self::Absolute => "must be relative to the root",
            Self::Climbs => "must not climb out with `..`",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for PathError {}

/// An absolute path in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AbsolutePath(Box<str>);

impl AbsolutePath {
    /// Makes an absolute path normal.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check(text)?;
        if !text.starts_with('/') {
            return Err(PathError::Relative);
        }
        let mut path = String::with_capacity(text.len());
        push(&mut path, text)?;
        Self::finish(path)
    }

    /// The path that `text` names in this directory: itself if it is absolute.
    pub fn join(&self, text: &str) -> Result<Self, PathError> {
        check(text)?;
        let mut path = String::with_capacity(self.0.len() + 1 + text.len());
        if !text.starts_with('/') && &*self.0 != "/" {
            path.push_str(&self.0);
        }
        push(&mut path, text)?;
        Self::finish(path)
    }

    fn finish(mut path: String) -> Result<Self, PathError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if components(&path) > MAX_COMPONENTS {
            return Err(PathError::TooDeep);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is left of it below `root`: empty for the root itself, none for what
    /// lies elsewhere.
    pub fn below(&self, root: &Self) -> Option<&str> {
        if &*root.0 == "/" {
            return Some(&self.0[1..]);
        }
        match self.0.strip_prefix(&*root.0)? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below a root that is not part of it, in its normal form; empty for the
/// root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelativePath(Box<str>);

impl RelativePath {
    /// Makes a path relative to the root normal; `.` is the root itself.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check(text)?;
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        let mut path = String::with_capacity(text.len() + 1);
        push(&mut path, text)?;
        let relative = path.strip_prefix('/').unwrap_or_default();
        Ok(Self(relative.into()))
    }

    /// The text; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text; `.` for the root.
    pub fn shown(&self) -> &str {
        if self.is_root() { "." } else { &self.0 }
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the path `other`, in its normal form and relative to the same root,
    /// is this one or below it.
    pub fn covers(&self, other: &str) -> bool {
        covers(&self.0, other)
    }
}

/// Whether `path` is `directory` or below it, by components. Both are normal and
/// relative to one root.
pub fn covers(directory: &str, path: &str) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => directory.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn check(text: &str) -> Result<(), PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    let is_plain = text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !is_plain && text.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    Ok(())
}

/// Appends the components of `text`, each behind a slash.
fn push(path: &mut String, text: &str) -> Result<(), PathError> {
    let mut count = 0;
    for component in text.split('/') {
        match component {
            "" | "." => continue,
            ".." => {
                let parent = path.rfind('/').ok_or(PathError::Climbs)?;
                path.truncate(parent);
            }
            name => {
                path.push('/');
                path.push_str(name);
            }
        }
        count += 1;
        if count > MAX_COMPONENTS {
            return Err(PathError::TooDeep);
        }
    }
    Ok(())
}

fn components(path: &str) -> usize {
    path.bytes().filter(|b| *b == b'/').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AbsolutePath, MAX_COMPONENTS, MAX_PATH_BYTES, PathError, RelativePath, covers};

    fn absolute(text: &str) -> Result<String, PathError> {
        AbsolutePath::parse(text).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_is_made_normal_by_its_components() {
        for (text, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("//a///b/", "/a/b"),
            ("/a/./b/.", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/.../a", "/.../a"),
            ("/a/..b", "/a/..b"),
            ("/docs/über.md", "/docs/über.md"),
        ] {
            assert_eq!(absolute(text).as_deref(), Ok(normal), "{text}");
        }
        for (text, error) in [
            ("", PathError::Empty),
            ("a", PathError::Relative),
            ("/..", PathError::Climbs),
            ("/a/../../b", PathError::Climbs),
            ("/a\0", PathError::Control),
            ("/a\nb", PathError::Control),
            ("/a\u{7f}", PathError::Control),
            ("/a\u{85}", PathError::Control),
        ] {
            assert_eq!(absolute(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_relative_text_is_joined_to_its_directory_and_an_absolute_one_is_not() {
        let root = AbsolutePath::parse("/project").unwrap();
        let join = |text| root.join(text).map(|path| path.as_str().to_owned());
        assert_eq!(join("src/main.rs").as_deref(), Ok("/project/src/main.rs"));
        assert_eq!(join("/etc").as_deref(), Ok("/etc"));
        assert_eq!(join("..").as_deref(), Ok("/"));
        assert_eq!(join("../.."), Err(PathError::Climbs));
        let slash = AbsolutePath::parse("/").unwrap();
        assert_eq!(slash.join("etc").unwrap().as_str(), "/etc");
    }

    #[test]
    fn the_limits_hold_before_and_after() {
        let longest = format!("/{}", "x".repeat(MAX_PATH_BYTES - 1));
        assert!(absolute(&longest).is_ok());
        assert_eq!(absolute(&format!("{longest}x")), Err(PathError::TooLong));
        assert!(absolute(&"/x".repeat(MAX_COMPONENTS)).is_ok());
        let deep = "/x".repeat(MAX_COMPONENTS + 1);
        assert_eq!(absolute(&deep), Err(PathError::TooDeep));
        let up_and_down = "/x/..".repeat(MAX_COMPONENTS);
        assert_eq!(absolute(&up_and_down), Err(PathError::TooDeep));
        let root = AbsolutePath::parse(&"/x".repeat(200)).unwrap();
        assert_eq!(root.join(&"y/".repeat(57)), Err(PathError::TooDeep));
        let root = AbsolutePath::parse(&longest).unwrap();
        assert_eq!(root.join("y"), Err(PathError::TooLong));
    }

    #[test]
    fn a_relative_path_stays_below_its_root() {
        let parse = |text| RelativePath::parse(text).map(|path| path.as_str().to_owned());
        assert_eq!(parse(".").as_deref(), Ok(""));
        assert_eq!(parse("./a//b/").as_deref(), Ok("a/b"));
        assert_eq!(parse("a/../b").as_deref(), Ok("b"));
        assert_eq!(parse("../b"), Err(PathError::Climbs));
        assert_eq!(parse("/b"), Err(PathError::Absolute));
    }

    #[test]
    fn below_means_by_components() {
        let parse = |text| AbsolutePath::parse(text).unwrap();
        let below = |path, root| parse(path).below(&parse(root)).map(str::to_owned);
        assert_eq!(below("/project/a/b", "/project").as_deref(), Some("a/b"));
        assert_eq!(below("/project", "/project").as_deref(), Some(""));
        assert_eq!(below("/projects/a", "/project"), None);
        assert_eq!(below("/a/b", "/").as_deref(), Some("a/b"));
        assert_eq!(below("/", "/").as_deref(), Some(""));
        assert_eq!(below("/", "/project"), None);
        assert!(covers("out", "out") && covers("out", "out/x") && covers("", "out"));
        assert!(!covers("out", "outer") && !covers("out/x", "out"));
    }

    proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_form(
            parts in proptest::collection::vec("(\\.|\\.\\.|[a-c]{0,2})", 0..12)
        ) {
            let text = format!("/{}", parts.join("/"));
            if let Ok(path) = AbsolutePath::parse(&text) {
                prop_assert_eq!(AbsolutePath::parse(path.as_str()), Ok(path.clone()));
                let odd = |part: &str| part.is_empty() || part == "." || part == "..";
                let inner = path.as_str().strip_prefix('/').unwrap();
                prop_assert!(inner.is_empty() || !inner.split('/').any(odd));
            }
        }
    }
}
