//! `--confine`: the command in namespaces of its own.
//!
//! Owns what the command can see: the programs and libraries of the host, read
//! only; the workspace; session.sock; its own handle. Nothing else of the host's
//! files, no process outside, no capability, no descriptor but the standard ones. The namespaces are bubblewrap's work.
//!
//! Refuses a workspace that holds the daemon's sockets or registry: they would come
//! in with it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::cli::error::CliError;

/// The program that makes the namespaces.
pub const BWRAP: &str = "bwrap";

/// What the command has of its own.
pub const NAMESPACES: [&str; 4] = [
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
];

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
        for place in guarded {
            let place = real(place).unwrap_or_else(|_| place.clone());
            if SYSTEM.iter().any(|system| place.starts_with(system)) {
                let message = format!(
                    "{} is the daemon's, and lies where a confined command sees the system",
                    place.display()
                );
                let hint = "keep the daemon's directories out of /usr and /opt";
                return Err(CliError::usage(message, hint));
            }
        }
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

    /// Refuses a program that the confined command would not find, with the exit code
    /// of a shell that does not.
    pub fn check_program(&self, program: &OsStr) -> Result<(), CliError> {
        let found = if Path::new(program).components().count() > 1 {
            let named = self.named.join(program);
            let inside = named.strip_prefix(&self.named).ok();
            let file = inside.map_or(named.clone(), |inside| self.workspace.join(inside));
            (file.is_file() && self.shows(&named)).then_some(file)
        } else {
            on_path(program).find(|file| self.shows(file))
        };
        let refused = |exit, what: &str| {
            let message = format!("{} is not {what}", program.display());
            CliError::local(exit, "FAILED_PRECONDITION", message)
        };
        let Some(file) = found else {
            let hint = "the system's programs, the workspace and each --confine-read are";
            return Err(
                refused(super::NOT_FOUND, "where a confined command sees it").with_hint(hint),
            );
        };
        let is_executable = file
            .metadata()
            .is_ok_and(|it| it.permissions().mode() & 0o111 != 0);
        if is_executable {
            return Ok(());
        }
        Err(refused(super::NOT_EXECUTABLE, "executable"))
    }

    fn shows(&self, path: &Path) -> bool {
        let mut system = SYSTEM.iter().chain(LINKS);
        system.any(|place| path.starts_with(place))
            || path.starts_with(&self.named)
            || self.readable.iter().any(|place| path.starts_with(place))
    }

    /// The command line that runs the command confined: in a session of its own, so
    /// that it cannot type into the terminal, and signals reach it alone.
    pub fn wrap(&self, command: &[OsString]) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec![BWRAP.into()];
        line.extend(NAMESPACES.map(Into::into));
        let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
            line.extend(words.iter().map(|word| word.as_ref().to_owned()));
        };
        add(&[
            &"--unshare-cgroup-try",
            &"--die-with-parent",
            &"--cap-drop",
            &"ALL",
            &"--new-session",
        ]);
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

/// Whether what confines is there.
pub fn check_bubblewrap() -> Result<(), CliError> {
    if on_path(BWRAP.as_ref()).next().is_some() {
        return Ok(());
    }
    let message = "there is no bubblewrap on PATH, which --confine needs";
    let error = CliError::local(super::FAILED_BEFORE_START, "FAILED_PRECONDITION", message);
    Err(error.with_hint("apt-get install bubblewrap"))
}

/// The files of that name in the directories of PATH.
fn on_path(name: &OsStr) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .filter(|file| file.is_file())
        .collect();
    places.into_iter()
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
        for guarded in ["/opt/episoded/state", "/usr/share/episoded"] {
            let checked = confined("work", "lib").check(&[guarded.into()]);
            assert!(checked.is_err(), "{guarded}");
        }
    }
}
