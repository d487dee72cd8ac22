//! Windows: clusters kept near a file for what it will write next, in ext4's terms preallocations.
//!
//! A window is a stretch of the file and a run of clusters of the same length. The clusters are used in the eyes of
//! search and ledger alike, paid for when the window opens, so its owner takes from it by changing one word that belongs
//! to the two of them, its [`Rest`]. It is a wish all the same, no promise: the group lists its windows, and when space
//! would be refused all of them end.

use std::ops::Deref;

use crate::error::Result;
use crate::probe::Mutation;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

use super::allocation::Extent;
use super::locked::Locked;
use super::rest::{Left, Rest};
use super::search::Found;
use super::span::Span;
use super::windows::Windows;
use super::{Allocation, Allocator, Ledger, Reservation};

/// Clusters that are kept for an owner: what it has not taken.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) group: usize,
    pub(super) left: Left,
    /// The same, unless somebody has ended the window.
    rest: Arc<Rest>,
}

impl Kept {
    /// How many clusters that are.
    pub(super) fn len(&self) -> u64 {
        self.left.span().len()
    }
}

/// How many windows a group has had. None is open while the two numbers are the same. Changed under the group's lock.
#[derive(Debug, Default)]
pub(super) struct Census {
    opened: AtomicU64,
    ended: AtomicU64,
}

impl Census {
    fn opens(&self) {
        let opened = self.opened.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `opened`: who is refused what this window has must see it.
        self.opened.store(opened + 1, Ordering::Release);
    }

    fn ends(&self, windows: u64) {
        let ended = self.ended.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `ended`: who sees that a window has ended finds what it had.
        self.ended.store(ended + windows, Ordering::Release);
    }
}

impl Census {
    /// Whether a window was open while this was asked.
    fn some_are_open(&self) -> bool {
        // Acquire, each: as in `windows_opened` and `windows_ended`. In this order none that opens meanwhile counts as
        // ended before.
        let ended = self.ended.load(Ordering::Acquire);
        self.opened.load(Ordering::Acquire) != ended
    }
}

impl Allocator {
    /// Tries once more what was refused, at a moment at which no window withholds anything.
    #[cold]
    pub(super) fn without_windows<T>(&self, again: impl Fn() -> Result<T>) -> Result<T> {
        if self.probe.is(Mutation::KeepWindowsWhenFull) {
            return again();
        }
        // A window that is open while `again` is refused ends later, so it is not among these; and it has paid before
        // that is refused anything, so it is among those that have opened.
        let ended = self.windows_ended();
        let outcome = again();
        if outcome.is_ok() || self.windows_opened() == ended {
            return outcome;
        }
        let mut groups = self.lock_all();
        groups.iter_mut().for_each(|group| self.end_listed(group));
        // None opens as long as the groups are locked.
        again()
    }

    /// Clusters that windows have. Locks no group that has none.
    pub(super) fn in_windows(&self) -> u64 {
        let groups = self.census.iter().enumerate();
        groups
            .filter(|(_, census)| census.some_are_open())
            .map(|(number, _)| self.locked(number).in_windows())
            .sum()
    }

    /// How many windows have opened, in all groups.
    fn windows_opened(&self) -> u64 {
        // Acquire: pairs with the Release in `opens`.
        let opened = |census: &Census| census.opened.load(Ordering::Acquire);
        self.census.iter().map(opened).sum()
    }

    /// How many have ended. In no group are that more than have opened later, so where the sums are the same, all are.
    fn windows_ended(&self) -> u64 {
        // Acquire: pairs with the Release in `ends`.
        let ended = |census: &Census| census.ended.load(Ordering::Acquire);
        self.census.iter().map(ended).sum()
    }

    /// An extent out of a window is paid for, so the promise for it ends.
    pub(super) fn exchanged<L: Deref<Target = Ledger>>(
        &self,
        extent: Extent,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        space.shrink(extent.span.len())?;
        Ok(self.taken(extent))
    }

    /// Takes the start of what a window of the file has for `at`.
    pub(super) fn out_of_window(
        &self,
        windows: &mut Windows,
        at: u64,
        want: u64,
    ) -> Option<Extent> {
        let (start, end, kept) = windows.next(at).filter(|(start, ..)| *start <= at)?;
        if start < at {
            return self.out_of_middle(windows, end, at, want);
        }
        let taken = self.out_of(kept, want);
        if taken.is_none() || kept.len() == 0 {
            windows.remove(end);
        }
        taken
    }

    /// Takes the first clusters that are kept, unless the window has ended.
    #[inline]
    pub(super) fn out_of(&self, kept: &mut Kept, want: u64) -> Option<Extent> {
        let span = kept.left.span().truncated(want);
        let fewer = kept.left.without_first(span.len());
        if !kept.rest.take(kept.left, fewer) && !self.probe.is(Mutation::TakeFromEndedWindow) {
            return None;
        }
        kept.left = fewer;
        Some(Extent {
            group: kept.group,
            span,
        })
    }

    /// Divides the window with that end in two, of which the second begins at `at`, and takes from that.
    #[cold]
    fn out_of_middle(&self, windows: &mut Windows, end: u64, at: u64, want: u64) -> Option<Extent> {
        let kept = windows.remove(end)?;
        let start = end - kept.len();
        let mut group = self.group(kept.group);
        let left = kept.rest.end();
        if left.len() == 0 {
            return None;
        }
        let border = left.start + (at - start);
        let before = Span {
            end: border,
            ..left
        };
        let [_, behind] = left.without(before);
        for (at, span) in [(start, before), (at, behind)] {
            let kept = self.list_window(&mut group, span);
            windows.insert(at, kept);
        }
        self.unlist_window(&mut group, &kept.rest);
        drop(group);
        self.out_of_window(windows, at, want)
    }

    /// Takes up to `want` clusters of what was found out of `space`, and opens a window on the rest, if it can be paid
    /// for.
    pub(super) fn take_with_window<L: Deref<Target = Ledger>>(
        &self,
        Found { mut group, span }: Found<'_>,
        want: u64,
        space: &mut Reservation<L>,
    ) -> Result<(Allocation<'_>, Option<Kept>)> {
        let taken = span.truncated(want);
        space.spend(taken.len())?;
        group.take(taken);
        let extent = Extent {
            group: group.number(),
            span: taken,
        };
        let [_, rest] = span.without(taken);
        let kept = (rest.len() > 0).then(|| self.open_window(&mut group, rest));
        Ok((self.taken(extent), kept.flatten()))
    }

    /// Pays for a window on a free span, and opens it.
    fn open_window(&self, group: &mut Locked<'_>, span: Span) -> Option<Kept> {
        let kept = self.list_window(group, span);
        match self.ledger.buy(span.len()) {
            Ok(()) => {
                group.take(span);
                Some(kept)
            }
            Err(_) => {
                kept.rest.end();
                self.unlist_window(group, &kept.rest);
                None
            }
        }
    }

    /// Lists a window of `span`.
    fn list_window(&self, group: &mut Locked<'_>, span: Span) -> Kept {
        let census = &self.census[group.number()];
        census.opens();
        let left = Left::new(span);
        let rest = Arc::new(Rest::new(left));
        let used_up = group.add_window(Arc::clone(&rest));
        census.ends(used_up);
        Kept {
            group: group.number(),
            left,
            rest,
        }
    }

    /// Strikes a window off its list, unless that has happened.
    fn unlist_window(&self, group: &mut Locked<'_>, rest: &Arc<Rest>) {
        let listed = group.remove_window(rest);
        self.census[group.number()].ends(u64::from(listed));
    }

    /// Ends a window, if nobody has.
    pub(super) fn end_window(&self, kept: &Kept) {
        let mut group = self.group(kept.group);
        self.give(&mut group, &kept.rest);
        self.unlist_window(&mut group, &kept.rest);
    }

    /// Ends all windows of a group.
    pub(super) fn end_listed(&self, group: &mut Locked<'_>) {
        for rest in group.take_windows() {
            self.give(group, &rest);
            self.census[group.number()].ends(1);
        }
    }

    /// Makes free what is left of a window.
    fn give(&self, group: &mut Locked<'_>, rest: &Rest) {
        let left = rest.end();
        if left.len() > 0 {
            group.clear(left);
            self.ledger.release(left.len());
        }
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::super::{FileRequest, FileSpace};
    use super::*;
    use crate::units::{DiskBlock, DiskRun, Geometry};

    fn allocator() -> Allocator {
        let geometry = Geometry::new(4096, 1).unwrap();
        Allocator::new(1 << 16, geometry, 1 << 15, DiskBlock(1)).unwrap()
    }

    /// Writes ten clusters of a file, which come out of one of its windows or get one.
    fn write(allocator: &Allocator, file: &FileSpace, at: u64) {
        let mut space = allocator.reserve(10).unwrap();
        let allocation = allocator.allocate_for(file, FileRequest::at(at, 10), &mut space);
        let _ = allocation.unwrap().commit();
    }

    #[test]
    fn the_census_knows_when_no_window_is_open() {
        let (allocator, file) = (allocator(), FileSpace::new(0));
        let counted = || [allocator.windows_opened(), allocator.windows_ended()];
        write(&allocator, &file, 100);
        // Divides the window in two.
        write(&allocator, &file, 200);
        assert_eq!(allocator.windows(&file).len(), 2);
        assert_eq!(counted(), [3, 1]);
        allocator.end_windows(&file);
        assert_eq!(counted(), [3, 3]);
    }

    #[test]
    fn what_windows_have_is_counted_without_the_locks_of_groups_that_have_none() {
        let (allocator, file) = (allocator(), FileSpace::new(0));
        let first_group = DiskRun::new(DiskBlock(1), (1 << 15) - 1);
        allocator.claim(first_group).unwrap();
        write(&allocator, &file, 100);
        let (_, run) = allocator.windows(&file)[0].clone();
        assert!(run.len > 0 && run.start >= first_group.end());
        let _held = allocator.locked(0);
        assert_eq!(allocator.in_windows(), run.len);
    }

    #[test]
    fn no_window_ends_for_what_can_be_had_meanwhile() {
        let (allocator, file) = (allocator(), FileSpace::new(0));
        write(&allocator, &file, 100);
        let before = allocator.in_windows();
        let all = allocator.ledger.snapshot().available();
        let again = || allocator.ledger.reserve(all);
        let granted = allocator.without_windows(again).unwrap();
        assert_eq!((granted.clusters(), allocator.in_windows()), (all, before));
    }
}
