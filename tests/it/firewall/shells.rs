//! Real shells that log what they run.
//!
//! Programs are stubs that log their arguments, in a directory that is all of
//! `PATH`; built-ins are shadowed by functions that log too. The working
//! directory has one file, `in`, and what a text makes besides is seen.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use episoded::firewall::command::{RedirectionAccess, Separator, SimpleCommand};

/// Built-ins that no rule of the reader refuses; `:` is beyond dash, which knows
/// no function of that name.
const SHADOWED: &[&str] = &[
    "echo", "printf", "test", "pwd", "true", "false", "kill", "type",
];

const STUB: &str = r#"#!/bin/sh
printf '%s\0' "$#" "${0##*/}" "$@" >>"$STUB_LOG"
case "${0##*/}" in fail*) exit 1 ;; esac
exit 0
"#;

/// What a shell did with a text.
#[derive(Debug, PartialEq, Eq)]
struct Deeds {
    /// The argv of all that ran, pipeline by pipeline, each sorted.
    ran: Vec<Vec<Vec<u8>>>,
    /// The files there are afterwards.
    files: BTreeSet<Vec<u8>>,
    /// Whether it wrote anything: a complaint, for stubs are silent.
    spoke: bool,
}

/// One of the shells, with its stubs.
pub struct Shell {
    pub name: &'static str,
    stubs: tempfile::TempDir,
    prelude: String,
}

impl Shell {
    pub fn new(name: &'static str) -> Self {
        let stubs = tempfile::tempdir().expect("a directory is made");
        let stub = stubs.path().join(".stub");
        std::fs::write(&stub, STUB).expect("a stub is written");
        std::fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let colon = (name == "bash").then_some(":");
        let prelude = SHADOWED.iter().copied().chain(colon).map(|word| {
            let status = u8::from(word == "false");
            format!(
                "{word}() {{ command printf '%s\\0' \"$#\" '{word}' \"$@\" >>\"$STUB_LOG\"; return {status}; }}\n"
            )
        });
        let prelude = prelude.collect();
        let shell = Self {
            name,
            stubs,
            prelude,
        };
        // What a text may run although nothing said so.
        for program in ["ls", "cargo", "id", "a", "b", "x", "in", "out"] {
            shell.stub(program);
        }
        shell
    }

    fn stub(&self, program: &str) {
        let path = self.stubs.path().join(program);
        if !path.exists() {
            symlink(".stub", path).expect("a stub is linked");
        }
    }

    /// Whether the shell can be asked about these commands: it finds the programs
    /// on its path, can log them, and opens no other directory and no file that
    /// is not there.
    pub fn can_run(&self, commands: &[SimpleCommand]) -> bool {
        let plain = |name: &str| !name.contains('/') && !["..", "."].contains(&name);
        commands.iter().all(|command| {
            let program = &*command.words[0];
            let blind = program == "[" || (program == ":" && self.name != "bash");
            let files = command.redirections.iter().all(|one| {
                let read = one.access == RedirectionAccess::Read;
                one.target == "/dev/null"
                    || if read {
                        one.target == "in"
                    } else {
                        plain(&one.target)
                    }
            });
            plain(program) && !blind && files
        })
    }

    /// How what the shell does with the text differs from these commands.
    pub fn difference(&self, text: &str, commands: &[SimpleCommand]) -> Option<String> {
        for command in commands {
            self.stub(&command.words[0]);
        }
        let (expected, sizes) = expected(commands);
        let observed = self.run(text, &sizes);
        (expected != observed).then(|| {
            format!(
                "{}: {text:?}\nsaid {expected:?}\ndid  {observed:?}",
                self.name
            )
        })
    }

    fn run(&self, text: &str, sizes: &[usize]) -> Deeds {
        let place = tempfile::tempdir().expect("a directory is made");
        let (cwd, log) = (place.path().join("cwd"), place.path().join("log"));
        std::fs::create_dir(&cwd).expect("a directory is made");
        std::fs::write(cwd.join("in"), "").expect("a file is made");
        std::fs::write(&log, "").expect("a log is made");
        let output = Command::new(format!("/bin/{}", self.name))
            .args(["-c", &format!("{}{text}", self.prelude)])
            .current_dir(&cwd)
            .env_clear()
            .env("PATH", self.stubs.path())
            .env("STUB_LOG", &log)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .expect("the shell starts");
        let files = files(&cwd);
        let quiet = files
            .iter()
            .all(|name| is_empty(&cwd.join(OsStr::from_bytes(name))));
        Deeds {
            ran: arrange(
                argvs(&std::fs::read(&log).expect("the log is there")),
                sizes,
            ),
            files,
            spoke: !quiet || !output.stdout.is_empty() || !output.stderr.is_empty(),
        }
    }
}

fn files(directory: &Path) -> BTreeSet<Vec<u8>> {
    let entries = std::fs::read_dir(directory).expect("it can be listed");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    names.map(|name| name.as_bytes().to_vec()).collect()
}

fn is_empty(path: &PathBuf) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() == 0)
}

/// What must happen, and how many commands each pipeline that runs has.
fn expected(commands: &[SimpleCommand]) -> (Deeds, Vec<usize>) {
    let mut flat = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut files = BTreeSet::from([b"in".to_vec()]);
    let (mut success, mut runs) = (true, true);
    for command in commands {
        let joined = command.before == Separator::Pipe;
        runs = match command.before {
            Separator::Start | Separator::Then => true,
            Separator::And => success,
            Separator::Or => !success,
            Separator::Pipe => runs,
        };
        if !runs {
            continue;
        }
        let program = &command.words[0];
        success = !program.starts_with("fail") && program != "false";
        flat.push(joined_by_nul(command.words.iter().map(String::as_bytes)));
        match sizes.last_mut() {
            Some(size) if joined => *size += 1,
            _ => sizes.push(1),
        }
        let opened = command.redirections.iter().map(|one| one.target.as_bytes());
        files.extend(
            opened
                .filter(|name| *name != b"/dev/null")
                .map(<[u8]>::to_vec),
        );
    }
    let deeds = Deeds {
        ran: arrange(flat, &sizes),
        files,
        spoke: false,
    };
    (deeds, sizes)
}

fn joined_by_nul<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    words.flat_map(|word| [word, b"\0"].concat()).collect()
}

/// The log taken apart: for each command its number of arguments, then its words,
/// all ended by NUL.
fn argvs(log: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = log.split_inclusive(|byte| *byte == 0);
    let mut found = Vec::new();
    while let Some(count) = fields.next() {
        let count = std::str::from_utf8(&count[..count.len() - 1]).expect("a number");
        let count: usize = count.parse().expect("a number");
        found.push(fields.by_ref().take(count + 1).flatten().copied().collect());
    }
    found
}

/// The commands by pipelines of these sizes, each sorted: the commands of one
/// pipeline start in any order. What is more than was expected is a group too.
fn arrange(flat: Vec<Vec<u8>>, sizes: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let mut rest = flat.into_iter();
    let mut groups = Vec::new();
    for size in sizes.iter().copied().chain([usize::MAX]) {
        let mut group: Vec<_> = rest.by_ref().take(size).collect();
        group.sort();
        groups.push(group);
    }
    groups
}
