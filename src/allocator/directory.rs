//! Which groups are worth a look: what each has, readable without its lock.
//!
//! Everything here is a hint. Whoever follows one finds the truth under the group's lock, and whoever finds nothing asks
//! the groups themselves.

use crossbeam_utils::CachePadded;

use crate::sync::uncounted::{AtomicU64, Ordering};

/// Orders of lengths: the power of two a length lies above.
const ORDERS: usize = 33;

/// What one group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Free clusters.
    pub(super) free: u64,
    /// Clusters of the longest free run.
    pub(super) longest: u64,
    /// Free runs.
    pub(super) fragments: u64,
}

/// The summaries of all groups, and lists of groups by the order of their longest and of their average free run.
#[derive(Debug)]
pub(super) struct Directory {
    /// Longest run in the upper half, free clusters in the lower. A line each: it changes whenever its group does.
    summaries: Box<[CachePadded<AtomicU64>]>,
    by_longest: Lists,
    by_average: Lists,
}

/// Which of the two lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// The longest free run.
    Longest,
    /// The average free run.
    Average,
}

impl Summary {
    fn orders(self) -> (Option<u32>, Option<u32>) {
        let average = self.free.checked_div(self.fragments);
        (
            self.longest.checked_ilog2(),
            average.and_then(u64::checked_ilog2),
        )
    }
}

impl Directory {
    /// A directory of `groups` groups without free clusters.
    pub(super) fn new(groups: usize) -> Self {
        Self {
            summaries: (0..groups).map(|_| CachePadded::default()).collect(),
            by_longest: Lists::new(groups),
            by_average: Lists::new(groups),
        }
    }

    /// Says what `group` has now, which is locked and had `before`.
    pub(super) fn update(&self, group: usize, before: Summary, now: Summary) {
        let word = now.longest << 32 | now.free;
        self.summaries[group].store(word, Ordering::Relaxed);
        let (before, now) = (before.orders(), now.orders());
        self.by_longest.moved(group, before.0, now.0);
        self.by_average.moved(group, before.1, now.1);
    }

    /// Free clusters and those of the longest free run.
    pub(super) fn of(&self, group: usize) -> (u64, u64) {
        let word = self.summaries[group].load(Ordering::Relaxed);
        (word & u64::from(u32::MAX), word >> 32)
    }

    /// The groups in whose lists runs of at least `len` clusters can be expected, from `first` on and around: those of
    /// the order of `len` and above.
    pub(super) fn from_order_of(
        &self,
        by: By,
        len: u64,
        first: usize,
    ) -> impl Iterator<Item = usize> {
        let lists = match by {
            By::Longest => &self.by_longest,
            By::Average => &self.by_average,
        };
        let order = len.ilog2();
        let (groups, words) = (self.summaries.len(), lists.words);
        // Once around by words; the first word comes twice, for what lies before `first` in it.
        (0..=words).flat_map(move |step| {
            let index = (first / 64 + step) % words;
            let behind = u64::MAX << (first % 64);
            let mask = match step {
                0 => behind,
                _ if step == words => !behind,
                _ => u64::MAX,
            };
            bits(lists.word(order, index) & mask)
                .map(move |bit| index * 64 + bit)
                .filter(move |group| *group < groups)
        })
    }
}

/// For each order the set of groups that have it.
#[derive(Debug)]
struct Lists {
    words: usize,
    sets: Box<[AtomicU64]>,
}

impl Lists {
    fn new(groups: usize) -> Self {
        let words = groups.div_ceil(64).max(1);
        Self {
            words,
            sets: (0..ORDERS * words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Moves `group` from one set to another.
    fn moved(&self, group: usize, before: Option<u32>, now: Option<u32>) {
        if before == now {
            return;
        }
        let set = |order: u32| &self.sets[order as usize * self.words + group / 64];
        let bit = 1 << (group % 64);
        if let Some(order) = now {
            set(order).fetch_or(bit, Ordering::Relaxed);
        }
        if let Some(order) = before {
            set(order).fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// 64 groups: which of them have `order` or more.
    fn word(&self, order: u32, index: usize) -> u64 {
        let orders = order as usize..ORDERS;
        orders.fold(0, |word, order| {
            word | self.sets[order * self.words + index].load(Ordering::Relaxed)
        })
    }

    /// The orders that `group` is listed under.
    #[cfg(feature = "testing")]
    fn orders_of(&self, group: usize) -> Vec<u32> {
        let has = |order: &u32| {
            let word = &self.sets[*order as usize * self.words + group / 64];
            word.load(Ordering::Relaxed) >> (group % 64) & 1 == 1
        };
        (0..ORDERS as u32).filter(has).collect()
    }
}

/// The set bits, from the lowest on.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}

impl Directory {
    /// Whether `group`, which is locked, is listed as what it is, and nowhere else.
    #[cfg(feature = "testing")]
    pub(super) fn agrees(&self, group: usize, now: Summary) -> bool {
        let (longest, average) = now.orders();
        self.of(group) == (now.free, now.longest)
            && self.by_longest.orders_of(group) == Vec::from_iter(longest)
            && self.by_average.orders_of(group) == Vec::from_iter(average)
    }
}
