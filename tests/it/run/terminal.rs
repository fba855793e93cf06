//! A run on a terminal: who reads from it, and what its keys do.
//!
//! `script` makes the terminal and passes on what it reads, keys included.

use super::{Ctl, Daemon, Running, line};
use crate::harness::EPISODECTL;

/// Ctrl-C and Ctrl-Z, as a terminal sends them.
const INTERRUPT: &str = "\u{3}";
const SUSPEND: &str = "\u{1a}";

/// A shell script on a terminal, in which `$run` runs a command as session `s`.
fn on_terminal(daemon: &Daemon, script: &str) -> Running {
    let ctl = Ctl::new(daemon.dirs());
    let run = [&[EPISODECTL], &line(&[], &[])[..]].concat().join(" ");
    let mut command = ctl.other("script");
    command.args(["-qec", script, "/dev/null"]);
    Running::start(command.env("run", run).env("SHELL", "/bin/bash"))
}

/// Reads on until a line ends so.
async fn until(run: &mut Running, end: &str) {
    while !run.line().await.trim_end().ends_with(end) {}
}

#[tokio::test]
async fn the_command_reads_from_the_terminal_and_so_does_what_comes_after() {
    let daemon = Daemon::start().await;
    let script = r#"$run sh -c 'echo first; read x; echo "one:$x"'; read y; echo "two:$y""#;
    let mut run = on_terminal(&daemon, script);
    until(&mut run, "first").await;
    run.write("a\n").await;
    until(&mut run, "one:a").await;
    run.write("b\n").await;
    until(&mut run, "two:b").await;
}

#[tokio::test]
async fn an_interrupt_from_the_terminal_cancels() {
    let daemon = Daemon::start().await;
    let mut run = on_terminal(
        &daemon,
        r#"trap : INT; $run sh -c 'echo ready; read x'; echo "code:$?""#,
    );
    until(&mut run, "ready").await;
    run.write(INTERRUPT).await;
    until(&mut run, "code:130").await;
    let record = super::session(&daemon).await["termination"].clone();
    assert_eq!(
        record["exitClassification"],
        "EXIT_CLASSIFICATION_CANCELLED"
    );
}

#[tokio::test]
async fn a_job_stops_as_a_whole_and_goes_on_in_the_foreground() {
    let daemon = Daemon::start().await;
    let script = r#"set -m; $run sh -c 'echo ready; read x; echo "got:$x"'; echo stopped; fg; echo "code:$?""#;
    let mut run = on_terminal(&daemon, script);
    until(&mut run, "ready").await;
    run.write(SUSPEND).await;
    until(&mut run, "stopped").await;
    run.write("after\n").await;
    until(&mut run, "got:after").await;
    until(&mut run, "code:0").await;
}

#[tokio::test]
async fn a_job_in_the_background_waits_for_its_turn_to_read() {
    let daemon = Daemon::start().await;
    let script =
        r#"set -m; $run sh -c 'read x; echo "got:$x"' & wait; echo waited; fg; echo "code:$?""#;
    let mut run = on_terminal(&daemon, script);
    until(&mut run, "waited").await;
    run.write("turn\n").await;
    until(&mut run, "got:turn").await;
    until(&mut run, "code:0").await;
}
