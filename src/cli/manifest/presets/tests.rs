//! What the presets allow, and what they do not.

use super::Preset;
use crate::cli::manifest::words;
use crate::firewall::command::{Ground, find_rule};
use crate::firewall::path::AbsolutePath;

fn allows(preset: Preset, command: &str) -> bool {
    let root = AbsolutePath::parse("/project").unwrap();
    let ground = Ground {
        root: &root,
        cwd: &root,
    };
    let words: Vec<&str> = command.split(' ').collect();
    find_rule(&preset.parsed(), &words, &[] as &[&str], &ground).is_ok()
}

fn check(preset: Preset, allowed: &[&str], refused: &[&str]) {
    for command in allowed {
        assert!(allows(preset, command), "{preset:?} {command}");
    }
    for command in refused {
        assert!(!allows(preset, command), "{preset:?} {command}");
    }
}

#[test]
fn every_rule_of_every_preset_is_one() {
    for preset in Preset::ALL {
        let rules = preset.parsed();
        assert_eq!(rules.len(), preset.rules().len(), "{preset:?}");
        for rule in rules {
            assert_eq!(rule.check(), Ok(()), "{preset:?} {}", words::rule(&rule));
        }
    }
}

#[test]
fn rust() {
    check(
        Preset::Rust,
        &[
            "cargo build",
            "cargo b --release --locked",
            "cargo check --workspace --all-targets -p one --package=two",
            "cargo clippy --all-targets -- -D warnings",
            "cargo test",
            "cargo test --lib parser::tests -- --nocapture --test-threads=1",
            "cargo test --test it cli:: -- --skip slow --exact",
            "cargo doc --no-deps --features a,b",
            "cargo fmt --all -- --check",
            "cargo fmt",
            "cargo --version",
            "rustfmt --edition 2024 --check src/main.rs",
        ],
        &[
            "cargo",
            "cargo run",
            "cargo install ripgrep",
            "cargo publish",
            "cargo add serde",
            "cargo +nightly build",
            "cargo build --config build.rustc-wrapper=x",
            "cargo build --config=x",
            "cargo --config x build",
            "cargo build --manifest-path /tmp/Cargo.toml",
            "cargo build --target-dir /tmp",
            "cargo build --target ./evil.json",
            "cargo build -Z unstable-options",
            "cargo build -C /tmp",
            "cargo clippy --fix",
            "cargo test --jobs 0",
            "cargo fmt --manifest-path /x",
            "rustfmt /etc/x.rs",
            "rustfmt --config-path /x",
            "rustc src/main.rs",
        ],
    );
}

#[test]
fn python() {
    check(
        Preset::Python,
        &[
            "pytest",
            "pytest -q tests/test_a.py::test_b",
            "python3 -m pytest -x --maxfail=3 --tb short",
            "python -m pytest -k not_slow",
            "ruff check . --output-format=concise",
            "ruff format --check src",
            "mypy --strict src",
            "python3 -m mypy -p package",
        ],
        &[
            "python3 -c print",
            "python3 script.py",
            "python3 -m http.server",
            "python3 -m pip install x",
            "pytest /etc",
            "pytest ../other",
            "pytest -p plugin",
            "pytest -c other.ini",
            "pytest --rootdir /",
            "pytest @args",
            "ruff check --fix",
            "ruff check --config x.toml",
            "mypy --config-file x",
            "mypy --python-executable x",
            "ruff clean",
        ],
    );
}

#[test]
fn node() {
    check(
        Preset::Node,
        &[
            "npm test",
            "npm t --silent",
            "npm run build",
            "npm run lint -- src",
            "npx tsc --noEmit",
            "npx tsc --noEmit -p tsconfig.test.json",
            "npx --no-install eslint src --max-warnings 0",
        ],
        &[
            "npm install",
            "npm ci",
            "npm run postinstall",
            "npm exec x",
            "npm --prefix / test",
            "npm test --script-shell=/bin/sh",
            "npx cowsay",
            "npx tsc",
            "npx tsc --noEmit --outDir /tmp",
            "npx -y tsc --noEmit",
            "npx eslint --rulesdir x",
            "npx eslint -c /etc/x.js",
            "npx eslint --fix",
            "node script.js",
            "node -e 1",
        ],
    );
}

#[test]
fn git_read() {
    check(
        Preset::GitRead,
        &[
            "git status",
            "git status --porcelain=v2 --branch",
            "git diff",
            "git diff --cached --stat -- src",
            "git diff main..feature -U3",
            "git diff HEAD~2 origin/main",
            "git log --oneline -5",
            "git log -n 10 --grep fix --since=yesterday src/main.rs",
            "git log --format=%h -S needle",
            "git show HEAD^ --stat",
            "git branch -a",
            "git branch --show-current",
            "git branch --contains HEAD",
        ],
        &[
            "git",
            "git commit -m x",
            "git push",
            "git -c core.pager=sh log",
            "git -C /tmp status",
            "git --git-dir=/x log",
            "git diff --output=/tmp/x",
            "git diff --output /tmp/x",
            "git log --output=x",
            "git show --output=x",
            "git diff --ext-diff",
            "git log -p --ext-diff",
            "git show --textconv HEAD",
            "git diff --no-index a b",
            "git diff /dev/null /etc/passwd",
            "git diff ../a b",
            "git show HEAD:../x",
            "git log --exec=x",
            "git branch new",
            "git branch -D main",
            "git branch -m a b",
            "git branch --edit-description",
            "git branch -f main HEAD",
            "git branch -u origin/main",
            "git grep -O x",
        ],
    );
}
