//! `episodectl __agent_security_check`: whether keys are safe where the agent is, or
//! would be. Changes nothing, and reads no configuration.

use std::{
    fmt::Display,
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::ExitCode,
};

use rustix::process::geteuid;

use super::harden::harden;
use crate::{
    keycache::arena::{Allowed, Arena},
    paths::{AGENT_SOCKET, DirError, Env, verify_private_dir},
};

/// All is well.
const SAFE: u8 = 0;
/// Something is not.
const UNSAFE: u8 = 1;

/// Says what was looked at, a line each.
pub fn run() -> ExitCode {
    let lockable = harden();
    let place = Env::of_process().agent_dir();
    let at = |look: fn(&Path) -> Result<String, String>| match &place {
        Ok(directory) => look(directory),
        Err(error) => Err(error.to_string()),
    };
    let found = [
        ("directory", at(directory)),
        ("socket", at(socket)),
        ("memory", lockable.map_err(text).and_then(memory)),
    ];
    let (mut code, mut out) = (SAFE, io::stdout());
    for (what, found) in found {
        let told = match found {
            Ok(how) => writeln!(out, "ok      {what}: {how}"),
            Err(why) => {
                code = UNSAFE;
                writeln!(out, "failed  {what}: {why}")
            }
        };
        // What cannot be told is not known to be safe.
        if told.is_err() {
            code = UNSAFE;
        }
    }
    ExitCode::from(code)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn directory(path: &Path) -> Result<String, String> {
    match verify_private_dir(path) {
        Ok(()) => Ok(format!("{} is ours alone", path.display())),
        Err(DirError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(format!("{} is not there yet", path.display()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn socket(directory: &Path) -> Result<String, String> {
    use std::os::unix::fs::FileTypeExt as _;
    let path = directory.join(AGENT_SOCKET);
    let shown = path.display();
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(format!("{shown} is not there: no agent runs"));
        }
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let mode = found.mode() & 0o7777;
    if !found.file_type().is_socket() {
        return Err(format!("{shown} is not a socket"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(format!("{shown} belongs to uid {}", found.uid()));
    }
    if mode & 0o077 != 0 {
        return Err(format!("{shown} has mode {mode:04o}, must be 0600"));
    }
    Ok(format!("{shown} is ours alone"))
}

fn memory(lockable: usize) -> Result<String, String> {
    let allowed = Allowed {
        secret: true,
        unlocked: false,
    };
    let arena = Arena::new(lockable, allowed).map_err(text)?;
    Ok(format!(
        "{}, at most {lockable} bytes",
        arena.kind().as_str()
    ))
}
