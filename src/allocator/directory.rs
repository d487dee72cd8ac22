//! Which groups are worth a look: what each has, readable without its lock.
//!
//! Everything here is a hint. Whoever follows one finds the truth under the group's lock, and whoever finds nothing asks
//! the groups themselves.

use std::ops::RangeInclusive;

use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};

use super::run_orders::{Orders, TOP, order_of};

/// In how many groups something is looked for that may not be there: a volume may have hundreds of thousands, and a look
/// takes a lock.
pub(super) const IN_DOUBT: usize = 64;

/// What one group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Free clusters.
    pub(super) free: u64,
    /// The orders of its free runs.
    pub(super) orders: Orders,
    /// Free runs.
    pub(super) fragments: u64,
}

/// The orders of the free runs of all groups, and those of their average ones.
///
/// One word for each group, written by who has its lock: threads that work on groups that are not neighbours write no
/// line in common. (A bit for each group in a list for each order is found faster, but the lists are everybody's.)
#[derive(Debug)]
pub(super) struct Directory(Box<[AtomicU64]>);

/// Which runs count.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Any free run.
    Run,
    /// The average free run.
    Average,
}

impl By {
    /// The bits of a group's word that tell of `orders`.
    const fn mask(self, orders: Orders) -> u64 {
        match self {
            Self::Run => orders.0 as u64,
            Self::Average => (orders.0 as u64) << 32,
        }
    }
}

impl Summary {
    fn word(self) -> u64 {
        By::Run.mask(self.orders) | By::Average.mask(self.average())
    }

    fn average(self) -> Orders {
        if self.fragments == 0 {
            return Orders::default();
        }
        // Without a division: that of free by fragments, or one more.
        let order = order_of(self.free) - order_of(self.fragments);
        match self.fragments << order <= self.free {
            true => Orders::only(order),
            false => Orders::only(order - 1),
        }
    }
}

impl Directory {
    /// A directory of `groups` groups without free clusters.
    pub(super) fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| AtomicU64::new(0)).collect())
    }

    /// Says what `group` has now, which is locked.
    pub(super) fn update(&self, group: usize, now: Summary) {
        self.0[group].store(now.word(), Relaxed);
    }

    /// The groups in which runs of at least `len` clusters can be expected, from `first` on and around: those that have
    /// one of the order of `len` or above. A run that has room for `slack` more surely does; of the groups that may
    /// have none that does, only the first few are among them.
    pub(super) fn groups_with(
        &self,
        by: By,
        len: u64,
        slack: u64,
        first: usize,
    ) -> impl Iterator<Item = usize> {
        let sure = by.mask(Orders::surely(len.saturating_add(slack)));
        let mut doubtful = 0;
        let groups = self.around(first, by.mask(Orders::from(len)));
        groups.filter(move |group| {
            let is_sure = self.0[*group].load(Relaxed) & sure != 0;
            doubtful += usize::from(!is_sure);
            is_sure || doubtful <= IN_DOUBT
        })
    }

    /// The groups that have a run of `order`, from `first` on and around.
    pub(super) fn with(&self, order: u32, first: usize) -> impl Iterator<Item = usize> {
        self.around(first, By::Run.mask(Orders::only(order)))
    }

    /// Those of `orders` of which some group has a run.
    pub(super) fn known(
        &self,
        orders: RangeInclusive<u32>,
    ) -> impl DoubleEndedIterator<Item = u32> {
        let all = self.0.iter().map(|word| word.load(Relaxed));
        let all = all.fold(0, |all, word| all | word);
        let orders = *orders.start()..=TOP.min(*orders.end());
        orders.filter(move |order| all >> order & 1 == 1)
    }

    /// The groups whose words have one of the bits of `mask`.
    fn around(&self, first: usize, mask: u64) -> impl Iterator<Item = usize> {
        let all = (first..self.0.len()).chain(0..first);
        all.filter(move |group| self.0[*group].load(Relaxed) & mask != 0)
    }

    /// Whether this is what is said of `group`, which is locked.
    pub(super) fn agrees(&self, group: usize, now: Summary) -> bool {
        self.0[group].load(Relaxed) == now.word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_which_something_else_is_said_is_noticed() {
        let summary = |free, order, fragments| Summary {
            free,
            orders: Orders::only(order),
            fragments,
        };
        let directory = Directory::new(3);
        let now = summary(40, 4, 2);
        directory.update(1, now);
        assert!(directory.agrees(1, now));
        assert!(!directory.agrees(1, summary(40, 5, 2)));
        assert!(!directory.agrees(1, summary(40, 4, 1)));
        assert!(!directory.agrees(2, now));
    }

    #[test]
    fn the_average_order_is_that_of_free_clusters_by_fragments() {
        let full = Summary::default();
        assert_eq!(full.average(), Orders::default());
        for fragments in 1..70_u64 {
            for free in fragments..2100 {
                let summary = Summary {
                    free,
                    fragments,
                    ..Summary::default()
                };
                let expected = Orders::only(order_of(free / fragments));
                assert_eq!(summary.average(), expected, "{free} in {fragments}");
            }
        }
    }
}
