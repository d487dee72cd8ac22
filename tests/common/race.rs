//! One writer beside two readers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Runs `write` some thousand times while two readers run `read` until it is done.
pub(crate) fn race(write: impl Fn(u64), read: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = || {
            while !done.load(Ordering::Relaxed) {
                read();
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let edits = if cfg!(debug_assertions) {
            5_000
        } else {
            50_000
        };
        (1..=edits).for_each(&write);
        done.store(true, Ordering::Relaxed);
        // Joined one by one: race detectors do not see that the end of a scope waits.
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
