//! The registry in process: the real writer and the real journal in a temporary
//! directory, with a clock that tests move and errors that they queue.

mod deadline;
mod equipment;
mod faults;
mod firewalls;
mod history;
mod idle;
mod marks;
mod pages;
mod reboot;
mod retention;
mod revocations;
mod shown;
mod threads;
mod time;
