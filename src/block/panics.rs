//! Panics of code that others brought, a device or a completion: what everybody else waits for is done first.
//! A panic that nobody goes on with is not dropped: that could panic once more.

use std::any::Any;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Holds the first panic back, until all is done that must be.
#[derive(Default)]
pub(super) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    /// What `work` returns, if it returns.
    pub(super) fn hold<T>(&mut self, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(panic) => {
                match &self.0 {
                    None => self.0 = Some(panic),
                    Some(_) => forget(panic),
                }
                None
            }
        }
    }

    /// Goes on with the panic, if there was one.
    pub(super) fn go_on(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }

    /// Goes on without, in a thread that nobody brought.
    pub(super) fn forget(self) {
        forget(self.0);
    }
}
