//! Unit tests that look inside: after any edits the tree is as the invariants say, and no node is lost.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::extent::Extent;
use super::extent_map::ExtentMap;
use super::index::FANOUT;
use super::leaf::{Entry, LEAF, Leaf, RETIRED, WIDE};
use super::link::Link;
use super::search::{Isa, Steps};

mod shape;

/// What an audit counts.
#[derive(Debug, Default)]
struct Census {
    entries: SmallVec<[Entry; 64]>,
    /// How many entries each leaf has.
    leaves: Vec<usize>,
    wide: usize,
    /// How many children each index node has, parents before their children.
    indices: Vec<usize>,
    height: Option<usize>,
}

impl Census {
    /// Counts `link` and all below it, which must lie in `lower..=upper`.
    fn visit(&mut self, link: Link, (lower, upper): (u64, u64), depth: usize) {
        if !link.is_index() {
            // SAFETY: in the tree, and the audit holds the writer lock (R1).
            let leaf = unsafe { link.leaf() };
            assert!(leaf.count() > 0, "an empty leaf");
            assert!(leaf.count() <= if leaf.wide { WIDE } else { LEAF });
            assert_eq!(
                *self.height.get_or_insert(depth),
                depth,
                "leaves at two depths"
            );
            let first = self.entries.len();
            leaf.copy_to(0..leaf.count(), &mut self.entries);
            let entries = &self.entries[first..];
            assert!(entries.first().is_some_and(|entry| entry.start >= lower));
            assert!(entries.last().is_some_and(|entry| entry.last <= upper));
            self.leaves.push(leaf.count());
            self.wide += usize::from(leaf.wide);
            return;
        }
        // SAFETY: as above (R1).
        let index = unsafe { link.index() };
        assert!((1..=FANOUT).contains(&index.count()));
        assert_eq!(index.used().trailing_ones(), 0, "child 0 has no separator");
        self.indices.push(index.count());
        for at in 0..index.count() {
            let lower = if at == 0 { lower } else { index.separator(at) };
            let upper = match at + 1 < index.count() {
                true => index.separator(at + 1) - 1,
                false => upper,
            };
            assert!(lower <= upper, "separators out of order");
            self.visit(index.child(at).load(), (lower, upper), depth + 1);
        }
    }
}

/// Checks N3 and N4 and that every node is somewhere.
fn audit(map: &ExtentMap<u64>) -> Census {
    let writer = map.lock();
    let mut census = Census::default();
    let root = map.tree.root.load();
    if !root.is_null() {
        census.visit(root, (0, u64::MAX), 0);
    }
    for pair in census.entries.windows(2) {
        let len = pair[0].last - pair[0].start + 1;
        assert!(pair[0].start <= pair[0].last && pair[0].last < pair[1].start);
        let touch = pair[0].last + 1 == pair[1].start;
        assert!(!touch || pair[0].bits + len != pair[1].bits, "unmerged");
    }
    let nodes = (census.leaves.len(), census.indices.len());
    assert_eq!(writer.used(), nodes, "lost nodes");
    census
}

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

type Model = BTreeMap<u64, (u64, u64)>;

/// Makes room in the model for `first..=last`.
fn cut(model: &mut Model, first: u64, last: u64) {
    let from = model.range(..first).next_back();
    let from = from
        .filter(|(_, (end, _))| *end >= first)
        .map_or(first, |(start, _)| *start);
    let hit: Vec<_> = model
        .range(from..=last)
        .map(|(start, rest)| (*start, *rest))
        .collect();
    for (start, (end, bits)) in hit {
        model.remove(&start);
        if start < first {
            model.insert(start, (first - 1, bits));
        }
        if end > last {
            model.insert(last + 1, (end, bits + (last + 1 - start)));
        }
    }
}

/// Random edits on blocks that are `scale` apart, the longest of `longest` such blocks.
fn churn(seed: u64, scale: u64, blocks: u64, longest: u64, edits: u64) {
    let map = ExtentMap::new();
    let mut model = Model::new();
    let mut random = Random(seed);
    for n in 0..edits {
        let longest = match random.below(64) {
            0 => blocks,
            _ => longest,
        };
        let (at, len) = (random.below(blocks), 1 + random.below(longest));
        let first = at * scale;
        let last = (at + len).min(blocks) * scale - 1;
        cut(&mut model, first, last);
        // Shrinks and grows in turns.
        if random.below(8) < if n / 2000 % 2 == 0 { 2 } else { 6 } {
            map.remove(first..=last).unwrap();
        } else {
            // Values of few lines merge now and then.
            let bits = random.below(3) * (1 << 60) + first;
            model.insert(first, (last, bits));
            map.insert(first..=last, bits).unwrap();
        }
        if n % 64 == 0 || edits - n < 8 {
            compare(&audit(&map), &model);
        }
    }
    map.remove(..).unwrap();
    assert!(audit(&map).entries.is_empty());
}

fn compare(census: &Census, model: &Model) {
    let mut merged: Vec<Entry> = Vec::new();
    for (&start, &(last, bits)) in model {
        match merged.last_mut() {
            Some(before)
                if before.last + 1 == start && before.bits + (start - before.start) == bits =>
            {
                before.last = last;
            }
            _ => merged.push(Entry { start, last, bits }),
        }
    }
    assert_eq!(census.entries[..], merged);
}

#[test]
fn the_tree_keeps_its_invariants_whatever_is_done() {
    for seed in 0..4 {
        churn(seed, 1, 20_000, 20, 6000);
        churn(seed, 1, 300, 10, 4000);
        churn(seed, 3, 50_000, 3, 6000);
    }
}

#[test]
fn far_apart_and_very_long_extents_too() {
    for seed in 0..4 {
        churn(seed, 1 << 40, 1 << 14, 4, 4000);
        churn(seed, 1 << 28, 1 << 14, 200, 4000);
    }
}

#[test]
fn loading_in_order_fills_the_leaves() {
    let map = ExtentMap::new();
    for n in 0..10_000 {
        map.insert(n * 16..n * 16 + 16, n << 32).unwrap();
    }
    let census = audit(&map);
    assert_eq!(census.leaves.len(), 10_000_usize.div_ceil(LEAF));
    assert_eq!(census.wide, 0);
    let parents = |nodes: usize| nodes.div_ceil(FANOUT);
    let lowest = parents(census.leaves.len());
    assert_eq!(
        census.indices.len(),
        lowest + parents(lowest) + parents(parents(lowest))
    );
}

#[test]
fn only_growth_and_new_values_leave_a_node_in_place() {
    for len in [16, 1 << 40] {
        let map = ExtentMap::new();
        map.insert(0..len, 100).unwrap();
        let mut before = map.tree.root.load();
        let mut stays = |edit: &dyn Fn()| {
            edit();
            let after = map.tree.root.load();
            core::mem::replace(&mut before, after) == after
        };
        assert!(stays(&|| drop(map.insert(0..len, 500))));
        let grows = stays(&|| drop(map.insert(len..len + 8, 500 + len)));
        assert_eq!(grows, len == 16);
        // What has become shorter might grow again, and look as if it had never changed.
        assert!(!stays(&|| drop(map.remove(len - 2..len + 8))));
    }
}

#[test]
fn what_can_change_in_place_is_found_among_what_stays() {
    let map = ExtentMap::new();
    for n in 0..5 {
        map.insert(n * 16..n * 16 + 8, n << 32).unwrap();
    }
    let node = map.tree.root.load();
    let other_value = |old: Extent<u64>| match old.start() {
        32 => Some(7),
        _ => Some(old.value()),
    };
    map.edit().update(.., other_value).unwrap();
    // Goes on in the line of the one it covers the end of.
    map.insert(36..44, 7 + 4).unwrap();
    assert_eq!(audit(&map).entries[2].last, 43);
    assert_eq!(map.tree.root.load(), node);
}

#[test]
fn stamps_end_when_memory_goes() {
    let map = ExtentMap::new();
    for n in 0..20_000 {
        map.insert(n * 16..n * 16 + 8, n << 32).unwrap();
    }
    let look = map.lookup(0);
    assert!(map.edit().revalidate(&look));
    map.remove(..).unwrap();
    for n in 0..2000 {
        map.insert(n..n + 1, n << 32).unwrap();
        map.remove(..).unwrap();
    }
    assert_ne!(look.stamp.life, map.lookup(0).stamp.life);
    assert!(!map.edit().revalidate(&look));
    audit(&map);
}

#[test]
fn a_look_at_a_leaf_that_had_left_already_never_stands() {
    let map = ExtentMap::new();
    map.insert(0..8, 100).unwrap();
    let mut look = map.lookup(0);
    map.remove(4..8).unwrap();
    look.stamp
        .leaves
        .iter_mut()
        .for_each(|leaf| leaf.version = RETIRED);
    assert!(!map.edit().revalidate(&look));
}

#[test]
fn nothing_comes_back_while_a_reader_is_pinned() {
    let map = ExtentMap::new();
    map.insert(0..8, 100).unwrap();
    let comes_back = || {
        let mut seen = BTreeSet::new();
        (0..1000).any(|n| {
            map.insert(n % 2..4, n << 32).unwrap();
            !seen.insert(map.tree.root.load().node::<Leaf>())
        })
    };
    let reader = map.reclaimer.register();
    let guard = reader.pin();
    assert!(!comes_back());
    drop(guard);
    assert!(comes_back());
}

#[test]
fn leaves_are_shared_before_they_are_split_and_joined_when_they_get_few() {
    const EXTENTS: u64 = 20_000;
    let map = ExtentMap::new();
    for n in 0..EXTENTS {
        // In an order that is none.
        let n = n * 7919 % EXTENTS;
        map.insert(n * 16..n * 16 + 8, n << 32).unwrap();
    }
    let full = audit(&map);
    assert!(
        full.leaves.len() as u64 * LEAF as u64 * 3 / 4 < EXTENTS,
        "{full:?}"
    );
    for n in (0..EXTENTS).filter(|n| n % 20 != 0) {
        map.remove(n * 16..n * 16 + 8).unwrap();
    }
    let thin = audit(&map);
    let left = thin.entries.len();
    assert!(
        thin.leaves.len() * LEAF < 3 * left && thin.indices.len() * FANOUT < 3 * thin.leaves.len(),
        "{thin:?}"
    );
}

#[test]
fn every_set_of_instructions_finds_the_same() {
    let mut sets = vec![Isa::Portable, Isa::detect()];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() == Isa::Avx512 && std::is_x86_feature_detected!("avx2") {
        sets.push(Isa::Avx2);
    }
    for scale in [1, 3, 1 << 30, 1 << 50] {
        let map = ExtentMap::new();
        let mut random = Random(scale);
        for n in 0..5000 {
            let start = random.below(1 << 13) * scale;
            let last = start + random.below(2 * scale);
            map.insert(start..=last, n << 32).unwrap();
        }
        let census = audit(&map);
        let _writer = map.lock();
        let root = map.tree.root.load();
        let edges = census.entries.iter().flat_map(|entry| {
            let around = [entry.start.wrapping_sub(1), entry.last.wrapping_add(1)];
            [entry.start, entry.last].into_iter().chain(around)
        });
        for block in edges.chain([0, u64::MAX]) {
            let at = census.entries.partition_point(|entry| entry.last < block);
            let holds = |entry: &&Entry| entry.start <= block;
            let expected = census.entries.get(at).filter(holds).copied();
            let rank = census.entries.partition_point(|entry| entry.start <= block);
            for isa in &sets {
                let mut many = [None; 1];
                let mut steps = Steps::new();
                // SAFETY: the writer lock is held (R1), and the processor has these instructions (C1).
                let (found, spot) = unsafe {
                    isa.get_many(&map.tree.root, &[block], &mut many);
                    (isa.get(root, block), isa.find(root, block, &mut steps))
                };
                assert_eq!((found, many[0]), (expected, expected), "{isa:?} at {block}");
                let before = spot.rank.checked_sub(1).map(|at| spot.leaf.entry(at));
                let last = rank.checked_sub(1).map(|at| census.entries[at]);
                assert!(before.is_none() || before == last, "{isa:?} at {block}");
            }
        }
    }
}
