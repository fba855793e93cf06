//! Tests of the real programs on real sockets.

mod crash;
mod harness;
mod tidy;
