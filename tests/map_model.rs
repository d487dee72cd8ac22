//! Any edits leave in an extent map what they would leave in a dense array; and named cases, some from tables of other
//! projects.

use std::fmt::Debug;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use extent_map::Error;
use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Lookup, Reclaimer, Value};
use proptest::prelude::*;

#[path = "common/apart.rs"]
mod apart;
#[path = "common/dense.rs"]
mod dense;
#[path = "common/random.rs"]
mod random;

use apart::Apart;
use dense::{Dense, agree, around, plain, walks_agree};
use random::Random;

/// An edit of the slots between two, both included.
#[derive(Clone, Debug)]
enum Op {
    Insert(usize, usize, u64),
    Remove(usize, usize),
    /// Keeps, drops or changes extents, depending on the parity of their start.
    Update(usize, usize, Option<u64>),
}

/// Edits of the slots that `bounds` draws.
fn op(bounds: impl Strategy<Value = (usize, usize)> + Clone) -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (bounds.clone(), 0..6_u64).prop_map(|((a, b), v)| Op::Insert(a, b, v)),
        2 => bounds.clone().prop_map(|(a, b)| Op::Remove(a, b)),
        1 => (bounds, prop::option::of(0..6_u64)).prop_map(|((a, b), v)| Op::Update(a, b, v)),
    ]
}

/// Slots that are mostly close together, seldom up to half of `slots` apart.
fn near(slots: usize) -> impl Strategy<Value = (usize, usize)> + Clone {
    let len = prop_oneof![160 => 0..4_usize, 30 => 0..64_usize, 1 => 0..slots / 2];
    (0..slots, len).prop_map(move |(first, len)| (first, (first + len).min(slots - 1)))
}

/// An answer from some edits ago, and whether it has been wrong at any time since.
struct Look<V> {
    block: u64,
    lookup: Lookup<V>,
    stale: bool,
}

/// Runs `ops` on an empty map and on the oracle. `value(choice, block)` makes values for extents that
/// start at `block`; everything is compared every so many edits.
fn run<V: Value + PartialEq + Debug>(
    map: &ExtentMap<V>,
    mut dense: Dense<V>,
    ops: &[Op],
    value: fn(u64, u64) -> V,
    compare_every: usize,
) {
    let mut look: Option<Look<V>> = None;
    let mut extents = dense.extents();
    for (number, op) in ops.iter().enumerate() {
        let &(Op::Insert(a, b, _) | Op::Remove(a, b) | Op::Update(a, b, _)) = op;
        let range = dense.blocks(a, b);
        if number % 3 == 0 {
            look = Some(Look {
                block: *range.end(),
                lookup: map.lookup(*range.end()),
                stale: false,
            });
        }
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
                let change = |start: u64, old: V| match choice {
                    Some(choice) if start.is_multiple_of(2) => Some(value(choice, start)),
                    None if start.is_multiple_of(2) => None,
                    _ => Some(old),
                };
                dense.update(a, b, change);
                map.edit().update(range.clone(), |extent| {
                    change(extent.start(), extent.value())
                })
            }
        }
        .unwrap();
        let clipped = extents.iter().filter_map(|&(start, last, value)| {
            let (from, to) = (start.max(*range.start()), last.min(*range.end()));
            (from <= to).then(|| (from, to, value.advance(from - start)))
        });
        assert_eq!(
            replaced.iter().copied().map(plain).collect::<Vec<_>>(),
            clipped.collect::<Vec<_>>()
        );
        extents = dense.extents();
        if let Some(look) = &mut look {
            let answer = look.lookup.extent().map(plain);
            let answer = answer.ok_or_else(|| look.lookup.gap().unwrap());
            look.stale |= around(&extents, look.block) != answer;
            let trusted = map.edit().revalidate(&look.lookup);
            assert!(!(trusted && look.stale), "{answer:?} after {op:?}");
        }
        walks_agree(map, &extents, range);
        if number % compare_every == 0 || number + 1 == ops.len() {
            agree(map, &dense);
            walks_agree(map, &extents, dense.blocks(0, dense.len() - 1));
        }
    }
}

/// Values of one choice lie on one line, so that extents merge wherever they touch.
fn line(choice: u64, block: u64) -> u64 {
    (choice << 32).wrapping_add(block)
}

fn apart(choice: u64, _: u64) -> Apart {
    Apart(choice)
}

fn present(_: u64, _: u64) {}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_edits_leave_what_a_dense_array_would_hold(
        ops in {
            let bounds = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b).into(), a.max(b).into()));
            prop::collection::vec(op(bounds), 1..24)
        },
        at_the_end in any::<bool>(),
    ) {
        let base = if at_the_end { u64::MAX - 255 } else { 0 };
        run(&ExtentMap::new(), Dense::new(base, 256), &ops, line, 1);
        run(&ExtentMap::new(), Dense::new(base, 256), &ops, apart, 1);
        run(&ExtentMap::new(), Dense::new(base, 256), &ops, present, 1);
    }
}

/// Enough slots and edits that a map grows and shrinks by whole levels.
const SLOTS: usize = 4096;
const OPS: usize = 2000;
/// A comparison of everything looks at each slot.
const COMPARE_EVERY: usize = 100;

/// Maps every other slot, in an order that depends on `seed`, before `ops`; after them unmaps
/// one part after the other.
fn grow_and_shrink(ops: &[Op], seed: u64) -> Vec<Op> {
    let mut slots: Vec<usize> = (0..SLOTS).step_by(2).collect();
    let mut random = Random(seed);
    match seed % 3 {
        0 => {}
        1 => slots.reverse(),
        _ => slots.sort_by_cached_key(|_| random.any()),
    }
    let fill = slots
        .iter()
        .map(|slot| Op::Insert(*slot, *slot, *slot as u64 % 5));
    let parts = (0..8).map(|part| part * 5 % 8 * (SLOTS / 8));
    let shrink = parts.map(|first| Op::Remove(first, first + SLOTS / 8 - 1));
    fill.chain(ops.iter().cloned()).chain(shrink).collect()
}

/// The first blocks of slots which are one block wide or more than 2^32, by chance, all below 2^62.
fn near_and_far(seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut first = 0;
    let slots = (0..SLOTS).map(|_| {
        let width = match random.below(16) {
            0..12 => 1,
            12..14 => 1 + random.below(1 << 20),
            14 => 1 + random.below(1 << 34),
            _ => 1 + random.below(1 << 53),
        };
        first += width;
        first - width
    });
    slots.collect()
}

/// Values so far apart that they are for extents anywhere below 2^62.
fn far_line(choice: u64, block: u64) -> u64 {
    ((choice % 4) << 62) + block
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2) })]
    #[test]
    fn long_runs_of_edits_leave_what_a_dense_array_would_hold(
        ops in prop::collection::vec(op(near(SLOTS)), OPS),
        seed in any::<u64>(),
    ) {
        let ops = grow_and_shrink(&ops, seed);
        let base = if seed % 2 == 0 { u64::MAX - (SLOTS as u64 - 1) } else { seed % 1000 };
        run(&ExtentMap::new(), Dense::new(base, SLOTS), &ops, line, COMPARE_EVERY);
        run(&ExtentMap::new(), Dense::new(base, SLOTS), &ops, apart, COMPARE_EVERY);
    }

    #[test]
    fn extents_near_and_far_and_wide_leave_what_a_dense_array_would_hold(
        ops in prop::collection::vec(op(near(SLOTS)), OPS),
        seed in any::<u64>(),
    ) {
        let ops = grow_and_shrink(&ops, seed);
        let slots = near_and_far(seed);
        let below = Dense::with_slots(slots.clone(), (1 << 62) - 1);
        run(&ExtentMap::new(), below, &ops, far_line, COMPARE_EVERY);
        let all = Dense::with_slots(slots.clone(), u64::MAX);
        run(&ExtentMap::new(), all, &ops, apart, COMPARE_EVERY);
        let all = Dense::with_slots(slots, u64::MAX);
        run(&ExtentMap::new(), all, &ops, present, COMPARE_EVERY);
    }
}

#[test]
fn extents_on_both_sides_of_the_middle_of_all_blocks_leave_what_a_dense_array_would_hold() {
    let base = (1 << 63) - SLOTS as u64 / 2;
    let ops = grow_and_shrink(&[], 2);
    run(
        &ExtentMap::new(),
        Dense::new(base, SLOTS),
        &ops,
        apart,
        COMPARE_EVERY,
    );
}

#[test]
fn where_nothing_but_presence_counts_all_neighbours_merge() {
    let map = ExtentMap::new();
    for range in [0..4, 8..12, 4..8_u64] {
        map.insert(range, ()).unwrap();
    }
    assert_eq!(
        map.pin().iter().map(plain).collect::<Vec<_>>(),
        [(0, 11, ())]
    );
}

#[test]
fn a_map_that_breaks_a_promise_differs_from_the_dense_array() {
    for mutation in [Mutation::LeaveUnmerged, Mutation::TrustStaleLook] {
        let probe = Probe::new().mutation(mutation);
        let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
        let ops = [
            Op::Insert(0, 7, 1),
            Op::Remove(3, 3),
            Op::Insert(3, 3, 1),
            Op::Insert(2, 5, 2),
            Op::Update(0, 7, Some(3)),
        ];
        let compare = || run(&map, Dense::new(0, 8), &ops, line, 1);
        assert!(
            catch_unwind(AssertUnwindSafe(compare)).is_err(),
            "{mutation:?}"
        );
        run(&ExtentMap::new(), Dense::new(0, 8), &ops, line, 1);
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
                walks_agree(&map, &dense.extents(), dense.blocks(0, 11));
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
        assert_eq!(edit.gaps(range).count(), 0);
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
        edit.insert(0..10, 5).unwrap();
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
fn a_lookup_in_an_empty_map_stays_valid_until_the_first_edit() {
    let map = ExtentMap::new();
    let lookup = map.lookup(3);
    map.remove(..).unwrap();
    assert!(map.edit().revalidate(&lookup));
    map.insert(900..901, 5_u64).unwrap();
    map.remove(..).unwrap();
    assert!(!map.edit().revalidate(&lookup), "the map is empty again");
    assert!(map.edit().revalidate(&map.lookup(3)));
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
    // One more than what is read from one state.
    assert_eq!(walk.by_ref().take(65).count(), 65);
    map.insert(.., 0).unwrap();
    assert_eq!(walk.next().map(plain), Some((258, u64::MAX, 258)));
    assert_eq!((walk.next(), walk.next()), (None, None));
}

#[test]
fn starts_and_lengths_around_32_bits_leave_what_a_dense_array_would_hold() {
    const EDGE: u64 = 1 << 32;
    for far in EDGE - 4..EDGE + 3 {
        // Slots of one block, but for the long one between.
        let firsts = [0, 1, 2, 3, far, far + 1, far + 2, far + 3];
        let edits: [&[(usize, usize, u64)]; 5] = [
            // Side by side, then one more, at the far end and at the near end.
            &[(0, 0, 0), (4, 4, 1), (6, 6, 2)],
            &[(6, 6, 0), (4, 4, 1), (1, 1, 2), (0, 0, 3)],
            &[(0, 0, 0), (2, 2, 1), (5, 5, 2), (7, 7, 3)],
            // One long extent, and one that becomes long bit by bit.
            &[(0, 5, 0), (7, 7, 1)],
            &[(0, 2, 0), (3, 3, 0), (4, 4, 0), (5, 5, 0), (6, 6, 0)],
        ];
        for edits in edits {
            let (map, mut dense) = (ExtentMap::new(), Dense::with_slots(firsts, far + 3));
            for &(a, b, choice) in edits {
                let (blocks, value) = (dense.blocks(a, b), line(choice, firsts[a]));
                dense.insert(a, b, value);
                map.insert(blocks, value).unwrap();
                agree(&map, &dense);
            }
        }
    }
}

#[test]
fn a_walk_goes_on_to_a_rest_of_one_block() {
    let map = ExtentMap::new();
    for i in 0..65 {
        map.insert(i..=i, Apart(i)).unwrap();
    }
    assert_eq!(map.pin().overlapping(0..65).count(), 65);
    assert_eq!(map.pin().overlapping(0..64).count(), 64);
}

#[test]
fn handles_are_for_maps_of_their_reclaimer() {
    let reclaimer = Reclaimer::new();
    let [map, twin] = [(); 2].map(|()| ExtentMap::with_reclaimer(&reclaimer));
    let (own, foreign) = (reclaimer.register(), Reclaimer::new().register());
    for map in [&map, &twin] {
        map.edit_with(&own).unwrap().insert(0..8, 5_u64).unwrap();
        assert_eq!(
            map.pin_with(&own).unwrap().get(7).map(plain),
            Some((0, 7, 5))
        );
        let refused = Some(Error::InvalidInput("a handle of another reclaimer"));
        assert_eq!(map.pin_with(&foreign).err(), refused);
        assert_eq!(map.edit_with(&foreign).err(), refused);
        assert!(map.edit_with(&own).is_ok(), "the lock is free");
    }
}

#[test]
fn a_walk_that_returns_64_extents_saw_all_of_them_at_once() {
    let map = ExtentMap::new();
    for i in 0..65_u64 {
        map.insert(i * 4..i * 4 + 2, i << 32).unwrap();
    }
    let view = map.pin();
    let mut walk = view.iter();
    assert_eq!(walk.by_ref().take(64).count(), 64);
    map.insert(0..2, 99).unwrap();
    map.remove(256..258).unwrap();
    // To end here would be to have seen the old value at 0 and the removal at 256.
    assert!(walk.next().is_some());
}

#[test]
fn an_edit_of_very_many_extents_needs_little_stack() {
    const EXTENTS: u64 = 200_000;
    let edit = || {
        let map = ExtentMap::new();
        let mut edit = map.edit();
        for i in 0..EXTENTS {
            edit.insert(i * 4..i * 4 + 2, i << 32).unwrap();
        }
        edit.update(.., |old| Some(old.value() + 1)).unwrap();
        assert_eq!(edit.iter().count() as u64, EXTENTS);
    };
    let small = std::thread::Builder::new().stack_size(128 << 10);
    small.spawn(edit).unwrap().join().unwrap();
}
