//! Before anything is timed: does a candidate answer right? It replays random overwrites beside a table of
//! single blocks.

use super::extents::{Extents, Run};
use super::numbers::Random;

const OPERATIONS: u64 = 20_000;
/// Operations between two comparisons of the whole map.
const BETWEEN: u64 = 1_000;
const BLOCKS: u64 = 4_096;

/// Panics when the candidate and the table differ.
pub(crate) fn check<M: Extents>() {
    let map = M::default();
    let mut table = vec![None; BLOCKS as usize];
    let mut random = Random::default();
    for operation in 1..=OPERATIONS {
        // Mostly short, sometimes over many extents.
        let longest = [4, 40, 400][random.below(3) as usize];
        let first = random.below(BLOCKS);
        let last = (first + random.below(longest)).min(BLOCKS - 1);
        // So few tags that neighbours often merge; every sixth time a hole.
        let tag = random.below(6);
        let run = Run::tagged(tag, first, last);
        map.replace(first, last, (tag > 0).then_some(run.value));
        for block in first..=last {
            table[block as usize] = (tag > 0).then(|| run.at(block));
        }

        let get = map.reader();
        let compare = |block| {
            let found = get(block);
            let expected = expected(&table, block);
            assert_eq!(
                found,
                expected,
                "{}, block {block} after {operation} operations",
                M::NAME
            );
        };
        match operation % BETWEEN {
            0 => (0..BLOCKS).for_each(compare),
            _ => [first.saturating_sub(1), first, last, random.below(BLOCKS)]
                .into_iter()
                .for_each(compare),
        }
    }
}

/// The run that holds `block`, by the table.
fn expected(table: &[Option<u64>], block: u64) -> Option<Run> {
    let joined = |left: usize| {
        table[left].is_some_and(|value| table.get(left + 1) == Some(&Some(value + 1)))
    };
    let here = block as usize;
    table[here]?;
    let first = (0..here).rev().take_while(|left| joined(*left)).last();
    let last = (here..table.len()).take_while(|left| joined(*left)).last();
    let first = first.unwrap_or(here);
    Some(Run {
        first: first as u64,
        last: last.map_or(here, |left| left + 1) as u64,
        value: table[first]?,
    })
}
