//! One group of clusters: which are free, and which are set aside, used in the eyes of a search but not committed.

use std::collections::BTreeMap;
use std::mem;

use super::directory::Summary;
use super::free_runs::FreeRuns;
use super::span::Span;

/// A group; clusters are counted from its start.
#[derive(Debug)]
pub(super) struct Group {
    len: u64,
    state: State,
    /// Taken, but still promised: an [`Allocation`](super::Allocation) exists for each.
    uncommitted: Vec<Span>,
    /// What is left of windows, which only their owners take from, and anybody ends.
    windows: Vec<(WindowId, Span)>,
    /// Freed, and not yet durably so: by start, with the end and the change that frees them.
    held_back: BTreeMap<u64, (u64, Change)>,
    /// Free, and withheld while the device discards it.
    discarding: Option<Span>,
}

/// Tells windows apart; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowId(pub(super) u64);

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
            uncommitted: Vec::new(),
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
            self.claim(span);
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
            longest: runs.longest(),
            fragments: runs.fragments(),
        };
        let untouched = Summary {
            free: self.len,
            longest: self.len,
            fragments: 1,
        };
        self.seen(of, untouched)
    }

    /// Clusters that the ledger counts as available or promised: free ones and those set aside, but for what is freed
    /// and not yet durably so.
    pub(super) fn unspent(&self) -> u64 {
        let aside = self.uncommitted.iter().copied().chain(self.withheld());
        self.free() + aside.map(Span::len).sum::<u64>()
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
        let windows = self.windows.iter().map(|(_, span)| *span);
        windows.chain(self.discarding)
    }

    /// Whether every cluster of `span` is free.
    pub(super) fn is_all_free(&self, span: Span) -> bool {
        self.seen(|runs| runs.is_all_free(span), true)
    }

    /// Whether every cluster of `span` is in use and committed.
    pub(super) fn is_committed(&self, span: Span) -> bool {
        let mut aside = self.uncommitted.iter().copied().chain(self.withheld());
        self.seen(|runs| runs.is_all_used(span), false)
            && !aside.any(|other| other.overlaps(span))
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

    // --- taken, promised --------------------------------------------------------------------------------

    /// Marks a free span as taken and uncommitted.
    pub(super) fn take(&mut self, span: Span) {
        self.change(|runs| runs.take(span));
        self.uncommitted.push(span);
    }

    /// A taken span becomes committed.
    pub(super) fn commit(&mut self, span: Span) {
        if let Some(at) = self.uncommitted.iter().rposition(|other| *other == span) {
            self.uncommitted.swap_remove(at);
        }
    }

    /// A taken span becomes free again.
    pub(super) fn cancel(&mut self, span: Span) {
        self.commit(span);
        self.clear(span);
    }

    /// Marks a free span as used, with nothing to commit.
    pub(super) fn claim(&mut self, span: Span) {
        self.change(|runs| runs.take(span));
    }

    /// Marks a span in use as free.
    pub(super) fn clear(&mut self, span: Span) {
        self.change(|runs| runs.give(span));
    }

    // --- windows ----------------------------------------------------------------------------------------

    /// Marks a free span as a window.
    pub(super) fn open_window(&mut self, id: WindowId, span: Span) {
        self.change(|runs| runs.take(span));
        self.windows.push((id, span));
    }

    /// Takes `span` out of a window, uncommitted; `false` if the window has ended meanwhile.
    pub(super) fn take_from_window(&mut self, id: WindowId, span: Span) -> bool {
        let holds = |(other, rest): &(WindowId, Span)| *other == id && rest.contains(span);
        let Some(at) = self.windows.iter().position(holds) else {
            return false;
        };
        let (_, rest) = self.windows.swap_remove(at);
        let [before, behind] = rest.without(span);
        let pieces = [before, behind].into_iter().filter(|piece| piece.len() > 0);
        self.windows.extend(pieces.map(|piece| (id, piece)));
        self.uncommitted.push(span);
        true
    }

    /// Makes what is left of a window free.
    pub(super) fn end_window(&mut self, id: WindowId) {
        let (ended, kept) = mem::take(&mut self.windows)
            .into_iter()
            .partition(|(other, _)| *other == id);
        self.windows = kept;
        self.clear_all(ended);
    }

    /// Makes what is left of all windows free.
    pub(super) fn end_windows(&mut self) {
        let ended = mem::take(&mut self.windows);
        self.clear_all(ended);
    }

    fn clear_all(&mut self, windows: Vec<(WindowId, Span)>) {
        for (_, span) in windows {
            self.clear(span);
        }
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
        let uncommitted = self.uncommitted.iter().copied();
        let mut aside: Vec<_> = uncommitted
            .chain(held_back)
            .chain(self.withheld())
            .collect();
        aside.sort_by_key(|span| span.start);
        **runs == runs.recounted()
            && aside.iter().all(|span| runs.is_all_used(*span))
            && aside.is_sorted_by(|one, next| one.end <= next.start)
    }

    /// Fences the group off, for good.
    pub(super) fn fence(&mut self) {
        self.windows.clear();
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
