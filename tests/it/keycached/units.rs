//! The units of systemd, as systemd reads them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{need_command, repository};

const ANALYZE: &str = "systemd-analyze";

/// What is reached, on systemd's scale from 0 to 10.
const EXPOSURE: &str = "15";

fn units() -> PathBuf {
    repository().join("packaging/systemd/user")
}

/// The units, with a program that is there.
fn installed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory is made");
    for name in ["keycached.service", "keycached.socket"] {
        let unit = std::fs::read_to_string(units().join(name)).expect("it is shipped");
        let unit = unit.replace("/usr/local/bin/keycached", super::agent::KEYCACHED);
        std::fs::write(directory.path().join(name), unit).expect("it is written");
    }
    directory
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new(ANALYZE)
        .args(arguments)
        .arg(unit)
        // Where the user's manager would live; it makes a directory there.
        .env("XDG_RUNTIME_DIR", unit.parent().expect("it lies somewhere"))
        .env("SYSTEMD_COLORS", "0")
        .output()
        .expect("it starts")
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn systemd_understands_every_line() {
    if !need_command(ANALYZE) {
        return;
    }
    let units = installed();
    for name in ["keycached.service", "keycached.socket"] {
        let unit = units.path().join(name);
        let understood = || {
            let output = analyze(&["verify", "--user", "--man=no"], &unit);
            (
                output.status.success() && !said(&output).contains(name),
                said(&output),
            )
        };
        let (is_understood, why) = understood();
        assert!(is_understood, "{why}");
        let text = std::fs::read_to_string(&unit).unwrap();
        std::fs::write(&unit, text + "\n[Service]\nPrivateUser=yes\n").unwrap();
        let (is_understood, why) = understood();
        assert!(!is_understood, "the control: {why}");
    }
}

#[test]
fn the_service_is_exposed_to_little() {
    if !need_command(ANALYZE) {
        return;
    }
    let units = installed();
    let unit = units.path().join("keycached.service");
    let threshold = format!("--threshold={EXPOSURE}");
    let exposed = || {
        let output = analyze(&["security", "--offline=true", &threshold], &unit);
        (output.status.success(), said(&output))
    };
    let (is_little, why) = exposed();
    assert!(is_little, "{why}");
    assert!(why.contains("Overall exposure level"), "{why}");
    let text = std::fs::read_to_string(&unit).unwrap();
    let open = text
        .replace("PrivateUsers=yes", "")
        .replace("PrivateNetwork=yes", "");
    let open = open.replace("SystemCallFilter=~@privileged @resources", "");
    std::fs::write(&unit, open).unwrap();
    let (is_little, why) = exposed();
    assert!(!is_little, "the control: {why}");
}
