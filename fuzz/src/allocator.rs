//! The allocator, its ledger and its reservations against one flag for each cluster.

use arbitrary::{Arbitrary, Unstructured};
use extent_map::allocator::Allocator;

use super::common::allocator_pair::{Pair, Step};

/// Clusters in a group: all in one, whole words, one less, and a few.
const GROUPS: [u64; 4] = [150, 64, 63, 7];

/// Runs `data` as calls of an allocator and compares all there is to see after each of them.
pub fn run(data: &[u8]) {
    run_beside(data, |_| {});
}

/// As [`run`], with something else that uses the allocator after each call.
pub fn run_beside(data: &[u8], mut other: impl FnMut(&Allocator)) {
    let Some((groups, steps)) = data.split_first() else {
        return;
    };
    let mut pair = Pair::new(GROUPS[usize::from(*groups) % GROUPS.len()]);
    let mut source = Unstructured::new(steps);
    while source.len() >= Step::ENCODED_LEN
        && let Ok(step) = Step::arbitrary(&mut source)
    {
        pair.step(step);
        other(&pair.allocator);
        pair.agree();
    }
}
