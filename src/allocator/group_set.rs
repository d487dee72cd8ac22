//! A set of groups, changed and read without a lock.

use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};

/// One bit for each group. Only hints: the truth about a group is under its lock.
#[derive(Debug)]
pub(super) struct GroupSet(Box<[AtomicU64]>);

impl GroupSet {
    /// The empty set of groups below `groups`.
    pub(super) fn new(groups: usize) -> Self {
        let words = groups.div_ceil(64).max(1);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn insert(&self, group: usize) {
        self.0[group / 64].fetch_or(1 << (group % 64), Relaxed);
    }

    /// Whether the group was in the set.
    pub(super) fn remove(&self, group: usize) -> bool {
        let bit = 1 << (group % 64);
        self.0[group / 64].fetch_and(!bit, Relaxed) & bit != 0
    }

    pub(super) fn contains(&self, group: usize) -> bool {
        self.0[group / 64].load(Relaxed) >> (group % 64) & 1 == 1
    }

    /// The first group of the set from `first` on and around.
    pub(super) fn next(&self, first: usize) -> Option<usize> {
        self.around(first).next()
    }

    /// The groups of the set. Each is looked for when it is asked for, so the set may change meanwhile.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.around(0)
    }

    /// The groups of the set, from `first` on and around.
    fn around(&self, first: usize) -> impl Iterator<Item = usize> {
        let words = self.0.len();
        // The first word comes twice, the second time for what lies before `first` in it.
        (0..=words).flat_map(move |step| {
            let index = (first / 64 + step) % words;
            let behind = u64::MAX << (first % 64);
            let mask = match step {
                0 => behind,
                _ if step == words => !behind,
                _ => u64::MAX,
            };
            let word = self.0[index].load(Relaxed);
            bits(word & mask).map(move |bit| index * 64 + bit)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(groups: usize, members: impl IntoIterator<Item = usize>) -> GroupSet {
        let set = GroupSet::new(groups);
        members.into_iter().for_each(|group| set.insert(group));
        set
    }

    #[test]
    fn who_removes_a_group_is_told_whether_it_was_there() {
        let set = set(100, [3, 70]);
        assert!(set.contains(70) && !set.contains(6));
        assert!(!set.remove(6));
        assert!(set.remove(70));
        assert!(!set.remove(70) && !set.contains(70));
        assert!(set.contains(3));
    }

    #[test]
    fn groups_come_in_order_from_any_of_them_on_and_around() {
        for groups in [1, 63, 64, 65, 200] {
            for first in 0..groups {
                let set = set(groups, (0..groups).step_by(7));
                let expected = (first..groups).chain(0..first);
                let expected = expected.filter(|group| group % 7 == 0);
                assert!(set.around(first).eq(expected), "{first} of {groups}");
            }
        }
    }
}
