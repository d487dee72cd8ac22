//! Small numbers for running threads, given back when a thread ends, so that a table of slots indexed by
//! them stays as small as the largest number of threads that ever ran at once. A new thread gets the smallest: few threads
//! have neighbouring numbers, which a table that is smaller than some of them keeps apart.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;

struct Slots {
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots::new());

impl Slots {
    const fn new() -> Self {
        Self {
            free: BinaryHeap::new(),
            next: 0,
        }
    }

    fn take(&mut self) -> usize {
        let free = self.free.pop().map(|Reverse(number)| number);
        free.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn give_back(&mut self, number: usize) {
        self.free.push(Reverse(number));
    }

    /// Does something to those of the process.
    fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let slots = SLOTS.lock();
        work(&mut slots.unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

struct Slot(usize);

impl Drop for Slot {
    fn drop(&mut self) {
        Slots::with(|slots| slots.give_back(self.0));
    }
}

thread_local! {
    static SLOT: Slot = Slot(Slots::with(Slots::take));
}

/// The calling thread's number; 0 while the thread is being torn down.
pub(crate) fn current() -> usize {
    SLOT.try_with(|slot| slot.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_the_smallest_first() {
        let mut slots = Slots::new();
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
        slots.give_back(1);
        slots.give_back(2);
        slots.give_back(0);
        assert_eq!([slots.take(), slots.take()], [0, 1]);
        assert_eq!([slots.take(), slots.take()], [2, 3]);
    }
}
