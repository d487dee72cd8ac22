//! Which groups are worth a look: what each has, readable without its lock.
//!
//! Everything here is a hint. Whoever follows one finds the truth under the group's lock, and whoever finds nothing asks
//! the groups themselves.

use crossbeam_utils::CachePadded;

use crate::sync::uncounted::{AtomicU64, Ordering};

use super::group_set::{GroupSet, around};

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
    /// For each order the groups that have it.
    by_longest: Box<[GroupSet]>,
    by_average: Box<[GroupSet]>,
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
        let lists = || (0..ORDERS).map(|_| GroupSet::new(groups)).collect();
        Self {
            summaries: (0..groups).map(|_| CachePadded::default()).collect(),
            by_longest: lists(),
            by_average: lists(),
        }
    }

    /// Says what `group` has now, which is locked and had `before`.
    pub(super) fn update(&self, group: usize, before: Summary, now: Summary) {
        let word = now.longest << 32 | now.free;
        self.summaries[group].store(word, Ordering::Relaxed);
        let (before, now) = (before.orders(), now.orders());
        moved(&self.by_longest, group, before.0, now.0);
        moved(&self.by_average, group, before.1, now.1);
    }

    /// Free clusters and those of the longest free run.
    pub(super) fn of(&self, group: usize) -> (u64, u64) {
        let word = self.summaries[group].load(Ordering::Relaxed);
        (word & u64::from(u32::MAX), word >> 32)
    }

    /// The groups in whose lists runs of at least `len` clusters can be expected, from `first` on and around: those of
    /// the order of `len` and above.
    pub(super) fn groups_with(
        &self,
        by: By,
        len: u64,
        first: usize,
    ) -> impl Iterator<Item = usize> {
        let lists = match by {
            By::Longest => &self.by_longest,
            By::Average => &self.by_average,
        };
        around(&lists[len.ilog2() as usize..], first)
    }

    /// The groups whose longest run has the order of `len` or more, those of the lowest order first: who has only short
    /// runs is asked before who has long ones. Each order from `first` on and around.
    pub(super) fn upwards_with(&self, len: u64, first: usize) -> impl Iterator<Item = usize> {
        let lists = &self.by_longest[len.ilog2() as usize..];
        lists
            .iter()
            .flat_map(move |list| around(std::slice::from_ref(list), first))
    }

    /// Whether `group`, which is locked, is listed as what it is, and nowhere else.
    pub(super) fn agrees(&self, group: usize, now: Summary) -> bool {
        let (longest, average) = now.orders();
        let listed = |lists: &[GroupSet], order: Option<u32>| {
            let orders = (0..).zip(lists).filter(|(_, list)| list.contains(group));
            orders.map(|(order, _)| order).eq(order)
        };
        self.of(group) == (now.free, now.longest)
            && listed(&self.by_longest, longest)
            && listed(&self.by_average, average)
    }
}

/// Moves `group` from the list of one order to that of another.
fn moved(lists: &[GroupSet], group: usize, before: Option<u32>, now: Option<u32>) {
    if before == now {
        return;
    }
    if let Some(order) = now {
        lists[order as usize].insert(group);
    }
    if let Some(order) = before {
        lists[order as usize].remove(group);
    }
}
