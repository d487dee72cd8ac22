//! The part of the account that the threads of one slot change without asking anybody.

use std::cell::Cell;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{thread_local, thread_slot};

/// What a step does to the account, in clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) available: i64,
    pub(super) promised: i64,
}

impl Change {
    /// Available to promised.
    pub(super) const fn reserve(clusters: u64) -> Self {
        Self {
            available: -(clusters as i64),
            promised: clusters as i64,
        }
    }

    /// Promised to available.
    pub(super) const fn give_back(clusters: u64) -> Self {
        Self {
            available: clusters as i64,
            promised: -(clusters as i64),
        }
    }

    /// Promised to used.
    pub(super) const fn spend(clusters: u64) -> Self {
        Self {
            available: 0,
            promised: -(clusters as i64),
        }
    }

    /// Available to used.
    pub(super) const fn buy(clusters: u64) -> Self {
        Self {
            available: -(clusters as i64),
            promised: 0,
        }
    }

    /// Used to available.
    pub(super) const fn release(clusters: u64) -> Self {
        Self {
            available: clusters as i64,
            promised: 0,
        }
    }

    /// Used to promised.
    pub(super) const fn promise_again(clusters: u64) -> Self {
        Self {
            available: 0,
            promised: clusters as i64,
        }
    }

    /// No step at all.
    pub(super) const NONE: Self = Self::release(0);

    /// Both steps.
    #[inline]
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            available: self.available + other.available,
            promised: self.promised + other.promised,
        }
    }
}

/// Available and promised clusters in one word, the promised ones in the upper half and perhaps fewer than none: a
/// promise may be made in one share and end in another. Open or closed; only the holder of the pool's lock opens
/// and closes it.
#[derive(Debug)]
pub(super) struct Share(AtomicU64);

/// Of a closed share. Both halves are so far off that no step of few clusters leads from here into the bounds
/// of a share.
const CLOSED: u64 = word(u32::MAX, i32::MIN);

const fn word(available: u32, promised: i32) -> u64 {
    (promised as u32 as u64) << 32 | available as u64
}

const fn content(word: u64) -> Change {
    Change {
        available: word as u32 as i64,
        promised: (word >> 32) as i32 as i64,
    }
}

/// How much a share may hold: fewer available clusters than a power of two, and promises that are off by no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// What makes the promises of a share within bounds a number that is not negative.
    bias: u64,
    /// The bits that are clear then.
    outside: u64,
    limit: u32,
}

impl Bounds {
    /// The bounds for a limit that is a power of two.
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            bias: (limit as u64) << 32,
            outside: !word(limit - 1, (2 * limit - 1) as i32),
            limit,
        }
    }

    /// A share has fewer available clusters than this; the most that a step may move there.
    #[inline]
    pub(super) const fn limit(&self) -> u64 {
        self.limit as u64
    }

    #[inline]
    const fn admit(&self, word: u64) -> bool {
        word.wrapping_add(self.bias) & self.outside == 0
    }
}

impl Share {
    /// A closed share.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(CLOSED))
    }

    /// Does a step of few clusters here, unless the share is closed or would then be out of bounds.
    #[inline]
    pub(super) fn change(&self, by: Change, bounds: &Bounds) -> bool {
        // Where the lower half would go below zero it borrows from the upper one, and is far out of bounds.
        let by = ((by.promised << 32) + by.available) as u64;
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let changed = seen.wrapping_add(by);
            if !bounds.admit(changed) {
                return false;
            }
            // Release: the bits of clusters that this makes available were cleared before; pairs with the Acquire here
            // in whoever is promised them, and with that in `empty`. Acquire: pairs with the Release here and in `open`.
            match self
                .0
                .compare_exchange_weak(seen, changed, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// What the share holds; nothing when it is closed.
    pub(super) fn content(&self) -> Change {
        held(self.0.load(Ordering::Relaxed))
    }

    /// Takes everything out, and closes the share or leaves it open and empty.
    pub(super) fn empty(&self, close: bool) -> Change {
        let left = if close { CLOSED } else { word(0, 0) };
        // Acquire: pairs with the Release in `change`; the pool's lock passes on what it brings.
        held(self.0.swap(left, Ordering::Acquire))
    }

    /// Opens the closed share with some available clusters.
    pub(super) fn open(&self, available: u32) {
        // Release: pairs with the Acquire in `change`, for what the holder of the pool's lock knows of these clusters.
        self.0.store(word(available, 0), Ordering::Release);
    }
}

fn held(word: u64) -> Change {
    match word {
        CLOSED => Change::NONE,
        _ => content(word),
    }
}

/// Not a number of a share.
const UNKNOWN: usize = usize::MAX;

thread_local! {
    /// The number of the thread's slot, once known, or of the share that a test chose: model checkers run all threads in
    /// one, and one thread is enough to use all shares.
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// The share that the calling thread uses, among any number of them.
#[inline]
pub(super) fn own_number() -> usize {
    match NUMBER.try_with(Cell::get) {
        Ok(UNKNOWN) | Err(_) => learn_number(),
        Ok(number) => number,
    }
}

#[cold]
fn learn_number() -> usize {
    let number = thread_slot::current();
    let _forgotten_while_the_thread_ends = NUMBER.try_with(|known| known.set(number));
    number
}

/// Does `work` in share `number`.
#[cfg(feature = "testing")]
pub(super) fn with_number<T>(number: usize, work: impl FnOnce() -> T) -> T {
    let before = NUMBER.with(|known| known.replace(number));
    let done = work();
    NUMBER.with(|known| known.set(before));
    done
}
