//! Processes that do not outlive the bench, even one that is killed.
//!
//! A process asks the kernel itself for the signal at the end of its parent, and
//! keeps it over `exec`: so the bench starts itself first, which then becomes the
//! other program.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::process::{Signal, set_parent_process_death_signal};

/// Makes the bench another program, which follows with its arguments.
pub const ARGUMENT: &str = "--become";

/// Starts a program with an empty environment. Must be called on the main thread,
/// whose end the kernel takes for the parent's.
pub fn spawn<A: Into<OsString>>(program: &Path, arguments: impl IntoIterator<Item = A>) -> Child {
    spawn_in(program, arguments, [] as [(&str, OsString); 0])
}

/// The same with this environment.
pub fn spawn_in<A: Into<OsString>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
) -> Child {
    Command::new(itself())
        .env_clear()
        .envs(environment)
        .arg(ARGUMENT)
        .arg(program)
        .args(arguments.into_iter().map(Into::into))
        .stdin(Stdio::null())
        .spawn()
        .expect("the bench can be run again")
}

/// The bench's own program.
pub fn itself() -> std::path::PathBuf {
    std::env::current_exe().expect("the bench knows itself")
}

/// Becomes the program that the arguments name.
pub fn become_program(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = arguments.next().expect("a program follows");
    set_parent_process_death_signal(Some(Signal::KILL)).expect("the kernel sends it");
    let error = Command::new(program).args(arguments).exec();
    panic!("the program cannot be run: {error}");
}
