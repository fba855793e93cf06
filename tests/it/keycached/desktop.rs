//! A desktop session of its own: a bus, and a real gnome-keyring on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use super::home::Home;
use super::{HANG, until};
use crate::harness::need_command;

/// A bus that starts nothing by itself.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=BUS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// Whether all programs are there that a session is made of. Fails in CI.
pub fn need_desktop() -> bool {
    let programs = ["dbus-daemon", "dbus-send", "gnome-keyring-daemon"];
    programs.into_iter().all(need_command)
}

/// A home with a bus, and a secret store if it was asked for; all of it ends with
/// the test.
pub struct Desktop {
    // Ended in this order: whoever uses another before it.
    pub home: Home,
    store: Option<Ended>,
    _bus: Ended,
}

/// A child that is killed and reaped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Desktop {
    /// With a bus and nobody on it.
    pub fn bare() -> Self {
        let home = Home::new();
        let (socket, config) = (home.root().join("run/bus"), home.root().join("bus.conf"));
        let socket = socket.to_str().expect("a temporary name is text");
        std::fs::write(&config, BUS.replace("BUS</", &format!("{socket}</"))).unwrap();
        let mut bus = Command::new("dbus-daemon");
        bus.arg("--config-file")
            .arg(&config)
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut bus = bus.spawn().expect("the bus starts");
        let mut address = String::new();
        let said = bus.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:path="), "{address}");
        let home = home.with("DBUS_SESSION_BUS_ADDRESS", address.trim());
        Self {
            home,
            store: None,
            _bus: Ended(bus),
        }
    }

    /// With a store that is open.
    pub fn new() -> Self {
        let mut desktop = Self::bare();
        desktop.log_in();
        desktop
    }

    /// Starts the store, anew if it runs, and unlocks it.
    pub fn log_in(&mut self) {
        self.store = None;
        let mut store = self.program("gnome-keyring-daemon");
        store
            .args(["--unlock", "--components=secrets", "--foreground"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut store = store.spawn().expect("the store starts");
        let mut stdin = store.stdin.take().expect("it is piped");
        stdin.write_all(b"the user's password").unwrap();
        drop(stdin);
        self.store = Some(Ended(store));
        let is_there = || {
            let place = self.call("ReadAlias", &["string:default"]);
            String::from_utf8_lossy(&place.stdout).contains("/collection/login")
        };
        until("the store serves", HANG, is_there);
    }

    /// Ends the store.
    pub fn log_out(&mut self) {
        self.store = None;
        let is_gone = || {
            let place = self.call("ReadAlias", &["string:default"]);
            !place.status.success()
        };
        until("the store has gone", HANG, is_gone);
    }

    /// Ends all but the home.
    pub fn end_bus(self) -> Home {
        self.home
    }

    /// Locks the store.
    pub fn lock(&self) {
        let place = "array:objpath:/org/freedesktop/secrets/collection/login";
        let locked = self.call("Lock", &[place]);
        assert!(locked.status.success(), "{locked:?}");
    }

    /// How many keys of that lockbox the store has, as the store says it.
    pub fn stored(&self, id: &str) -> usize {
        let named = format!("dict:string:string:service,lockbox,username,{id}");
        let found = self.call("SearchItems", &[&named]);
        assert!(found.status.success(), "{found:?}");
        let found = String::from_utf8(found.stdout).expect("it is text");
        found.matches("/collection/login/").count()
    }

    /// Where the store keeps what it has.
    pub fn kept(&self) -> PathBuf {
        self.home.root().join("data/keyrings/login.keyring")
    }

    fn call(&self, method: &str, args: &[&str]) -> Output {
        self.program("dbus-send")
            .args([
                "--session",
                "--print-reply",
                "--dest=org.freedesktop.secrets",
            ])
            .arg("/org/freedesktop/secrets")
            .arg(format!("org.freedesktop.Secret.Service.{method}"))
            .args(args)
            .output()
            .expect("it starts")
    }

    fn program(&self, name: &str) -> Command {
        let mut program = self.home.other(name);
        program
            .env("HOME", self.home.root())
            .env("XDG_DATA_HOME", self.home.root().join("data"));
        program
    }
}
