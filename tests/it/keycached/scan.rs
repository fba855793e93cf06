//! Looks for a secret in the memory of a process and in files.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::io::Errno;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How a secret may be written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Raw,
    Hex,
    Base64,
}

/// How often a secret was found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub raw: usize,
    pub hex: usize,
    pub base64: usize,
}

impl Found {
    pub const NOTHING: Self = Self {
        raw: 0,
        hex: 0,
        base64: 0,
    };
}

/// A secret in every form in which it may be found.
pub struct Needle {
    patterns: Vec<(Form, Vec<u8>)>,
    /// The first bytes of the patterns: nearly every place is dismissed by them.
    firsts: [bool; 256],
}

impl Needle {
    /// Of at least 16 bytes, so that it is nowhere by chance.
    pub fn new(secret: &[u8]) -> Self {
        assert!(secret.len() >= 16, "{} bytes are too few", secret.len());
        let mut patterns = vec![
            (Form::Raw, secret.to_vec()),
            (Form::Hex, hex(secret)),
            (Form::Hex, hex(secret).to_ascii_uppercase()),
        ];
        for alphabet in [STANDARD, FOR_URLS] {
            for dropped in 0..3 {
                patterns.push((Form::Base64, base64(&secret[dropped..], alphabet)));
            }
        }
        patterns.sort_by(|(_, one), (_, other)| one.cmp(other));
        patterns.dedup_by(|(_, one), (_, other)| one == other);
        let mut firsts = [false; 256];
        for (_, pattern) in &patterns {
            firsts[usize::from(pattern[0])] = true;
        }
        Self { patterns, firsts }
    }

    /// How often it is in these bytes.
    pub fn count(&self, bytes: &[u8]) -> Found {
        let mut found = Found::NOTHING;
        self.add(bytes, &mut found);
        found
    }

    fn add(&self, bytes: &[u8], found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() {
            if self.firsts[usize::from(bytes[at])] {
                for (form, pattern) in &self.patterns {
                    if bytes[at..].starts_with(pattern) {
                        match form {
                            Form::Raw => found.raw += 1,
                            Form::Hex => found.hex += 1,
                            Form::Base64 => found.base64 += 1,
                        }
                    }
                }
            }
            at += 1;
        }
    }
}

/// Lower case.
pub fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|half| digits[usize::from(half)]))
        .collect()
}

/// The groups of three that are whole.
pub fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    bytes
        .chunks_exact(3)
        .flat_map(|group| {
            let all = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            [18, 12, 6, 0].map(|shift| alphabet[(all >> shift) as usize & 63])
        })
        .collect()
}

/// The standard alphabet's.
pub fn standard_base64(bytes: &[u8]) -> Vec<u8> {
    base64(bytes, STANDARD)
}

/// How often it is in the file or below the directory.
pub fn files(path: &Path, needle: &Needle) -> Found {
    let mut found = Found::NOTHING;
    let kind = std::fs::symlink_metadata(path).expect("it is there");
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).expect("it can be listed") {
            let below = files(&entry.expect("it can be listed").path(), needle);
            found.raw += below.raw;
            found.hex += below.hex;
            found.base64 += below.base64;
        }
    } else if kind.is_file() {
        let bytes = std::fs::read(path).expect("it can be read");
        needle.add(&bytes, &mut found);
    }
    found
}

/// What a look through the memory of a process came to.
#[derive(Debug)]
pub struct Scan {
    pub found: Found,
    /// Pages that nobody can read, not even root: secret memory, for one.
    pub unreadable: usize,
    /// Bytes looked through.
    pub read: usize,
    /// Whether it has memory that the kernel hides from everybody.
    pub secret: bool,
}

/// Looks through everything that the process has written into its memory, in
/// regions that it may not read itself too. Needs root.
pub fn memory(pid: u32, needle: &Needle) -> Scan {
    let proc = Path::new("/proc").join(pid.to_string());
    let maps = std::fs::read_to_string(proc.join("maps")).expect("root may read it");
    let memory = File::open(proc.join("mem")).expect("root may open it");
    let pages = File::open(proc.join("pagemap")).expect("root may open it");
    let mut scan = Scan {
        found: Found::NOTHING,
        unreadable: 0,
        read: 0,
        secret: maps.contains("/secretmem"),
    };
    // The kernel's own page, at an address beyond the file's end.
    for line in maps.lines().filter(|line| !line.ends_with("[vsyscall]")) {
        let region = Region::parse(line);
        for run in region.runs(&pages) {
            scan.run(&memory, run, needle);
        }
    }
    assert!(scan.read > 0, "{maps}");
    scan
}

const PAGE: u64 = 4_096;

/// A line of `maps`.
struct Region {
    addresses: Range<u64>,
    shared: bool,
}

impl Region {
    fn parse(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words
            .next()
            .and_then(|range| range.split_once('-'))
            .expect("a line begins with a range");
        let modes = words.next().expect("a range has modes");
        let address = |hex| u64::from_str_radix(hex, 16).expect("an address is hexadecimal");
        Self {
            addresses: address(start)..address(end),
            shared: modes.ends_with('s'),
        }
    }

    /// The parts of it that hold something of the process's own: of a private
    /// region neither pages never touched nor those of the file behind it.
    fn runs(&self, pages: &File) -> Vec<Range<u64>> {
        if self.shared {
            return vec![self.addresses.clone()];
        }
        let (first, last) = (self.addresses.start / PAGE, self.addresses.end / PAGE);
        let mut entries = vec![0; ((last - first) * 8) as usize];
        let mut filled = 0;
        while filled < entries.len() {
            let at = first * 8 + filled as u64;
            match pages.read_at(&mut entries[filled..], at) {
                // The region is gone.
                Ok(0) | Err(_) => break,
                Ok(length) => filled += length,
            }
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (page, entry) in (first..).zip(entries.chunks_exact(8)) {
            if !own(u64::from_le_bytes(entry.try_into().expect("eight bytes"))) {
                continue;
            }
            let at = page * PAGE;
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += PAGE,
                _ => runs.push(at..at + PAGE),
            }
        }
        runs
    }
}

/// Whether this entry of `pagemap` is a page, in memory or swapped, that is not
/// a file's.
fn own(entry: u64) -> bool {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0
}

impl Scan {
    fn run(&mut self, memory: &File, run: Range<u64>, needle: &Needle) {
        let mut bytes = vec![0; (run.end - run.start) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match memory.read_at(&mut bytes[filled..], run.start + filled as u64) {
                Ok(0) => panic!("the process has ended"),
                Ok(length) => {
                    filled += length;
                    self.read += length;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if hidden(&error) => {
                    self.unreadable += 1;
                    filled = (filled / PAGE as usize + 1) * PAGE as usize;
                }
                Err(error) => panic!("{run:x?}: {error}"),
            }
        }
        needle.add(&bytes, &mut self.found);
    }
}

fn hidden(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::IO, Errno::FAULT]
        .map(|one| Some(one.raw_os_error()))
        .contains(&code)
}
