//! The command line as a whole.

use clap::{Command, CommandFactory as _};

use super::{Cli, wants_json};

fn every_command(command: &Command, visit: &mut impl FnMut(&Command)) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        visit(sub);
        every_command(sub, visit);
    }
}

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_has_an_example() {
    let mut seen = 0;
    every_command(&Cli::command(), &mut |command| {
        if command.has_subcommands() {
            return;
        }
        seen += 1;
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{}", command.get_name());
    });
    assert!(seen > 20, "{seen}");
}

#[test]
fn what_a_command_says_at_length_is_in_its_help() {
    let long = |path: &[&str]| {
        let mut command = Cli::command();
        for name in path {
            command = command.find_subcommand(name).expect("it is there").clone();
        }
        command.render_long_help().to_string()
    };
    for (path, says) in [
        (&["manifest", "build"][..], "written as in .gitignore"),
        (&["manifest", "test"], "rename {from, to}"),
        (&["manifest", "from-audit"], "mode AUDIT"),
        (&["export"], "registration order"),
    ] {
        assert!(long(path).contains(says), "{path:?}");
    }
}

#[test]
fn no_option_takes_a_credential() {
    every_command(&Cli::command(), &mut |command| {
        for option in command
            .get_opts()
            .filter(|option| option.get_action().takes_values())
        {
            let long = option.get_long().unwrap_or_default();
            let is_credential = ["handle", "lease", "lease-id"].contains(&long);
            assert!(!is_credential, "{} --{long}", command.get_name());
        }
    });
}

#[test]
fn errors_of_the_command_line_know_their_format() {
    let args = |line: &str| line.split(' ').map(Into::into).collect::<Vec<_>>();
    for (line, json) in [
        ("episodectl session --format json gte", true),
        ("episodectl --format=jsonl session", true),
        ("episodectl --format table session", false),
        ("episodectl run --work-id w -- tool --format json", false),
    ] {
        assert_eq!(wants_json(&args(line)), json, "{line}");
    }
}
