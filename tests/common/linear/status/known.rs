//! What a status tree knows, one slot for each block: deliberately slow and obvious.

use std::collections::BTreeSet;

use extent_map::Error;
use extent_map::map::Value;
use extent_map::status::{Status, StatusExtent};
use extent_map::units::{FileBlock, FileRange};

/// A tree as its documentation describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    slots: Vec<Option<Status>>,
    pending: BTreeSet<u64>,
    pub(super) changes: u64,
    /// Blocks in one cluster.
    ratio: u64,
}

impl Known {
    pub(super) fn nothing(blocks: u64, ratio: u64) -> Self {
        Self {
            slots: vec![None; blocks as usize],
            pending: BTreeSet::new(),
            changes: 0,
            ratio,
        }
    }

    /// All entries, maximal ones, in order.
    pub(super) fn entries(&self) -> Vec<StatusExtent> {
        let mut entries = Vec::<StatusExtent>::new();
        for (block, slot) in (0..).zip(&self.slots) {
            let Some(status) = *slot else { continue };
            let range = FileRange::at(FileBlock(block), 1);
            let next = StatusExtent { range, status };
            match entries.last_mut().map(|last| (last.join(next), last)) {
                Some((Some(joined), last)) => *last = joined,
                _ => entries.push(next),
            }
        }
        entries
    }

    /// The entries that have a block in `range`.
    pub(super) fn entries_in(&self, range: FileRange) -> Vec<StatusExtent> {
        let mut entries = self.entries();
        entries.retain(|entry| !entry.range.intersect(range).is_empty());
        entries
    }

    pub(super) fn entry(&self, block: FileBlock) -> Option<StatusExtent> {
        self.entries_in(FileRange::at(block, 1)).pop()
    }

    /// Puts one status, or nothing, in place of whatever is known; how many reserved clusters that releases.
    pub(super) fn put(&mut self, range: FileRange, status: Option<Status>) -> u64 {
        let last = range.end().0 - 1;
        let clusters = range.start().0 / self.ratio..=last / self.ratio;
        let delayed = clusters.filter(|cluster| self.has_delayed(*cluster));
        let delayed: Vec<u64> = delayed.collect();
        self.fill(range, status);
        let is_allocated = status.is_some_and(Status::is_allocated);
        let mut released = 0;
        for cluster in delayed {
            let was_pending = self.pending.remove(&cluster);
            let is_delayed = self.has_delayed(cluster);
            if is_delayed && (was_pending || is_allocated) {
                self.pending.insert(cluster);
            }
            released += u64::from(!was_pending && (is_allocated || !is_delayed));
        }
        released
    }

    /// Delays blocks; `first` and `last` say whether these clusters are allocated.
    pub(super) fn delay(&mut self, range: FileRange, first: bool, last: bool) -> Result<(), Error> {
        let from = range.start().0 / self.ratio;
        let to = (range.end().0 - 1) / self.ratio;
        if last && from == to {
            return Err(Error::InvalidInput("one cluster"));
        }
        let known = self.entries_in(range);
        if known.iter().any(|entry| !entry.status.is_hole()) {
            return Err(Error::Corrupt("not a hole"));
        }
        self.fill(range, Some(Status::Delayed));
        if self.ratio > 1 {
            self.pending.extend(first.then_some(from));
            self.pending.extend(last.then_some(to));
        }
        Ok(())
    }

    /// Remembers what was read; whether nothing was known.
    pub(super) fn cache(&mut self, range: FileRange, status: Status) -> bool {
        let is_new = self.entries_in(range).is_empty();
        if is_new {
            self.fill(range, Some(status));
        }
        is_new
    }

    /// Forgets entries that are not delayed and that `drop` picks; how many.
    pub(super) fn shrink(&mut self, drop: impl Fn(StatusExtent) -> bool) -> u64 {
        let mut dropped = 0;
        for entry in self.entries() {
            if !entry.status.is_delayed() && drop(entry) {
                self.fill(entry.range, None);
                dropped += 1;
            }
        }
        dropped
    }

    pub(super) fn is_pending(&self, cluster: u64) -> bool {
        self.pending.contains(&cluster)
    }

    pub(super) fn pending_count(&self) -> u64 {
        self.pending.len() as u64
    }

    pub(super) fn take_pending(&mut self, cluster: u64) -> bool {
        self.pending.remove(&cluster)
    }

    fn fill(&mut self, range: FileRange, status: Option<Status>) {
        for block in range.blocks() {
            let by = block.0 - range.start().0;
            self.slots[block.0 as usize] = status.map(|status| status.advance(by));
        }
    }

    fn has_delayed(&self, cluster: u64) -> bool {
        let slots = self.slots.chunks(self.ratio as usize).nth(cluster as usize);
        slots.is_some_and(|slots| slots.contains(&Some(Status::Delayed)))
    }
}
