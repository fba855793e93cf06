//! Requests as clients really put them on a Unix socket: odd authorities, in
//! every form that HTTP/2 allows. A stock server refuses them, which is the
//! control: what the raw client sends is what breaks.

pub mod raw;

use std::path::Path;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use crate::harness::{Daemon, Dirs, within};
use raw::{Answer, Form, call_twice};

/// What clients were seen to send, and what else a path can make of it.
const ODD: &[&str] = &[
    "tmp%2Frun%2Fs.sock",
    "unix:%2Ftmp%2Frun%2Fs.sock",
    "%2Ftmp%2Frun%2Fs.sock",
    "/tmp/run/s.sock",
    "unix:/tmp/run/s.sock",
    "unix:///tmp/run/s.sock",
    "unix:tmp:run:s.sock",
    "tmp/a b/s.sock",
    "%",
    "/",
    "//",
    "100%",
    "s.sock:443/",
    "a:b:c:d",
    "::",
    "run:user:1000:episoded:operator.sock",
    "unix:%2Frun%2Fuser%2F1000%2Fepisoded%2Foperator.sock",
    "unix:///run/user/1000/episoded%20two/session.sock",
    "unix:@abstract/name",
    "user@tmp/run@s.sock",
    "[tmp]/[run]/s.sock",
    "tmp/why?/s.sock",
    "tmp/(a)+\'b\'|c/s.sock",
    "tmp/\"quoted\"/s.sock",
    "tmp/a#1>b/s.sock",
    "tmp/~user$1!&2*3,4;5=6/s.sock",
    "TMP%2FRUN%2fS.SOCK%",
];

const GOOD: &[&str] = &["localhost", "localhost:50051", "episoded", "127.0.0.1"];

async fn answers(socket: &Path, authority: &str, form: Form) -> [Answer; 2] {
    within(call_twice(socket, authority, form))
        .await
        .unwrap_or_else(|error| panic!("{authority} {form:?}: {error}"))
}

#[tokio::test]
async fn every_authority_in_every_form_is_served_on_both_sockets() {
    let daemon = Daemon::start().await;
    let mut calls = 0;
    for socket in [daemon.operator_socket(), daemon.session_socket()] {
        for authority in ODD.iter().chain(GOOD) {
            for form in Form::all() {
                let got = answers(&socket, authority, form).await;
                assert_eq!(got, [Answer::Serving; 2], "{authority} {form:?}");
                calls += 2;
            }
        }
    }
    assert!(calls > 400, "{calls} calls");
}

#[tokio::test]
async fn a_stock_server_resets_every_odd_authority_and_serves_the_good_ones() {
    let dirs = Dirs::new();
    let socket = dirs.root().join("stock.sock");
    let listener = UnixListener::bind(&socket).expect("a socket is bound");
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(server);
    for form in Form::all() {
        for authority in ODD {
            let got = answers(&socket, authority, form).await;
            assert_eq!(got[0], Answer::Reset, "{authority} {form:?}");
        }
        for authority in GOOD {
            let got = answers(&socket, authority, form).await;
            assert_eq!(got, [Answer::Serving; 2], "{authority} {form:?}");
        }
    }
    server.abort();
}
