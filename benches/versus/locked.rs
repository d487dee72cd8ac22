//! Maps behind a reader-writer lock.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use parking_lot::RwLock;
use rangemap::RangeMap;

use super::extents::{Extents, Run};
use super::ordered::{Ordered, Tree};

impl Extents for RwLock<Tree> {
    const NAME: &'static str = "parking_lot RwLock<BTreeMap>";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        |block| self.read().find(block)
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        self.write().replace(first, last, value);
    }
}

impl Extents for std::sync::RwLock<Tree> {
    const NAME: &'static str = "std RwLock<BTreeMap>";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        |block| {
            let tree = self.read().unwrap_or_else(PoisonError::into_inner);
            tree.find(block)
        }
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        let mut tree = self.write().unwrap_or_else(PoisonError::into_inner);
        tree.replace(first, last, value);
    }
}

/// The value is the difference of value and block, which is the same for all blocks of a run: what that
/// crate merges is then what all others merge.
impl Extents for RwLock<RangeMap<u64, u64>> {
    const NAME: &'static str = "parking_lot RwLock<RangeMap>";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        |block| {
            let map = self.read();
            let (&Range { start, end }, difference) = map.get_key_value(&block)?;
            Some(Run {
                first: start,
                last: end - 1,
                value: difference.wrapping_add(start),
            })
        }
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        let range = first..last + 1;
        match value {
            Some(value) => self.write().insert(range, value.wrapping_sub(first)),
            None => self.write().remove(range),
        }
    }
}

/// The way of ext4: a tree behind a lock, and beside it the extent found last, which all readers share.
#[derive(Default)]
pub(crate) struct CachedLast {
    tree: RwLock<Tree>,
    last: LastFound,
}

impl Extents for CachedLast {
    const NAME: &'static str = "RwLock<BTreeMap> + last found";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        |block| {
            let tree = self.tree.read();
            if let Some(run) = self.last.get().filter(|run| run.contains(block)) {
                return Some(run);
            }
            let run = tree.find(block)?;
            self.last.set(run);
            Some(run)
        }
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        let mut tree = self.tree.write();
        tree.replace(first, last, value);
        self.last.set(Run {
            first: 1,
            last: 0,
            value: 0,
        });
    }
}

/// A run that readers under a shared lock exchange: odd versions are being written.
#[derive(Default)]
struct LastFound {
    version: AtomicU64,
    run: [AtomicU64; 3],
}

impl LastFound {
    #[inline(always)]
    fn get(&self) -> Option<Run> {
        let version = self.version.load(Ordering::Acquire);
        let [first, last, value] =
            [0, 1, 2].map(|word: usize| self.run[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        whole.then_some(Run { first, last, value })
    }

    /// Does nothing while another reader sets it.
    #[inline(always)]
    fn set(&self, run: Run) {
        let version = self.version.load(Ordering::Relaxed) & !1;
        let claim = self.version.compare_exchange(
            version,
            version + 1,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if claim.is_ok() {
            fence(Ordering::Release);
            for (word, new) in self.run.iter().zip([run.first, run.last, run.value]) {
                word.store(new, Ordering::Relaxed);
            }
            self.version.store(version + 2, Ordering::Release);
        }
    }
}
