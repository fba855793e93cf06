//! Credentials come from files and the environment and go to files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser;

use super::{HandleArgs, HandleOut, LeaseArgs, NewLeaseArgs};
use crate::client::Handle;
use crate::paths::Env;

const CANARY: &str = "H-0b1d2c3e-4f50-4617-8a9b-acbdcedfe0f1";

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    handle: HandleArgs,
    #[command(flatten)]
    out: HandleOut,
    #[command(flatten)]
    lease: NewLeaseArgs,
}

fn parse(args: &[&str]) -> Command {
    Command::parse_from([&["x"], args].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn handle_in(env: &Env) -> Option<String> {
    let found = parse(&[]).handle.find(env).unwrap();
    found.map(|handle| handle.expose().to_owned())
}

#[test]
fn a_handle_comes_from_the_environment_or_the_file_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handle");
    fs::write(&path, format!("{CANARY}\n")).unwrap();
    let env = Env::new(1);
    assert_eq!(handle_in(&env), None);
    let file = env.clone().with("EPISODE_HANDLE_FILE", &path);
    assert_eq!(handle_in(&file).as_deref(), Some(CANARY));
    let value = env.with("EPISODE_HANDLE", CANARY);
    assert_eq!(handle_in(&value).as_deref(), Some(CANARY));
}

#[test]
fn a_bad_handle_is_refused_without_being_repeated() {
    let env = Env::new(1).with("EPISODE_HANDLE", "H-canary");
    let error = parse(&[]).handle.find(&env).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert_eq!(error.exit(), 65);
}

#[test]
fn no_option_takes_a_credential_itself() {
    for option in ["--handle", "--lease", "--lease-id"] {
        assert!(Command::try_parse_from(["x", option, CANARY]).is_err());
    }
}

#[test]
fn a_made_lease_is_ours_alone_and_never_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lease");
    let command = parse(&["--new-lease-file", text(&path)]);
    let made = command.lease.resolve(&Env::new(1)).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let env = Env::new(1).with("EPISODE_LEASE_FILE", &path);
    let read = parse(&[]).lease.resolve(&env).unwrap();
    assert_eq!(
        read.lease.as_ref().unwrap().expose(),
        made.lease.as_ref().unwrap().expose()
    );
    assert!(command.lease.resolve(&env).is_err());
    drop(made);
    assert!(!path.exists());
    command.lease.resolve(&Env::new(1)).unwrap().keep();
    assert!(path.exists());
}

#[test]
fn a_handle_file_is_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handle");
    fs::write(&path, "old").unwrap();
    let out = parse(&["--handle-out", text(&path)]).out;
    drop(out.open().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    out.open()
        .unwrap()
        .write(&Handle::parse(CANARY).unwrap())
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{CANARY}\n"));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_handle_needs_a_place_that_is_a_file() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(parse(&[]).out.open().unwrap_err().exit(), 64);
    assert!(
        parse(&["--handle-out", text(directory.path())])
            .out
            .open()
            .is_err()
    );
    assert!(parse(&["--handle-out", "fd:999"]).out.open().is_err());
    assert!(parse(&["--discard-handle"]).out.open().is_ok());
}

#[test]
fn a_lease_that_must_be_there_says_where_to_put_it() {
    #[derive(Debug, Parser)]
    struct Renew {
        #[command(flatten)]
        lease: LeaseArgs,
    }
    let error = Renew::parse_from(["x"])
        .lease
        .require(&Env::new(1))
        .unwrap_err();
    assert_eq!(error.exit(), 64);
}
