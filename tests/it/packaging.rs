//! What `make install` puts under its prefix, and its units as systemd reads them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::harness::{EPISODECTL, need_command, repository};

const PROGRAMS: [&str; 3] = ["episodectl", "episoded", "keycached"];

/// Services, and the kind of manager that runs them, with what each is exposed to:
/// the most, on systemd's scale from 0 to 100. A user's manager cannot do for
/// episoded what needs a user namespace.
const SERVICES: [(&str, &str, u32); 3] = [
    ("system", "episoded.service", 15),
    ("user", "episoded.service", 70),
    ("user", "keycached.service", 15),
];

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program} starts: {error}"))
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What is installed from the programs under test.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new() -> Self {
        let prefix = tempfile::tempdir().expect("a directory is made");
        let build = Path::new(EPISODECTL).parent().expect("it lies in one");
        let script = repository().join("packaging/install");
        let installed = Command::new(script).arg(build).arg(prefix.path()).output();
        let installed = installed.expect("it starts");
        assert!(installed.status.success(), "{}", said(&installed));
        assert_eq!(said(&installed), "");
        Self(prefix)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The files of a directory, by their paths from it.
    fn files(&self, directory: &str) -> BTreeSet<String> {
        files(&self.path(directory))
    }

    fn text(&self, path: &str) -> String {
        let text = std::fs::read_to_string(self.path(path));
        text.unwrap_or_else(|error| panic!("{path} can be read: {error}"))
    }
}

fn files(directory: &Path) -> BTreeSet<String> {
    let walk = ignore::WalkBuilder::new(directory).build();
    let found = walk.map(|entry| entry.expect("it can be listed").into_path());
    let found = found.filter(|path| path.is_file());
    let names = found.map(|path| {
        let path = path.strip_prefix(directory).expect("it lies in it");
        path.to_str().expect("names are text").to_owned()
    });
    names.collect()
}

#[test]
fn an_installation_has_programs_that_run_manuals_completions_and_protos() {
    let installed = Installed::new();
    assert_eq!(
        installed.files("bin"),
        PROGRAMS.map(str::to_owned).into_iter().collect()
    );
    for program in PROGRAMS {
        let path = installed.path("bin").join(program);
        let version = run(path.to_str().expect("it is text"), &["--version"]);
        assert!(said(&version).starts_with(program), "{}", said(&version));
    }

    let manuals = installed.files("share/man");
    for (page, title) in [
        ("man1/episodectl.1", "episodectl 1"),
        (
            "man1/episodectl-session-register.1",
            "episodectl-session-register 1",
        ),
        ("man8/episoded.8", "episoded 8"),
        ("man8/keycached.8", "keycached 8"),
    ] {
        assert!(manuals.contains(page), "{manuals:?}");
        let text = installed.text(&format!("share/man/{page}"));
        assert!(text.contains(&format!(".TH {title}")), "{page}: {text}");
    }

    let completions = "share/bash-completion/completions/episodectl";
    let completions = installed.path(completions);
    let parsed = run("bash", &["-n", completions.to_str().expect("it is text")]);
    assert!(parsed.status.success(), "{}", said(&parsed));
    for completions in [
        "share/zsh/site-functions/_episodectl",
        "share/fish/vendor_completions.d/episodectl.fish",
    ] {
        assert!(installed.text(completions).contains("episodectl"));
    }

    let sources = files(&repository().join("proto"));
    assert_eq!(installed.files("share/episoded/proto"), sources);
    let octets = std::fs::read(installed.path("share/episoded/descriptors.binpb"));
    let set = FileDescriptorSet::decode(&octets.expect("it is there")[..]);
    let set = set.expect("it is a set of descriptors");
    let described: BTreeSet<_> = set.file.iter().map(|file| file.name().to_owned()).collect();
    assert!(sources.is_subset(&described), "{described:?}");
}

#[test]
fn units_name_the_programs_by_the_prefix_that_they_run_from() {
    let staged = tempfile::tempdir().expect("a directory is made");
    let build = Path::new(EPISODECTL).parent().expect("it lies in one");
    let script = repository().join("packaging/install");
    let mut packager = Command::new(script);
    packager.arg(build).arg(staged.path());
    let output = packager.env("RUN_PREFIX", "/opt/episoded").output();
    let output = output.expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    let installed = Installed(staged);
    for (kind, service, _) in SERVICES {
        let unit = installed.text(&format!("lib/systemd/{kind}/{service}"));
        let program = service.trim_end_matches(".service");
        let line = format!("\nExecStart=/opt/episoded/bin/{program}\n");
        assert!(unit.contains(&line), "{unit}");
        assert!(!unit.contains("/usr/local"), "{unit}");
        if program == "episoded" {
            for line in [
                "\nRestartPreventExitStatus=75 78\n",
                "\nOOMPolicy=continue\n",
            ] {
                assert!(unit.contains(line), "{unit}");
            }
        }
    }
}

/// Asks systemd about a unit as a manager of that kind would read it.
fn analyze(kind: &str, words: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze")
        .args(words)
        .arg(format!("--{kind}"))
        .arg(unit)
        // Where the user's manager would live; it makes a directory there.
        .env("XDG_RUNTIME_DIR", unit.parent().expect("it lies somewhere"))
        .env("SYSTEMD_COLORS", "0")
        .output()
        .expect("it starts")
}

#[test]
fn systemd_understands_every_line_of_every_unit() {
    if !need_command("systemd-analyze") {
        return;
    }
    let installed = Installed::new();
    let units = installed.files("lib/systemd");
    assert_eq!(units.len(), 8, "{units:?}");
    for unit in &units {
        let (kind, name) = unit.split_once('/').expect("of a kind");
        let path = installed.path("lib/systemd").join(unit);
        let verify = || analyze(kind, &["verify", "--man=no"], &path);
        let understood = verify();
        assert!(understood.status.success(), "{unit}: {}", said(&understood));
        assert!(!said(&understood).contains(name), "{}", said(&understood));
        let text = installed.text(&format!("lib/systemd/{unit}"));
        let broken = text.clone() + "\n[Unit]\nRequire=one.service\n";
        std::fs::write(&path, broken).expect("it is written");
        let control = said(&verify());
        assert!(control.contains("Require"), "the control: {control}");
        std::fs::write(&path, text).expect("it is written");
    }
}

#[test]
fn every_service_is_exposed_to_little() {
    if !need_command("systemd-analyze") {
        return;
    }
    let installed = Installed::new();
    for (kind, service, most) in SERVICES {
        let unit = format!("lib/systemd/{kind}/{service}");
        let path = installed.path(&unit);
        let threshold = format!("--threshold={most}");
        let judge = || analyze("system", &["security", "--offline=true", &threshold], &path);
        let exposed = judge();
        let why = said(&exposed);
        assert!(why.contains("Overall exposure level"), "{unit}: {why}");
        assert!(exposed.status.success(), "{unit}: {why}");
        let text = installed.text(&unit);
        let is_guard = |line: &str| {
            ["SystemCallFilter", "Restrict", "Private", "NoNew"]
                .iter()
                .any(|word| line.starts_with(word))
        };
        let open: Vec<_> = text.lines().filter(|line| !is_guard(line)).collect();
        std::fs::write(&path, open.join("\n")).expect("it is written");
        assert!(!judge().status.success(), "the control: {unit}");
    }
}

#[test]
fn the_users_and_groups_of_the_system_units_can_be_made() {
    if !need_command("systemd-sysusers") {
        return;
    }
    let users = repository().join("packaging/systemd/sysusers.conf");
    let users = users.to_str().expect("it is text");
    let made = run("systemd-sysusers", &["--dry-run", "--root=/", users]);
    assert!(made.status.success(), "{}", said(&made));
    let system = repository().join("packaging/systemd/system/episoded.service");
    let unit = std::fs::read_to_string(system).expect("it is shipped");
    let text = std::fs::read_to_string(users).expect("it is shipped");
    let words = |line: &str| {
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let named: BTreeSet<_> = text.lines().map(words).collect();
    assert!(unit.contains("\nUser=episoded\n") && named.contains("u episoded"));
    let group = "\nSupplementaryGroups=episoded-session\n";
    assert!(unit.contains(group) && named.contains("g episoded-session"));
}
