//! What every test that runs the real programs stands on.
//!
//! [`Daemon`] is a real `episoded` in a temporary directory of its own; it is
//! killed and reaped when dropped. Nothing here sleeps: a start is over when the
//! daemon says READY, an end when its output closes.

mod call;
mod ctl;
mod daemon;
mod dirs;
mod disk;
mod preload;
mod tools;

pub use call::{
    Client, Refusal, bearer, connect, find, get, normal_end, of_work, own, refusal, register,
    registration, within,
};
pub use ctl::{Ctl, Done, EPISODECTL, Running, done};
pub use daemon::{Builder, Daemon, Exit, Spawned};
pub use dirs::Dirs;
pub use disk::{Disk, need_disks, need_mounts};
pub use preload::Preload;
pub use tools::{
    need_command, need_python_module, need_root, need_tool, repository, skip_anywhere,
};
