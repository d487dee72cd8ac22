//! What a file asks for: out of its windows, near what it has, and with room for what it will write next.

use std::ops::{Deref, Range};

use crate::error::Result;
use crate::probe::Mutation;
use crate::sync::{Mutex, Rank, thread_slot};
use crate::units::DiskRun;

use super::request::{Goal, Wanted};
use super::search::Found;
use super::window::Kept;
use super::windows::Windows;
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
    windows: Mutex<Windows>,
}

/// A wish for clusters at a place of a file.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FileRequest {
    at: u64,
    clusters: u64,
    room: u64,
    file_clusters: u64,
    goal: Option<Goal>,
}

impl FileRequest {
    /// `clusters` clusters from cluster `at` of the file on, anywhere. Nothing is mapped behind them, and the file is not
    /// known to become longer.
    pub const fn at(at: u64, clusters: u64) -> Self {
        Self {
            at,
            clusters,
            room: u64::MAX,
            file_clusters: at.saturating_add(clusters),
            goal: None,
        }
    }

    /// The same, with this goal, or none, for the first cluster.
    pub fn goal(mut self, goal: impl Into<Option<Goal>>) -> Self {
        self.goal = goal.into();
        self
    }

    /// The same, but something is mapped already so many clusters behind the first one: a window reaches no farther.
    pub const fn room(mut self, clusters: u64) -> Self {
        self.room = clusters;
        self
    }

    /// The same, in a file of so many clusters, as far as its owner knows.
    pub const fn file_clusters(mut self, clusters: u64) -> Self {
        self.file_clusters = clusters;
        self
    }

    /// Clusters wanted.
    pub const fn clusters(&self) -> u64 {
        self.clusters
    }
}

impl FileSpace {
    /// No windows. `stream` is the file's number or anything like it; see [`AllocRequest::stream`].
    pub fn new(stream: u64) -> Self {
        Self {
            stream,
            windows: Mutex::new(Rank::Windows, Windows::default()),
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
        let room = self.room(&mut windows, &request);
        let known = (size - request.at).min(room).max(want);
        let expected = match request.at {
            0 => known,
            _ => self.expected(&request, want, size).min(room).max(want),
        };
        let found = self.find_growing(&wanted, known, expected)?;
        let (taken, kept) = self.take_with_window(found, want, space)?;
        if let Some(kept) = kept {
            windows.insert(request.at + taken.clusters(), kept);
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
        if let Some((start, _, kept)) = windows.next(request.at)
            && start == request.at
            && (1..kept.len()).contains(&want)
            && let Some(extent) = self.out_of(kept, want)
        {
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
        for kept in windows.take() {
            self.end_window(&kept);
        }
    }

    /// What the windows of a file were for when it was last asked, by its clusters, and where they lie. Some may have
    /// ended meanwhile.
    pub fn windows(&self, file: &FileSpace) -> Vec<(Range<u64>, DiskRun)> {
        let windows = file.windows.lock();
        let told = windows.iter().map(|(at, kept)| {
            let range = at..at + kept.len();
            (range, self.run_of(kept.group, kept.left.span()))
        });
        told.collect()
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
    fn room(&self, windows: &mut Windows, request: &FileRequest) -> u64 {
        match windows.next(request.at) {
            Some((start, ..)) if !self.probe.is(Mutation::OverlapWindows) => {
                request.room.min(start.saturating_sub(request.at))
            }
            _ => request.room,
        }
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

    /// How many bytes so many clusters are.
    pub(super) fn bytes(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.geometry.cluster_bytes())
    }
}
