use super::huffman_code::bytes;
use super::unrepaired;
use super::wire::{END_STREAM, Encoder, Layout, connection, header_frames, integer, string};
use crate::authority::hpack::Blocks;

/// The name at `index` of the static table that h2 has, learned by sending it.
fn static_name(index: usize) -> String {
    let name = match index {
        1 => ":authority",
        2 | 3 => ":method",
        4 | 5 => ":path",
        6 | 7 => ":scheme",
        8..=14 => ":status",
        57 => "transfer-encoding",
        _ => {
            let mut block = vec![0x83, 0x86, 0x84];
            integer(4, 0, index, &mut block);
            string(b"0", false, &mut block);
            let frames = header_frames(1, END_STREAM, &block, &Layout::default());
            return unrepaired(&connection(&frames), 1).requests[0].headers[0]
                .0
                .clone();
        }
    };
    name.to_owned()
}

/// Blocks of appendix C.4 and C.6, with the number of table entries that it gives after each.
#[test]
fn the_table_holds_as_many_entries_as_in_the_rfc_examples() {
    let requests = [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 1),
        ("8286 84be 5886 a8eb 1064 9cbf", 2),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            3,
        ),
    ];
    let responses = [
        (
            "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
             29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            4,
        ),
        ("4883 640e ffc1 c0bf", 4),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            3,
        ),
    ];
    for example in [requests, responses] {
        let mut blocks = Blocks::new();
        for (block, entries) in example {
            blocks.repair(&mut bytes(block)).unwrap();
            assert!(blocks.repair(&mut [0x80 | (61 + entries)]).is_ok());
            assert!(blocks.repair(&mut [0x80 | (62 + entries)]).is_err());
        }
    }
}

/// An entry fits a table of just its size, and no smaller one.
#[test]
fn entries_under_static_names_have_the_size_that_h2_gives_them() {
    for index in 1..=61 {
        let size = static_name(index).len() + 1 + 32;
        for (size, fits) in [(size, true), (size - 1, false)] {
            let mut block = Vec::new();
            Encoder::new().resize(size, &mut block);
            integer(6, 0x40, index, &mut block);
            string(b"0", false, &mut block);
            block.push(0xbe);
            assert_eq!(Blocks::new().repair(&mut block).is_ok(), fits, "{index}");
        }
    }
}

#[test]
fn a_smaller_table_loses_entries_for_good() {
    let mut blocks = Blocks::new();
    assert!(blocks.repair(&mut [0x41, 0x01, b'a', 0xbe]).is_ok());
    assert!(blocks.repair(&mut [0x3f, 0xe1, 0x1f, 0xbe]).is_ok());
    assert!(blocks.repair(&mut [0x20, 0x3f, 0xe1, 0x1f]).is_ok());
    assert!(blocks.repair(&mut [0xbe]).is_err());
}
