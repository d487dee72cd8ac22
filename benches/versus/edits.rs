//! What writers do: endless series of overwrites in a data set without holes.

use std::collections::VecDeque;

use super::extents::{Run, STRIDE};
use super::numbers::Random;

/// How many extents are split at a time.
const OUTSTANDING: usize = 64;
/// Tags from here on are not in the data set.
const FRESH: u64 = 4;

/// One or two blocks inside an extent get another value, which makes three extents of one; later they get
/// their own back, which makes one of three.
pub(crate) fn split_and_merge(extents: u64) -> impl Iterator<Item = Run> {
    // Has no divisor in common with a power of ten: an extent comes again only after all others.
    const STEP: u64 = 61_843;
    let mut random = Random::default();
    let mut split = VecDeque::with_capacity(OUTSTANDING);
    let mut next = 0;
    std::iter::from_fn(move || {
        if split.len() == OUTSTANDING {
            return split.pop_front();
        }
        next = (next + STEP) % extents;
        let whole = Run::dense(next);
        let first = whole.first + 1 + random.below(STRIDE - 3);
        let part = whole.clip(first, first + random.below(2))?;
        split.push_back(part);
        Some(Run::tagged(FRESH, part.first, part.last))
    })
}

/// 1 to 64 blocks anywhere get another value; the number of extents stays about what it is.
pub(crate) fn overwrites(extents: u64) -> impl Iterator<Item = Run> {
    let mut random = Random::default();
    (0..).map(move |count: u64| {
        let first = random.below(extents * STRIDE - 64);
        Run::tagged(FRESH + count % 4096, first, first + random.below(64))
    })
}

/// A whole extent gets another value, with which it does not merge either.
pub(crate) fn flips(extents: u64) -> impl Iterator<Item = Run> {
    let mut random = Random::default();
    (0..).map(move |count: u64| {
        let index = random.below(extents);
        let Run { first, last, .. } = Run::dense(index);
        Run::tagged(FRESH + count % 4096 * 2 + index % 2, first, last)
    })
}

/// Extents in order that do not merge.
pub(crate) fn appends() -> impl Iterator<Item = Run> {
    (0..).map(Run::dense)
}

/// Extents in order that all become one.
pub(crate) fn merging_appends() -> impl Iterator<Item = Run> {
    appends().map(|run| Run::tagged(1, run.first, run.last))
}
