//! The part of the account that the threads of one slot change without asking anybody.

use crate::sync::atomic::{AtomicU64, Ordering};

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

/// Of a closed share. Both halves are so far off that no step leads from here to what a share may hold.
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

impl Share {
    /// A closed share.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(CLOSED))
    }

    /// Does a step here unless the share is closed, or would have fewer available clusters than none, or more than
    /// `limit`, or be off by more than that in promised ones.
    #[inline]
    pub(super) fn change(&self, by: Change, limit: i64) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let Change {
                available,
                promised,
            } = content(seen).plus(by);
            let fits = (0..=limit).contains(&available) && (-limit..=limit).contains(&promised);
            if !fits {
                return false;
            }
            // Release: the bits of clusters that this makes available were cleared before; pairs with the Acquire here
            // in whoever is promised them, and with that in `close`. Acquire: pairs with the Release here and in `open`.
            let changed = self.0.compare_exchange_weak(
                seen,
                word(available as u32, promised as i32),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match changed {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// What the share holds; nothing when it is closed.
    pub(super) fn content(&self) -> Change {
        held(self.0.load(Ordering::Relaxed))
    }

    /// Whether every step is refused.
    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CLOSED
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

/// The share that the calling thread uses, among any number of them.
#[inline]
pub(super) fn own_number() -> usize {
    #[cfg(feature = "testing")]
    if let Some(chosen) = chosen::current() {
        return chosen;
    }
    crate::sync::thread_slot::current()
}

#[cfg(feature = "testing")]
pub(super) mod chosen {
    //! A share that a test chose: model checkers run all threads in one, and one thread is enough to use all shares.

    use std::cell::Cell;

    use crate::sync::thread_local;

    thread_local! {
        static CHOSEN: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(crate) fn current() -> Option<usize> {
        CHOSEN.try_with(Cell::get).unwrap_or(None)
    }

    pub(crate) fn with<T>(share: usize, work: impl FnOnce() -> T) -> T {
        let before = CHOSEN.with(|chosen| chosen.replace(Some(share)));
        let done = work();
        CHOSEN.with(|chosen| chosen.set(before));
        done
    }
}
