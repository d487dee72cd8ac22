//! Is a history linearizable?
//!
//! It is if each read can be given a state `k` (that after `k` edits) such that its facts are true
//! of state `k`, at least all edits that were over before the read began are in, at most those that
//! began before it was over are in, and no read gets an earlier state than one that was over before
//! it began.
//!
//! Greedy: in the order of their ends, each read gets the earliest state that is allowed. By
//! induction no valid assignment gives any read an earlier state: what bounds a read from below
//! are edits and reads that come before it in this order, and these got their earliest; what
//! bounds it from above are edits alone. Hence if the greedy choice fails for a read, every
//! assignment does; and if it never fails, it is one.

use std::fmt;

use super::{Edit, Fact, History, Read, Span, States, Tile};

/// Why a history is not linearizable.
#[derive(Clone, Debug)]
pub(crate) enum Violation {
    /// No state fits what a read saw.
    Read {
        span: Span,
        facts: Vec<Fact>,
        /// The states that it could have seen.
        earliest: usize,
        latest: usize,
        /// The edits between these.
        edits: Vec<Edit>,
    },
    /// An edit replaced something else than it said.
    Replaced {
        number: usize,
        edit: Edit,
        expected: Vec<Tile>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read {
                span,
                facts,
                earliest,
                latest,
                edits,
            } => {
                write!(
                    f,
                    "{span:?} saw no state of {earliest}..={latest}: {facts:?}"
                )?;
                edits.iter().take(16).try_for_each(|edit| {
                    let (first, last, change) = (edit.first, edit.last, edit.change);
                    write!(f, "\n  {:?} {change:x?} in {first}..={last}", edit.span)
                })
            }
            Self::Replaced {
                number,
                edit,
                expected,
            } => write!(f, "edit {number} replaced {expected:?}: {edit:?}"),
        }
    }
}

/// Finds out whether `history` is linearizable, and whether each edit replaced what it said.
pub(crate) fn check(history: &History) -> Result<(), Box<Violation>> {
    let mut states = States::new(history.space);
    for (number, edit) in history.edits.iter().enumerate() {
        let expected = states.edit(edit.first, edit.last, edit.change);
        if edit.replaced != expected {
            return Err(Box::new(Violation::Replaced {
                number,
                edit: edit.clone(),
                expected,
            }));
        }
    }

    let mut reads: Vec<(&Read, &[Fact])> = Vec::new();
    for thread in &history.reads {
        for read in &thread.reads {
            reads.push((read, &thread.facts[read.facts.clone()]));
        }
    }
    reads.sort_unstable_by_key(|(read, _)| read.span.end);

    let edits = &history.edits;
    // The latest state that any of the first so many reads got.
    let mut latest_of: Vec<usize> = vec![0];
    for (read, facts) in &reads {
        let Span { start, end } = read.span;
        let over = reads[..latest_of.len() - 1].partition_point(|(read, _)| read.span.end < start);
        let earliest = edits
            .partition_point(|edit| edit.span.end < start)
            .max(latest_of[over]);
        let latest = edits.partition_point(|edit| edit.span.start < end);
        let Some(state) = states.first(facts, earliest, latest) else {
            return Err(Box::new(Violation::Read {
                span: read.span,
                facts: facts.to_vec(),
                earliest,
                latest,
                edits: edits.get(earliest..latest).unwrap_or_default().to_vec(),
            }));
        };
        latest_of.push(state.max(*latest_of.last().expect("it is never empty")));
    }
    Ok(())
}
