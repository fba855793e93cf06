//! What is allowed and probably not meant.

use std::fmt;

use hashbrown::HashMap;

use super::{Access, Manifest, ToolClass};
use crate::firewall::command::{Matcher, Rule};

/// Programs that run another program, which a rule for them lets through.
const WRAPPERS: &[&str] = &[
    "env",
    "xargs",
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "fish",
    "timeout",
    "nice",
    "ionice",
    "nohup",
    "setsid",
    "stdbuf",
    "sudo",
    "doas",
    "su",
    "chroot",
    "unshare",
    "nsenter",
    "watch",
    "time",
    "script",
    "parallel",
    "find",
    "fd",
    "ssh",
    "busybox",
    "strace",
    "ltrace",
    "gdb",
    "flock",
    "systemd-run",
    "taskset",
    "chrt",
    "expect",
    "make",
    "just",
    "awk",
    "gawk",
    "sed",
    "perl",
    "vim",
    "vi",
    "ed",
    "tar",
    "rsync",
];

/// Programs that run what a file of the workspace says.
const INTERPRETERS: &[&str] = &[
    "python", "python3", "node", "deno", "bun", "ruby", "perl", "php", "lua", "sh", "bash", "dash",
    "zsh", "make", "just", "npm", "npx", "yarn", "pnpm", "cargo", "go", "pytest", "tox", "gradle",
    "mvn",
];

/// Something to look at before a manifest is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where, as `commands[2]`.
    pub field: String,
    /// What it means.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.what)
    }
}

/// Looks for what is valid and probably not meant.
pub fn lint(manifest: &Manifest) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |field: String, what: String| found.push(Warning { field, what });
    case_twins(manifest, &mut warn);
    for (at, rule) in manifest.commands().iter().enumerate() {
        rule_warnings(rule, &format!("commands[{at}]"), &mut warn);
    }
    unused(manifest, &mut warn);
    found
}

fn case_twins(manifest: &Manifest, warn: &mut impl FnMut(String, String)) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for entry in manifest.entries() {
        let path = entry.path.as_str();
        if let Some(twin) = seen.insert(path.to_lowercase(), path) {
            let what = format!("differs from {twin} in case only: one file where case is ignored");
            warn(format!("entry {path}"), what);
        }
    }
}

fn rule_warnings(rule: &Rule, field: &str, warn: &mut impl FnMut(String, String)) {
    let program = &*rule.program;
    let name = program.rsplit('/').next().unwrap_or(program);
    let free = rule.arguments.iter().any(is_free);
    if WRAPPERS.contains(&name) && free {
        let what = format!("gives {name} free arguments: it can run any other program with them");
        warn(field.to_owned(), what);
    }
    if program.contains('/') && !program.starts_with('/') {
        let what = format!("runs {program} from the workspace, which the session may write");
        warn(field.to_owned(), what);
    } else if INTERPRETERS.contains(&name) {
        let what = format!("runs code from the workspace: what {name} finds there decides");
        warn(field.to_owned(), what);
    }
    for name in &rule.environment {
        if [
            "PATH",
            "IFS",
            "ENV",
            "BASH_ENV",
            "GIT_SSH_COMMAND",
            "PAGER",
            "EDITOR",
        ]
        .contains(&&**name)
            || name.starts_with("LD_")
        {
            let what = format!("lets the caller set {name}, which decides what runs");
            warn(field.to_owned(), what);
        }
    }
}

/// Whether an argument takes words of the caller's choice.
fn is_free(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Text | Matcher::PathUnder(_) => true,
        Matcher::Literal(_) | Matcher::OneOf(_) | Matcher::Integer { .. } => false,
        Matcher::Option { value, .. } => is_free(value),
        Matcher::AnyOf(matchers) => matchers.iter().any(is_free),
        Matcher::AnyNumberOf(matcher) => is_free(matcher),
    }
}

/// What no request can reach, because its class of tools is not allowed.
fn unused(manifest: &Manifest, warn: &mut impl FnMut(String, String)) {
    let tools = manifest.tools();
    let has = |class| tools.has(class);
    let writes = manifest.trees().iter().any(|t| t.access.writes())
        || manifest
            .entries()
            .iter()
            .any(|e| e.access == Access::ReadWrite);
    let reads = !manifest.entries().is_empty();
    let runs = |git: bool| {
        manifest
            .commands()
            .iter()
            .any(|r| (&*r.program == "git") == git)
    };
    for (is_there, class, what) in [
        (reads, ToolClass::Read, "files are listed"),
        (writes, ToolClass::Write, "paths are writable"),
        (runs(false), ToolClass::Execute, "there are command rules"),
        (
            !manifest.network().is_empty(),
            ToolClass::Network,
            "hosts are listed",
        ),
        (
            !manifest.models().is_empty(),
            ToolClass::Inference,
            "models are listed",
        ),
        (
            !manifest.artifacts().is_empty(),
            ToolClass::Artifact,
            "artifacts are listed",
        ),
    ] {
        if is_there && !has(class) {
            let what = format!("does not have {}, although {what}", class.name());
            warn("tools".to_owned(), what);
        }
    }
    if runs(true) && !has(ToolClass::Git) && !has(ToolClass::Execute) {
        let what = "has neither GIT nor EXECUTE, although there are rules for git";
        warn("tools".to_owned(), what.to_owned());
    }
}
