use proptest::prelude::*;
use tokio::io::{AsyncReadExt, duplex};

use super::block_on;
use super::wire::{Coding, END_STREAM, Encoder, Form, Layout, NameForm, connection, header_frames};
use crate::authority::huffman::{code_length, decode, encode};

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn decoded(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut octets = vec![1, 2, 3];
    decode(encoded, &mut octets).ok().map(|()| octets)
}

/// Everything a header value can hold.
fn value_octets() -> Vec<u8> {
    let mut octets = vec![b'\t'];
    octets.extend(0x20..0x7f);
    octets.extend(0x80..=0xff);
    octets
}

#[test]
fn strings_of_the_rfc_examples_are_coded_as_there() {
    let examples: [(&[u8], &str); 10] = [
        (b"www.example.com", "f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        (b"no-cache", "a8eb 1064 9cbf"),
        (b"custom-key", "25a8 49e9 5ba9 7d7f"),
        (b"custom-value", "25a8 49e9 5bb8 e8b4 bf"),
        (b"302", "6402"),
        (b"private", "aec3 771a 4b"),
        (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"),
        (b"https://www.example.com", "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
        (b"gzip", "9bd9 ab"),
        (
            b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5
             b106 3d50 07",
        ),
    ];
    for (octets, hex) in examples {
        assert_eq!(encode(octets), bytes(hex));
        assert_eq!(decoded(&bytes(hex)).as_deref(), Some(octets));
    }
}

/// The ends of each run of consecutive codes among octets that no header value can hold.
#[test]
fn control_octets_have_the_codes_of_the_appendix() {
    let codes: [(u8, u32, usize); 10] = [
        (0x00, 0x1ff8, 13),
        (0x01, 0x007f_ffd8, 23),
        (0x02, 0x0fff_ffe2, 28),
        (0x09, 0x00ff_ffea, 24),
        (0x0a, 0x3fff_fffc, 30),
        (0x0d, 0x3fff_fffd, 30),
        (0x0e, 0x0fff_ffeb, 28),
        (0x16, 0x3fff_fffe, 30),
        (0x1f, 0x0fff_fffb, 28),
        (0x7f, 0x0fff_fffc, 28),
    ];
    for (octet, code, length) in codes {
        assert_eq!(code_length(octet), length);
        let padded = ((u64::from(code) + 1) << (64 - length)).wrapping_sub(1);
        assert_eq!(encode(&[octet]), padded.to_be_bytes()[..length.div_ceil(8)]);
    }
}

#[test]
fn h2_writes_what_we_write() {
    let value = value_octets();
    let wire = block_on(async {
        let (client, mut server) = duplex(1 << 16);
        let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
        let request = http::Request::builder()
            .uri("http://localhost/")
            .header("x-all", value.as_slice());
        let _response = sender
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let mut wire = vec![0; 1 << 16];
        let mut filled = 0;
        tokio::pin!(connection);
        loop {
            tokio::select! {
                _ = &mut connection => panic!("the connection ended"),
                read = server.read(&mut wire[filled..]) => filled += read.unwrap(),
            }
            let coded = encode(&value);
            if wire[..filled]
                .windows(coded.len())
                .any(|window| window == coded)
            {
                return wire;
            }
            assert!(filled < 2000, "the value is not there in our coding");
        }
    });
    assert!(wire.starts_with(b"PRI"));
}

#[test]
fn h2_reads_what_we_write() {
    let mut block = vec![0x83, 0x86, 0x84];
    let coding = Coding::new(Form::Never, NameForm::Huffman, true);
    Encoder::new().field("x-all", &value_octets(), coding, &mut block);
    let outcome = super::unrepaired(
        &connection(&header_frames(1, END_STREAM, &block, &Layout::default())),
        1,
    );
    assert_eq!(
        outcome.requests[0].headers,
        [("x-all".to_owned(), value_octets())]
    );
}

#[test]
fn wrong_padding_and_the_end_symbol_are_malformed() {
    assert_eq!(decoded(&[]), Some(vec![]));
    assert_eq!(decoded(&[0x07]), Some(vec![b'0']));
    assert_eq!(decoded(&[0x06]), None);
    assert_eq!(decoded(&[0x07, 0xff]), None);
    assert_eq!(decoded(&[0xff]), None);
    assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None);
    assert_eq!(decoded(&[0xff; 9]), None);
}

proptest! {
    #[test]
    fn decoding_reverses_encoding(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(decoded(&encode(&octets)), Some(octets));
    }

    #[test]
    fn what_decodes_is_the_only_coding_of_its_octets(coded in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(octets) = decoded(&coded) {
            prop_assert_eq!(encode(&octets), coded);
        }
    }
}
