//! The command line of `keycached`.

use clap::Parser;

/// Another agent serves the directory already, or this one served and was stopped.
pub const EXIT_STOPPED: u8 = 0;
/// The socket, its directory or its log cannot be had: `EX_UNAVAILABLE`.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration is wrong, or the supervisor's socket: `EX_CONFIG`.
pub const EXIT_BAD_CONFIG: u8 = 78;

const AFTER_HELP: &str = "\
Serves agent.sock in $LOCKBOX_SESSION_AGENT_DIR, else $XDG_RUNTIME_DIR/lockbox, else
a private directory lockbox-UID under the temp directory. Speaks gRPC and LBX2.

Configuration: the table [agent] of $LOCKBOX_AGENT_CONFIG, else $LOCKBOX_CONFIG, else
$XDG_CONFIG_HOME/lockbox/config.toml.

Log: the file $LOCKBOX_SESSION_AGENT_LOG, else stderr if that is the journal or a
terminal, else syslog at /dev/log ($LOCKBOX_SYSLOG_SOCKET names another socket), else
$XDG_STATE_HOME/lockbox/agent.log.

Takes agent.sock from systemd if it is handed over (LISTEN_FDS), and leaves it there at
the end; then idle_exit of the configuration is ignored, because systemd would start it
again with the next call.

SIGUSR1 and SIGHUP forget all keys, SIGTERM forgets them and stops.

Examples:
  keycached
          Serve until it is stopped, or for ten minutes with nothing to keep
  systemctl --user enable --now keycached.socket
          Have systemd start it with the first call
  LOCKBOX_SESSION_AGENT_DIR=/tmp/try keycached
          Try something apart from the agent that runs already

Exit codes:
  0   stopped, or another agent serves already
  64  the command line is wrong
  69  the socket, its directory or its log cannot be had
  78  the configuration is wrong, or what was handed over is not agent.sock";

/// Keeps lockbox keys in locked memory for a while.
#[derive(Debug, Clone, Parser)]
#[command(name = "keycached", version, after_help = AFTER_HELP)]
pub struct Args {}
