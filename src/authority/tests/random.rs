//! Connections made at random, with repair and without.

use proptest::prelude::*;

use super::wire::{Coding, END_STREAM, Encoder, Form, Layout, NameForm, connection, header_frames};
use super::{PATH, is_acceptable, is_unrepairable, repaired, request_into, unrepaired};

/// One request of a random connection.
#[derive(Debug, Clone)]
pub struct Planned {
    resize: Vec<usize>,
    pub authority: Vec<u8>,
    coding: Coding,
    fields: Vec<(&'static str, Vec<u8>, Coding)>,
    layout: Layout,
}

fn coding() -> impl Strategy<Value = Coding> {
    let name = prop_oneof![
        Just(NameForm::Static),
        Just(NameForm::Dynamic),
        Just(NameForm::Dynamic),
        Just(NameForm::Plain),
        Just(NameForm::Huffman)
    ];
    let form =
        prop_oneof![3 => Just(Form::Incremental), 1 => Just(Form::Without), 1 => Just(Form::Never)];
    (form, name, any::<bool>(), any::<bool>()).prop_map(|(form, name, huffman, reuse)| Coding {
        form,
        name,
        huffman,
        reuse,
    })
}

fn printable(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0x20u8..0x7f, length)
}

fn authority() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => printable(1..60),
        1 => Just(b"/tmp/run/s.sock".to_vec()),
        1 => Just(b"localhost".to_vec()),
        1 => printable(200..900),
    ]
}

pub fn planned() -> impl Strategy<Value = Planned> {
    let field = (
        prop_oneof![
            Just("x-one"),
            Just("x-two-longer"),
            Just("user-agent"),
            Just("accept-encoding")
        ],
        printable(0..700),
        coding(),
    );
    let layout = (
        prop::option::of(any::<u8>()),
        any::<bool>(),
        prop::collection::vec(0usize..2000, 0..6),
    )
        .prop_map(|(padding, priority, cuts)| Layout {
            padding,
            priority,
            cuts,
        });
    let size = prop_oneof![Just(0usize), Just(100), Just(1500), Just(4096)];
    let resize = prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(size, 1..3)];
    (
        resize,
        authority(),
        coding(),
        prop::collection::vec(field, 0..4),
        layout,
    )
        .prop_map(|(resize, authority, coding, fields, layout)| Planned {
            resize,
            authority,
            coding,
            fields,
            layout,
        })
}

pub fn written(plan: &[Planned]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut frames = Vec::new();
    for (stream, request) in (1..).step_by(2).zip(plan) {
        let mut block = Vec::new();
        for &size in &request.resize {
            encoder.resize(size, &mut block);
        }
        request_into(&mut encoder, &request.authority, request.coding, &mut block);
        for (name, value, coding) in &request.fields {
            encoder.field(name, value, *coding, &mut block);
        }
        frames.extend(header_frames(stream, END_STREAM, &block, &request.layout));
    }
    connection(&frames)
}

fn expected_headers(request: &Planned) -> Vec<(String, Vec<u8>)> {
    let mut headers = vec![
        ("content-type".to_owned(), b"application/grpc".to_vec()),
        ("te".to_owned(), b"trailers".to_vec()),
    ];
    headers.extend(
        request
            .fields
            .iter()
            .map(|(name, value, _)| ((*name).to_owned(), value.clone())),
    );
    headers.sort();
    headers
}

/// For each request, whether a repaired connection serves it. An unrepairable entry of the table is
/// refused whenever it is referred to, so from the first one of a value on, that value's fate may
/// hang on evictions: `None`.
fn fates(plan: &[Planned]) -> Vec<Option<bool>> {
    let mut poisoned: Vec<&[u8]> = Vec::new();
    let watched = !is_acceptable(&plan[0].authority);
    plan.iter()
        .map(|request| {
            let value = request.authority.as_slice();
            if is_acceptable(value) {
                return Some(true);
            }
            let referred = request.coding.reuse && poisoned.contains(&value);
            if !watched || is_unrepairable(value, request.coding) {
                poisoned.push(value);
                return if request.coding.reuse && watched {
                    None
                } else {
                    Some(false)
                };
            }
            if referred { None } else { Some(true) }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_connections_are_served_with_all_else_unchanged(
        plan in prop::collection::vec(planned(), 1..6),
        size in prop_oneof![Just(1usize), 1usize..40, Just(4096)],
    ) {
        let bytes = written(&plan);
        let outcome = repaired(&bytes, plan.len(), size);
        prop_assert!(!outcome.went_away);
        let mut requests = outcome.requests.iter();
        for ((stream, planned), fate) in (1u32..).step_by(2).zip(&plan).zip(fates(&plan)) {
            let served = !outcome.resets.iter().any(|(reset, _)| *reset == stream);
            if let Some(fate) = fate {
                prop_assert_eq!(served, fate, "stream {} of {:?}", stream, outcome);
            }
            if !served {
                continue;
            }
            let request = requests.next().unwrap();
            prop_assert_eq!(&request.path, PATH);
            let mut headers = request.headers.clone();
            headers.sort();
            prop_assert_eq!(headers, expected_headers(planned));
            if is_acceptable(&planned.authority) {
                prop_assert_eq!(request.authority.as_ref().unwrap().as_bytes(), &planned.authority);
            }
        }
        prop_assert!(requests.next().is_none());
    }

    #[test]
    fn the_same_connections_without_repair_lose_exactly_the_bad_requests(
        plan in prop::collection::vec(planned(), 1..4),
    ) {
        let outcome = unrepaired(&written(&plan), plan.len());
        let good = plan.iter().filter(|request| is_acceptable(&request.authority)).count();
        prop_assert_eq!(outcome.requests.len(), good);
        prop_assert_eq!(outcome.resets.len(), plan.len() - good);
    }
}
