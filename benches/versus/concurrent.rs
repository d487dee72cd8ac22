//! Maps whose readers take no lock. Except for [`ArcSwap`] an overwrite is several steps of theirs, so writers
//! take a lock beside the map, and a reader may meet an overwrite half done.

use std::ops::Bound;

use arc_swap::ArcSwap;
use concurrent_map::ConcurrentMap;
use crossbeam_skiplist::SkipMap;
use masstree::{MassTree15, RangeBound};
use parking_lot::Mutex;
use scc::tree_index::Proximity;
use scc::{Guard, TreeIndex};

use super::extents::{Extents, Run};
use super::ordered::{Ordered, Runs, replaced, run};

/// A map for any number of readers, and the lock of its writers.
#[derive(Default)]
pub(crate) struct Shared<M> {
    map: M,
    writer: Mutex<()>,
}

pub(crate) type SharedSkipMap = Shared<SkipMap<u64, (u64, u64)>>;
pub(crate) type SharedTreeIndex = Shared<TreeIndex<u64, (u64, u64)>>;
pub(crate) type SharedConcurrentMap = Shared<ConcurrentMap<u64, (u64, u64)>>;
pub(crate) type SharedMassTree = Shared<MassTree15<(u64, u64)>>;

macro_rules! extents_by_ordered_map {
    ($map:ty, $name:literal) => {
        impl Extents for $map {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn reader(&self) -> impl Fn(u64) -> Option<Run> {
                |block| (&self.map).find(block)
            }

            fn replace(&self, first: u64, last: u64, value: Option<u64>) {
                let _writer = self.writer.lock();
                (&self.map).replace(first, last, value);
            }
        }
    };
}

extents_by_ordered_map!(SharedSkipMap, "crossbeam SkipMap");
extents_by_ordered_map!(SharedTreeIndex, "scc TreeIndex");
extents_by_ordered_map!(SharedConcurrentMap, "concurrent-map");

impl Extents for SharedMassTree {
    const NAME: &'static str = "masstree";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        let nearest = nearest(&self.map);
        move |block| nearest(block).filter(|run| block <= run.last)
    }

    /// Does not call `process_coalesce` for leaves that became empty: beside a reader it leaves a tree in
    /// which scans loop for ever.
    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        let _writer = self.writer.lock();
        (&self.map).replace(first, last, value);
    }
}

/// The run before `first`, if it reaches so far, and those that start behind it.
fn reaching(first: u64, before: Option<Run>, starting: impl Iterator<Item = Run>) -> Runs {
    let before = before.filter(|run| reaches(run, first));
    before.into_iter().chain(starting).collect()
}

/// Whether `run`, which starts before `first`, reaches up to it.
fn reaches(run: &Run, first: u64) -> bool {
    run.first < first && run.last.saturating_add(1) >= first
}

impl Ordered for &SkipMap<u64, (u64, u64)> {
    #[inline(always)]
    fn at_or_before(&self, block: u64) -> Option<Run> {
        let entry = self.upper_bound(Bound::Included(&block))?;
        Some(run((entry.key(), entry.value())))
    }

    /// Steps from entry to entry: its range iterator leaks.
    fn touching(&self, first: u64, last: u64) -> Runs {
        let before = self.upper_bound(Bound::Excluded(&first));
        let mut next = match &before {
            Some(entry) => entry.next(),
            None => self.front(),
        };
        let mut runs = Runs::new();
        runs.extend(before.map(|entry| run((entry.key(), entry.value()))));
        runs.retain(|run| reaches(run, first));
        while let Some(entry) = next.filter(|entry| *entry.key() <= last.saturating_add(1)) {
            runs.push(run((entry.key(), entry.value())));
            next = entry.next();
        }
        runs
    }

    fn insert(&mut self, run: Run) {
        SkipMap::insert(self, run.first, (run.last, run.value));
    }

    fn remove(&mut self, first: u64) {
        SkipMap::remove(self, &first);
    }
}

impl Ordered for &TreeIndex<u64, (u64, u64)> {
    /// By `locate`: stepping back from the end of a range does not always find what is there.
    #[inline(always)]
    fn at_or_before(&self, block: u64) -> Option<Run> {
        let guard = Guard::new();
        match self.locate(&block, &guard) {
            Proximity::Exact(at) | Proximity::Between(at) => at.get().map(run),
            Proximity::Smaller(at) => at.get_back().map(run),
            Proximity::Larger(_) | Proximity::Empty => None,
        }
    }

    fn touching(&self, first: u64, last: u64) -> Runs {
        let guard = Guard::new();
        let before = first
            .checked_sub(1)
            .and_then(|block| self.at_or_before(block));
        let starting = self.range(first..=last.saturating_add(1), &guard).map(run);
        reaching(first, before, starting)
    }

    fn insert(&mut self, run: Run) {
        self.upsert_sync(run.first, (run.last, run.value));
    }

    fn remove(&mut self, first: u64) {
        self.remove_sync(&first);
    }
}

impl Ordered for &ConcurrentMap<u64, (u64, u64)> {
    #[inline(always)]
    fn at_or_before(&self, block: u64) -> Option<Run> {
        self.get_lte(&block)
            .map(|(first, rest)| run((&first, &rest)))
    }

    fn touching(&self, first: u64, last: u64) -> Runs {
        let before = self
            .get_lt(&first)
            .map(|(first, rest)| run((&first, &rest)));
        let starting = self
            .range(first..=last.saturating_add(1))
            .map(|(first, rest)| run((&first, &rest)));
        reaching(first, before, starting)
    }

    fn insert(&mut self, run: Run) {
        ConcurrentMap::insert(self, run.first, (run.last, run.value));
    }

    fn remove(&mut self, first: u64) {
        ConcurrentMap::remove(self, &first);
    }
}

/// The key of a run that starts with `first`: its complement, because backwards the map finds nothing from a
/// leaf that became empty. Forwards from the complement of a block is backwards from the block.
fn key(first: u64) -> [u8; 8] {
    (!first).to_be_bytes()
}

/// An entry of the map as a run.
#[inline(always)]
fn keyed_run(key: &[u8], rest: &(u64, u64)) -> Run {
    let key = key.try_into().expect("a key is eight bytes");
    run((&!u64::from_be_bytes(key), rest))
}

/// Finds the run that starts at or before a block, nearest to it; keeps the guard from call to call. By the
/// fastest scan of those that check each entry before they show it.
#[inline(always)]
fn nearest(map: &MassTree15<(u64, u64)>) -> impl Fn(u64) -> Option<Run> {
    let guard = map.guard();
    move |block| {
        let mut found = None;
        let show = |key: &[u8], rest: &_| {
            found = Some(keyed_run(key, rest));
            false
        };
        let from = RangeBound::Included(&key(block));
        let _shown = map.scan_batch_ref(from, RangeBound::Unbounded, show, &guard);
        found
    }
}

impl Ordered for &MassTree15<(u64, u64)> {
    #[inline(always)]
    fn at_or_before(&self, block: u64) -> Option<Run> {
        nearest(self)(block)
    }

    fn touching(&self, first: u64, last: u64) -> Runs {
        let mut runs = Runs::new();
        let show = |key: &[u8], rest: &_| {
            let run = keyed_run(key, rest);
            let touches = run.last.saturating_add(1) >= first;
            runs.extend(touches.then_some(run));
            touches
        };
        let from = RangeBound::Included(&key(last.saturating_add(1)));
        let _shown = self.scan_batch_ref(from, RangeBound::Unbounded, show, &self.guard());
        runs.reverse();
        runs
    }

    fn insert(&mut self, run: Run) {
        MassTree15::insert(self, &key(run.first), (run.last, run.value));
    }

    fn remove(&mut self, first: u64) {
        MassTree15::remove(self, &key(first)).expect("writers do not meet");
    }
}

/// A sorted array that each overwrite copies.
#[derive(Default)]
pub(crate) struct CopiedArray {
    runs: ArcSwap<Vec<Run>>,
    writer: Mutex<()>,
}

impl Extents for CopiedArray {
    const NAME: &'static str = "ArcSwap<Vec>";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        |block| {
            let runs = self.runs.load();
            let after = runs.partition_point(|run| run.first <= block);
            let run = runs[after.checked_sub(1)?];
            (block <= run.last).then_some(run)
        }
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        let _writer = self.writer.lock();
        let runs = self.runs.load();
        let from = runs.partition_point(|run| run.last.saturating_add(1) < first);
        let to = runs.partition_point(|run| run.first <= last.saturating_add(1));
        let new = replaced(&runs[from..to], first, last, value);
        self.runs
            .store([&runs[..from], &new, &runs[to..]].concat().into());
    }

    fn fill(&mut self, runs: impl Iterator<Item = Run>) {
        let mut runs: Vec<Run> = runs.collect();
        runs.sort_by_key(|run| run.first);
        self.runs.store(runs.into());
    }
}
