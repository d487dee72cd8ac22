//! Ctrl-C: the first one ends the measuring, the second one the program.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What a shell expects of a program that was interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// Begins to listen.
pub(crate) fn listen() -> io::Result<()> {
    let handler = || {
        if STOP.swap(true, Relaxed) {
            process::exit(INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler).map_err(io::Error::other)
}

/// Whether somebody wants it to end; if so, for good.
#[inline]
pub(crate) fn wanted() -> bool {
    STOP.load(Relaxed)
}
