//! Which processor a client and a server have.
//!
//! With one call in flight, where the scheduler puts the two decides more than what
//! they do, by a factor of three: on one processor the server goes on where the
//! client stops, on two each call wakes a processor that rests. A figure and its
//! floor are compared in the same place.

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Measures with this thread on one processor and the servers, by their process
/// ids, on another. Afterwards all have every processor again.
pub fn apart<T>(servers: &[u32], measure: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).expect("the kernel tells");
    let (here, there) = ends(&all);
    place(servers, &there);
    sched_setaffinity(None, &here).expect("it is one of ours");
    let measured = measure();
    sched_setaffinity(None, &all).expect("it was so before");
    place(servers, &all);
    measured
}

/// The first processor and the last.
pub fn ends(all: &CpuSet) -> (CpuSet, CpuSet) {
    let of: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu))
        .collect();
    let only = |cpu: usize| {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    };
    (only(of[0]), only(of[of.len() - 1]))
}

/// Every thread of the processes; those that they start follow.
fn place(servers: &[u32], set: &CpuSet) {
    for pid in servers {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        for thread in threads {
            let name = thread.expect("a thread is listed").file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let id = id.and_then(Pid::from_raw).expect("a thread is a number");
            // One may have ended meanwhile.
            let _ = sched_setaffinity(Some(id), set);
        }
    }
}
