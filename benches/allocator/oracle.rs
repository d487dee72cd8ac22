//! Does an allocator hand a block out twice, or lose one? A bitmap beside it knows. Any work can be done with an
//! allocator that is [`Checked`]; none of it is timed.

use parking_lot::Mutex;

use super::subject::{Append, Run, Stream, Subject, Taken};

/// An allocator, watched.
pub(crate) struct Checked<S> {
    subject: S,
    oracle: Mutex<Oracle>,
}

struct Oracle {
    used: Vec<bool>,
    free: u64,
    first_fault: Option<String>,
}

impl Oracle {
    /// Makes the blocks of `run` used or free; all must have been the other.
    fn set(&mut self, run: Run, used: bool) {
        let blocks = self.used.get_mut(run.start as usize..run.end() as usize);
        let Some(blocks) = blocks else {
            return self.fault(format!("{run:?} lies outside of the volume"));
        };
        if blocks.contains(&used) {
            let what = if used { "handed out" } else { "freed" };
            return self.fault(format!("a block of {run:?} is {what} twice"));
        }
        blocks.fill(used);
        self.free = if used {
            self.free - run.len
        } else {
            self.free + run.len
        };
    }

    fn fault(&mut self, what: String) {
        self.first_fault.get_or_insert(what);
    }
}

impl<S: Subject> Checked<S> {
    /// The first thing that was wrong, the counter of free blocks at this moment included.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let oracle = self.oracle.lock();
        let (counted, free) = (self.subject.free_blocks(), oracle.free);
        match &oracle.first_fault {
            Some(fault) => Err(fault.clone()),
            None if counted != free => Err(format!("{free} blocks are free, it counts {counted}")),
            None => Ok(()),
        }
    }

    /// Panics when something was wrong.
    pub(crate) fn expect_sound(&self) {
        if let Err(fault) = self.verdict() {
            panic!("{}: {fault}", S::NAME);
        }
    }

    /// The lengths of the free runs.
    pub(crate) fn free_runs(&self) -> Vec<u64> {
        let oracle = self.oracle.lock();
        let runs = oracle.used.chunk_by(|left, right| left == right);
        runs.filter(|run| !run[0])
            .map(|run| run.len() as u64)
            .collect()
    }

    fn taken(&self, asked: u64, taken: Option<S::Taken>) -> Option<S::Taken> {
        let mut oracle = self.oracle.lock();
        if let Some(taken) = taken {
            let run = taken.run();
            if run.len == 0 || run.len > asked {
                oracle.fault(format!("{run:?} instead of {asked} blocks"));
            }
            oracle.set(run, true);
        } else if oracle.free == oracle.used.len() as u64 {
            oracle.fault(format!("refuses {asked} blocks of an empty volume"));
        }
        taken
    }
}

impl<S: Subject> Subject for Checked<S> {
    const NAME: &'static str = S::NAME;
    const KNOWS_GOALS: bool = S::KNOWS_GOALS;
    const ANY_LENGTH: bool = S::ANY_LENGTH;
    type Taken = S::Taken;
    type Stream = CheckedStream<S>;

    fn new(blocks: u64) -> Self {
        let used = vec![false; blocks as usize];
        let oracle = Oracle {
            used,
            free: blocks,
            first_fault: None,
        };
        Self {
            subject: S::new(blocks),
            oracle: Mutex::new(oracle),
        }
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Self::Taken> {
        self.taken(blocks, self.subject.allocate(goal, blocks))
    }

    /// The oracle hears of it first: at once afterwards somebody else may have the blocks.
    fn free(&self, taken: Self::Taken) {
        self.oracle.lock().set(taken.run(), false);
        self.subject.free(taken);
    }

    fn free_blocks(&self) -> u64 {
        self.subject.free_blocks()
    }
}

/// A stream of an allocator that is watched.
pub(crate) struct CheckedStream<S: Subject>(S::Stream);

impl<S: Subject> Stream<Checked<S>> for CheckedStream<S> {
    fn open(file: u64, tail: Option<u64>) -> Self {
        Self(Stream::open(file, tail))
    }

    fn append(&mut self, checked: &Checked<S>, append: Append) -> Option<S::Taken> {
        assert!(append.logical + append.blocks <= append.size, "{append:?}");
        let taken = self.0.append(&checked.subject, append);
        checked.taken(append.blocks, taken)
    }

    fn close(self, checked: &Checked<S>) {
        self.0.close(&checked.subject);
    }
}
