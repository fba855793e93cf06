//! Group ids by name.
//!
//! Owns the look into `/etc/group`. Groups of other sources (LDAP) have to be
//! given by number; a name that is not in the file is refused.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::process::Gid;

/// The group of that name in `/etc/group`, or of that number.
pub fn find(name: &str) -> Result<Gid, GroupError> {
    find_in(Path::new("/etc/group"), name)
}

fn find_in(file: &Path, name: &str) -> Result<Gid, GroupError> {
    let number = if let Ok(number) = name.parse() {
        Some(number)
    } else {
        let text = std::fs::read(file).map_err(GroupError::Read)?;
        look_up(&String::from_utf8_lossy(&text), name)
    };
    match number {
        // (gid_t)-1 is "leave as it is" to chown(2).
        None | Some(u32::MAX) => Err(GroupError::Unknown(name.to_owned())),
        Some(number) => Ok(Gid::from_raw(number)),
    }
}

/// Lines are `name:password:number:members`: group(5).
fn look_up(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

/// Why there is no group id.
#[derive(Debug)]
pub enum GroupError {
    /// The file cannot be read.
    Read(io::Error),
    /// No such group.
    Unknown(String),
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("cannot read /etc/group"),
            Self::Unknown(name) => write!(f, "no group {name:?} in /etc/group"),
        }
    }
}

impl std::error::Error for GroupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(source) => Some(source),
            Self::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{GroupError, find, find_in, look_up};

    #[test]
    fn a_group_is_found_by_name_and_by_number() {
        let text = "root:x:0:\n# a comment\nagents:x:1234:alice,bob\nodd:x\n";
        assert_eq!(look_up(text, "agents"), Some(1234));
        assert_eq!(look_up(text, "alice"), None);
        assert_eq!(look_up(text, "odd"), None);
        assert_eq!(find("4321").unwrap().as_raw(), 4321);
        assert_eq!(find("root").unwrap().as_raw(), 0);
    }

    #[test]
    fn what_is_no_group_is_refused() {
        for name in ["no-such-group-here", "4294967295", "4294967296", "-1"] {
            assert!(matches!(find(name), Err(GroupError::Unknown(_))), "{name}");
        }
        assert!(matches!(
            find_in(Path::new("/nonexistent"), "agents"),
            Err(GroupError::Read(_))
        ));
    }
}
