//! Sessions, through the real daemon.

mod events;
mod handle;
mod lookup;
mod persistence;
mod registration;
mod shown;
mod termination;
