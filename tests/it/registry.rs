//! The registry in process: the real writer and the real journal in a temporary
//! directory, with a clock that tests move and errors that they queue.

mod equipment;
mod faults;
mod seat;
mod threads;
mod time;
