//! Tests of the real programs on real sockets.

mod answers;
mod authorities;
mod cli;
mod clients;
mod crash;
mod files;
mod firewall;
mod harness;
mod inject;
mod powercut;
mod readme;
mod refusals;
mod registry;
mod run;
mod second_uid;
mod session;
mod starts;
mod streams;
mod tidy;
