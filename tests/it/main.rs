//! Tests of the real programs on real sockets.

mod harness;
mod tidy;
