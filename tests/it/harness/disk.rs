//! State directories on file systems of their own: small ones that fill up, and
//! ones whose power can be cut.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Dirs, need_command, need_root, skip_anywhere};

/// Room for a registry with its log and reserve.
const IMAGE_BYTES: u64 = 64 * 1024 * 1024;

/// A file system over a directory, taken away when dropped.
pub struct Disk {
    at: PathBuf,
    /// The file that holds an ext4, and the loop device that shows it.
    image: Option<(tempfile::TempPath, String)>,
}

/// Whether this process may mount; says so loudly when not. Fails in CI, unless
/// the machine lets not even root do it.
pub fn need_mounts() -> bool {
    if !need_root() {
        return false;
    }
    let may = may_administer();
    if !may {
        skip_anywhere("root may not mount here");
    }
    may
}

/// Whether this process may mount an image; says so loudly when not. Fails in CI,
/// unless the machine has no loop devices at all.
pub fn need_disks() -> bool {
    if !need_mounts() || !need_command("mkfs.ext4") || !need_command("losetup") {
        return false;
    }
    let loops = Path::new("/dev/loop-control").exists();
    if !loops {
        skip_anywhere("this machine has no loop devices");
    }
    loops
}

/// Whether the capability to mount is there: a container may withhold it.
fn may_administer() -> bool {
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").expect("it can be read");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << SYS_ADMIN) != 0)
}

/// Runs a command that must succeed; what it printed.
fn run(command: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(command)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .unwrap_or_else(|error| panic!("{command} runs: {error}"));
    assert!(
        output.status.success(),
        "{command} {arguments:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

impl Disk {
    /// A small file system in memory over the state directory.
    pub fn in_memory(dirs: &Dirs, bytes: u64) -> Self {
        let at = dirs.state();
        let options = format!("size={bytes},mode=0700");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &options, "tmpfs", text(&at)],
        );
        Self { at, image: None }
    }

    /// An empty ext4 over the state directory, on an image that holds only what
    /// has reached the device. It turns read-only after an error.
    pub fn on_image(dirs: &Dirs) -> Self {
        let image = new_image();
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .expect("an image is made");
        run("mkfs.ext4", &["-q", "-F", text(&image)]);
        let disk = Self::mount(dirs.state(), image);
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&disk.at, private).expect("it is ours");
        disk.sync();
        disk
    }

    fn mount(at: PathBuf, image: tempfile::TempPath) -> Self {
        // Without direct I/O the image would show what the kernel still holds.
        let device = run(
            "losetup",
            &["--find", "--show", "--direct-io=on", text(&image)],
        );
        run("mount", &["-o", "errors=remount-ro", &device, text(&at)]);
        Self {
            at,
            image: Some((image, device)),
        }
    }

    /// Makes everything on it durable.
    pub fn sync(&self) {
        run("sync", &["-f", text(&self.at)]);
    }

    /// Cuts the power: nothing that is still in memory reaches the device any
    /// more. What comes back is what the device held at that instant.
    pub fn cut(&self) -> Cut {
        let (image, _) = self.image.as_ref().expect("it is on an image");
        go_down(&self.at);
        let copy = new_image();
        std::fs::copy(image, &copy).expect("the image is copied");
        Cut { image: copy }
    }

    /// Breaks the file system as an error of the device does: it is read-only
    /// from now on.
    pub fn turn_read_only(&self) {
        let (_, device) = self.image.as_ref().expect("it is on an image");
        let name = device.trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(trigger, "a test wants it").expect("the error is triggered");
    }

    /// Takes it away, repairs it as an administrator does, and mounts it again.
    /// Nothing may have a file open on it.
    pub fn repair(self) -> Self {
        let dismounted = self.dismounted();
        // Exit code 1: errors were corrected.
        let status = Command::new("e2fsck")
            .args(["-fy", text(&dismounted.1)])
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .expect("e2fsck runs");
        assert!(
            status.status.code().is_some_and(|code| code <= 1),
            "{status:?}"
        );
        Self::mount(dismounted.0, dismounted.1)
    }

    /// Shows what the device held at that cut in this one's place. Nothing may
    /// have a file open on it.
    pub fn back_from(self, cut: Cut) -> Self {
        let (at, _old) = self.dismounted();
        Self::mount(at, cut.image)
    }

    fn dismounted(mut self) -> (PathBuf, tempfile::TempPath) {
        let (image, device) = self.image.take().expect("it is on an image");
        run("umount", &[text(&self.at)]);
        run("losetup", &["--detach", &device]);
        (std::mem::take(&mut self.at), image)
    }
}

/// What a device held when its power was cut.
pub struct Cut {
    image: tempfile::TempPath,
}

fn new_image() -> tempfile::TempPath {
    tempfile::Builder::new()
        .prefix("ep-disk-")
        .tempfile_in("/tmp")
        .expect("/tmp takes a file")
        .into_temp_path()
}

/// Shuts an ext4 down at once, its journal not flushed.
#[expect(
    unsafe_code,
    reason = "the one way to stop a file system at an instant"
)]
fn go_down(at: &Path) {
    use rustix::ioctl::{Setter, ioctl, opcode};
    const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
    const WITHOUT_FLUSH: u32 = 2;
    let directory = std::fs::File::open(at).expect("it is mounted");
    // SAFETY: the kernel reads one 32-bit word of this request's argument.
    let gone = unsafe { ioctl(&directory, Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSH)) };
    gone.expect("the file system goes down");
}

impl Drop for Disk {
    fn drop(&mut self) {
        let quietly = |command: &str, arguments: &[&str]| {
            let path = "/usr/sbin:/sbin:/usr/bin:/bin";
            let _ = Command::new(command)
                .args(arguments)
                .env("PATH", path)
                .output();
        };
        if self.at.as_os_str().is_empty() {
            return;
        }
        quietly("umount", &["--lazy", text(&self.at)]);
        if let Some((_, device)) = &self.image {
            quietly("losetup", &["--detach", device]);
        }
    }
}
