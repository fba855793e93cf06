//! What may lie where a file is expected, and what a read makes of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use episoded::firewall::read::{Expected, ReadError, Root, Verified};
use rustix::fs::{CWD, FileType, Mode, OFlags, inotify, makedev, mknodat};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_uid};
use tempfile::TempDir;

use super::under_attack;
use crate::harness::{need_root, skip_anywhere};

const TEXT: &[u8] = b"what the manifest means";
const LIMIT: u64 = 64 << 20;
/// A read that takes longer hangs.
const HANG: Duration = Duration::from_secs(5);
/// A user that owns nothing here.
const STRANGER: u32 = 47_113;

/// A directory with a root in it, and what lies beside the root.
struct Place {
    dir: TempDir,
}

impl Place {
    /// A root that has a file with [`TEXT`] at `one/two/three`.
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().expect("there is room"),
        };
        fs::create_dir_all(place.at("one/two")).expect("it is made");
        place.write("one/two/three", TEXT);
        place
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.beside("root").join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.at(path), bytes).expect("it is written");
    }

    fn root(&self) -> Root {
        open(&self.beside("root")).expect("the root is opened")
    }

    fn read(&self, path: &str, expected: Expected) -> Result<Verified, ReadError> {
        let (root, path) = (self.root(), path.to_owned());
        watched(move || root.read(&path, &expected, LIMIT))
    }
}

fn open(path: &Path) -> Result<Root, ReadError> {
    Root::open(path.to_str().expect("names are text"))
}

fn pinned(bytes: &[u8]) -> Expected {
    Expected::Pinned {
        hash: *blake3::hash(bytes).as_bytes(),
        size: Some(bytes.len() as u64),
    }
}

/// What the work returns; panics when it hangs.
fn watched<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(HANG).expect("a read does not hang")
}

/// Whether anything opens the path while the work is done.
fn opens(path: &Path, work: impl FnOnce()) -> bool {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify is there");
    inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).expect("it is watched");
    work();
    let mut buffer = [MaybeUninit::uninit(); 512];
    match inotify::Reader::new(&watch, &mut buffer).next() {
        Ok(_) => true,
        Err(errno) => {
            assert_eq!(errno, Errno::WOULDBLOCK);
            false
        }
    }
}

#[test]
fn a_listed_file_is_read_with_or_without_a_pin() {
    let place = Place::new();
    let hash = *blake3::hash(TEXT).as_bytes();
    let pins = [
        pinned(TEXT),
        Expected::Pinned { hash, size: None },
        Expected::Any,
    ];
    for expected in pins {
        let file = place.read("one/two/three", expected).unwrap();
        assert_eq!((&file.bytes[..], file.hash), (TEXT, hash));
    }
    for other in [
        &b"what the manifest meant"[..],
        b"longer than that, by far",
        b"",
    ] {
        let error = place.read("one/two/three", pinned(other)).unwrap_err();
        assert!(matches!(error, ReadError::Mismatch), "{error:?}");
    }
}

#[test]
fn a_symlink_in_any_component_is_refused_wherever_it_leads() {
    for link in ["one", "one/two", "one/two/three"] {
        let place = Place::new();
        let moved = place.at("moved");
        fs::rename(place.at(link), &moved).unwrap();
        let outside = place.beside("outside");
        fs::create_dir_all(outside.join("two")).unwrap();
        fs::write(outside.join("two/three"), TEXT).unwrap();
        let up = "../".repeat(link.matches('/').count());
        for target in [
            moved.clone(),
            format!("{up}moved").into(),
            format!("{up}./moved").into(),
            outside.clone(),
            format!("{up}../outside").into(),
            "nowhere".into(),
            "/nowhere".into(),
            "/proc/self/fd/0".into(),
            place.at(link),
        ] {
            symlink(&target, place.at(link)).unwrap();
            for expected in [pinned(TEXT), Expected::Any] {
                let error = place.read("one/two/three", expected).unwrap_err();
                let case = format!("{link} -> {}", target.display());
                assert!(matches!(error, ReadError::Symlink), "{case}: {error:?}");
            }
            fs::remove_file(place.at(link)).unwrap();
        }
        fs::rename(&moved, place.at(link)).unwrap();
        place.read("one/two/three", pinned(TEXT)).unwrap();
    }
}

#[test]
fn a_magic_link_is_a_symlink() {
    let root = Root::open("/proc").unwrap();
    for path in ["self/stat", "thread-self/stat"] {
        let error = root.read(path, &Expected::Any, LIMIT).unwrap_err();
        assert!(matches!(error, ReadError::Symlink), "{path}: {error:?}");
    }
    let root = Root::open("/proc/self").unwrap();
    for path in ["cwd/Cargo.toml", "root/etc/hostname", "exe", "fd/0"] {
        let error = root.read(path, &Expected::Any, LIMIT).unwrap_err();
        assert!(matches!(error, ReadError::Symlink), "{path}: {error:?}");
    }
}

#[test]
fn the_way_to_the_root_may_be_a_symlink_and_is_followed_once() {
    let place = Place::new();
    let link = place.beside("link");
    symlink("root", &link).unwrap();
    let root = open(&link).unwrap();
    fs::remove_file(&link).unwrap();
    symlink("/etc", &link).unwrap();
    root.read("one/two/three", &pinned(TEXT), LIMIT).unwrap();
}

#[test]
fn a_root_is_a_directory_that_is_there() {
    let place = Place::new();
    symlink("nowhere", place.beside("dangling")).unwrap();
    symlink("round", place.beside("round")).unwrap();
    for path in ["missing", "dangling", "root/one/two/three"] {
        let error = open(&place.beside(path)).unwrap_err();
        assert!(matches!(error, ReadError::NotFound), "{path}: {error:?}");
    }
    let error = open(&place.beside("round")).unwrap_err();
    assert!(matches!(error, ReadError::Symlink), "{error:?}");
}

#[test]
fn a_root_that_was_renamed_is_still_the_same_directory() {
    let place = Place::new();
    let root = place.root();
    fs::rename(place.beside("root"), place.beside("elsewhere")).unwrap();
    fs::create_dir_all(place.at("one/two")).unwrap();
    place.write("one/two/three", b"what took its name");
    let file = root.read("one/two/three", &Expected::Any, LIMIT).unwrap();
    assert_eq!(&file.bytes[..], TEXT);

    fs::remove_dir_all(place.beside("elsewhere")).unwrap();
    let error = root.read("one/two/three", &Expected::Any, LIMIT);
    assert!(matches!(error, Err(ReadError::NotFound)), "{error:?}");
}

#[test]
fn a_hard_link_is_the_file_it_names() {
    let place = Place::new();
    let outside = place.beside("outside");
    fs::write(&outside, TEXT).unwrap();
    fs::hard_link(&outside, place.at("link")).unwrap();
    place.read("link", pinned(TEXT)).unwrap();
    fs::write(&outside, "something else").unwrap();
    let error = place.read("link", pinned(TEXT)).unwrap_err();
    assert!(matches!(error, ReadError::Mismatch), "{error:?}");
}

#[test]
fn what_is_no_file_is_refused_and_not_even_opened() {
    let place = Place::new();
    let fifo = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, place.at("fifo"), FileType::Fifo, fifo, 0).unwrap();
    let _socket = UnixListener::bind(place.at("socket")).unwrap();
    for path in ["fifo", "socket", "one", "one/two"] {
        let read = || {
            for expected in [pinned(TEXT), pinned(b""), Expected::Any] {
                let error = place.read(path, expected).unwrap_err();
                assert!(matches!(error, ReadError::NotAFile), "{path}: {error:?}");
            }
        };
        assert!(!opens(&place.at(path), read), "{path}");
    }
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    for path in ["fifo", "one"] {
        let open = || {
            let mut options = OpenOptions::new();
            let file = options.read(true).custom_flags(nonblock);
            file.open(place.at(path)).expect("it is opened");
        };
        assert!(opens(&place.at(path), open), "an open of {path} is seen");
    }
}

#[test]
fn a_device_is_refused_and_not_even_opened() {
    if !need_root() {
        return;
    }
    let place = Place::new();
    let (path, null) = (place.at("null"), makedev(1, 3));
    let mode = Mode::RUSR | Mode::WUSR;
    if mknodat(CWD, &path, FileType::CharacterDevice, mode, null).is_err() {
        skip_anywhere("root may not make devices here");
        return;
    }
    let read = || {
        let error = place.read("null", Expected::Any).unwrap_err();
        assert!(matches!(error, ReadError::NotAFile), "{error:?}");
    };
    assert!(!opens(&path, read));
    // Where the file system is mounted without devices there is nothing to see.
    assert!(opens(&path, || drop(File::open(&path))) || File::open(&path).is_err());
}

#[test]
fn what_is_not_there_or_has_an_overlong_name_is_not_found() {
    let place = Place::new();
    let long = "x".repeat(256);
    let longest = "x".repeat(255);
    let deep = format!("{}/x", vec!["d".repeat(204); 19].join("/"));
    for path in [
        "missing",
        "one/missing/three",
        "one/two/three/four",
        &long,
        &longest,
        &format!("one/{long}"),
        &deep,
        &"x".repeat(4096),
    ] {
        let error = place.read(path, Expected::Any).unwrap_err();
        assert!(matches!(error, ReadError::NotFound), "{path}: {error:?}");
    }
    place.write(&longest, TEXT);
    place.read(&longest, pinned(TEXT)).unwrap();
}

#[test]
fn a_path_that_is_not_normal_is_refused_even_if_it_leads_to_the_file() {
    let place = Place::new();
    for path in [
        "",
        ".",
        "..",
        "one/../one/two/three",
        "../root/one/two/three",
        "one/two/three/..",
        "./one/two/three",
        "one//two/three",
        "one/two/three/",
        "one/two/three\0",
        place.at("one/two/three").to_str().unwrap(),
    ] {
        let error = place.read(path, Expected::Any).unwrap_err();
        assert!(matches!(error, ReadError::NotNormal), "{path:?}: {error:?}");
    }
}

#[test]
fn names_that_look_alike_are_two_files() {
    let place = Place::new();
    for [name, twin] in [
        ["readme", "README"],
        ["caf\u{e9}", "cafe\u{301}"],
        ["a", "\u{430}"],
    ] {
        place.write(name, TEXT);
        let error = place.read(twin, pinned(TEXT)).unwrap_err();
        assert!(matches!(error, ReadError::NotFound), "{twin}: {error:?}");
        place.write(twin, b"its twin");
        place.read(name, pinned(TEXT)).unwrap();
        place.read(twin, pinned(b"its twin")).unwrap();
        let error = place.read(twin, pinned(TEXT)).unwrap_err();
        assert!(matches!(error, ReadError::Mismatch), "{twin}: {error:?}");
    }
}

#[test]
fn a_file_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
    let place = Place::new();
    let root = place.root();
    let size = TEXT.len() as u64;
    for expected in [pinned(TEXT), Expected::Any] {
        let file = root.read("one/two/three", &expected, size).unwrap();
        assert_eq!(&file.bytes[..], TEXT);
        let error = root.read("one/two/three", &expected, size - 1).unwrap_err();
        let limit = size - 1;
        let large = matches!(error, ReadError::TooLarge { limit: said } if said == limit);
        assert!(large, "{error:?}");
    }
    // Says that it is empty.
    let error = Root::open("/proc")
        .unwrap()
        .read("meminfo", &Expected::Any, 10)
        .unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { limit: 10 }));
    let file = Root::open("/proc").unwrap();
    let file = file.read("meminfo", &Expected::Any, LIMIT).unwrap();
    assert!(file.bytes.ends_with(b" kB\n"), "it is read to its end");
}

#[test]
fn an_empty_file_is_a_file() {
    let place = Place::new();
    place.write("empty", b"");
    for (expected, limit) in [(pinned(b""), LIMIT), (pinned(b""), 0), (Expected::Any, 0)] {
        let file = place.root().read("empty", &expected, limit).unwrap();
        assert!(file.bytes.is_empty());
        assert_eq!(file.hash, *blake3::hash(b"").as_bytes());
    }
    let error = place.read("empty", pinned(TEXT)).unwrap_err();
    assert!(matches!(error, ReadError::Mismatch), "{error:?}");
}

#[test]
fn a_terabyte_of_nothing_is_too_large_at_once() {
    let place = Place::new();
    let sparse = File::create(place.at("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    for expected in [pinned(TEXT), pinned(b""), Expected::Any] {
        let error = place.read("sparse", expected).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error:?}");
    }
    // The entry claims as much: nothing is set aside for it.
    let expected = Expected::Pinned {
        hash: [0; 32],
        size: Some(1 << 40),
    };
    let error = place.read("one/two/three", expected).unwrap_err();
    assert!(matches!(error, ReadError::Mismatch), "{error:?}");
}

#[test]
fn a_file_that_grows_is_the_pinned_bytes_or_refused() {
    let place = Place::new();
    let root = place.root();
    let unsized_pin = Expected::Pinned {
        hash: *blake3::hash(TEXT).as_bytes(),
        size: None,
    };
    let path = place.at("one/two/three");
    let grow = || {
        fs::write(&path, TEXT).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        for _ in 0..8 {
            file.write_all(TEXT).unwrap();
        }
    };
    let kinds = [pinned(TEXT), unsized_pin, Expected::Any];
    under_attack(grow, || {
        for expected in kinds.iter().cycle().take(1500) {
            match root.read("one/two/three", expected, LIMIT) {
                Ok(file) if *expected == Expected::Any => {
                    assert!(TEXT.repeat(9).starts_with(&file.bytes));
                    assert_eq!(file.hash, *blake3::hash(&file.bytes).as_bytes());
                }
                Ok(file) => assert_eq!(&file.bytes[..], TEXT),
                Err(error) => assert!(matches!(error, ReadError::Mismatch), "{error:?}"),
            }
        }
    });
}

#[test]
fn what_the_process_may_not_read_is_denied() {
    let place = Place::new();
    let root = place.root();
    for (path, mode) in [("root", 0o755), ("root/one/two/three", 0)] {
        fs::set_permissions(place.beside(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::create_dir(place.at("closed")).unwrap();
    place.write("closed/file", TEXT);
    fs::set_permissions(place.at("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    let denied = watched(move || {
        if rustix::process::geteuid().is_root() {
            let user = rustix::fs::Uid::from_raw(STRANGER);
            set_thread_groups(&[]).expect("root drops its groups");
            set_thread_res_uid(user, user, user).expect("root becomes somebody else");
        }
        ["one/two/three", "closed/file"].map(|path| root.read(path, &pinned(TEXT), LIMIT))
    });
    for result in denied {
        assert!(matches!(result, Err(ReadError::Denied)), "{result:?}");
    }
    fs::set_permissions(place.at("closed"), PermissionsExt::from_mode(0o700)).unwrap();
}
