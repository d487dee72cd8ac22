//! Small numbers for running threads, given back when a thread ends, so that a table of slots indexed by
//! them stays as small as the largest number of threads that ever ran at once.

use std::sync::Mutex;

struct Slots {
    free: Vec<usize>,
    next: usize,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots {
    free: Vec::new(),
    next: 0,
});

struct Slot(usize);

impl Slot {
    fn take() -> Self {
        let mut slots = SLOTS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Self(slots.free.pop().unwrap_or_else(|| {
            slots.next += 1;
            slots.next - 1
        }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        SLOTS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .free
            .push(self.0);
    }
}

thread_local! {
    static SLOT: Slot = Slot::take();
}

/// The calling thread's number; 0 while the thread is being torn down.
pub(crate) fn current() -> usize {
    SLOT.try_with(|slot| slot.0).unwrap_or(0)
}
