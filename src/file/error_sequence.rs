//! Writeback errors, reported once to every open handle of a file.

use crate::error::{Error, Result};
use crate::sync::{Mutex, Rank};

/// The last writeback error of a file and how many there were. A handle remembers the number it has
/// seen; what Linux calls a writeback error sequence.
#[derive(Debug)]
pub(super) struct ErrorSequence(Mutex<Errors>);

#[derive(Debug, Default)]
struct Errors {
    count: u64,
    last: Option<Error>,
}

impl Default for ErrorSequence {
    fn default() -> Self {
        Self(Mutex::new(Rank::Errors, Errors::default()))
    }
}

impl ErrorSequence {
    /// How many errors there were: what a handle opened now has seen.
    pub(super) fn seen_by_new_handle(&self) -> u64 {
        self.0.lock().count
    }

    /// Notes an error.
    pub(super) fn record(&self, error: Error) {
        let mut errors = self.0.lock();
        errors.count += 1;
        errors.last = Some(error);
    }

    /// The last error if the handle has not seen it; from then on it has.
    pub(super) fn check(&self, seen: &mut u64) -> Result<()> {
        let errors = self.0.lock();
        if errors.count == *seen {
            return Ok(());
        }
        *seen = errors.count;
        errors.last.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_hears_of_an_error_once() {
        let errors = ErrorSequence::default();
        let (mut first, mut second) = (errors.seen_by_new_handle(), errors.seen_by_new_handle());
        errors.record(Error::NoSpace);
        let mut later = errors.seen_by_new_handle();
        assert_eq!(errors.check(&mut first), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut first), Ok(()));
        assert_eq!(errors.check(&mut second), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut later), Ok(()));
    }
}
