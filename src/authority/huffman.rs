//! The Huffman code of HPACK (RFC 7541 section 5.2, appendix B).
//!
//! Appendix B is a canonical code: the codes of one length are consecutive numbers in the order of
//! their symbols, and each length goes on where the shorter one ended. The lengths alone therefore
//! give the whole table, for both directions.
//!
//! Refuses what section 5.2 calls a decoding error: the end-of-string symbol inside a string,
//! padding of more than seven bits, padding that is not all ones.

use super::Malformed;

const SYMBOLS: usize = 257;
const END_OF_STRING: usize = 256;
const LONGEST: usize = 30;

/// Length in bits of the code of each octet, then of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6, // 0x20  !"#$%&'()*+,-./
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10, // 0x30 0123456789:;<=>?
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7, // 0x40 @ABCDEFGHIJKLMNO
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6, // 0x50 PQRSTUVWXYZ[\]^_
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5, // 0x60 `abcdefghijklmno
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28, // 0x70 pqrstuvwxyz{|}~
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30,
];

static CODE: Code = Code::canonical();

/// Bits that the code of `octet` takes.
pub(super) fn code_length(octet: u8) -> usize {
    usize::from(LENGTHS[usize::from(octet)])
}

/// Bits that all of `octets` take, padding not counted.
pub(super) fn bit_length(octets: &[u8]) -> usize {
    octets.iter().map(|&octet| code_length(octet)).sum()
}

/// The coded form, padded with ones to a whole octet.
pub(super) fn encode(octets: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bit_length(octets).div_ceil(8));
    let mut window = 0u64;
    let mut bits = 0;
    for &octet in octets {
        let length = code_length(octet);
        window = (window << length) | u64::from(CODE.codes[usize::from(octet)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            encoded.push(low_octet(window >> bits));
        }
    }
    if bits > 0 {
        let padding = 8 - bits;
        encoded.push(low_octet((window << padding) | ((1 << padding) - 1)));
    }
    encoded
}

/// Replaces the contents of `decoded` by the octets that `encoded` stands for; at most 8/5 of its
/// length.
pub(super) fn decode(encoded: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    decoded.clear();
    let mut rest = encoded.iter();
    // The bits not yet decoded, from the most significant one down.
    let mut window = 0u64;
    let mut bits = 0usize;
    loop {
        while bits <= 56 {
            let Some(&octet) = rest.next() else { break };
            window |= u64::from(octet) << (56 - bits);
            bits += 8;
        }
        let (symbol, length) = CODE.leading_symbol(window);
        if length > bits {
            let ones = !(u64::MAX.checked_shr(bits as u32).unwrap_or(0));
            return if bits < 8 && window == ones {
                Ok(())
            } else {
                Err(Malformed)
            };
        }
        decoded.push(u8::try_from(symbol).map_err(|_| Malformed)?);
        window <<= length;
        bits -= length;
    }
}

fn low_octet(window: u64) -> u8 {
    (window & 0xff) as u8
}

struct Code {
    /// Code of each symbol, right-aligned.
    codes: [u32; SYMBOLS],
    /// Symbols by length of code, then by value: the order of their codes.
    symbols: [u16; SYMBOLS],
    /// By length: the first code, right-aligned.
    first: [u32; LONGEST + 1],
    /// By length: where in `symbols` the first code's symbol is.
    place: [usize; LONGEST + 1],
    /// By length: the least 32-bit prefix of the input that needs a longer code.
    limit: [u64; LONGEST + 1],
}

impl Code {
    const fn canonical() -> Self {
        let mut code = Self {
            codes: [0; SYMBOLS],
            symbols: [0; SYMBOLS],
            first: [0; LONGEST + 1],
            place: [0; LONGEST + 1],
            limit: [0; LONGEST + 1],
        };
        let mut next = 0u32;
        let mut placed = 0;
        let mut length = 1;
        while length <= LONGEST {
            next <<= 1;
            code.first[length] = next;
            code.place[length] = placed;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.codes[symbol] = next;
                    code.symbols[placed] = symbol as u16;
                    next += 1;
                    placed += 1;
                }
                symbol += 1;
            }
            code.limit[length] = (next as u64) << (32 - length);
            length += 1;
        }
        assert!(code.limit[LONGEST] == 1 << 32, "the code is complete");
        assert!(code.codes[END_OF_STRING] == (1 << LONGEST) - 1);
        code
    }

    /// The symbol whose code starts `window`, and that code's length. The caller knows how many
    /// bits are real.
    fn leading_symbol(&self, window: u64) -> (u16, usize) {
        let prefix = window >> 32;
        let mut length = 5;
        while prefix >= self.limit[length] {
            length += 1;
        }
        let code = (prefix >> (32 - length)) as u32;
        let offset = (code - self.first[length]) as usize;
        (self.symbols[self.place[length] + offset], length)
    }
}
