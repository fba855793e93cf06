//! The context firewall: real files, real shells, real sessions.

mod bypass;
mod denials;
pub mod equipment;
mod files;
mod manifests;
mod oracle;
mod race;
mod reads;
mod refinements;
mod rules;
mod second;
mod shells;
mod strings;
pub mod vectors;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does the work while another thread attacks, again and again.
fn under_attack<T>(mut attack: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let over = AtomicBool::new(false);
    let begun = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            attack();
            begun.wait();
            while !over.load(Ordering::Relaxed) {
                attack();
            }
        });
        begun.wait();
        // Also when the work panics, or the scope would wait for ever.
        let _stop = Stop(&over);
        work()
    })
}
