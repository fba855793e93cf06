//! How fast the daemon is, and how much memory it takes: `make bench`.
//!
//! Prints a table and writes `target/bench.json`. `--quick` takes 100,000 where
//! the figures speak of 1,000,000 sessions, and says so; `--only NAME` measures one
//! of the sections `lookup`, `register`, `batch`, `million`, `watch`, `firewall`,
//! `files` and `keys`.
//!
//! # Method
//!
//! The daemon is the real program on real sockets with its state on the disk below
//! `target`; this process is the load. Every figure stands beside a floor that was
//! measured in the same run: a bare tonic server (`echo`), which is this program
//! run again, or rows appended by a bare rusqlite (`append`) in the directory of
//! the registry. A ratio is the median of the ratios of five rounds, in each of
//! which figure and floor take turns.
//!
//! - The client is the same for both: a tonic channel whose codec passes bytes
//!   through. It decodes no answer, so that it does not hide what a server costs.
//!   The echo gets a request of the same size and metadata and answers as many
//!   bytes.
//! - Latency is measured with one call in flight from a client on one thread, in
//!   blocks of fifty calls by turns; throughput with sixteen in flight on each of eight connections from a client
//!   on as many threads as there are cores, after a warm-up.
//! - Where a figure and its floor are latencies of two servers, both servers have one
//!   processor and the client another: see `place`.
//! - Sessions look as `shape` says. Registrations carry no request id. After each
//!   section the daemon's own count of live sessions must be the number that were
//!   registered, so that a refused item cannot pass for a fast one.
//! - The append writes one row a commit, as large as the request of a
//!   registration, in WAL mode with `synchronous=FULL`. The floor of
//!   `RegisterSessions` is the same with a thousand rows a commit.
//! - Memory is the slope of VmRSS, read when the batches pause.
//! - The slowest registration is that of a prober with one in flight while two
//!   batches of a thousand are in flight; beside it the slowest append in the same
//!   time, of one every two milliseconds.
//! - Few and many live sessions are two daemons; what a round registered, without
//!   an episode, is removed before the next.
//! - A start is timed from the spawn of the process after SIGKILL until health
//!   says SERVING. The files are in the page cache, for the floor too.
//! - The delay of an event is counted from the call that made it to the last of
//!   the hundred watchers, each of which has a connection of its own; the p99 is
//!   over events. Its floor is a bare server that sends as many bytes to as many
//!   streams every five milliseconds. Watchers read nothing but revisions. A round
//!   that did not reach the rate of events does not meet its goal.
//!
//! - A decision in process stands beside a bare look into a hash map of the same
//!   paths. A stream of checks has sixty-four requests on their way; so have the
//!   unary calls that it is compared with, on one connection too.
//! - Memory of a session under a firewall is what VmRSS grows by, from a daemon that
//!   has the manifest and no session to 200,000 that share it, each with a workspace
//!   root of its own, less the same of plain ones: each the median of three, because
//!   what messages took meanwhile is given back late and in large pieces.
//! - A miss is timed from the request to its verdict, which comes after the end of
//!   the session is durable; its floor are durable registrations by turns.
//! - The floor of a manifest is b3sum of the same files; those of a read, to read and
//!   hash the file in one process, and a bare server that answers with as many bytes
//!   from memory. All are in the page cache.
//!
//! - Handles are refused that are wrong in five ways: one of no session, one that is
//!   too short, one of another scheme, one that was replaced, one whose session has
//!   ended. The figure is the kind that takes longest, its floor the quickest.
//! - The key cache's first call is that of a client that connects, agrees and gets;
//!   its floor is a call over an open connection. LBX2 stands beside a server that
//!   reads and writes as many bytes, one blocking thread for each connection. Keys
//!   have 32 bytes; memory is that of mlock, because what memfd_secret holds is not
//!   in VmRSS. A cold start is `episodectl key put` from its start to its end.
//!
//! A goal that is not met is reported as not met; the run does not fail.

mod bench {
    pub mod append;
    pub mod child;
    pub mod daemon;
    pub mod echo;
    pub mod files;
    pub mod firewall;
    pub mod home;
    pub mod keys;
    pub mod load;
    pub mod lookup;
    pub mod machine;
    pub mod million;
    pub mod place;
    pub mod raw;
    pub mod register;
    pub mod report;
    pub mod shape;
    pub mod stat;
    pub mod watch;
    pub mod watcher;
}

use std::{path::Path, process::ExitCode};

use bench::{
    child, echo, files, firewall, home, keys, lookup,
    machine::Machine,
    million, register,
    report::{self, Figure},
    watch,
};

const USAGE: &str = "usage: cargo bench --bench bench -- [--quick] [--only SECTION]";

const SECTIONS: [&str; 8] = [
    "lookup", "register", "batch", "million", "watch", "firewall", "files", "keys",
];

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == child::ARGUMENT)
    {
        return child::become_program(std::env::args_os().skip(2));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, socket, state] = arguments.as_slice()
        && first == echo::ARGUMENT
    {
        echo::serve(Path::new(socket), Path::new(state));
        return ExitCode::SUCCESS;
    }
    if let [first, socket, request, answer] = arguments.as_slice()
        && first == keys::ARGUMENT
    {
        let number = |text: &String| text.parse().expect("it is a number of bytes");
        keys::serve(Path::new(socket), number(request), number(answer));
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let root = home::state_root();
    std::fs::create_dir_all(&root).expect("the state directory is made");
    let machine = Machine::here(&root, options.sessions());
    if !machine.has_disk() {
        eprintln!("{} is not on a disk: {machine}", root.display());
        return ExitCode::from(69);
    }
    println!("{machine}");
    if options.quick {
        println!(
            "--quick: {} sessions where a full run has 1,000,000",
            options.sessions()
        );
    }
    let figures = run(&options);
    let _ = std::fs::remove_dir(&root);
    println!();
    report::print(&figures);
    let path = home::target().join("bench.json");
    report::write(&path, &machine, &figures);
    println!("\nwritten to {}", path.display());
    ExitCode::SUCCESS
}

/// What the command line says.
struct Options {
    quick: bool,
    only: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut options = Self {
            quick: false,
            only: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => {
                    let name = arguments.next()?;
                    options.only = SECTIONS.contains(&name.as_str()).then(|| name.clone());
                    options.only.as_ref()?;
                }
                // Cargo says so itself.
                "--bench" => {}
                _ => return None,
            }
        }
        Some(options)
    }

    fn sessions(&self) -> u64 {
        if self.quick { 100_000 } else { 1_000_000 }
    }
}

fn run(options: &Options) -> Vec<Figure> {
    let mut figures = Vec::new();
    for section in SECTIONS {
        if options.only.as_ref().is_some_and(|only| only != section) {
            continue;
        }
        eprintln!("measuring {section}");
        figures.extend(match section {
            "lookup" => lookup::figures(),
            "register" => register::figures(),
            "batch" => vec![register::batch_figure()],
            "million" => million::figures(options.sessions()),
            "watch" => watch::figures(),
            "firewall" => firewall::figures(options.sessions()),
            "files" => files::figures(),
            _ => keys::figures(),
        });
    }
    figures
}
