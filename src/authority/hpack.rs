//! Header blocks: finds the `:authority` values in one and repairs them (RFC 7541).
//!
//! Owns a shadow of the decoder's dynamic table: of each entry the length of its name, whether that
//! name is `:authority`, and its size, which is enough to resolve names by index and to evict in
//! step (section 4). An indexed field needs no edit: the entry that h2's own table holds came from
//! a literal that was repaired on its way in.
//!
//! Refuses, with the limits that h2 has itself: integers of more than five octets, strings that
//! outrun the block, indices outside both tables, a table size above 4,096 or changed after the
//! first field, undecodable Huffman strings where their contents or lengths matter here.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Malformed, huffman, value};

/// SETTINGS_HEADER_TABLE_SIZE as long as a server does not change it, in octets (RFC 9113 section
/// 6.5.2).
const TABLE_SIZE: usize = 4096;
/// What an entry is charged beyond its name and value, in octets (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Octets of one integer, the prefix included; h2 refuses longer ones.
const INTEGER_OCTETS: usize = 5;

const AUTHORITY: &str = ":authority";
/// `:authority` with an empty value in the static table.
const AUTHORITY_INDEX: usize = 1;

/// Names of the static table, from index 1 (RFC 7541 appendix A).
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    AUTHORITY, ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
];

/// What a header block says of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is none, or only acceptable ones.
    Acceptable,
    /// There was one that the server would have refused; repaired where that is possible.
    Refused,
}

/// Walks the header blocks of one connection, in their order.
#[derive(Debug)]
pub(super) struct Blocks {
    table: Table,
    /// Contents of the Huffman string last decoded.
    decoded: Vec<u8>,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            table: Table {
                entries: VecDeque::new(),
                size: 0,
                max_size: TABLE_SIZE,
            },
            decoded: Vec::new(),
        }
    }

    /// Repairs one complete header block in place. A malformed block is left as it is.
    pub(super) fn repair(&mut self, block: &mut [u8]) -> Result<Verdict, Malformed> {
        let mut findings = Findings {
            verdict: Verdict::Acceptable,
            edits: Vec::new(),
        };
        self.walk(block, &mut findings)?;
        for edit in findings.edits {
            block[edit.place].copy_from_slice(&edit.octets);
        }
        Ok(findings.verdict)
    }

    fn walk(&mut self, block: &[u8], findings: &mut Findings) -> Result<(), Malformed> {
        let mut input = Input { block, at: 0 };
        let mut is_first = true;
        while let Some(octet) = input.peek() {
            if octet & 0b1110_0000 == 0b0010_0000 {
                if !is_first {
                    return Err(Malformed);
                }
                self.table.resize(input.integer(5)?)?;
                continue;
            }
            is_first = false;
            if octet & 0b1000_0000 != 0 {
                let index = input.integer(7)?;
                self.table.name(index)?;
                if index == AUTHORITY_INDEX {
                    findings.verdict = Verdict::Refused;
                }
            } else {
                self.literal(&mut input, octet & 0b0100_0000 != 0, findings)?;
            }
        }
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut Input<'_>,
        indexed: bool,
        findings: &mut Findings,
    ) -> Result<(), Malformed> {
        let name = match input.integer(if indexed { 6 } else { 4 })? {
            0 => {
                let text = input.string()?;
                let octets = self.contents(input, &text)?;
                Name {
                    length: octets.len(),
                    is_authority: octets == AUTHORITY.as_bytes(),
                }
            }
            index => self.table.name(index)?,
        };
        let text = input.string()?;
        if !name.is_authority && !indexed {
            return Ok(());
        }
        let octets = self.contents(input, &text)?;
        let length = octets.len();
        if name.is_authority && !value::is_acceptable(octets) {
            let repaired = if text.huffman {
                value::repair_huffman(octets, text.place.len(), indexed)
            } else {
                value::repair_plain(octets)
            };
            findings.verdict = Verdict::Refused;
            findings.edits.extend(repaired.map(|octets| Edit {
                place: text.place,
                octets,
            }));
        }
        if indexed {
            self.table.insert(name, length);
        }
        Ok(())
    }

    fn contents<'a>(&'a mut self, input: &Input<'a>, text: &Text) -> Result<&'a [u8], Malformed> {
        let octets = &input.block[text.place.clone()];
        if !text.huffman {
            return Ok(octets);
        }
        huffman::decode(octets, &mut self.decoded)?;
        Ok(&self.decoded)
    }
}

struct Findings {
    verdict: Verdict,
    edits: Vec<Edit>,
}

/// Octets to write over a string of the same coded length.
struct Edit {
    place: Range<usize>,
    octets: Vec<u8>,
}

/// A string literal: where its octets are in the block, and how they are coded.
struct Text {
    place: Range<usize>,
    huffman: bool,
}

struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let octet = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(octet)
    }

    /// An integer with a prefix of `prefix` bits (RFC 7541 section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let mask = (1usize << prefix) - 1;
        let mut integer = usize::from(self.next()?) & mask;
        if integer < mask {
            return Ok(integer);
        }
        for place in 0..INTEGER_OCTETS - 1 {
            let octet = self.next()?;
            integer += usize::from(octet & 0x7f) << (7 * place);
            if octet & 0x80 == 0 {
                return Ok(integer);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Text, Malformed> {
        let huffman = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let start = self.at;
        if length > self.block.len() - start {
            return Err(Malformed);
        }
        self.at = start + length;
        Ok(Text {
            place: start..self.at,
            huffman,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Name {
    length: usize,
    is_authority: bool,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    size: usize,
}

/// The dynamic table without its contents, newest entry first (RFC 7541 sections 2.3.2 and 4).
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
}

impl Table {
    /// The name at `index` of the address space that both tables share (RFC 7541 section 2.3.3).
    fn name(&self, index: usize) -> Result<Name, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some(name) = STATIC_NAMES.get(place) {
            return Ok(Name {
                length: name.len(),
                is_authority: *name == AUTHORITY,
            });
        }
        let entry = self
            .entries
            .get(place - STATIC_NAMES.len())
            .ok_or(Malformed)?;
        Ok(entry.name)
    }

    fn insert(&mut self, name: Name, value_length: usize) {
        let size = name.length + value_length + ENTRY_OVERHEAD;
        self.evict_to(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front(Entry { name, size });
        }
    }

    fn resize(&mut self, max_size: usize) -> Result<(), Malformed> {
        if max_size > TABLE_SIZE {
            return Err(Malformed);
        }
        self.max_size = max_size;
        self.evict_to(max_size);
        Ok(())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else {
                break;
            };
            self.size -= entry.size;
        }
    }
}
