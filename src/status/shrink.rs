//! Forgetting entries that can be read again.
//!
//! The clock algorithm with second chance (Corbató 1968), as ext4 uses it for its status trees.

use std::collections::VecDeque;
use std::sync::Weak;

use smallvec::SmallVec;

use super::{StatusEditor, StatusExtent, StatusTree};
use crate::probe::Mutation;
use crate::stats::Counter;
use crate::sync::{Arc, Mutex, Rank};
use crate::units::{FileBlock, FileRange};

/// What a shrinker run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ShrinkOutcome {
    /// How many entries were looked at.
    pub scanned: u64,
    /// How many of them were dropped.
    pub reclaimed: u64,
}

impl StatusEditor<'_> {
    /// Looks at up to `max_scan` entries and drops those not used since the last time they were
    /// looked at. Not a change.
    ///
    /// Goes on where the last run ended and wraps around once. Delayed entries always stay. A
    /// lookup of what was dropped answers that nothing is known.
    pub fn shrink(&mut self, max_scan: u64) -> ShrinkOutcome {
        let cursor = FileBlock(self.state.cursor);
        let mut outcome = self.sweep(FileRange::starting_at(cursor), max_scan);
        if outcome.scanned < max_scan {
            let rest = self.sweep(
                FileRange::new(FileBlock(0), cursor),
                max_scan - outcome.scanned,
            );
            outcome.scanned += rest.scanned;
            outcome.reclaimed += rest.reclaimed;
        }
        outcome
    }

    /// Drops the entries that are not delayed and that `drop` chooses; how many. Not a change.
    pub fn shrink_where(&mut self, mut drop: impl FnMut(StatusExtent) -> bool) -> u64 {
        self.forget(FileRange::starting_at(FileBlock(0)), &mut drop)
    }

    /// Looks at up to `max_scan` entries that start in `range`, which ends where the sweep before
    /// began or where the file does.
    fn sweep(&mut self, range: FileRange, max_scan: u64) -> ShrinkOutcome {
        let max_scan = usize::try_from(max_scan).unwrap_or(usize::MAX);
        let starts = self
            .extents(range)
            .filter(|extent| range.contains(extent.range.start()));
        let scanned: SmallVec<[FileRange; 64]> =
            starts.take(max_scan).map(|extent| extent.range).collect();
        let (Some(first), Some(last)) = (scanned.first(), scanned.last()) else {
            return ShrinkOutcome::default();
        };
        self.state.cursor = last.end().0;
        let (hints, tree) = (&self.tree.context.hints, self.tree.id);
        let swept = FileRange::new(first.start(), last.end());
        let mut unused = |extent: StatusExtent| !hints.take(tree, extent.range.start().0);
        let reclaimed = self.forget(swept, &mut unused);
        ShrinkOutcome {
            scanned: scanned.len() as u64,
            reclaimed,
        }
    }

    /// Drops the entries in `range`, which cuts none, that are not delayed and that `drop` chooses.
    fn forget(&mut self, range: FileRange, drop: &mut impl FnMut(StatusExtent) -> bool) -> u64 {
        let mut dropped = 0;
        let all = self.tree.context.probe.is(Mutation::ForgetDelayed);
        self.counted(range, |map| {
            map.update(range.start().0..range.end().0, |extent| {
                let must_stay = extent.value().is_delayed() && !all;
                let stays = must_stay || !drop(extent.into());
                dropped += u64::from(!stays);
                stays.then(|| extent.value())
            })
        });
        self.tree
            .context
            .counters
            .add(Counter::StatusShrunk, dropped);
        dropped
    }
}

/// The trees of a volume, taking turns in giving memory back.
#[derive(Debug)]
pub struct ShrinkerList {
    /// The next one first. Trees that are gone stay until their turn.
    trees: Mutex<VecDeque<Weak<StatusTree>>>,
}

impl Default for ShrinkerList {
    fn default() -> Self {
        Self {
            trees: Mutex::new(Rank::Shrinker, VecDeque::new()),
        }
    }
}

impl ShrinkerList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tree, which leaves by itself when it is dropped.
    pub fn register(&self, tree: &Arc<StatusTree>) {
        self.trees.lock().push_back(Arc::downgrade(tree));
    }

    /// Looks at up to `max_scan` entries, tree by tree, going on where the last call ended.
    ///
    /// Each tree gets one turn at most; a tree that somebody is editing loses its. Precached trees
    /// are only asked when the others gave nothing. Waits for other calls on this list, never for a
    /// tree's writer.
    pub fn shrink(&self, max_scan: u64) -> ShrinkOutcome {
        let mut trees = self.trees.lock();
        let mut outcome = round(&mut trees, max_scan, false);
        if outcome.reclaimed == 0 {
            // Not the others again: what was used lately has just lost the hint that says so.
            let rest = round(&mut trees, max_scan - outcome.scanned, true);
            outcome.scanned += rest.scanned;
            outcome.reclaimed = rest.reclaimed;
        }
        outcome
    }
}

/// One turn for each tree that is precached, or for each that is not.
fn round(trees: &mut VecDeque<Weak<StatusTree>>, max_scan: u64, precached: bool) -> ShrinkOutcome {
    let mut outcome = ShrinkOutcome::default();
    for _ in 0..trees.len() {
        if outcome.scanned >= max_scan {
            break;
        }
        let Some(entry) = trees.pop_front() else {
            break;
        };
        let Some(tree) = entry.upgrade() else {
            continue;
        };
        trees.push_back(entry);
        if tree.reclaimable_count() == 0 {
            continue;
        }
        let Some(mut editor) = tree.try_edit() else {
            continue;
        };
        if editor.state.precached != precached {
            continue;
        }
        let turn = editor.shrink(max_scan - outcome.scanned);
        outcome.scanned += turn.scanned;
        outcome.reclaimed += turn.reclaimed;
    }
    outcome
}
