//! How an ordered map keeps extents, keyed by their first block: one way to overwrite a range for all of
//! them, and the ordered map of the standard library.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::extents::Run;

pub(crate) type Runs = SmallVec<[Run; 8]>;

/// An ordered map of runs.
pub(crate) trait Ordered {
    /// The run that starts at or before `block`, nearest to it.
    fn at_or_before(&self, block: u64) -> Option<Run>;

    /// The runs that overlap or touch `first..=last`, in order.
    fn touching(&self, first: u64, last: u64) -> Runs;

    /// Puts the run in place of the one with the same first block, if there is one.
    fn insert(&mut self, run: Run);

    /// Removes the run that starts with `first`.
    fn remove(&mut self, first: u64);

    fn find(&self, block: u64) -> Option<Run> {
        self.at_or_before(block).filter(|run| block <= run.last)
    }

    /// Overwrites `first..=last`, or leaves a hole there, with as few changes of the map as possible.
    fn replace(&mut self, first: u64, last: u64, value: Option<u64>) {
        let old = self.touching(first, last);
        let new = replaced(&old, first, last, value);
        // New runs from the right, then dead ones from the left: as long as the map itself replaces a run
        // in one step, a reader beside it always finds some run for a mapped block.
        for run in new.iter().rev().filter(|run| !old.contains(run)) {
            self.insert(*run);
        }
        for run in &old {
            if !new.iter().any(|kept| kept.first == run.first) {
                self.remove(run.first);
            }
        }
    }
}

/// What becomes of the runs that touch `first..=last` when that is overwritten.
pub(crate) fn replaced(old: &[Run], first: u64, last: u64, value: Option<u64>) -> Runs {
    let left = first
        .checked_sub(1)
        .and_then(|end| old.first()?.clip(0, end));
    let middle = value.map(|value| Run { first, last, value });
    let right = last
        .checked_add(1)
        .and_then(|start| old.last()?.clip(start, u64::MAX));
    let mut new = Runs::new();
    for run in [left, middle, right].into_iter().flatten() {
        match new.last_mut() {
            Some(before) if before.merges(&run) => before.last = run.last,
            _ => new.push(run),
        }
    }
    new
}

/// Last block and value by first block.
pub(crate) type Tree = BTreeMap<u64, (u64, u64)>;

impl Ordered for Tree {
    #[inline(always)]
    fn at_or_before(&self, block: u64) -> Option<Run> {
        self.range(..=block).next_back().map(run)
    }

    fn touching(&self, first: u64, last: u64) -> Runs {
        let runs = self.range(..=last.saturating_add(1)).rev().map(run);
        let mut runs: Runs = runs
            .take_while(|run| run.last.saturating_add(1) >= first)
            .collect();
        runs.reverse();
        runs
    }

    fn insert(&mut self, run: Run) {
        self.insert(run.first, (run.last, run.value));
    }

    fn remove(&mut self, first: u64) {
        self.remove(&first);
    }
}

/// An entry of an ordered map as a run.
#[inline(always)]
pub(crate) fn run((&first, &(last, value)): (&u64, &(u64, u64))) -> Run {
    Run { first, last, value }
}
