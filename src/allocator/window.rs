//! Windows: clusters kept near a file for what it will write next, in ext4's terms preallocations.
//!
//! A window is a stretch of the file and a run of clusters of the same length. The clusters are used in the eyes of
//! search and ledger alike, paid for when the window opens, so its owner takes from it by changing one word that belongs
//! to the two of them, its [`Rest`]. It is a wish all the same, no promise: the group lists its windows, and when space
//! would be refused all of them end.

use std::ops::{Deref, Range};

use crate::error::Result;
use crate::probe::Mutation;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Rank, thread_slot};
use crate::units::DiskRun;

use super::allocation::Extent;
use super::locked::Locked;
use super::request::{Goal, Wanted};
use super::rest::{Left, Rest};
use super::search::Found;
use super::span::Span;
use super::{AllocRequest, Allocation, Allocator, Ledger, Reservation};

/// Bytes of the longest window.
const LONGEST: u64 = 8 << 20;
/// How many times longer than it is a file is expected to become.
const GROWTH: u64 = 32;
/// Files up to this many bytes share windows.
const SMALL_FILE: u64 = 64 << 10;
/// Bytes of a shared window.
const SHARED: u64 = 2 << 20;
/// A window is at most this part of what is available.
const PLENTY: u64 = 16;

/// The windows of one file. [`Allocator::end_windows`] ends them; windows of a `FileSpace` that is just dropped stay
/// until space would be refused.
#[derive(Debug)]
pub struct FileSpace {
    stream: u64,
    windows: Mutex<Vec<Window>>,
}

/// Clusters that are kept for an owner: what it has not taken.
#[derive(Debug)]
struct Kept {
    group: usize,
    left: Left,
    /// The same, unless somebody has ended the window.
    rest: Arc<Rest>,
}

#[derive(Debug)]
struct Window {
    /// The first cluster of the file that it is for.
    at: u64,
    kept: Kept,
}

impl Kept {
    fn len(&self) -> u64 {
        self.left.span().len()
    }
}

/// How many windows there were and are. None is open while the two numbers are the same.
#[derive(Debug, Default)]
pub(super) struct Census {
    opened: AtomicU64,
    ended: AtomicU64,
}

/// A wish for clusters at a place of a file.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FileRequest {
    /// The first cluster, counted from the start of the file.
    pub at: u64,
    /// Clusters wanted.
    pub clusters: u64,
    /// Clusters from [`at`](Self::at) on that nothing is allocated for: a window reaches no farther.
    pub room: u64,
    /// Clusters of the whole file, as far as its owner knows.
    pub file_clusters: u64,
    /// Where the first cluster would best lie.
    pub goal: Option<Goal>,
}

impl FileSpace {
    /// No windows. `stream` is the file's number or anything like it; see [`AllocRequest::stream`].
    pub fn new(stream: u64) -> Self {
        Self {
            stream,
            windows: Mutex::new(Rank::Windows, Vec::new()),
        }
    }
}

/// How many windows small files have.
pub(super) fn shared_windows() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A window that small files share: those that one thread writes come to lie side by side.
#[derive(Debug)]
pub(super) struct SharedWindow(Mutex<Option<Kept>>);

impl SharedWindow {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Rank::Windows, None))
    }
}

impl Allocator {
    /// Takes one run of 1 to `request.clusters` clusters (but no more than `space` holds) for a place in a file: out of
    /// the window that the file has there; else near the goal, and with a new window behind it if the file may grow; a
    /// small file out of a window that it shares with other small ones.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_for<L: Deref<Target = Ledger>>(
        &self,
        file: &FileSpace,
        request: FileRequest,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        let want = self.allowed(request.clusters, space)?;
        let mut windows = file.windows.lock();
        if let Some(extent) = self.out_of_window(&mut windows, request.at, want) {
            return self.exchanged(extent, space);
        }
        let wish = AllocRequest::anywhere(want).stream(file.stream);
        let mut wanted = wish.wanted(want, self.geometry.cluster);
        wanted.goal = request.goal.map(|goal| goal.place(self.geometry.cluster));
        let size = request.file_clusters.max(request.at.saturating_add(want));
        if request.at == 0 && self.bytes(size) <= SMALL_FILE {
            drop(windows);
            return self.for_small_file(&wanted, space);
        }
        let room = self.room(&windows, &request);
        let known = (size - request.at).min(room).max(want);
        let expected = match request.at {
            0 => known,
            _ => self.expected(&request, want, size).min(room).max(want),
        };
        let found = self.find_growing(&wanted, known, expected)?;
        let (taken, kept) = self.take_with_window(found, want, space)?;
        if let Some(kept) = kept {
            let at = request.at + taken.clusters();
            windows.push(Window { at, kept });
        }
        Ok(taken)
    }

    /// The same without a promise beforehand, for who has the file to itself. As long as its window lasts, neither a
    /// lock is taken nor anything written that other threads write.
    ///
    /// # Errors
    /// As [`allocate_direct`](Self::allocate_direct).
    #[inline]
    pub fn allocate_direct_for(
        &self,
        file: &mut FileSpace,
        request: FileRequest,
    ) -> Result<Allocation<'_>> {
        let want = request.clusters;
        let windows = file.windows.get_mut();
        // All that asks for more thought is left to the other way.
        let next = windows
            .iter_mut()
            .find(|window| window.at == request.at && want > 0 && want < window.kept.len());
        if let Some(window) = next
            && let Some(extent) = self.out_of(&mut window.kept, want)
        {
            window.at += want;
            return Ok(self.taken(extent));
        }
        self.reserve_and_allocate_for(file, request)
    }

    fn reserve_and_allocate_for(
        &self,
        file: &FileSpace,
        request: FileRequest,
    ) -> Result<Allocation<'_>> {
        let mut space = self.reserve(request.clusters)?;
        self.allocate_for(file, request, &mut space)
    }

    /// Ends the windows of a file: when it is truncated, closed or done.
    pub fn end_windows(&self, file: &FileSpace) {
        let mut windows = file.windows.lock();
        for window in windows.drain(..) {
            self.end_window(&window.kept);
        }
    }

    /// What the windows of a file were for when it was last asked, by its clusters, and where they lie. Some may have
    /// ended meanwhile.
    pub fn windows(&self, file: &FileSpace) -> Vec<(Range<u64>, DiskRun)> {
        let windows = file.windows.lock();
        let told = windows.iter().map(|window| {
            let Kept { group, left, .. } = &window.kept;
            let range = window.at..window.at + window.kept.len();
            (range, self.run_of(*group, left.span()))
        });
        told.collect()
    }

    /// Tries once more what was refused, at a moment at which no window withholds anything.
    #[cold]
    pub(super) fn without_windows<T>(&self, again: impl Fn() -> Result<T>) -> Result<T> {
        if self.probe.is(Mutation::KeepWindowsWhenFull) {
            return again();
        }
        // Acquire: pairs with the Release in `end_listed`. A window that is open while `again` is refused ends later, so
        // it is not among these.
        let ended = self.census.ended.load(Ordering::Acquire);
        let outcome = again();
        // Acquire: pairs with the Release in `open_window`. Those that were open have paid before they were refused
        // anything, and are counted.
        if outcome.is_ok() || self.census.opened.load(Ordering::Acquire) == ended {
            return outcome;
        }
        let mut groups = self.lock_all();
        groups.iter_mut().for_each(|group| self.end_listed(group));
        // None opens as long as the groups are locked.
        again()
    }

    /// Clusters that windows have.
    pub(super) fn in_windows(&self) -> u64 {
        let ended = self.census.ended.load(Ordering::Acquire);
        if self.census.opened.load(Ordering::Acquire) == ended {
            return 0;
        }
        let groups = 0..self.groups.len();
        groups.map(|number| self.locked(number).in_windows()).sum()
    }

    /// An extent out of a window is paid for, so the promise for it ends.
    fn exchanged<L: Deref<Target = Ledger>>(
        &self,
        extent: Extent,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        space.shrink(extent.span.len())?;
        Ok(self.taken(extent))
    }

    /// Takes the start of what a window of the file has for `at`.
    fn out_of_window(&self, windows: &mut Vec<Window>, at: u64, want: u64) -> Option<Extent> {
        let covers = |window: &Window| window.at <= at && at - window.at < window.kept.len();
        let index = windows.iter().position(covers)?;
        let window = &mut windows[index];
        if window.at < at {
            return self.out_of_middle(windows, index, at, want);
        }
        let taken = self.out_of(&mut window.kept, want);
        window.at += taken.map_or(0, |extent| extent.span.len());
        if taken.is_none() || window.kept.len() == 0 {
            windows.swap_remove(index);
        }
        taken
    }

    /// Takes the first clusters that are kept, unless the window has ended.
    #[inline]
    fn out_of(&self, kept: &mut Kept, want: u64) -> Option<Extent> {
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

    /// Divides a window in two, of which the second begins at `at`, and takes from that.
    #[cold]
    fn out_of_middle(
        &self,
        windows: &mut Vec<Window>,
        index: usize,
        at: u64,
        want: u64,
    ) -> Option<Extent> {
        let Window { at: start, kept } = windows.swap_remove(index);
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
            windows.push(Window { at, kept });
        }
        self.unlist_window(&mut group, &kept.rest);
        drop(group);
        self.out_of_window(windows, at, want)
    }

    /// Takes up to `want` clusters of what was found out of `space`, and opens a window on the rest, if it can be paid
    /// for.
    fn take_with_window<L: Deref<Target = Ledger>>(
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
        // Release: pairs with the Acquire in `without_windows`, which must see it once it is refused what this window has.
        self.census.opened.fetch_add(1, Ordering::Release);
        let left = Left::new(span);
        let rest = Arc::new(Rest::new(left));
        let used_up = group.add_window(Arc::clone(&rest));
        // Release: as in `end_listed`.
        self.census.ended.fetch_add(used_up, Ordering::Release);
        Kept {
            group: group.number(),
            left,
            rest,
        }
    }

    /// Strikes a window off its list, unless that has happened.
    fn unlist_window(&self, group: &mut Locked<'_>, rest: &Arc<Rest>) {
        let listed = group.remove_window(rest);
        self.census
            .ended
            .fetch_add(u64::from(listed), Ordering::Release);
    }

    /// Ends a window, if nobody has.
    fn end_window(&self, kept: &Kept) {
        let mut group = self.group(kept.group);
        self.give(&mut group, &kept.rest);
        self.unlist_window(&mut group, &kept.rest);
    }

    /// Ends all windows of a group.
    pub(super) fn end_listed(&self, group: &mut Locked<'_>) {
        for rest in group.take_windows() {
            self.give(group, &rest);
            // Release: pairs with the Acquire in `without_windows`: who sees that it has ended finds what it had.
            self.census.ended.fetch_add(1, Ordering::Release);
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

    /// A small file's clusters: at its goal, or out of the window shared with others.
    fn for_small_file<L: Deref<Target = Ledger>>(
        &self,
        wanted: &Wanted,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        if let Some(goal) = wanted.goal
            && let Some(found) = self.at_goal(goal, wanted)
        {
            return Ok(self.take_with_window(found, wanted.length, space)?.0);
        }
        let mut shared = self.shared_window().0.lock();
        if let Some(mut kept) = shared.take() {
            let enough = kept.len() >= wanted.length;
            if enough && let Some(extent) = self.out_of(&mut kept, wanted.length) {
                *shared = Some(kept).filter(|kept| kept.len() > 0);
                return self.exchanged(extent, space);
            }
            self.end_window(&kept);
        }
        let length = (SHARED / self.geometry.cluster_bytes()).max(wanted.length);
        let wanted = Wanted {
            goal: None,
            ..*wanted
        };
        let found = match self.is_roomy() && self.ledger.at_worst().available() / PLENTY >= length {
            true => self.find_whole(&Wanted { length, ..wanted }),
            false => None,
        };
        let found = match found {
            Some(found) => found,
            None => self.find(&wanted)?,
        };
        let (taken, kept) = self.take_with_window(found, wanted.length, space)?;
        *shared = kept;
        Ok(taken)
    }

    /// The next clusters of a file, and room behind them for what it is known or expected to need: at its goal whatever is
    /// free there; elsewhere a long run, but only while there are many. On a volume that is rather full a hole that just
    /// fits what is known does less harm.
    fn find_growing(&self, wanted: &Wanted, known: u64, expected: u64) -> Result<Found<'_>> {
        let affordable = self.ledger.at_worst().available() / PLENTY;
        let of = |length: u64| Wanted {
            length: length.min(affordable).max(wanted.length),
            ..*wanted
        };
        let wish = &of(expected);
        let anywhere = |wanted: Wanted| Wanted {
            goal: None,
            ..wanted
        };
        let found = match self.is_roomy() {
            true => self.find_whole(wish),
            false => wish
                .goal
                .and_then(|goal| self.at_goal(goal, wish))
                .or_else(|| self.snug_for_file(wanted, of(known).length)),
        };
        match found {
            Some(found) => Ok(found),
            None => self.find(&anywhere(*wanted)),
        }
    }

    /// Clusters from a request on that are not mapped, and that no other window is for.
    fn room(&self, windows: &[Window], request: &FileRequest) -> u64 {
        let overlap = self.probe.is(Mutation::OverlapWindows);
        windows
            .iter()
            .filter(|window| window.at > request.at && !overlap)
            .map(|window| window.at - request.at)
            .fold(request.room, u64::min)
    }

    /// How many clusters a file may need from a request on: up to the next multiple of a power of two that is [`GROWTH`]
    /// times its size.
    fn expected(&self, request: &FileRequest, want: u64, size: u64) -> u64 {
        let longest = (LONGEST / self.geometry.cluster_bytes()).max(1);
        let unit = size
            .saturating_mul(GROWTH)
            .checked_next_power_of_two()
            .unwrap_or(longest)
            .min(longest);
        let end = request.at.saturating_add(want);
        let end = end.checked_next_multiple_of(unit).unwrap_or(end);
        end - request.at
    }

    /// The window of small files that this thread takes from.
    fn shared_window(&self) -> &SharedWindow {
        &self.shared_windows[thread_slot::current() % self.shared_windows.len()]
    }

    fn bytes(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.geometry.cluster_bytes())
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::units::{BlockSize, ClusterRatio, DiskBlock, Geometry};

    fn allocator() -> Allocator {
        let geometry = Geometry {
            block_size: BlockSize::new(4096).unwrap(),
            cluster: ClusterRatio::new(1).unwrap(),
        };
        Allocator::new(1 << 16, geometry, 1 << 15, DiskBlock(1)).unwrap()
    }

    /// Writes ten clusters of a file, which come out of one of its windows or get one.
    fn write(allocator: &Allocator, file: &FileSpace, at: u64) {
        let request = FileRequest {
            at,
            clusters: 10,
            room: u64::MAX,
            file_clusters: at + 10,
            goal: None,
        };
        let mut space = allocator.reserve(10).unwrap();
        let allocation = allocator.allocate_for(file, request, &mut space);
        let _ = allocation.unwrap().commit();
    }

    #[test]
    fn the_census_knows_when_no_window_is_open() {
        let (allocator, file) = (allocator(), FileSpace::new(0));
        let counted = || {
            let Census { opened, ended } = &*allocator.census;
            [opened, ended].map(|count| count.load(Ordering::Relaxed))
        };
        write(&allocator, &file, 100);
        // Divides the window in two.
        write(&allocator, &file, 200);
        assert_eq!(allocator.windows(&file).len(), 2);
        assert_eq!(counted(), [3, 1]);
        allocator.end_windows(&file);
        assert_eq!(counted(), [3, 3]);
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
