//! What becomes of one `:authority` value: left alone, or replaced by an acceptable one that takes
//! the same room.
//!
//! "The same room" means two things: the same number of coded octets, since the value is edited
//! where it stands, and the same number of decoded octets, since that is what an entry of the
//! dynamic table is charged for (RFC 7541 section 4.1) and both ends must evict in step.
//!
//! The judge is the parser of the `http` crate itself. The octets it can accept have codes of 5, 6,
//! 7, 8, 10, 11 and 13 bits, so a replacement of the same length exists for `%`, `/`, space, `:`,
//! `"`, `?`, `|`, `@`, `[`, `]` and NUL. `#`, `>` (12 bits), `^`, `}` (14), `<`, `` ` ``, `{` (15),
//! `\` (19), octets past 0x7e and the other control characters (20-30) have none; they become a
//! shorter octet, and other octets are lengthened until the sum fits.
//!
//! Refuses, that is leaves as it is: the empty value, which has no room for anything; and a
//! Huffman-coded value for the dynamic table that takes more than 13 bits an octet on average. No
//! encoder that uses the shorter of both codings sends the latter.

use http::uri::Authority;

use super::huffman;

/// An acceptable octet whose code has the greatest length that an acceptable octet can have.
const LONGEST_STAND_IN: u8 = b'~';
/// An acceptable octet whose code takes 8 bits.
const OCTET_STAND_IN: u8 = b'X';

/// Whether h2 takes a request with this authority; it asks the same parser.
pub(super) fn is_acceptable(octets: &[u8]) -> bool {
    Authority::try_from(octets).is_ok()
}

/// The replacement for a refused value that is sent as it is, of the same length.
pub(super) fn repair_plain(octets: &[u8]) -> Option<Vec<u8>> {
    let mut repaired = octets.to_vec();
    replace(&mut repaired, is_refused_everywhere);
    if !is_acceptable(&repaired) {
        let mut colons = 0;
        replace(&mut repaired, |octet| {
            colons += usize::from(octet == b':');
            matches!(octet, b'@' | b'[' | b']') || (octet == b':' && colons > 1)
        });
    }
    is_acceptable(&repaired).then_some(repaired)
}

/// The replacement, in coded form, for a refused value whose coded form takes `room` octets.
///
/// With `indexed` the decoded length is kept too; without, it matters to nobody.
pub(super) fn repair_huffman(octets: &[u8], room: usize, indexed: bool) -> Option<Vec<u8>> {
    let mut repaired = repair_plain(octets)?;
    if !lengthen(&mut repaired, room) {
        if indexed {
            return None;
        }
        repaired = vec![OCTET_STAND_IN; room];
    }
    Some(huffman::encode(&repaired))
}

/// Replaces octets by longer ones until the coded form takes `room` octets.
///
/// One step adds at most 8 bits, from the shortest code to the longest stand-in, and any of 8
/// consecutive sums fills `room` (the rest is padding), so no step can overshoot.
fn lengthen(octets: &mut [u8], room: usize) -> bool {
    let longest = huffman::code_length(LONGEST_STAND_IN);
    let mut bits = huffman::bit_length(octets);
    for octet in octets.iter_mut().rev() {
        if bits.div_ceil(8) >= room {
            break;
        }
        let length = huffman::code_length(*octet);
        if length < longest {
            bits += longest - length;
            *octet = LONGEST_STAND_IN;
        }
    }
    bits.div_ceil(8) == room
}

fn replace(octets: &mut [u8], mut is_refused: impl FnMut(u8) -> bool) {
    for octet in octets {
        if is_refused(*octet) {
            *octet = stand_in(*octet);
        }
    }
}

/// What the parser takes nowhere, or, as `%`, only in places that a socket path does not have.
fn is_refused_everywhere(octet: u8) -> bool {
    !(octet.is_ascii_alphanumeric() || b"!$&'()*+,-.:;=@[]_~".contains(&octet))
}

/// An octet acceptable everywhere, whose code is as long as that of `octet` or else the next
/// shorter one.
fn stand_in(octet: u8) -> u8 {
    match huffman::code_length(octet) {
        ..=5 => b'0',
        6 => b'-',
        7 => b'x',
        8..=9 => OCTET_STAND_IN,
        10 => b'!',
        11..=12 => b'+',
        _ => LONGEST_STAND_IN,
    }
}
