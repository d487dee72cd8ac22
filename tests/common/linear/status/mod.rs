//! The extent status tree of one file, used by many threads.

mod known;
mod rules;
mod scripts;

use extent_map::status::{
    Accounting, CacheOutcome, Status, StatusContext, StatusExtent, StatusTree,
};
use extent_map::units::{ClusterRatio, FileBlock, FileRange};
use extent_map::{Error, Result};

use super::{Done, Subject, Verdict, judge, record};
use known::Known;

/// Blocks that scripts use.
const BLOCKS: u64 = 16;

/// All blocks that scripts use.
pub(crate) fn everything() -> FileRange {
    FileRange::at(FileBlock(0), BLOCKS)
}

/// What can be done to a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Lookup(FileBlock),
    Entries(FileRange),
    /// The first entry of the kind that this status has.
    Find(FileRange, Status),
    Changes,
    /// A look, and later a second one under the lock: is it still so?
    LookAgain(FileBlock),
    Insert(FileRange, Status),
    Remove(FileRange),
    Delay(FileRange, bool, bool),
    Cache(FileRange, Status),
    /// Forgets entries that begin at even or at odd blocks.
    Shrink(u64),
    Clear,
    IsPending(u64),
    PendingCount,
    TakePending(u64),
    /// Looks, inserts and looks again under one lock.
    Exchange(FileRange, Status),
    /// How many entries there are, and how many can be forgotten; only alone.
    Counts,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Is(bool),
    Number(u64),
    Entry(Option<StatusExtent>),
    Entries(Vec<StatusExtent>),
    Looked {
        entry: Option<StatusExtent>,
        changes: u64,
        valid: bool,
    },
    Exchanged {
        before: Vec<StatusExtent>,
        released: u64,
        after: Vec<StatusExtent>,
    },
    Counts(u64, u64),
    /// With this errno.
    Failed(i32),
}

/// Whether `status` is of the kind of `kind`, wherever it lives.
fn is_kind(status: Status, kind: Status) -> bool {
    std::mem::discriminant(&status) == std::mem::discriminant(&kind)
}

fn try_call(tree: &StatusTree, call: &Call) -> Result<Answer> {
    let number = |accounting: Accounting| Answer::Number(accounting.released);
    Ok(match *call {
        Call::Lookup(block) => Answer::Entry(tree.lookup(block)),
        Call::Entries(range) => Answer::Entries(tree.extents(range)),
        Call::Find(range, kind) => {
            Answer::Entry(tree.find_range(range, |status| is_kind(status, kind)))
        }
        Call::Changes => Answer::Number(tree.change_counter()),
        Call::LookAgain(block) => {
            let look = tree.look(block);
            crate::thread::yield_now();
            Answer::Looked {
                entry: look.extent(),
                changes: look.change_counter(),
                valid: tree.edit().revalidate(&look),
            }
        }
        Call::Insert(range, status) => number(tree.insert(range, status)?),
        Call::Remove(range) => number(tree.remove(range)?),
        Call::Delay(range, first, last) => {
            tree.insert_delayed(range, first, last)?;
            Answer::Done
        }
        Call::Cache(range, status) => {
            Answer::Is(tree.cache(range, status)? == CacheOutcome::Inserted)
        }
        Call::Shrink(parity) => {
            Answer::Number(tree.shrink_where(|entry| entry.range.start().0 % 2 == parity))
        }
        Call::Clear => Answer::Number(tree.clear()),
        Call::IsPending(cluster) => Answer::Is(tree.is_pending(cluster)),
        Call::PendingCount => Answer::Number(tree.pending_count()),
        Call::TakePending(cluster) => Answer::Is(tree.take_pending(cluster)),
        Call::Exchange(range, status) => {
            let mut editor = tree.edit();
            Answer::Exchanged {
                before: editor.extents(range).collect(),
                released: editor.insert(range, status)?.released,
                after: editor.extents(range).collect(),
            }
        }
        Call::Counts => Answer::Counts(tree.entry_count(), tree.reclaimable_count()),
    })
}

impl Subject for StatusTree {
    type Call = Call;
    type Answer = Answer;

    fn call(&self, call: &Call) -> Answer {
        let failed = |error: Error| Answer::Failed(error.errno());
        try_call(self, call).unwrap_or_else(failed)
    }
}

/// What a round of threads does to a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Blocks in one cluster.
    pub(crate) ratio: u64,
    pub(crate) threads: usize,
    /// Calls of each thread.
    pub(crate) calls: usize,
}

impl Plan {
    /// What is usually done.
    pub(crate) fn of(ratio: u64) -> Self {
        Self {
            ratio,
            threads: 4,
            calls: 8,
        }
    }

    /// One round; how many calls there were, and what is to be said about them.
    pub(crate) fn round(&self, seed: u64) -> (usize, Verdict) {
        self.round_of(seed, |tree| tree)
    }

    /// The same, where threads use what `wrap` makes of the tree.
    pub(crate) fn round_of<W>(
        &self,
        seed: u64,
        wrap: impl FnOnce(StatusTree) -> W,
    ) -> (usize, Verdict)
    where
        W: Subject<Call = Call, Answer = Answer>,
    {
        let subject = wrap(self.empty_tree());
        let history = record(&subject, &scripts::script(self, seed));
        (history.len(), self.judge(&history))
    }

    /// What was done in a round.
    pub(crate) fn record(&self, seed: u64) -> Vec<Done<Call, Answer>> {
        record(&self.empty_tree(), &scripts::script(self, seed))
    }

    /// What is to be said about it.
    pub(crate) fn judge(&self, history: &[Done<Call, Answer>]) -> Verdict {
        judge(Known::nothing(BLOCKS, self.ratio), history, rules::parts)
    }

    fn empty_tree(&self) -> StatusTree {
        let cluster = ClusterRatio::new(self.ratio).expect("a power of two");
        StatusTree::new(&StatusContext::new(cluster))
    }
}
