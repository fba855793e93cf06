use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex, empty, join, sink,
};

use super::random::{planned, written};
use super::wire::{
    CONTINUATION, Coding, DATA, END_HEADERS, END_STREAM, Form, HEADERS, Layout, NameForm, PADDED,
    PREFACE, PRIORITY, PUSH_PROMISE, SETTINGS, Trickle, connection, frame, header_frames,
};
use super::{ODD, block_on, is_acceptable, request_block, single};
use crate::authority::value::{is_acceptable as value_is_acceptable, repair_huffman, repair_plain};
use crate::authority::{AuthorityRepair, MAX_HELD_BACK, huffman};

fn incremental(huffman: bool) -> Coding {
    Coding::new(Form::Incremental, NameForm::Static, huffman)
}

/// All that a reader with buffers of `buffers` octets gets out of `bytes` arriving in pieces of
/// `pieces`, and whether the wrapper stepped aside before the end of the stream.
fn through(bytes: &[u8], pieces: &[usize], buffers: &[usize]) -> (Vec<u8>, bool) {
    let mut io = AuthorityRepair::new(join(Trickle::new(bytes, pieces), sink()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    let mut is_transparent = false;
    for turn in 0.. {
        let mut octets = vec![0; buffers[turn % buffers.len()]];
        let mut buf = ReadBuf::new(&mut octets);
        let poll = Pin::new(&mut io).poll_read(&mut cx, &mut buf);
        if let Some(repair) = &io.repair {
            // A vector may double where it grows.
            assert!(repair.held.bytes.capacity() < 2 * MAX_HELD_BACK);
        }
        if let Poll::Ready(result) = poll {
            result.unwrap();
            if buf.filled().is_empty() {
                break;
            }
        }
        all.extend_from_slice(buf.filled());
        is_transparent = io.is_transparent();
    }
    assert!(io.is_transparent());
    (all, is_transparent)
}

fn assert_untouched(bytes: &[u8]) {
    for pieces in [1, 7, 65_536] {
        let (all, is_transparent) = through(bytes, &[pieces], &[65_536]);
        assert!(all == bytes, "changed");
        assert!(is_transparent, "still watching");
    }
}

#[test]
fn a_good_first_block_makes_the_wrapper_step_aside() {
    let good = single(b"localhost", incremental(true), &Layout::default());
    assert_untouched(&good);
    let without = connection(&header_frames(
        1,
        END_STREAM,
        &[0x83, 0x86, 0x84],
        &Layout::default(),
    ));
    assert_untouched(&without);
    let bad = single(b"/tmp/a", incremental(true), &Layout::default());
    let (all, is_transparent) = through(&bad, &[4096], &[4096]);
    assert!(!is_transparent);
    assert_ne!(all, bad);
}

#[test]
fn malformed_frames_go_through_as_they_are() {
    let odd = request_block(b"/tmp/a", incremental(false));
    let whole = header_frames(1, END_STREAM, &odd, &Layout::default());
    let unfinished = frame(HEADERS, END_STREAM, 1, &odd);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let padded = [&[200], odd.as_slice()].concat();
    let cases: Vec<Vec<u8>> = vec![
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", whole.as_slice()].concat(),
        [&PREFACE[..23], b"\r", &whole].concat(),
        connection(&header_frames(0, END_STREAM, &odd, &Layout::default())),
        connection(&[frame(CONTINUATION, END_HEADERS, 1, &odd), whole.clone()].concat()),
        connection(&[frame(PUSH_PROMISE, END_HEADERS, 1, &odd), whole.clone()].concat()),
        connection(&[unfinished.clone(), settings, whole.clone()].concat()),
        connection(&[unfinished, frame(CONTINUATION, END_HEADERS, 3, &[])].concat()),
        connection(&frame(HEADERS, END_HEADERS | PADDED, 1, &padded)),
        connection(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[]), whole.clone()].concat()),
        connection(&[frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4]), whole].concat()),
    ];
    for bytes in cases {
        assert_untouched(&bytes);
    }
}

/// Each behind an authority that would be repaired in a well-formed block.
#[test]
fn malformed_header_blocks_go_through_as_they_are() {
    let cases: [&[u8]; 11] = [
        // Index 0, an index and a name past both tables.
        &[0x80],
        &[0xc2],
        &[0x7f, 0x03, 0x01, b'x'],
        // Integers: of six octets, of many, cut off.
        &[0xff, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff],
        // Strings: missing, cut off, wrongly padded as name and as value.
        &[0x00],
        &[0x00, 0x05, b'x'],
        &[0x00, 0x81, 0x06, 0x00],
        &[0x41, 0x81, 0x06],
        // A size update behind a field.
        &[0x20],
    ];
    let odd = request_block(b"/tmp/a", incremental(false));
    let sent = |block: &[&[u8]]| {
        connection(&header_frames(
            1,
            END_STREAM,
            &block.concat(),
            &Layout::default(),
        ))
    };
    for case in cases {
        assert_untouched(&sent(&[&odd, case]));
    }
    let table_size_4097 = [0x3f, 0xe2, 0x1f];
    assert_untouched(&sent(&[&table_size_4097, &odd]));
}

#[test]
fn blocks_up_to_the_limit_are_repaired_and_longer_ones_are_not() {
    let odd = request_block(b"/tmp/a", incremental(false));
    let field = |value: usize| {
        let mut block = odd.clone();
        block.extend([0x00, 0x01, b'x']);
        super::wire::string(&vec![b'y'; value], false, &mut block);
        block
    };
    let overhead = field(10_000).len() - 10_000;
    let fitting = field(MAX_HELD_BACK - overhead);
    assert_eq!(fitting.len(), MAX_HELD_BACK);
    for pieces in [1, 1000, 65_536] {
        let bytes = connection(&header_frames(1, END_STREAM, &fitting, &Layout::default()));
        assert_ne!(through(&bytes, &[pieces], &[65_536]).0, bytes);
    }
    let longer = field(MAX_HELD_BACK - overhead + 1);
    assert_untouched(&connection(&header_frames(
        1,
        END_STREAM,
        &longer,
        &Layout::default(),
    )));
    let cut = Layout {
        cuts: vec![8000],
        ..Layout::default()
    };
    assert_untouched(&connection(&header_frames(1, END_STREAM, &fitting, &cut)));
}

#[test]
fn endless_continuation_is_held_back_up_to_the_limit_only() {
    let mut frames = frame(
        HEADERS,
        END_STREAM,
        1,
        &request_block(b"/tmp/a", incremental(true)),
    );
    for _ in 0..4000 {
        frames.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    assert_untouched(&connection(&frames));
    let (all, _) = through(&connection(&frames), &[36_000, 60], &[36_000]);
    assert_eq!(all, connection(&frames));
    frames.truncate(100);
    frames.extend(frame(CONTINUATION, 0, 1, &vec![0; 1_000_000]));
    assert_untouched(&connection(&frames));
}

#[test]
fn an_unfinished_block_is_delivered_before_the_end_of_the_stream() {
    let bytes = single(
        b"/tmp/a",
        incremental(true),
        &Layout {
            cuts: vec![10],
            ..Layout::default()
        },
    );
    for end in 0..bytes.len() {
        for (pieces, buffers) in [(1, 1), (4096, 4096), (4096, 3)] {
            let (all, _) = through(&bytes[..end], &[pieces], &[buffers]);
            assert!(all == bytes[..end], "cut at {end}");
        }
    }
}

#[test]
fn payload_of_other_frames_is_never_held() {
    let mut frames = header_frames(
        1,
        0,
        &request_block(b"/tmp/a", incremental(true)),
        &Layout::default(),
    );
    let head = connection(&frames).len();
    for _ in 0..20 {
        frames.extend(frame(DATA, 0, 1, &[0x41; 16_384]));
        frames.extend(frame(DATA, 0, 1, &[]));
    }
    let bytes = connection(&frames);
    let mut io = AuthorityRepair::new(join(bytes.as_slice(), sink()));
    let mut all = vec![0; bytes.len()];
    block_on(async {
        io.read_exact(&mut all[..head]).await.unwrap();
        for part in all[head..].chunks_mut(1001) {
            assert_eq!(io.read(part).await.unwrap(), part.len());
        }
    });
    assert_eq!(all[head..], bytes[head..]);
    assert_eq!(io.repair.as_ref().unwrap().held.bytes.capacity(), 0);
    assert!(!io.is_transparent());
}

#[test]
fn a_full_buffer_is_not_the_end_of_the_stream() {
    let bytes = single(b"/tmp/a", incremental(true), &Layout::default());
    assert_eq!(
        through(&bytes, &[3], &[64]),
        through(&bytes, &[65_536], &[65_536])
    );
    let mut io = AuthorityRepair::new(join(bytes.as_slice(), sink()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        Pin::new(&mut io)
            .poll_read(&mut cx, &mut ReadBuf::new(&mut []))
            .is_ready()
    );
    assert!(!io.is_transparent());
}

#[test]
fn writes_go_to_the_connection_as_they_are() {
    block_on(async {
        let (mut client, server) = duplex(64);
        let mut io = AuthorityRepair::new(server);
        assert_eq!(io.is_write_vectored(), io.get_ref().is_write_vectored());
        assert_eq!(
            io.write_vectored(&[IoSlice::new(b"/tmp"), IoSlice::new(b"/a")])
                .await
                .unwrap(),
            6
        );
        io.write_all(b"%2F").await.unwrap();
        io.flush().await.unwrap();
        io.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"/tmp/a%2F");
    });
    assert!(!AuthorityRepair::new(empty()).is_transparent());
}

#[test]
fn repairs_keep_both_lengths_and_are_acceptable() {
    for value in ODD {
        assert!(!value_is_acceptable(value));
        let plain = repair_plain(value).unwrap();
        assert!(is_acceptable(&plain));
        assert_eq!(plain.len(), value.len());
        let coded = huffman::encode(value);
        let repaired = repair_huffman(value, coded.len(), true).unwrap();
        assert_eq!(repaired.len(), coded.len());
        let mut octets = Vec::new();
        huffman::decode(&repaired, &mut octets).unwrap();
        assert!(is_acceptable(&octets));
        assert_eq!(octets.len(), value.len());
    }
}

/// One octet in a name of letters: repaired iff the `http` crate refuses it there.
#[test]
fn every_octet_is_repairable_between_letters() {
    for octet in 0..=u8::MAX {
        let value = [b"run", [octet].as_slice(), b"sock"].concat();
        let coded = huffman::encode(&value);
        assert!(repair_plain(&value).is_some_and(|repaired| is_acceptable(&repaired)));
        assert_eq!(
            repair_plain(&value).unwrap() == value,
            is_acceptable(&value),
            "{octet:#x}"
        );
        assert_eq!(
            repair_huffman(&value, coded.len(), true).unwrap().len(),
            coded.len()
        );
    }
}

#[test]
fn without_indexing_any_coded_length_can_be_filled() {
    let value = [0x01; 50];
    let coded = huffman::encode(&value);
    assert!(repair_huffman(&value, coded.len(), true).is_none());
    let repaired = repair_huffman(&value, coded.len(), false).unwrap();
    assert_eq!(repaired.len(), coded.len());
    let mut octets = Vec::new();
    huffman::decode(&repaired, &mut octets).unwrap();
    assert!(is_acceptable(&octets));
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(1usize), 1usize..30, 1usize..5000], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_value_is_repaired_within_its_room(
        value in prop::collection::vec(any::<u8>(), 1..80),
        indexed in any::<bool>(),
    ) {
        prop_assert!(is_acceptable(&repair_plain(&value).unwrap()));
        let coded = huffman::encode(&value);
        let repaired = repair_huffman(&value, coded.len(), indexed);
        prop_assert_eq!(repaired.is_some(), !indexed || 13 * value.len() + 7 >= 8 * coded.len());
        if let Some(repaired) = repaired {
            prop_assert_eq!(repaired.len(), coded.len());
            let mut octets = Vec::new();
            huffman::decode(&repaired, &mut octets).unwrap();
            prop_assert!(is_acceptable(&octets));
            prop_assert!(!indexed || octets.len() == value.len());
        }
    }

    #[test]
    fn bytes_without_a_preface_go_through(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        pieces in sizes(),
        buffers in sizes(),
    ) {
        let (all, _) = through(&bytes, &pieces, &buffers);
        prop_assert_eq!(all, bytes);
    }

    #[test]
    fn arbitrary_frames_keep_their_length_and_do_not_depend_on_the_pieces(
        frames in prop::collection::vec(
            (
                prop_oneof![Just(0u8), Just(1), Just(1), Just(1), Just(9), any::<u8>()],
                any::<u8>(),
                0u32..3,
                prop::collection::vec(prop_oneof![any::<u8>(), Just(0x41), Just(0x01), Just(b'/')], 0..60),
            ),
            0..8,
        ),
        pieces in sizes(),
        buffers in sizes(),
    ) {
        let frames: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| {
            frame(*kind, *flags, *stream, payload)
        }).collect();
        let bytes = connection(&frames);
        let (all, _) = through(&bytes, &pieces, &buffers);
        prop_assert_eq!(all.len(), bytes.len());
        prop_assert_eq!(all, through(&bytes, &[65_536], &[65_536]).0);
    }

    #[test]
    fn damaged_connections_keep_their_length_and_do_not_depend_on_the_pieces(
        plan in prop::collection::vec(planned(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u32..8), 0..5),
        end in any::<prop::sample::Index>(),
        pieces in sizes(),
        buffers in sizes(),
    ) {
        let mut bytes = written(&plan);
        let original = bytes.clone();
        for (place, bit) in &flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        bytes.truncate(bytes.len() - end.index(bytes.len()) / 4);
        let (all, _) = through(&bytes, &pieces, &buffers);
        prop_assert_eq!(all.len(), bytes.len());
        prop_assert_eq!(&all, &through(&bytes, &[65_536], &[65_536]).0);
        if is_acceptable(&plan[0].authority) && original.starts_with(&bytes) {
            prop_assert_eq!(all, bytes);
        }
    }
}
