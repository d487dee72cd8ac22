//! One group of clusters: which are free, and which are set aside: used in the eyes of a search and nobody's.

use std::collections::BTreeMap;
use std::mem;

use crate::sync::Arc;

use super::directory::Summary;
use super::free_runs::FreeRuns;
use super::rest::Rest;
use super::run_orders::{Orders, order_of};
use super::span::Span;

/// A group; clusters are counted from its start.
#[derive(Debug)]
pub(super) struct Group {
    len: u64,
    state: State,
    /// Windows that have not ended: their clusters are taken.
    windows: Vec<Arc<Rest>>,
    /// Freed, and not yet durably so: by start, with the end and the change that frees them.
    held_back: BTreeMap<u64, (u64, Change)>,
    /// Free, and withheld while the device discards it.
    discarding: Option<Span>,
}

/// A change of the volume's metadata, by number: what it frees may be used again once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change(pub u64);

#[derive(Debug)]
enum State {
    /// Nobody has looked yet. Nothing is free in the eyes of a search.
    Unread,
    /// Every cluster is free, so there is no bitmap yet.
    Untouched,
    Known(Box<FreeRuns>),
    /// The bitmap cannot be trusted: nothing is taken, nothing is freed.
    Fenced,
}

impl Group {
    /// A group of `len` clusters, the first `own` of them in use for good.
    pub(super) fn new(len: u64, own: u64) -> Self {
        let mut group = Self {
            len,
            state: State::Untouched,
            windows: Vec::new(),
            held_back: BTreeMap::new(),
            discarding: None,
        };
        if own > 0 {
            group.change(|runs| runs.take(Span { start: 0, end: own }));
        }
        group
    }

    /// A group that must be [read](Self::read) before it is used.
    pub(super) fn unread(len: u64) -> Self {
        Self {
            state: State::Unread,
            ..Self::new(len, 0)
        }
    }

    /// What an unread group holds: these spans are in use.
    pub(super) fn read(&mut self, used: Vec<Span>) {
        self.state = State::Untouched;
        for span in used {
            self.take(span);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_fenced(&self) -> bool {
        matches!(self.state, State::Fenced)
    }

    pub(super) fn free(&self) -> u64 {
        self.seen(|runs| runs.free(), self.len)
    }

    /// What there is to find.
    pub(super) fn summary(&self) -> Summary {
        let of = |runs: &FreeRuns| Summary {
            free: runs.free(),
            orders: runs.orders(),
            fragments: runs.fragments(),
        };
        let untouched = Summary {
            free: self.len,
            orders: Orders::only(order_of(self.len)),
            fragments: 1,
        };
        self.seen(of, untouched)
    }

    /// Clusters that the ledger counts as available or promised: free ones, and what is withheld for a discard.
    pub(super) fn unspent(&self) -> u64 {
        self.free() + self.discarding.map_or(0, Span::len)
    }

    /// Whether the cluster is in use; what windows or a discard withhold is not.
    pub(super) fn is_allocated(&self, cluster: u64) -> bool {
        let span = Span {
            start: cluster,
            end: cluster + 1,
        };
        let mut withheld = self.withheld();
        self.seen(|runs| !runs.is_free(cluster), false)
            && !withheld.any(|other| other.overlaps(span))
    }

    /// Windows, and what is being discarded: used in the eyes of a search and nobody else's.
    fn withheld(&self) -> impl Iterator<Item = Span> {
        let windows = self.windows.iter().map(|rest| rest.span());
        let windows = windows.filter(|span| span.len() > 0);
        windows.chain(self.discarding)
    }

    /// Whether every cluster of `span` is free.
    pub(super) fn is_all_free(&self, span: Span) -> bool {
        self.seen(|runs| runs.is_all_free(span), true)
    }

    /// Whether every cluster of `span` is somebody's.
    pub(super) fn is_owned(&self, span: Span) -> bool {
        self.seen(|runs| runs.is_all_used(span), false)
            && !self.withheld().any(|other| other.overlaps(span))
            && !self.held_back_overlaps(span)
            && !self.is_fenced()
    }

    /// Looks for a free span.
    pub(super) fn search<T>(&self, search: impl FnOnce(&FreeRuns) -> Option<T>) -> Option<T> {
        match &self.state {
            State::Known(runs) => search(runs),
            State::Untouched => search(&FreeRuns::all_free(self.len)),
            State::Unread | State::Fenced => None,
        }
    }

    // --- taken and given back ---------------------------------------------------------------------------

    /// Marks a free span as used.
    pub(super) fn take(&mut self, span: Span) {
        self.change(|runs| runs.take(span));
    }

    /// Marks a span in use as free.
    pub(super) fn clear(&mut self, span: Span) {
        self.change(|runs| runs.give(span));
    }

    // --- windows ----------------------------------------------------------------------------------------

    /// Lists a window, whose clusters are taken, and forgets those of which nothing is left; returns how many.
    pub(super) fn add_window(&mut self, rest: Arc<Rest>) -> u64 {
        let before = self.windows.len();
        self.windows.retain(|other| other.span().len() > 0);
        let gone = before - self.windows.len();
        self.windows.push(rest);
        gone as u64
    }

    /// Strikes a window off the list, unless that has happened.
    pub(super) fn remove_window(&mut self, rest: &Arc<Rest>) -> bool {
        let at = self
            .windows
            .iter()
            .position(|other| Arc::ptr_eq(other, rest));
        at.map(|at| self.windows.swap_remove(at)).is_some()
    }

    /// Strikes all windows off the list.
    pub(super) fn take_windows(&mut self) -> Vec<Arc<Rest>> {
        mem::take(&mut self.windows)
    }

    /// Clusters that windows have.
    pub(super) fn in_windows(&self) -> u64 {
        self.windows.iter().map(|rest| rest.span().len()).sum()
    }

    // --- freed, not durably -----------------------------------------------------------------------------

    /// Sets a committed span aside until `change` is durable.
    pub(super) fn hold_back(&mut self, span: Span, change: Change) {
        let Span { mut start, mut end } = span;
        if let Some((&before, &(until, of))) = self.held_back.range(..start).next_back()
            && (until, of) == (start, change)
        {
            start = before;
        }
        if let Some(&(until, of)) = self.held_back.get(&end)
            && of == change
        {
            self.held_back.remove(&end);
            end = until;
        }
        self.held_back.insert(start, (end, change));
    }

    /// Makes free what was freed up to `change`, and returns it.
    pub(super) fn let_go(&mut self, change: Change) -> Vec<Span> {
        let durable = |&start: &u64, &mut (end, of): &mut (u64, Change)| {
            (of <= change).then_some(Span { start, end })
        };
        let mut ended = Vec::new();
        self.held_back
            .retain(|start, entry| match durable(start, entry) {
                Some(span) => {
                    ended.push(span);
                    false
                }
                None => true,
            });
        for span in &ended {
            self.clear(*span);
        }
        ended
    }

    /// Clusters freed and not yet durably so.
    pub(super) fn held_back(&self) -> u64 {
        let spans = self.held_back.iter();
        spans.map(|(start, (end, _))| end - start).sum()
    }

    fn held_back_overlaps(&self, span: Span) -> bool {
        if self.held_back.is_empty() {
            return false;
        }
        let before = self.held_back.range(..span.end).next_back();
        before.is_some_and(|(_, (end, _))| *end > span.start)
    }

    // --- being discarded --------------------------------------------------------------------------------

    /// Withholds a free span.
    pub(super) fn begin_discard(&mut self, span: Span) {
        self.change(|runs| runs.take(span));
        self.discarding = Some(span);
    }

    /// Makes the withheld span free again.
    pub(super) fn end_discard(&mut self) {
        if let Some(span) = self.discarding.take() {
            self.clear(span);
        }
    }

    // --- all of it --------------------------------------------------------------------------------------

    /// The spans in use, in ascending order; of a group that is not known, none.
    pub(super) fn allocated(&self) -> Vec<Span> {
        let State::Known(runs) = &self.state else {
            return Vec::new();
        };
        let mut unused: Vec<Span> = runs.runs(0).chain(self.withheld()).collect();
        unused.sort_by_key(|span| span.start);
        let end = Span {
            start: self.len,
            end: self.len,
        };
        let mut from = 0;
        let mut used = Vec::new();
        for span in unused.into_iter().chain([end]) {
            if from < span.start {
                used.push(Span {
                    start: from,
                    end: span.start,
                });
            }
            from = span.end;
        }
        used
    }

    /// Whether the counters and the index agree with the bitmap, and whatever is set aside is used there, once.
    pub(super) fn is_sound(&self) -> bool {
        let State::Known(runs) = &self.state else {
            return true;
        };
        let held_back = self.held_back.iter();
        let held_back = held_back.map(|(&start, &(end, _))| Span { start, end });
        let mut aside: Vec<_> = held_back.chain(self.withheld()).collect();
        aside.sort_by_key(|span| span.start);
        **runs == runs.recounted()
            && aside.iter().all(|span| runs.is_all_used(*span))
            && aside.is_sorted_by(|one, next| one.end <= next.start)
    }

    /// Fences the group off, for good.
    pub(super) fn fence(&mut self) {
        self.discarding = None;
        self.state = State::Fenced;
    }

    /// Flips a bit, as bad memory would.
    #[cfg(feature = "testing")]
    pub(super) fn damage(&mut self) {
        self.change(FreeRuns::damage);
    }

    /// What a known bitmap says, or what is so in a group without used clusters; 0 or no where nothing can be had.
    fn seen<T: Default>(&self, look: impl FnOnce(&FreeRuns) -> T, untouched: T) -> T {
        match &self.state {
            State::Known(runs) => look(runs),
            State::Untouched => untouched,
            State::Unread | State::Fenced => T::default(),
        }
    }

    /// Changes the bitmap, which comes into being here.
    fn change(&mut self, change: impl FnOnce(&mut FreeRuns)) {
        if matches!(self.state, State::Untouched) {
            self.state = State::Known(Box::new(FreeRuns::all_free(self.len)));
        }
        if let State::Known(runs) = &mut self.state {
            change(runs);
        }
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::allocator::rest::Left;

    fn window(start: u64, end: u64) -> Arc<Rest> {
        Arc::new(Rest::new(Left::new(Span { start, end })))
    }

    #[test]
    fn windows_of_which_nothing_is_left_are_forgotten() {
        let mut group = Group::new(100, 0);
        let (first, second) = (window(0, 10), window(20, 30));
        assert_eq!(group.add_window(Arc::clone(&first)), 0);
        assert_eq!(group.add_window(Arc::clone(&second)), 0);
        first.end();
        assert_eq!(group.add_window(window(40, 50)), 1);
        assert_eq!((group.windows.len(), group.in_windows()), (2, 20));
        assert!(group.remove_window(&second), "it was listed");
        assert!(!group.remove_window(&second) && !group.remove_window(&first));
        assert_eq!((group.windows.len(), group.in_windows()), (1, 10));
    }
}
