//! Histories: what threads did to a map, what they saw, and whether that is linearizable.
//!
//! Writers take turns, and note when an edit began and ended while they have the lock. So the order of edits
//! is known, and all states can be computed afterwards on a plain model ([`states`]). What remains is
//! to find for each read a state that fits ([`check`]). [`record`] makes histories.

mod check;
mod record;
mod states;

pub(crate) use check::{Violation, check};
pub(crate) use record::{MIXES, Mix, record};
pub(crate) use states::{Change, Fact, States, Tile};

use std::ops::Range;

/// When something began and when it was over, in ticks of a clock that all threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// One edit and what it said that it replaced.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) span: Span,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) change: Change,
    pub(crate) replaced: Vec<Tile>,
}

/// One read: its facts must all be true of one state.
#[derive(Clone, Debug)]
struct Read {
    span: Span,
    facts: Range<usize>,
}

/// The reads of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    reads: Vec<Read>,
    /// Those of all reads, one behind the other.
    facts: Vec<Fact>,
}

impl Reads {
    /// Adds a read.
    pub(crate) fn push(&mut self, span: Span, facts: impl IntoIterator<Item = Fact>) {
        let from = self.facts.len();
        self.facts.extend(facts);
        self.reads.push(Read {
            span,
            facts: from..self.facts.len(),
        });
    }
}

/// What happened to a map that was empty at first.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Only blocks below this one are edited.
    pub(crate) space: u64,
    /// In the order in which they had the lock.
    pub(crate) edits: Vec<Edit>,
    /// By thread.
    pub(crate) reads: Vec<Reads>,
}

impl History {
    /// How many operations it has.
    pub(crate) fn operations(&self) -> usize {
        let reads: usize = self.reads.iter().map(|thread| thread.reads.len()).sum();
        reads + self.edits.len()
    }
}
