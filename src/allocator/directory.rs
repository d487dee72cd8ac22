//! Which groups are worth a look: what each has, readable without its lock.
//!
//! Everything here is a hint. Whoever follows one finds the truth under the group's lock, and whoever finds nothing asks
//! the groups themselves.

use super::group_set::{GroupSet, around};
use super::run_orders::{ORDERS, Orders, order_of};

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

/// Lists of groups by the orders of their free runs, and by the order of their average one.
#[derive(Debug)]
pub(super) struct Directory {
    /// For each order the groups that have a run of it.
    by_run: Box<[GroupSet]>,
    /// For each order the groups whose average run has it.
    by_average: Box<[GroupSet]>,
}

/// Which of the two lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Any free run.
    Run,
    /// The average free run.
    Average,
}

impl Summary {
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
        let lists = || (0..ORDERS).map(|_| GroupSet::new(groups)).collect();
        Self {
            by_run: lists(),
            by_average: lists(),
        }
    }

    /// Says what `group` has now, which is locked and had `before`.
    pub(super) fn update(&self, group: usize, before: Summary, now: Summary) {
        moved(&self.by_run, group, before.orders, now.orders);
        moved(&self.by_average, group, before.average(), now.average());
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
            By::Run => &self.by_run,
            By::Average => &self.by_average,
        };
        around(&lists[order_of(len) as usize..], first)
    }

    /// The groups that have a run of `order`, from `first` on and around.
    pub(super) fn with(&self, order: u32, first: usize) -> impl Iterator<Item = usize> {
        around(std::slice::from_ref(&self.by_run[order as usize]), first)
    }

    /// Whether `group`, which is locked, is listed as what it is, and nowhere else.
    pub(super) fn agrees(&self, group: usize, now: Summary) -> bool {
        let listed = |lists: &[GroupSet], orders: Orders| {
            let listed = (0..).zip(lists).filter(|(_, list)| list.contains(group));
            listed.map(|(order, _)| order).eq(orders.iter())
        };
        listed(&self.by_run, now.orders) && listed(&self.by_average, now.average())
    }
}

/// Moves `group` from the lists of some orders to those of others. It is never missing from a list that it stays in.
fn moved(lists: &[GroupSet], group: usize, before: Orders, now: Orders) {
    if before == now {
        return;
    }
    for order in now.without(before).iter() {
        lists[order as usize].insert(group);
    }
    for order in before.without(now).iter() {
        lists[order as usize].remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_missing_in_either_list_is_noticed() {
        let summary = |free, order, fragments| Summary {
            free,
            orders: Orders::only(order),
            fragments,
        };
        let directory = Directory::new(3);
        let now = summary(40, 4, 2);
        directory.update(1, Summary::default(), now);
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
