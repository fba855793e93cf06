//! What a test may need and not find on this machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The root of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tools() -> PathBuf {
    std::env::var_os("EPISODED_TOOLS")
        .map_or_else(|| repository().join("target/tools"), PathBuf::from)
}

/// Whether nothing may be skipped.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// A file under `target/tools`; none, once it was said loudly, when it is not
/// installed. Fails in CI.
pub fn need_tool(path: &str) -> Option<PathBuf> {
    let tool = tools().join(path);
    if tool.exists() {
        return Some(tool);
    }
    skip(&format!("{path} is not installed: `make tools`"));
    None
}

/// Whether the test runs as root; says so loudly when not. Fails in CI.
pub fn need_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Whether the command can be run; says so loudly when not. Fails in CI.
pub fn need_command(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(sbin)
        .any(|directory| directory.join(name).exists());
    if !found {
        skip(&format!("there is no {name}: `make tools` as root"));
    }
    found
}

/// Whether Debian's Python has a module; says so loudly when not. Fails in CI.
pub fn need_python_module(name: &str) -> bool {
    let module = Path::new("/usr/lib/python3/dist-packages").join(name);
    let found = module.exists();
    if !found {
        skip(&format!("there is no python3-{name}: `make tools` as root"));
    }
    found
}

/// Says on the real standard error, which the test runner does not capture, that
/// a test is skipped, and counts it for `make test`. Fails in CI.
fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(!is_ci(), "{test} may not be skipped in CI: {why}");
    say_skipped(&test, why);
}

/// The same for what nothing that is installed can help, which may be skipped in
/// CI too.
pub fn skip_anywhere(why: &str) {
    say_skipped(std::thread::current().name().unwrap_or("a test"), why);
}

fn say_skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    let counted = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(tools().join("skipped"));
    if let Ok(mut file) = counted {
        let _ = file.write_all(line.as_bytes());
    }
}
