//! Windows: clusters kept near a file for what it will write next, in ext4's terms preallocations.
//!
//! A window is a stretch of the file and a run of clusters of the same length. The clusters are used in the eyes of a
//! search, but the ledger counts them as available: a window is a wish, no promise. Its owner takes from it first; when
//! a search finds nothing else, all windows end. The groups know what is left of each, so taking from one that has
//! ended fails there, and nothing is shared between the owner and whoever ends it.

use std::ops::{Deref, Range};

use crate::error::Result;
use crate::probe::Mutation;
use crate::sync::uncounted::Ordering;
use crate::sync::{Mutex, Rank, thread_slot};
use crate::units::DiskRun;

use super::allocation::Extent;
use super::group::WindowId;
use super::request::{Goal, Wanted};
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
/// until a search finds nothing else.
#[derive(Debug)]
pub struct FileSpace {
    stream: u64,
    windows: Mutex<Vec<Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    id: WindowId,
    /// The first cluster of the file that it is for.
    at: u64,
    extent: Extent,
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
pub(super) struct SharedWindow(Mutex<Option<(WindowId, Extent)>>);

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
            return self.promised(extent, space);
        }
        let wish = AllocRequest::anywhere(want).stream(file.stream);
        let mut wanted = wish.wanted(want, self.geometry.cluster);
        wanted.goal = request.goal.map(|goal| goal.place(self.geometry.cluster));
        let size = request.file_clusters.max(request.at.saturating_add(want));
        if request.at == 0 {
            drop(windows);
            let extent = match self.bytes(size) <= SMALL_FILE {
                true => self.for_small_file(&wanted)?,
                false => self.take_with_window(self.find(&wanted)?, want).0,
            };
            return self.promised(extent, space);
        }
        let length = self.window_length(&windows, &request, want, size);
        let found = self.find_growing(&wanted, length)?;
        let (extent, rest) = self.take_with_window(found, want);
        if let Some((id, rest)) = rest {
            windows.push(Window {
                id,
                at: request.at + extent.span.len(),
                extent: rest,
            });
        }
        drop(windows);
        self.promised(extent, space)
    }

    /// Ends the windows of a file: when it is truncated, closed or done.
    pub fn end_windows(&self, file: &FileSpace) {
        let mut windows = file.windows.lock();
        for window in windows.drain(..) {
            self.group(window.extent.group).end_window(window.id);
        }
    }

    /// What the windows of a file were for when it was last asked, by its clusters, and where they lie. Some may have
    /// ended meanwhile.
    pub fn windows(&self, file: &FileSpace) -> Vec<(Range<u64>, DiskRun)> {
        let windows = file.windows.lock();
        let told = windows.iter().map(|window| {
            let Extent { group, span } = window.extent;
            (window.at..window.at + span.len(), self.run_of(group, span))
        });
        told.collect()
    }

    /// Takes the start of what a window of the file has for `at`.
    fn out_of_window(&self, windows: &mut Vec<Window>, at: u64, want: u64) -> Option<Extent> {
        let covers = |window: &Window| window.at <= at && at - window.at < window.extent.span.len();
        let index = windows.iter().position(covers)?;
        let window = windows.swap_remove(index);
        let span = Span {
            start: window.extent.span.start + (at - window.at),
            ..window.extent.span
        }
        .truncated(want);
        let extent = window.extent.with(span);
        let mut group = self.group(extent.group);
        if !group.take_from_window(window.id, span) && !self.probe.is(Mutation::TakeFromEndedWindow)
        {
            return None;
        }
        drop(group);
        for rest in window.extent.span.without(span) {
            if rest.len() > 0 {
                windows.push(Window {
                    at: window.at + (rest.start - window.extent.span.start),
                    extent: window.extent.with(rest),
                    ..window
                });
            }
        }
        Some(extent)
    }

    /// Takes up to `want` clusters of what was found, and opens a window on the rest.
    fn take_with_window(
        &self,
        Found { mut group, span }: Found<'_>,
        want: u64,
    ) -> (Extent, Option<(WindowId, Extent)>) {
        let taken = span.truncated(want);
        group.take(taken);
        let extent = Extent {
            group: group.number(),
            span: taken,
        };
        let [_, rest] = span.without(taken);
        let window = (rest.len() > 0).then(|| {
            let id = WindowId(self.next_window.fetch_add(1, Ordering::Relaxed));
            group.open_window(id, rest);
            (id, extent.with(rest))
        });
        (extent, window)
    }

    /// A small file's clusters: at its goal, or out of the window shared with others.
    fn for_small_file(&self, wanted: &Wanted) -> Result<Extent> {
        if let Some(goal) = wanted.goal
            && let Some(found) = self.at_goal(goal, wanted)
        {
            return Ok(self.take_with_window(found, wanted.length).0);
        }
        let mut shared = self.shared_window().0.lock();
        if let Some((id, extent)) = shared.take() {
            let span = extent.span.truncated(wanted.length);
            let [_, rest] = extent.span.without(span);
            let mut group = self.group(extent.group);
            if span.len() == wanted.length && group.take_from_window(id, span) {
                if rest.len() > 0 {
                    *shared = Some((id, extent.with(rest)));
                }
                return Ok(extent.with(span));
            }
            group.end_window(id);
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
        let (extent, rest) = self.take_with_window(found, wanted.length);
        *shared = rest;
        Ok(extent)
    }

    /// The next clusters of a file that grows, and room behind them: at its goal whatever is free there; elsewhere a
    /// long run, but only while there are many. On a volume that is rather full a hole that just fits does less harm.
    fn find_growing(&self, wanted: &Wanted, length: u64) -> Result<Found<'_>> {
        let affordable = self.ledger.at_worst().available() / PLENTY;
        let wish = &Wanted {
            length: length.min(affordable).max(wanted.length),
            ..*wanted
        };
        let found = match self.is_roomy() {
            true => self.find_whole(wish),
            false => wish.goal.and_then(|goal| self.at_goal(goal, wish)),
        };
        match found {
            Some(found) => Ok(found),
            None => self.find(&Wanted {
                goal: None,
                ..*wanted
            }),
        }
    }

    /// How many clusters a request is to be given with a window behind them: up to the next multiple of a power of two
    /// that is [`GROWTH`] times the file's size, but not what is mapped or other windows are for.
    fn window_length(
        &self,
        windows: &[Window],
        request: &FileRequest,
        want: u64,
        size: u64,
    ) -> u64 {
        let longest = (LONGEST / self.geometry.cluster_bytes()).max(1);
        let unit = size
            .saturating_mul(GROWTH)
            .checked_next_power_of_two()
            .unwrap_or(longest)
            .min(longest);
        let end = request.at.saturating_add(want);
        let end = end.checked_next_multiple_of(unit).unwrap_or(end);
        let overlap = self.probe.is(Mutation::OverlapWindows);
        windows
            .iter()
            .filter(|window| window.at > request.at && !overlap)
            .map(|window| window.at - request.at)
            .fold((end - request.at).min(request.room), u64::min)
            .max(want)
    }

    /// The window of small files that this thread takes from.
    fn shared_window(&self) -> &SharedWindow {
        &self.shared_windows[thread_slot::current() % self.shared_windows.len()]
    }

    fn bytes(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.geometry.cluster_bytes())
    }
}
