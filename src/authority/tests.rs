mod huffman_code;
mod random;
mod stream;
mod table;
mod wire;

use http::uri::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use self::wire::{
    Coding, END_STREAM, Encoder, Form, GOAWAY, HEADERS, Layout, NameForm, RST_STREAM, Trickle,
    connection, header_frames,
};
use super::{AuthorityRepair, huffman};

/// Refused by the `http` crate, each for a reason of its own or as captured from a client.
const ODD: &[&[u8]] = &[
    b"tmp%2Frun%2Fs.sock",
    b"unix:%2Ftmp%2Frun%2Fs.sock",
    b"%2Ftmp%2Frun%2Fs.sock",
    b"/tmp/run/s.sock",
    b"unix:/tmp/run/s.sock",
    b"unix:///tmp/run/s.sock",
    b"unix-abstract:episoded\0\0",
    b"\0episoded",
    b"/",
    b"%",
    b" ",
    b"localhost:80:90",
    b":::::::::::",
    b"/home/me/my dir/s.sock",
    b"/tmp/what?/s.sock",
    b"/tmp/#1/s.sock",
    b"[tmp",
    b"tmp]",
    b"[::1][::1]",
    b"[::1]:80:90",
    b"[fe80::1%25eth0]%20",
    b"user@",
    b"user%40name@host%2Fname",
    b"@@",
    b"\"quoted\"",
    b"/tmp/{id}/s.sock",
    b"/tmp/<id>/^`|/s.sock",
    b"C:\\run\\episoded\\s.sock",
    "/tmp/\u{e9}pisode/s.sock".as_bytes(),
    "/home/\u{65e5}\u{672c}\u{8a9e}/run/episoded/s.sock".as_bytes(),
    b"/run/episoded/\xff\xfe.sock",
    b"/run/episoded/\n\r\t.sock",
];

const FORMS: [Form; 3] = [Form::Incremental, Form::Without, Form::Never];
const NAME_FORMS: [NameForm; 3] = [NameForm::Static, NameForm::Plain, NameForm::Huffman];
const PATH: &str = "/episoded.session.v1.SessionService/RegisterSession";

/// A request as a server sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    authority: Option<String>,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// What became of a connection.
#[derive(Debug)]
struct Outcome {
    requests: Vec<Seen>,
    /// Stream and error code of each RST_STREAM.
    resets: Vec<(u32, u32)>,
    went_away: bool,
}

impl Outcome {
    fn authorities(&self) -> Vec<&str> {
        self.requests
            .iter()
            .map(|request| request.authority.as_deref().unwrap())
            .collect()
    }

    fn is_accepted(&self) -> bool {
        self.requests.len() == 1 && self.resets.is_empty() && !self.went_away
    }

    fn is_refused(&self) -> bool {
        const PROTOCOL_ERROR: u32 = 1;
        self.requests.is_empty() && (self.went_away || self.resets == [(1, PROTOCOL_ERROR)])
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn is_acceptable(value: &[u8]) -> bool {
    Authority::try_from(value).is_ok()
}

/// Serves `bytes` with the wrapper, which gets reads of at most `size`.
fn repaired(bytes: &[u8], streams: usize, size: usize) -> Outcome {
    block_on(async {
        let (client, server) = duplex(1 << 20);
        let server = AuthorityRepair::new(Trickle::new(server, &[size]));
        exchange(bytes, streams, client, server).await
    })
}

/// Serves `bytes` without the wrapper.
fn unrepaired(bytes: &[u8], streams: usize) -> Outcome {
    block_on(async {
        let (client, server) = duplex(1 << 20);
        exchange(bytes, streams, client, server).await
    })
}

async fn exchange<IO>(bytes: &[u8], streams: usize, client: DuplexStream, server: IO) -> Outcome
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (requests, (resets, went_away)) =
        tokio::join!(serve(server), converse(bytes, streams, client));
    Outcome {
        requests,
        resets,
        went_away,
    }
}

async fn serve<IO>(io: IO) -> Vec<Seen>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut requests = Vec::new();
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        requests.push(Seen {
            authority: request.uri().authority().map(ToString::to_string),
            path: request.uri().path().to_owned(),
            headers: request
                .headers()
                .iter()
                .map(|(n, v)| (n.to_string(), v.as_bytes().to_vec()))
                .collect(),
        });
        respond
            .send_response(http::Response::new(()), true)
            .unwrap();
    }
    requests
}

/// Sends `bytes` and waits until all streams are answered, or the connection is ended.
async fn converse(
    bytes: &[u8],
    streams: usize,
    mut client: DuplexStream,
) -> (Vec<(u32, u32)>, bool) {
    client.write_all(bytes).await.unwrap();
    let mut resets = Vec::new();
    let mut answered = 0;
    while answered < streams {
        let mut header = [0; 9];
        if client.read_exact(&mut header).await.is_err() {
            return (resets, true);
        }
        let mut payload =
            vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        client.read_exact(&mut payload).await.unwrap();
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        match header[3] {
            HEADERS => answered += 1,
            RST_STREAM => {
                resets.push((stream, u32::from_be_bytes(payload.try_into().unwrap())));
                answered += 1;
            }
            GOAWAY => return (resets, true),
            _ => {}
        }
    }
    (resets, false)
}

/// A whole request with one `:authority`, on stream 1 of an encoder of its own.
fn request_block(authority: &[u8], coding: Coding) -> Vec<u8> {
    let mut block = Vec::new();
    request_into(&mut Encoder::new(), authority, coding, &mut block);
    block
}

fn request_into(encoder: &mut Encoder, authority: &[u8], coding: Coding, block: &mut Vec<u8>) {
    let other = Coding {
        reuse: true,
        ..Coding::new(Form::Incremental, NameForm::Static, true)
    };
    block.extend([0x83, 0x86]);
    encoder.field(":path", PATH.as_bytes(), other, block);
    encoder.field(":authority", authority, coding, block);
    encoder.field("content-type", b"application/grpc", other, block);
    encoder.field("te", b"trailers", other, block);
}

fn single(authority: &[u8], coding: Coding, layout: &Layout) -> Vec<u8> {
    connection(&header_frames(
        1,
        END_STREAM,
        &request_block(authority, coding),
        layout,
    ))
}

/// Huffman-coded, for the dynamic table, and longer than any acceptable value of as many octets.
fn is_unrepairable(authority: &[u8], coding: Coding) -> bool {
    let room = huffman::encode(authority).len();
    authority.is_empty()
        || (coding.huffman
            && coding.form == Form::Incremental
            && 13 * authority.len() < 8 * room - 7)
}

#[test]
fn odd_authorities_are_refused_without_and_accepted_with_repair_in_every_form() {
    for authority in ODD {
        assert!(!is_acceptable(authority), "{authority:?}");
        for form in FORMS {
            for name in NAME_FORMS {
                for huffman in [false, true] {
                    let coding = Coding::new(form, name, huffman);
                    let bytes = single(authority, coding, &Layout::default());
                    assert!(
                        unrepaired(&bytes, 1).is_refused(),
                        "{authority:?} {coding:?}"
                    );
                    for size in [1, 5, 4096] {
                        let outcome = repaired(&bytes, 1, size);
                        assert!(
                            outcome.is_accepted(),
                            "{authority:?} {coding:?} {outcome:?}"
                        );
                        assert_eq!(outcome.requests[0].path, PATH);
                        assert_eq!(outcome.requests[0].headers.len(), 2);
                        assert_eq!(outcome.authorities()[0].len(), authority.len());
                    }
                }
            }
        }
    }
}

#[test]
fn captured_authorities_become_readable_ones() {
    let cases: [(&[u8], &str); 6] = [
        (b"tmp%2Frun%2Fs.sock", "tmp-2Frun-2Fs.sock"),
        (b"unix:%2Ftmp%2Frun%2Fs.sock", "unix:-2Ftmp-2Frun-2Fs.sock"),
        (b"/tmp/run/s.sock", "-tmp-run-s.sock"),
        (b"unix:///tmp/run/s.sock", "unix:---tmp-run-s.sock"),
        (b"a:b:c:d", "a:bxcxd"),
        (b"[::1]/user@host", "[::1]-user@host"),
    ];
    for (authority, expected) in cases {
        for huffman in [false, true] {
            let coding = Coding::new(Form::Incremental, NameForm::Static, huffman);
            let outcome = repaired(&single(authority, coding, &Layout::default()), 1, 4096);
            assert_eq!(outcome.authorities(), [expected]);
        }
    }
}

#[test]
fn acceptable_authorities_go_through_as_they_are() {
    for authority in [
        "localhost",
        "localhost:50051",
        ":80",
        "[::1]:80",
        "a%2fb@host",
        "[fe80::1%25eth0]",
        "a@b@c",
    ] {
        assert!(is_acceptable(authority.as_bytes()), "{authority}");
        for huffman in [false, true] {
            let coding = Coding::new(Form::Incremental, NameForm::Static, huffman);
            let outcome = repaired(
                &single(authority.as_bytes(), coding, &Layout::default()),
                1,
                3,
            );
            assert_eq!(outcome.authorities(), [authority]);
        }
    }
}

#[test]
fn a_block_may_be_cut_at_every_octet_under_padding_and_priority() {
    for huffman in [false, true] {
        let coding = Coding::new(Form::Incremental, NameForm::Huffman, huffman);
        let block = request_block(b"unix:%2Ftmp%2Frun%2Fs.sock", coding);
        for (padding, priority) in [
            (None, false),
            (Some(0), true),
            (Some(7), false),
            (Some(255), true),
        ] {
            let mut layouts: Vec<Vec<usize>> = (0..=block.len()).map(|cut| vec![cut]).collect();
            layouts.extend((0..block.len()).map(|cut| vec![cut, cut, cut + 1]));
            layouts.push((0..=block.len()).collect());
            for cuts in layouts {
                let layout = Layout {
                    padding,
                    priority,
                    cuts,
                };
                let bytes = connection(&header_frames(1, END_STREAM, &block, &layout));
                let outcome = repaired(&bytes, 1, 16);
                assert!(outcome.is_accepted(), "{layout:?} {outcome:?}");
                assert_eq!(outcome.authorities(), ["unix:-2Ftmp-2Frun-2Fs.sock"]);
            }
        }
    }
}

#[test]
fn later_requests_may_refer_to_the_repaired_entry_or_its_name() {
    let mut encoder = Encoder::new();
    let incremental = Coding::new(Form::Incremental, NameForm::Dynamic, true);
    let requests: [(&[u8], Coding); 5] = [
        (b"/tmp/a", incremental),
        (
            b"/tmp/a",
            Coding {
                reuse: true,
                ..incremental
            },
        ),
        (
            b"/tmp/b",
            Coding::new(Form::Never, NameForm::Dynamic, false),
        ),
        (b"localhost", incremental),
        (
            b"/tmp/a",
            Coding {
                reuse: true,
                ..incremental
            },
        ),
    ];
    let mut frames = Vec::new();
    for (stream, (authority, coding)) in (1..).step_by(2).zip(requests) {
        let mut block = Vec::new();
        request_into(&mut encoder, authority, coding, &mut block);
        frames.extend(header_frames(
            stream,
            END_STREAM,
            &block,
            &Layout::default(),
        ));
    }
    let bytes = connection(&frames);
    assert_eq!(unrepaired(&bytes, 5).authorities(), ["localhost"]);
    for size in [1, 4096] {
        let outcome = repaired(&bytes, 5, size);
        assert_eq!(
            outcome.authorities(),
            ["-tmp-a", "-tmp-a", "-tmp-b", "localhost", "-tmp-a"]
        );
    }
}

#[test]
fn a_refused_value_past_its_first_good_one_is_left_to_h2() {
    let mut encoder = Encoder::new();
    let mut frames = Vec::new();
    for (stream, authority) in [
        (1, b"localhost".as_slice()),
        (3, b"/tmp/a"),
        (5, b"localhost"),
    ] {
        let mut block = Vec::new();
        request_into(
            &mut encoder,
            authority,
            Coding::new(Form::Without, NameForm::Static, false),
            &mut block,
        );
        frames.extend(header_frames(
            stream,
            END_STREAM,
            &block,
            &Layout::default(),
        ));
    }
    let outcome = repaired(&connection(&frames), 3, 4096);
    assert_eq!(outcome.authorities(), ["localhost", "localhost"]);
    assert_eq!(outcome.resets, [(3, 1)]);
}

#[test]
fn what_has_no_replacement_is_refused_and_the_next_request_is_served() {
    let literal = |authority: &[u8], huffman| {
        request_block(
            authority,
            Coding::new(Form::Incremental, NameForm::Static, huffman),
        )
    };
    let blocks = [
        literal(b"", false),
        literal(b"", true),
        vec![0x83, 0x86, 0x84, 0x81],
        literal(b"\\", true),
        literal(b"\x01\x02\x03", true),
    ];
    for block in blocks {
        let mut frames = header_frames(1, END_STREAM, &block, &Layout::default());
        let mut next = vec![0x83, 0x86, 0x84];
        let coding = Coding::new(Form::Never, NameForm::Static, true);
        Encoder::new().field(":authority", b"/tmp/a", coding, &mut next);
        frames.extend(header_frames(3, END_STREAM, &next, &Layout::default()));
        let outcome = repaired(&connection(&frames), 2, 4096);
        assert_eq!(outcome.resets, [(1, 1)], "{block:?}");
        assert_eq!(outcome.authorities(), ["-tmp-a"]);
    }
}

#[test]
fn hyper_serves_a_repaired_connection() {
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let coding = Coding::new(Form::Incremental, NameForm::Static, true);
    let bytes = single(b"tmp%2Frun%2Fs.sock", coding, &Layout::default());
    block_on(async {
        let (client, server) = duplex(1 << 16);
        let service = hyper::service::service_fn(
            |request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().authority().unwrap(), "tmp-2Frun-2Fs.sock");
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Empty::<
                    bytes::Bytes,
                >::new()))
            },
        );
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(AuthorityRepair::new(server)), service);
        let (result, answer) = tokio::join!(server, converse(&bytes, 1, client));
        assert!(result.is_ok());
        assert_eq!(answer, (vec![], false));
    });
}
