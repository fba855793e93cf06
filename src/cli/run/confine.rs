//! `--confine`: the command in namespaces of its own.
//!
//! Owns what the command can see: the programs and libraries of the host, read
//! only; the workspace; session.sock; its own handle. Nothing else of the host's
//! files, no process outside, no capability, no descriptor but the standard ones. The namespaces are bubblewrap's work.
//!
//! Refuses a workspace that holds the daemon's sockets or registry: they would come
//! in with it.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::cli::error::CliError;

/// The program that makes the namespaces.
const BWRAP: &str = "bwrap";

/// What programs need of the host: read only, and only where it is there.
const SYSTEM: &[&str] = &["/usr", "/opt"];

/// What programs look up; no key and no credential is among it.
const LOOKED_UP: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
];

/// Links into /usr on most hosts, directories on some.
const LINKS: &[&str] = &["/bin", "/lib", "/lib32", "/lib64", "/sbin"];

/// What a confined command sees besides the system.
#[derive(Debug)]
pub struct Confinement {
    /// The workspace, where it is.
    pub workspace: PathBuf,
    /// The workspace, as the command names it.
    pub named: PathBuf,
    /// Where session.sock is.
    pub session_dir: PathBuf,
    /// Where the handle is.
    pub scratch: PathBuf,
    /// Directories to be read as well.
    pub readable: Vec<PathBuf>,
}

impl Confinement {
    /// Refuses what would let the command at what it is confined from.
    pub fn check(&self, guarded: &[PathBuf]) -> Result<(), CliError> {
        let shown = self.readable.iter().chain([&self.workspace]);
        for shown in shown {
            let shown = real(shown)?;
            for guarded in guarded {
                // What is not there yet is looked for by its name.
                let guarded = real(guarded).unwrap_or_else(|_| guarded.clone());
                if guarded.starts_with(&shown) || shown.starts_with(&guarded) {
                    let message = format!(
                        "{} cannot be shown to a confined command: {} is the daemon's",
                        shown.display(),
                        guarded.display()
                    );
                    let hint = "choose a workspace that does not hold the daemon's directories";
                    return Err(CliError::usage(message, hint));
                }
            }
        }
        Ok(())
    }

    /// The command line that runs the command confined. `has_terminal`: a session of
    /// its own, so that it cannot type into the terminal.
    pub fn wrap(&self, command: &[OsString], has_terminal: bool) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec![BWRAP.into()];
        let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
            line.extend(words.iter().map(|word| word.as_ref().to_owned()));
        };
        add(&[
            &"--unshare-user",
            &"--unshare-pid",
            &"--unshare-ipc",
            &"--unshare-uts",
        ]);
        add(&[
            &"--unshare-cgroup-try",
            &"--die-with-parent",
            &"--cap-drop",
            &"ALL",
        ]);
        if has_terminal {
            add(&[&"--new-session"]);
        }
        add(&[&"--proc", &"/proc", &"--dev", &"/dev", &"--tmpfs", &"/tmp"]);
        for place in SYSTEM.iter().chain(LOOKED_UP) {
            add(&[&"--ro-bind-try", place, place]);
        }
        for link in LINKS {
            match std::fs::read_link(link) {
                Ok(target) => add(&[&"--symlink", &target, link]),
                Err(_) => add(&[&"--ro-bind-try", link, link]),
            }
        }
        for place in &self.readable {
            add(&[&"--ro-bind", place, place]);
        }
        add(&[&"--bind", &self.workspace, &self.named]);
        // A socket in a read-only directory takes connections all the same.
        add(&[&"--ro-bind", &self.session_dir, &self.session_dir]);
        add(&[&"--ro-bind", &self.scratch, &self.scratch]);
        add(&[&"--chdir", &self.named, &"--setenv", &"HOME", &"/tmp"]);
        for name in [
            "EPISODED_SOCKET",
            "XDG_RUNTIME_DIR",
            "SSH_AUTH_SOCK",
            "DBUS_SESSION_BUS_ADDRESS",
        ] {
            add(&[&"--unsetenv", &name]);
        }
        add(&[&"--"]);
        line.extend(command.iter().cloned());
        line
    }
}

/// Whether this process has a terminal that a child could type into.
pub fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Hands on no descriptor that this process was started with but the standard ones:
/// whatever it was opened for, it would lead outside.
#[expect(
    unsafe_code,
    reason = "descriptors that were inherited have no owner in this process"
)]
pub fn hand_on_nothing() -> Result<(), CliError> {
    let open = Path::new("/proc/self/fd");
    let failed = |error: std::io::Error| CliError::reading(open, &error);
    for entry in std::fs::read_dir(open).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number > 2) else {
            continue;
        };
        // SAFETY: the number is that of an open descriptor, or of one that another
        // thread closes now, which the call then answers with BADF; nothing but its
        // flag is touched.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_setfd(borrowed, FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf, CliError> {
    path.canonicalize()
        .map_err(|error| CliError::reading(path, &error))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Confinement;

    #[test]
    fn a_workspace_that_holds_the_daemons_directories_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        for path in ["work/src", "run/session", "state", "lib"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        std::os::unix::fs::symlink(at("run"), at("link")).unwrap();
        let guarded = [
            at("run"),
            at("state"),
            PathBuf::from("/nonexistent/guarded"),
        ];
        let confined = |workspace: &str, readable: &str| Confinement {
            workspace: at(workspace),
            named: at(workspace),
            session_dir: at("run/session"),
            scratch: at("run/run-1"),
            readable: vec![at(readable)],
        };
        assert!(confined("work", "lib").check(&guarded).is_ok());
        for (workspace, readable) in [
            ("", "lib"),
            ("run", "lib"),
            ("run/session", "lib"),
            ("state", "lib"),
            ("link", "lib"),
            ("work", "link"),
            ("work", ""),
            ("missing", "lib"),
        ] {
            let checked = confined(workspace, readable).check(&guarded);
            assert!(checked.is_err(), "{workspace:?} {readable:?}");
        }
    }
}
