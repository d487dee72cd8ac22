//! The extent map against a dense oracle, tables of other projects, and in named cases.

use std::fmt::Debug;
use std::ops::{Bound, RangeInclusive};

use extent_map::Error;
use extent_map::map::{Extent, ExtentMap, Value};
use proptest::prelude::*;

#[path = "common/apart.rs"]
mod apart;

use apart::Apart;

/// One slot for each of some blocks: deliberately slow and obvious.
#[derive(Clone)]
struct Dense<V> {
    /// The block of slot 0.
    base: u64,
    /// The block's own value, and whether an extent starts there.
    slots: Vec<Option<(V, bool)>>,
}

impl<V: Value + PartialEq + Debug> Dense<V> {
    fn new(base: u64, len: usize) -> Self {
        Self {
            base,
            slots: vec![None; len],
        }
    }

    /// Sets the slots `first..=last` to what `value` says and draws the bounds anew.
    fn set(
        &mut self,
        first: usize,
        last: usize,
        mut value: impl FnMut(usize, Option<V>) -> Option<(V, bool)>,
    ) {
        for slot in first..=last {
            self.slots[slot] = value(slot, self.slots[slot].map(|(value, _)| value));
        }
        for bound in [first, last + 1] {
            if let Some(Some((_, starts))) = self.slots.get_mut(bound) {
                *starts = true;
            }
        }
        for slot in 1..self.slots.len() {
            if let [Some((before, _)), Some((value, starts))] = &mut self.slots[slot - 1..=slot]
                && before.can_merge(1, *value)
            {
                *starts = false;
            }
        }
    }

    fn insert(&mut self, first: usize, last: usize, value: V) {
        self.set(first, last, |slot, _| {
            Some((value.advance((slot - first) as u64), slot == first))
        });
    }

    fn remove(&mut self, first: usize, last: usize) {
        self.set(first, last, |_, _| None);
    }

    /// The extents as (first block, last block, value).
    fn extents(&self) -> Vec<(u64, u64, V)> {
        let mut extents: Vec<(u64, u64, V)> = Vec::new();
        for (slot, entry) in self.slots.iter().enumerate() {
            let block = self.base + slot as u64;
            match (entry, extents.last_mut()) {
                (Some((_, false)), Some(extent)) => extent.1 = block,
                (Some((value, true)), _) => extents.push((block, block, *value)),
                (Some(_), None) => panic!("the first block of an extent starts it"),
                (None, _) => {}
            }
        }
        extents
    }

    fn blocks(&self, first: usize, last: usize) -> RangeInclusive<u64> {
        self.base + first as u64..=self.base + last as u64
    }
}

fn plain<V: Value>(extent: Extent<V>) -> (u64, u64, V) {
    (extent.start(), extent.last(), extent.value())
}

/// Everything that a map says must follow from the oracle.
fn agree<V: Value + PartialEq + Debug>(map: &ExtentMap<V>, dense: &Dense<V>) {
    let expected = dense.extents();
    let view = map.pin();
    assert_eq!(view.iter().map(plain).collect::<Vec<_>>(), expected);
    assert_eq!(map.edit().iter().map(plain).collect::<Vec<_>>(), expected);
    assert_eq!(view.first().map(plain), expected.first().copied());
    assert_eq!(view.last().map(plain), expected.last().copied());
    for slot in 0..dense.slots.len() {
        let block = dense.base + slot as u64;
        let holds = |&&(start, last, _): &&(u64, u64, V)| start <= block && block <= last;
        let found = expected.iter().find(holds).copied();
        assert_eq!(view.get(block).map(plain), found);
        let after = expected.iter().find(|(_, last, _)| *last >= block).copied();
        assert_eq!(view.next_from(block).map(plain), after);
        let lookup = view.lookup(block);
        assert_eq!(lookup.extent().map(plain), found);
        let before = expected.iter().rev().find(|(_, last, _)| *last < block);
        let gap = match found {
            Some(_) => None,
            None => {
                let first = before.map_or(0, |(_, last, _)| last + 1);
                Some(first..=after.map_or(u64::MAX, |(start, ..)| start - 1))
            }
        };
        assert_eq!(lookup.gap(), gap);
    }
}

/// Walks over `first..=last` list the extents there, and with the gaps they tile the range.
fn walks_agree<V: Value + PartialEq + Debug>(
    map: &ExtentMap<V>,
    dense: &Dense<V>,
    first: usize,
    last: usize,
) {
    let range = dense.blocks(first, last);
    let view = map.pin();
    let found: Vec<_> = view.overlapping(range.clone()).collect();
    let touching = |(start, end, _): &(u64, u64, V)| start <= range.end() && end >= range.start();
    let expected: Vec<_> = dense.extents().into_iter().filter(touching).collect();
    assert_eq!(
        found.iter().copied().map(plain).collect::<Vec<_>>(),
        expected
    );

    let covered = found
        .iter()
        .map(|extent| extent.clip(range.clone()).unwrap().range());
    let mut tiles: Vec<_> = covered.map(|tile| (tile, true)).collect();
    tiles.extend(view.gaps(range.clone()).map(|tile| (tile, false)));
    tiles.sort_by_key(|(tile, _)| *tile.start());
    let mut next = Some(*range.start());
    for (tile, _) in &tiles {
        assert_eq!(Some(*tile.start()), next);
        next = tile.end().checked_add(1);
    }
    assert_eq!(next, range.end().checked_add(1));
    assert!(
        tiles.windows(2).all(|pair| pair[0].1 || pair[1].1),
        "two gaps in a row"
    );
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u8, u64),
    Remove(u8, u8),
    /// Keeps, drops or changes extents, depending on the parity of their start.
    Update(u8, u8, Option<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    let bounds = || (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        4 => (bounds(), 0..6_u64).prop_map(|((a, b), v)| Op::Insert(a, b, v)),
        2 => bounds().prop_map(|(a, b)| Op::Remove(a, b)),
        1 => (bounds(), prop::option::of(0..6_u64)).prop_map(|((a, b), v)| Op::Update(a, b, v)),
    ]
}

/// Runs `ops` on a map and on the oracle. `value(choice, block)` makes values for extents that
/// start at `block`.
fn run<V: Value + PartialEq + Debug>(base: u64, ops: &[Op], value: fn(u64, u64) -> V) {
    let (map, mut dense) = (ExtentMap::new(), Dense::new(base, 256));
    for op in ops {
        let &(Op::Insert(a, b, _) | Op::Remove(a, b) | Op::Update(a, b, _)) = op;
        let (a, b) = (usize::from(a), usize::from(b));
        let range = dense.blocks(a, b);
        let old = dense.clone();
        let replaced = match *op {
            Op::Insert(_, _, choice) => {
                let value = value(choice, *range.start());
                dense.insert(a, b, value);
                map.insert(range.clone(), value)
            }
            Op::Remove(..) => {
                dense.remove(a, b);
                map.remove(range.clone())
            }
            Op::Update(_, _, choice) => {
                let change = |extent: Extent<V>| match choice {
                    Some(choice) if extent.start().is_multiple_of(2) => {
                        Some(value(choice, extent.start()))
                    }
                    None if extent.start().is_multiple_of(2) => None,
                    _ => Some(extent.value()),
                };
                let mut last_start = (0, None);
                dense.set(a, b, |slot, own| {
                    let starts = slot == a || old.slots[slot].is_some_and(|(_, starts)| starts);
                    if starts {
                        let block = base + slot as u64;
                        let only = ExtentMap::new();
                        only.insert(block..=block, own?).unwrap();
                        last_start = (slot, change(only.get(block)?));
                    }
                    own?;
                    let by = (slot - last_start.0) as u64;
                    last_start.1.map(|value| (value.advance(by), starts))
                });
                map.edit().update(range.clone(), change)
            }
        }
        .unwrap();
        let clipped = old
            .extents()
            .into_iter()
            .filter_map(|(start, last, value)| {
                let (from, to) = (start.max(*range.start()), last.min(*range.end()));
                (from <= to).then(|| (from, to, value.advance(from - start)))
            });
        assert_eq!(
            replaced.iter().copied().map(plain).collect::<Vec<_>>(),
            clipped.collect::<Vec<_>>()
        );
        agree(&map, &dense);
        walks_agree(&map, &dense, a, b);
        walks_agree(&map, &dense, 0, 255);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_edits_leave_what_a_dense_array_would_hold(
        ops in prop::collection::vec(op(), 1..24),
        at_the_end in any::<bool>(),
    ) {
        let base = if at_the_end { u64::MAX - 255 } else { 0 };
        // Inserts of one choice lie on one line, so that they merge wherever they touch.
        run::<u64>(base, &ops, |choice, block| (choice << 32).wrapping_add(block));
        run::<Apart>(base, &ops, |choice, _| Apart(choice));
        run::<()>(base, &ops, |_, _| ());
    }
}

#[test]
fn every_insert_and_removal_over_every_extent_of_a_small_space() {
    let intervals = || (0..12_usize).flat_map(|first| (first..12).map(move |last| (first, last)));
    for (a, b) in intervals() {
        for (c, d) in intervals() {
            for second in [
                Some(700),
                Some(100 + c as u64),
                Some(100 + (c - c.min(a)) as u64),
                None,
            ] {
                let (map, mut dense) = (ExtentMap::new(), Dense::new(0, 12));
                map.insert(dense.blocks(a, b), 100).unwrap();
                dense.insert(a, b, 100);
                match second {
                    Some(value) => {
                        map.insert(dense.blocks(c, d), value).unwrap();
                        dense.insert(c, d, value);
                    }
                    None => {
                        map.remove(dense.blocks(c, d)).unwrap();
                        dense.remove(c, d);
                    }
                }
                agree(&map, &dense);
                walks_agree(&map, &dense, 0, 11);
            }
        }
    }
}

/// A half-open range.
type Blocks = (u64, u64);

/// Start, end and insert of what remains.
type Remains = (u64, u64, u64);

/// bcachefs `fs/bcachefs/tests.c`, `test_extent_overwrite_*`: first insert, second insert, and what
/// remains of which insert.
const BCACHEFS_OVERWRITE: [(Blocks, Blocks, &[Remains]); 9] = [
    ((0, 64), (0, 32), &[(0, 32, 2), (32, 64, 1)]),
    ((8, 64), (0, 32), &[(0, 32, 2), (32, 64, 1)]),
    ((0, 64), (32, 64), &[(0, 32, 1), (32, 64, 2)]),
    ((0, 64), (32, 72), &[(0, 32, 1), (32, 72, 2)]),
    ((0, 64), (32, 40), &[(0, 32, 1), (32, 40, 2), (40, 64, 1)]),
    ((32, 64), (0, 64), &[(0, 64, 2)]),
    ((32, 64), (0, 128), &[(0, 128, 2)]),
    ((32, 64), (32, 64), &[(32, 64, 2)]),
    ((32, 64), (32, 128), &[(32, 128, 2)]),
];

#[test]
fn overwrites_as_bcachefs_tests_them() {
    for (first, second, expected) in BCACHEFS_OVERWRITE {
        let map = ExtentMap::new();
        map.insert(first.0..first.1, Apart(1000)).unwrap();
        map.insert(second.0..second.1, Apart(2000)).unwrap();
        let extents: Vec<_> = map.pin().iter().collect();
        let found = extents.iter().map(|extent| {
            let insert = extent.value().0 / 1000;
            (extent.start(), extent.last() + 1, insert)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{first:?} {second:?}");
    }
}

/// Linux `fs/btrfs/tests/extent-map-tests.c`, `test_case_5`, in KiB: (start, length) of extents
/// that do not merge.
const BTRFS_START: [(u64, u64); 5] = [(0, 12), (12, 12), (24, 12), (36, 4), (40, 24)];
/// The ranges dropped one after the other, and what each leaves.
const BTRFS_DROP: [(Blocks, &[(u64, u64)]); 4] = [
    ((8, 12), &[(0, 8), (12, 12), (24, 12), (36, 4), (40, 24)]),
    ((12, 20), &[(0, 8), (20, 4), (24, 12), (36, 4), (40, 24)]),
    (
        (28, 32),
        &[(0, 8), (20, 4), (24, 4), (32, 4), (36, 4), (40, 24)],
    ),
    ((32, 64), &[(0, 8), (20, 4), (24, 4)]),
];

#[test]
fn drops_as_btrfs_tests_them() {
    let map = ExtentMap::new();
    for (start, len) in BTRFS_START {
        map.insert(start..start + len, Apart(start)).unwrap();
    }
    for (dropped, expected) in BTRFS_DROP {
        map.remove(dropped.0..dropped.1).unwrap();
        let extents: Vec<_> = map.pin().iter().collect();
        assert!(
            extents
                .iter()
                .all(|extent| extent.value() == Apart(extent.start()))
        );
        let found = extents.iter().map(|extent| (extent.start(), extent.len()));
        assert_eq!(found.collect::<Vec<_>>(), expected, "after {dropped:?}");
    }
}

#[test]
fn ranges_without_blocks_are_refused_or_walk_nothing() {
    let map = ExtentMap::new();
    map.insert(.., 0_u64).unwrap();
    let mut edit = map.edit();
    #[allow(clippy::reversed_empty_ranges)]
    let empty = [
        (Bound::Included(5), Bound::Excluded(5)),
        (Bound::Included(6), Bound::Included(5)),
        (Bound::Excluded(u64::MAX), Bound::Unbounded),
        (Bound::Unbounded, Bound::Excluded(0)),
    ];
    for range in empty {
        let refused = Err(Error::InvalidInput("empty or reversed range"));
        assert_eq!(edit.insert(range, 1), refused);
        assert_eq!(edit.remove(range), refused);
        assert_eq!(edit.update(range, |_| None), refused);
        assert_eq!(edit.overlapping(range).count(), 0);
        assert_eq!(map.pin().overlapping(range).count(), 0);
        assert_eq!(map.pin().gaps(range).count(), 0);
    }
}

#[test]
fn the_whole_key_space_is_one_extent_and_can_be_cut_anywhere() {
    let map = ExtentMap::new();
    assert_eq!(map.pin().gaps(..).collect::<Vec<_>>(), [0..=u64::MAX]);
    map.insert(.., 7_u64).unwrap();
    assert_eq!(map.get(u64::MAX).map(plain), Some((0, u64::MAX, 7)));
    assert_eq!(map.pin().gaps(..).next(), None);
    map.remove(u64::MAX..=u64::MAX).unwrap();
    map.remove(..=0).unwrap();
    assert_eq!(
        map.pin().iter().map(plain).collect::<Vec<_>>(),
        [(1, u64::MAX - 1, 8)]
    );
    assert_eq!(
        map.pin().gaps(..).collect::<Vec<_>>(),
        [0..=0, u64::MAX..=u64::MAX]
    );
}

#[test]
fn places_do_not_merge_across_the_end_of_the_line() {
    let map = ExtentMap::new();
    map.insert(0..1, u64::MAX).unwrap();
    map.insert(1..2, 0).unwrap();
    assert_eq!(map.pin().iter().count(), 2);
}

#[test]
fn a_lookup_stays_valid_until_the_map_changes() {
    let (map, other) = (ExtentMap::new(), ExtentMap::new());
    for map in [&map, &other] {
        map.insert(0..10, 5_u64).unwrap();
    }
    for block in [3, 30] {
        let lookup = map.lookup(block);
        let mut edit = map.edit();
        assert!(edit.revalidate(&lookup) && edit.revalidate(&edit.lookup(block)));
        assert!(!other.edit().revalidate(&lookup), "a lookup in another map");
        edit.insert(2..4, 7).unwrap();
        edit.remove(20..40).unwrap();
        edit.update(.., |extent| Some(extent.value())).unwrap();
        assert!(edit.revalidate(&lookup), "edits that change nothing");
        edit.insert(3..4, 0).unwrap();
        assert!(!edit.revalidate(&lookup));
        edit.insert(3..4, 8).unwrap();
        assert_eq!(edit.get(3).map(plain), Some((0, 9, 5)));
        assert!(
            !edit.revalidate(&lookup),
            "there and back is not certainly unchanged"
        );
    }
}

#[test]
fn an_update_that_panics_changes_nothing() {
    let map = ExtentMap::new();
    map.insert(0..10, 0_u64).unwrap();
    map.insert(20..30, 0).unwrap();
    let lookup = map.lookup(0);
    let update = std::panic::AssertUnwindSafe(|| {
        map.edit().update(.., |extent| {
            if extent.start() == 0 {
                None
            } else {
                panic!("no")
            }
        })
    });
    assert!(std::panic::catch_unwind(update).is_err());
    assert!(map.edit().revalidate(&lookup));
    assert_eq!(map.pin().iter().count(), 2);
}

#[test]
fn a_walk_cuts_what_grew_over_visited_blocks() {
    let map = ExtentMap::new();
    for i in 0..100_u64 {
        map.insert(i * 4..i * 4 + 2, i << 32).unwrap();
    }
    let view = map.pin();
    let mut walk = view.iter();
    assert_eq!(walk.by_ref().take(64).count(), 64);
    map.insert(.., 0).unwrap();
    assert_eq!(walk.next().map(plain), Some((254, u64::MAX, 254)));
    assert_eq!((walk.next(), walk.next()), (None, None));
}
