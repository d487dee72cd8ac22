//! Ctrl-C: the first one ends the measuring, the second one the program.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static STOP: AtomicBool = AtomicBool::new(false);

/// Begins to listen.
pub(crate) fn listen() -> io::Result<()> {
    /// What a shell expects of a program that was interrupted.
    const INTERRUPTED: i32 = 130;
    let handler = || {
        if STOP.swap(true, Relaxed) {
            process::exit(INTERRUPTED);
        }
    };
    ctrlc::set_handler(handler).map_err(io::Error::other)
}

/// Whether somebody wants it to end.
#[inline]
pub(crate) fn wanted() -> bool {
    STOP.load(Relaxed)
}
