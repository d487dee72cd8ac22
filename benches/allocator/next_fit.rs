//! One bitmap under one lock: the first run that is long enough, from the goal or from where the last one
//! ended, once around the volume; else the longest.

use parking_lot::Mutex;

use super::subject::{Run, Subject, Tail};

pub(crate) struct NextFit(Mutex<Bitmap>);

struct Bitmap {
    /// A set bit is a block in use.
    words: Vec<u64>,
    blocks: u64,
    free: u64,
    /// Behind the run that was handed out last.
    cursor: u64,
}

impl Bitmap {
    /// The first block in `from..to` that is free (`FREE`) or in use; `to` if there is none.
    fn next<const FREE: bool>(&self, from: u64, to: u64) -> u64 {
        let sought = |word: u64| if FREE { !word } else { word };
        let mut ignored = !(u64::MAX << (from % 64));
        for index in from / 64..to.div_ceil(64) {
            let hits = sought(self.words[index as usize]) & !ignored;
            if hits != 0 {
                return to.min(index * 64 + u64::from(hits.trailing_zeros()));
            }
            ignored = 0;
        }
        to
    }

    /// The free run of up to `want` blocks from `start` on. Looks no further than it must.
    fn free_run(&self, start: u64, want: u64) -> Run {
        let to = self.blocks.min(start + want);
        Run::new(start, self.next::<false>(start, to) - start)
    }

    /// The first free run of `want` blocks in `from..to`, cut to `want`; else the longest one.
    fn first_fit(&self, from: u64, to: u64, want: u64) -> Run {
        let mut longest = Run::new(from, 0);
        let mut start = self.next::<true>(from, to);
        while start < to {
            let run = self.free_run(start, want);
            if run.len == want {
                return run;
            }
            if run.len > longest.len {
                longest = run;
            }
            start = self.next::<true>(run.end(), to.max(run.end()));
        }
        longest
    }

    fn find(&self, goal: Option<u64>, want: u64) -> Run {
        let from = goal.unwrap_or(self.cursor) % self.blocks;
        let at_goal = self.free_run(from, want);
        if goal.is_some() && at_goal.len > 0 {
            return at_goal;
        }
        let behind = self.first_fit(from, self.blocks, want);
        if behind.len == want {
            return behind;
        }
        let before = self.first_fit(0, from, want);
        if before.len > behind.len {
            before
        } else {
            behind
        }
    }

    /// Calls `change` with each word of `run` and the mask of its bits.
    fn change(&mut self, run: Run, change: impl Fn(&mut u64, u64)) {
        let mut start = run.start;
        while start < run.end() {
            let end = run.end().min((start / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - start))) << (start % 64);
            change(&mut self.words[(start / 64) as usize], mask);
            start = end;
        }
    }
}

impl Subject for NextFit {
    const NAME: &'static str = "Mutex<bitmap>, next fit";
    type Taken = Run;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        let words = vec![0; blocks.div_ceil(64) as usize];
        let (free, cursor) = (blocks, 0);
        Self(Mutex::new(Bitmap {
            words,
            blocks,
            free,
            cursor,
        }))
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Run> {
        let mut bitmap = self.0.lock();
        let run = bitmap.find(goal, blocks);
        bitmap.change(run, |word, mask| *word |= mask);
        bitmap.free -= run.len;
        bitmap.cursor = run.end();
        (run.len > 0).then_some(run)
    }

    fn free(&self, taken: Run) {
        let mut bitmap = self.0.lock();
        bitmap.change(taken, |word, mask| *word &= !mask);
        bitmap.free += taken.len;
    }

    fn free_blocks(&self) -> u64 {
        self.0.lock().free
    }
}
