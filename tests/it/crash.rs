//! The daemon is killed at random instants under mixed load; what clients were
//! told must hold after every restart.

mod ledger;
mod watched;
