//! That a copy which was planted is found: only then do the other looks through
//! memory and files say anything. Needs root, as they do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Child, Command, Stdio};

use super::agent::{Agent, Place};
use super::scan::{self, Found, Needle};
use super::unique;
use crate::harness::need_root;

/// A child with this in its environment.
struct Planted(Child);

impl Planted {
    fn new(bytes: Vec<u8>) -> Self {
        let child = Command::new("cat")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PLANTED", OsString::from_vec(bytes))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("cat runs"))
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The secret as it may be written, and what finding that comes to.
fn forms(secret: &[u8]) -> Vec<(Vec<u8>, Found)> {
    let nothing = Found::NOTHING;
    let (raw, hex, base64) = (
        Found { raw: 1, ..nothing },
        Found { hex: 1, ..nothing },
        Found {
            base64: 1,
            ..nothing
        },
    );
    let mut forms = vec![
        (secret.to_vec(), raw),
        (scan::hex(secret), hex),
        (scan::hex(secret).to_ascii_uppercase(), hex),
    ];
    for before in 0..3 {
        let text = [&b"???"[..before], secret, b"???"].concat();
        forms.push((scan::standard_base64(&text), base64));
    }
    forms
}

#[test]
fn a_planted_copy_is_found_in_every_form() {
    if !need_root() {
        return;
    }
    let secret = unique(32);
    let needle = Needle::new(&secret);
    for (bytes, expected) in forms(&secret) {
        assert_eq!(needle.count(&bytes), expected);
        let child = Planted::new(bytes.clone());
        let scan = scan::memory(child.0.id(), &needle);
        assert_eq!(scan.found, expected, "{scan:?}");
    }
    let child = Planted::new(unique(32));
    let scan = scan::memory(child.0.id(), &needle);
    assert_eq!(scan.found, Found::NOTHING, "{scan:?}");
}

#[test]
fn a_planted_copy_is_found_in_the_agent_and_in_files() {
    if !need_root() {
        return;
    }
    let secret = unique(32);
    let needle = Needle::new(&secret);
    for (bytes, expected) in forms(&secret) {
        let planted = OsString::from_vec(bytes.clone());
        let agent = Agent::at(Place::new().with("PLANTED", planted));
        let Found { raw, hex, base64 } = scan::memory(agent.pid(), &needle).found;
        let seen = [raw, hex, base64].map(|count| count > 0);
        let Found { raw, hex, base64 } = expected;
        assert_eq!(seen, [raw, hex, base64].map(|count| count > 0));

        let root = agent.place().root();
        assert_eq!(scan::files(root, &needle), Found::NOTHING);
        let file = agent.place().directory().join("planted");
        std::fs::write(file, bytes).expect("it is written");
        assert_eq!(scan::files(root, &needle), expected);
    }
}
