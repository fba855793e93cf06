//! Why a configuration is not accepted.
//!
//! Owns the errors of loading and of reloading. A list of errors writes each
//! with its cause, because a list has no single source.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::paths::PathError;

/// One thing that is wrong.
#[derive(Debug)]
pub enum ConfigError {
    /// A file could not be read.
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is not TOML.
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// The cause.
        source: Box<toml::de::Error>,
    },
    /// A file has a key that there is not.
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A key does not take its value.
    BadValue {
        /// The key.
        key: &'static str,
        /// The value as it was given.
        value: String,
        /// What the key takes.
        allowed: String,
        /// Where the value was given.
        origin: Origin,
    },
    /// A path cannot be used.
    Path(PathError),
    /// session.sock, which others may reach, would lie beside what is private.
    SharedDirectory {
        /// The directory.
        path: PathBuf,
        /// The key of the same directory.
        other: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, .. } => write!(f, "cannot read {}", file.display()),
            Self::Syntax { file, line, .. } => {
                write!(f, "{}, line {line}: not TOML", file.display())
            }
            Self::UnknownKey { key, file } => {
                write!(f, "{}: unknown key {key:?}", file.display())
            }
            Self::BadValue {
                key,
                value,
                allowed,
                origin,
            } => write!(f, "{origin}: {key} is {value}, allowed is {allowed}"),
            Self::Path(_) => f.write_str("cannot use a path"),
            Self::SharedDirectory { path, other } => write!(
                f,
                "session_dir is {}, and so is {other}: it must be a directory of its own",
                path.display()
            ),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Syntax { source, .. } => Some(source.as_ref()),
            Self::Path(source) => Some(source),
            Self::UnknownKey { .. } | Self::BadValue { .. } | Self::SharedDirectory { .. } => None,
        }
    }
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, by this flag.
    Flag(String),
    /// In this variable.
    Variable(String),
    /// In this file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Everything that is wrong, one a line; never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
            let mut cause = error.source();
            while let Some(error) = cause {
                // The TOML parser draws the place over several lines.
                match error.downcast_ref::<toml::de::Error>() {
                    Some(error) => write!(f, ": {}", error.message())?,
                    None => write!(f, ": {error}")?,
                }
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

/// Why a reload changed nothing.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration is wrong.
    Invalid(ConfigErrors),
    /// Keys differ that only a restart changes.
    NeedsRestart {
        /// Their names.
        keys: Vec<&'static str>,
    },
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(_) => f.write_str("the configuration is wrong, nothing was changed"),
            Self::NeedsRestart { keys } => write!(
                f,
                "only a restart changes {}, nothing was changed",
                keys.join(", ")
            ),
        }
    }
}

impl Error for ReloadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Invalid(errors) => Some(errors),
            Self::NeedsRestart { .. } => None,
        }
    }
}
