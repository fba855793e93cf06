//! Sessions, through the real daemon.

mod handle;
mod lookup;
mod persistence;
mod registration;
mod termination;
