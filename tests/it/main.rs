//! Tests of the real programs on real sockets.

mod authorities;
mod clients;
mod crash;
mod files;
mod harness;
mod inject;
mod powercut;
mod refusals;
mod registry;
mod second_uid;
mod session;
mod starts;
mod tidy;
