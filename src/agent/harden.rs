//! What the process gives up before it holds a secret.

use std::{io, panic, process};

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    thread::set_no_new_privs,
};

use crate::secret::forbid_dumps;

/// No core files, no reading by others of our uid, no new privileges, no panic with
/// a payload. Says how many bytes may be locked.
pub(super) fn harden() -> io::Result<usize> {
    forbid_dumps()?;
    set_no_new_privs(true)?;
    umask(Mode::RWXG | Mode::RWXO);
    panic::set_hook(Box::new(|panic| {
        // Without its message, which may quote what it was about.
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "panic");
        } else {
            eprintln!("keycached: panic at {place}");
        }
        process::abort();
    }));
    let lockable = getrlimit(Resource::Memlock);
    let raised = Rlimit {
        current: lockable.maximum,
        maximum: lockable.maximum,
    };
    setrlimit(Resource::Memlock, raised)?;
    let bytes = lockable.maximum.unwrap_or(u64::MAX);
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}
