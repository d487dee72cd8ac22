//! The free runs in two trees under one lock, by place and by length, as XFS keeps them: at the goal if that is
//! free, else the shortest run that is long enough, else the longest. Of equally long runs, the first.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::subject::{Run, Subject, Tail};

pub(crate) struct BestFit(Mutex<Trees>);

#[derive(Default)]
struct Trees {
    /// Length by start.
    by_start: BTreeMap<u64, u64>,
    /// Length and start.
    by_length: BTreeSet<(u64, u64)>,
    free: u64,
}

impl Trees {
    fn insert(&mut self, run: Run) {
        self.by_start.insert(run.start, run.len);
        self.by_length.insert((run.len, run.start));
    }

    fn remove(&mut self, run: Run) {
        self.by_start.remove(&run.start);
        self.by_length.remove(&(run.len, run.start));
    }

    /// The free run that holds `block`.
    fn around(&self, block: u64) -> Option<Run> {
        let (start, len) = self.by_start.range(..=block).next_back()?;
        let run = Run::new(*start, *len);
        (block < run.end()).then_some(run)
    }

    /// The free run to take from, and the block to take from on.
    fn find(&self, goal: Option<u64>, want: u64) -> Option<(Run, u64)> {
        if let Some(goal) = goal
            && let Some(run) = self.around(goal)
        {
            return Some((run, goal));
        }
        let mut fitting = self.by_length.range((want, 0)..);
        let (len, start) = fitting.next().or_else(|| self.by_length.last())?;
        Some((Run::new(*start, *len), *start))
    }

    fn take(&mut self, goal: Option<u64>, want: u64) -> Option<Run> {
        let (free, start) = self.find(goal, want)?;
        let taken = Run::new(start, want.min(free.end() - start));
        self.remove(free);
        let before = Run::new(free.start, start - free.start);
        let behind = Run::new(taken.end(), free.end() - taken.end());
        for rest in [before, behind] {
            if rest.len > 0 {
                self.insert(rest);
            }
        }
        self.free -= taken.len;
        Some(taken)
    }

    fn give(&mut self, mut run: Run) {
        self.free += run.len;
        let before = run
            .start
            .checked_sub(1)
            .and_then(|block| self.around(block));
        for neighbour in [before, self.around(run.end())].into_iter().flatten() {
            self.remove(neighbour);
            run = Run::new(run.start.min(neighbour.start), run.len + neighbour.len);
        }
        self.insert(run);
    }
}

impl Subject for BestFit {
    const NAME: &'static str = "two BTrees, best fit";
    type Taken = Run;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        let mut trees = Trees::default();
        trees.give(Run::new(0, blocks));
        Self(Mutex::new(trees))
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Run> {
        self.0.lock().take(goal, blocks)
    }

    fn free(&self, taken: Run) {
        self.0.lock().give(taken);
    }

    fn free_blocks(&self) -> u64 {
        self.0.lock().free
    }
}
