use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};

use super::{BackOff, Connections, Guard, LOG_PERIOD, Peer, Periodic};
use crate::config::{UidRange, UidSet};
use crate::daemon::listen::Socket;

/// A guarded socket whose daemon has the given uid.
struct Door {
    _dir: TempDir,
    path: PathBuf,
    guard: Arc<Guard>,
    connections: Arc<Connections>,
}

impl Door {
    fn new(own_uid: u32, cap: u64, socket: Socket) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let connections = Connections::new(cap, own_uid);
        let guard = Guard::new(
            listener,
            socket,
            UidSet::default(),
            Arc::clone(&connections),
        );
        Self {
            _dir: dir,
            path,
            guard: Arc::new(guard),
            connections,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }
}

fn us() -> u32 {
    geteuid().as_raw()
}

fn only(uid: u32) -> UidSet {
    std::iter::once(UidRange::from(uid)).collect()
}

/// Waits until the other end closed without having said anything.
async fn closed(stream: &mut UnixStream) {
    let mut byte = [0];
    assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
}

#[tokio::test]
async fn our_own_uid_comes_in_and_is_known() {
    let door = Door::new(us(), 200, Socket::Operator);
    let mut client = door.connect().await;
    let (mut stream, peer, permit) = door.guard.accept().await;
    assert_eq!((peer.uid, peer.pid), (us(), std::process::id()));
    let own = Peer {
        uid: us(),
        pid: std::process::id(),
    };
    assert_eq!(peer.program(), own.program());
    assert!(!peer.program().is_empty());
    assert_eq!(door.connections.totals().open, 1);
    stream.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
    drop(permit);
    assert_eq!(door.connections.totals().open, 0);
}

#[tokio::test]
async fn another_uid_is_closed_until_it_is_let_in() {
    let door = Door::new(us() + 1, 200, Socket::Session);
    let mut client = door.connect().await;
    let guard = Arc::clone(&door.guard);
    let accepted = tokio::spawn(async move { guard.accept().await });
    closed(&mut client).await;
    assert_eq!(door.connections.totals().peers_refused, 1);
    assert!(!accepted.is_finished());

    door.guard.set_uids(only(us()));
    let _client = door.connect().await;
    let (_, peer, _permit) = accepted.await.unwrap();
    assert_eq!(peer.uid, us());

    door.guard.set_uids(only(us() + 2));
    let mut client = door.connect().await;
    let guard = Arc::clone(&door.guard);
    let accepted = tokio::spawn(async move { guard.accept().await });
    closed(&mut client).await;
    assert_eq!(door.connections.totals().peers_refused, 2);
    accepted.abort();
}

#[tokio::test]
async fn one_too_many_is_closed_at_once() {
    let door = Door::new(us(), 65, Socket::Session);
    let _first = door.connect().await;
    let (_stream, _, permit) = door.guard.accept().await;
    let mut second = door.connect().await;
    let guard = Arc::clone(&door.guard);
    let accepted = tokio::spawn(async move { guard.accept().await });
    closed(&mut second).await;
    assert_eq!(door.connections.totals().shed, 1);

    drop(permit);
    let _third = door.connect().await;
    accepted.await.unwrap();
}

/// Connects to the socket in the variable and waits to be closed.
#[test]
#[ignore = "run by a_process_of_another_user_is_seen_as_that_user"]
fn client() {
    let Ok(path) = std::env::var("EPISODED_TEST_SOCKET") else {
        return;
    };
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// Needs root to become somebody else.
#[tokio::test]
async fn a_process_of_another_user_is_seen_as_that_user() {
    if !geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let door = Door::new(us(), 200, Socket::Session);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(door.path.parent().unwrap(), 0o711);
    open(&door.path, 0o666);
    // The other user may not reach the directory that this program lies in.
    let exe = door.path.with_file_name("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    open(&exe, 0o755);
    let connect = || {
        tokio::process::Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups"])
            .arg(&exe)
            .args(["--exact", "--ignored", "daemon::guard::tests::client"])
            .env("EPISODED_TEST_SOCKET", &door.path)
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let guard = Arc::clone(&door.guard);
    let accepted = tokio::spawn(async move { guard.accept().await });
    let status = connect().wait().await.unwrap();
    assert!(status.success(), "closed without an answer");
    assert_eq!(door.connections.totals().peers_refused, 1);

    door.guard.set_uids(only(65_534));
    let mut client = connect();
    let (stream, peer, _permit) = accepted.await.unwrap();
    assert_eq!(peer.uid, 65_534);
    assert_eq!(Some(peer.pid), client.id());
    assert_eq!(peer.program(), "stranger");
    drop(stream);
    assert!(client.wait().await.unwrap().success());
}

#[test]
fn a_process_that_is_gone_has_no_name() {
    for pid in [4_194_305, 0] {
        assert_eq!(Peer { uid: 0, pid }.program(), "");
    }
}

#[test]
fn the_wait_grows_to_a_second_and_starts_anew_after_a_success() {
    let now = Instant::now();
    let mut back_off = BackOff::default();
    let waits: Vec<_> = (0..6)
        .map(|_| {
            back_off.grow(now);
            (back_off.until.unwrap() - now).as_millis()
        })
        .collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
    back_off.reset();
    assert_eq!(back_off.until, None);
    back_off.grow(now);
    assert_eq!(back_off.until, Some(now + Duration::from_millis(100)));
}

#[test]
fn one_line_a_period_says_how_many_were_left_out() {
    let start = Instant::now();
    let mut lines = Periodic::default();
    assert_eq!(lines.tick(start), Some(0));
    assert_eq!(lines.tick(start), None);
    assert_eq!(lines.tick(start + LOG_PERIOD / 2), None);
    assert_eq!(lines.tick(start + LOG_PERIOD), Some(2));
    assert_eq!(lines.tick(start + LOG_PERIOD * 3), Some(0));
}

/// In a process of its own, because the file limit is the process's.
#[tokio::test]
#[ignore = "run by without_descriptors_the_guard_waits"]
async fn starved() {
    if std::env::var_os("EPISODED_TEST_STARVED").is_none() {
        return;
    }
    let door = Door::new(us(), 200, Socket::Operator);
    let _client = door.connect().await;
    let limit = getrlimit(Resource::Nofile);
    let set = |current| {
        let maximum = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    };
    set(Some(0));
    let start = Instant::now();
    // Attempts are due at 0, 100, 300 and 700 ms; a caller that gives up in between and comes
    // again changes nothing about that.
    for _ in 0..35 {
        let turn = timeout(Duration::from_millis(10), door.guard.accept());
        assert!(turn.await.is_err());
    }
    let waited = start.elapsed();
    let attempts = door.connections.totals().exhausted;
    assert!(attempts >= 1);
    if waited < Duration::from_millis(700) {
        assert!(attempts <= 3, "{attempts} attempts in {waited:?}");
    }
    set(limit.current);
    door.guard.accept().await;
    assert!(door.guard.back_off.lock().until.is_none());
}

#[test]
fn without_descriptors_the_guard_waits() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored"])
        .arg("daemon::guard::tests::starved")
        .env("EPISODED_TEST_STARVED", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
