use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{DirError, Env, MAX_SOCKET_PATH, PathError, default_session_dir, socket_path};

fn uid() -> u32 {
    geteuid().as_raw()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_override_wins_then_the_unit_then_xdg_then_run_user() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run/user/7")).unwrap();
    let env = Env::new(7).with_root(root.path());
    let run_user = root.path().join("run/user/7/episoded");
    assert_eq!(env.runtime_dir().unwrap(), run_user);
    let env = env.with("XDG_RUNTIME_DIR", "/x");
    assert_eq!(env.runtime_dir().unwrap(), Path::new("/x/episoded"));
    let env = env.with("RUNTIME_DIRECTORY", "/run/episoded:/run/episoded-session");
    assert_eq!(env.runtime_dir().unwrap(), Path::new("/run/episoded"));
    assert_eq!(
        env.session_socket().unwrap(),
        Path::new("/run/episoded-session/session.sock")
    );
    let env = env
        .with("EPISODED_RUNTIME_DIR", "/own")
        .with("EPISODED_SESSION_DIR", "/shared");
    assert_eq!(
        env.operator_socket().unwrap(),
        Path::new("/own/operator.sock")
    );
    assert_eq!(env.session_dir().unwrap(), Path::new("/shared"));
}

#[test]
fn a_unit_directory_of_another_service_is_not_ours() {
    let env = Env::new(7)
        .with("RUNTIME_DIRECTORY", "/run/orchestrator")
        .with("STATE_DIRECTORY", "/var/lib/orchestrator:/var/lib/episoded")
        .with("XDG_RUNTIME_DIR", "/x");
    assert_eq!(env.runtime_dir().unwrap(), Path::new("/x/episoded"));
    assert_eq!(env.state_dir().unwrap(), Path::new("/var/lib/episoded"));
    assert_eq!(env.session_dir().unwrap(), Path::new("/x/episoded/session"));
}

#[test]
fn a_relative_override_is_refused_and_a_relative_xdg_directory_ignored() {
    let env = Env::new(7)
        .with("XDG_STATE_HOME", "state")
        .with("HOME", "/home/me");
    assert_eq!(
        env.state_dir().unwrap(),
        Path::new("/home/me/.local/state/episoded")
    );
    let env = env.with("EPISODED_STATE_DIR", "state");
    assert!(matches!(
        env.state_dir(),
        Err(PathError::Relative { variable: "EPISODED_STATE_DIR", path }) if path == Path::new("state")
    ));
}

#[test]
fn an_empty_variable_is_unset_and_no_home_is_an_error() {
    let env = Env::new(7)
        .with("EPISODED_STATE_DIR", "")
        .with("XDG_STATE_HOME", "");
    assert!(matches!(env.state_dir(), Err(PathError::NoHome)));
    let env = env.with("XDG_STATE_HOME", "/s");
    assert_eq!(env.state_dir().unwrap(), Path::new("/s/episoded"));
}

#[test]
fn the_users_configuration_comes_before_the_hosts() {
    let etc = PathBuf::from("/etc/episoded/config.toml");
    assert_eq!(Env::new(7).config_files(), std::slice::from_ref(&etc));
    let env = Env::new(7).with("HOME", "/h");
    let user = PathBuf::from("/h/.config/episoded/config.toml");
    assert_eq!(env.config_files(), [user, etc.clone()]);
    let env = env.with("XDG_CONFIG_HOME", "/c");
    let user = PathBuf::from("/c/episoded/config.toml");
    assert_eq!(env.config_files(), [user, etc]);
}

#[test]
fn the_last_resort_is_checked_before_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let temp = root.path().join("tmp");
    fs::create_dir(&temp).unwrap();
    mode(&temp, 0o1777);
    let env = Env::new(uid()).with_root(root.path());
    let path = temp.join(format!("episoded-{}", uid()));
    assert_eq!(env.runtime_dir().unwrap(), path, "not there yet is fine");

    fs::create_dir(&path).unwrap();
    mode(&path, 0o700);
    assert_eq!(env.runtime_dir().unwrap(), path);
    assert_eq!(env.session_dir().unwrap(), default_session_dir(&path));

    mode(&path, 0o750);
    assert!(matches!(
        env.runtime_dir(),
        Err(PathError::Untrusted {
            source: DirError::Mode { mode: 0o750, .. },
            ..
        })
    ));

    fs::remove_dir(&path).unwrap();
    symlink(root.path(), &path).unwrap();
    assert!(matches!(
        env.operator_socket(),
        Err(PathError::Untrusted {
            source: DirError::NotADirectory { .. },
            ..
        })
    ));
}

#[test]
fn a_temp_directory_in_which_others_can_rename_is_refused() {
    let root = tempfile::tempdir().unwrap();
    mode(root.path(), 0o777);
    let env = Env::new(uid())
        .with_root("/nonexistent")
        .with("TMPDIR", root.path());
    assert!(matches!(
        env.runtime_dir(),
        Err(PathError::Untrusted {
            source: DirError::Shared { mode: 0o777, .. },
            ..
        })
    ));
}

#[test]
fn a_socket_path_of_107_bytes_fits_and_one_more_does_not() {
    let dir = |length: usize| PathBuf::from(format!("/{}", "d".repeat(length - 3)));
    let fits = socket_path(&dir(MAX_SOCKET_PATH), "s").unwrap();
    assert_eq!(fits.as_os_str().len(), 107);
    let error = socket_path(&dir(MAX_SOCKET_PATH + 1), "s").unwrap_err();
    assert!(matches!(error, PathError::TooLong { length: 108, .. }));
    assert!(error.to_string().contains("108 bytes, at most 107"));
}

#[test]
fn the_key_cache_lies_where_it_is_told_then_under_xdg_then_under_temp() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tmp")).unwrap();
    mode(&root.path().join("tmp"), 0o1777);
    let env = Env::new(uid()).with_root(root.path());
    let temp = root.path().join(format!("tmp/lockbox-{}", uid()));
    assert_eq!(env.agent_dir().unwrap(), temp);
    let env = env.with("XDG_RUNTIME_DIR", "/x");
    assert_eq!(env.agent_dir().unwrap(), Path::new("/x/lockbox"));
    let env = env.with("LOCKBOX_SESSION_AGENT_DIR", "/own");
    assert_eq!(env.agent_dir().unwrap(), Path::new("/own"));
    let env = env.with("LOCKBOX_SESSION_AGENT_DIR", "own");
    assert!(matches!(env.agent_dir(), Err(PathError::Relative { .. })));
}

#[test]
fn the_key_cache_reads_the_file_that_is_named_and_else_one_that_may_be_missing() {
    let env = Env::new(7);
    assert_eq!(env.agent_config(), None);
    let path = |env: &Env| env.agent_config().unwrap();
    let env = env.with("HOME", "/home/x");
    let home = "/home/x/.config/lockbox/config.toml";
    assert_eq!(path(&env), (PathBuf::from(home), false));
    let env = env.with("XDG_CONFIG_HOME", "/c");
    let xdg = "/c/lockbox/config.toml";
    assert_eq!(path(&env), (PathBuf::from(xdg), false));
    assert_eq!(
        env.auto_unlock().unwrap(),
        Path::new("/c/lockbox/auto-unlock.json")
    );
    let env = env.with("LOCKBOX_CONFIG", "/l.toml");
    assert_eq!(path(&env), (PathBuf::from("/l.toml"), true));
    let env = env.with("LOCKBOX_AGENT_CONFIG", "/a.toml");
    assert_eq!(path(&env), (PathBuf::from("/a.toml"), true));
}
