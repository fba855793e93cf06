//! How many connections there may be at most.
//!
//! Owns the two numbers that decide it: the file limit of the process and the
//! cap that follows from it. Refuses nothing.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// HTTP/2 needs few connections; beyond this a client does something wrong.
const MAX_CONNECTIONS: u64 = 16_384;

/// Raises the soft limit of open files to the hard one; returns what holds then.
pub fn raise_nofile() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(errno) => {
            tracing::warn!(error = %errno, "cannot raise the limit of open files");
            limit
        }
    };
    now.current.unwrap_or(u64::MAX)
}

/// The cap on connections: 80 % of the file limit, at most 16,384 and what is configured.
///
/// The rest is for the registry, for backups, and for accepting what is then refused.
pub fn connection_cap(nofile: u64, configured: Option<u64>) -> u64 {
    (nofile / 5 * 4)
        .min(MAX_CONNECTIONS)
        .min(configured.unwrap_or(MAX_CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    use super::{connection_cap, raise_nofile};

    #[test]
    fn the_smallest_of_the_three_is_the_cap() {
        assert_eq!(connection_cap(1_000, None), 800);
        assert_eq!(connection_cap(1_000, Some(5_000)), 800);
        assert_eq!(connection_cap(1_000, Some(500)), 500);
        assert_eq!(connection_cap(u64::MAX, None), 16_384);
        assert_eq!(connection_cap(u64::MAX, Some(u64::MAX)), 16_384);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_nofile(), hard.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
