//! Writeback errors, reported once to every open handle of a file.

use crate::error::{Error, Result};
use crate::sync::{Mutex, Rank};

/// The last writeback error of a file, or of all files of a volume at once, and how many there were. A handle remembers
/// the number it has seen; what Linux calls a writeback error sequence.
#[derive(Debug)]
pub(super) struct ErrorSequence(Mutex<Errors>);

#[derive(Debug, Default)]
struct Errors {
    count: u64,
    last: Option<Error>,
    /// Some handle has heard of the last one.
    told: bool,
}

impl Default for ErrorSequence {
    fn default() -> Self {
        Self(Mutex::new(Rank::Errors, Errors::default()))
    }
}

impl ErrorSequence {
    /// How many errors there were.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// What a handle opened now has seen: all errors but one that nobody has heard of yet.
    pub(super) fn seen_by_new_handle(&self) -> u64 {
        let errors = self.0.lock();
        errors.count - u64::from(errors.count > 0 && !errors.told)
    }

    /// Notes an error.
    pub(super) fn record(&self, error: Error) {
        let mut errors = self.0.lock();
        errors.count += 1;
        errors.last = Some(error);
        errors.told = false;
    }

    /// The last error, if there were more than `count`.
    pub(super) fn since(&self, count: u64) -> Result<()> {
        let errors = self.0.lock();
        match &errors.last {
            Some(error) if errors.count > count => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The last error if the handle has not seen it, or if it is one of those that came after the first `begun`; from
    /// then on the handle has seen it.
    pub(super) fn check(&self, seen: &mut u64, begun: u64) -> Result<()> {
        let mut errors = self.0.lock();
        if errors.count == begun.min(*seen) {
            return Ok(());
        }
        *seen = errors.count;
        errors.told = true;
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
        assert_eq!(errors.check(&mut first, 1), Err(Error::NoSpace));
        let mut later = errors.seen_by_new_handle();
        assert_eq!(errors.check(&mut first, 1), Ok(()));
        assert_eq!(errors.check(&mut second, 1), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut later, 1), Ok(()));
    }

    #[test]
    fn each_call_during_which_an_error_came_hears_of_it_and_later_ones_do_not() {
        let errors = ErrorSequence::default();
        let mut handle = errors.seen_by_new_handle();
        let (one, other) = (errors.count(), errors.count());
        errors.record(Error::NoSpace);
        assert_eq!(errors.check(&mut handle, one), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut handle, other), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut handle, errors.count()), Ok(()));
    }

    #[test]
    fn an_error_that_nobody_heard_of_is_told_to_the_next_handle() {
        let errors = ErrorSequence::default();
        errors.record(Error::NoSpace);
        assert_eq!(errors.since(0), Err(Error::NoSpace));
        let mut next = errors.seen_by_new_handle();
        assert_eq!(errors.check(&mut next, 1), Err(Error::NoSpace));
        assert_eq!(errors.check(&mut next, 1), Ok(()));
        assert_eq!(errors.since(errors.count()), Ok(()));
    }
}
