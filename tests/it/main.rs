//! Tests of the real programs on real sockets.

mod answers;
mod authorities;
mod bulk;
mod cli;
mod clients;
mod crash;
mod drain;
mod etags;
mod files;
mod filters;
mod firewall;
mod harness;
mod inject;
mod lease;
mod powercut;
mod readme;
mod refusals;
mod registry;
mod reload;
mod run;
mod second_uid;
mod session;
mod starts;
mod streams;
mod tidy;
mod transport;
