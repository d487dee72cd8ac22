//! The status tree (what is known of a file's blocks) in named cases: which reservations end when, what the shrinker
//! may forget; and what readers see beside changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use extent_map::Error;
use extent_map::status::{
    Accounting, CacheOutcome, ShrinkOutcome, ShrinkerList, Status, StatusContext, StatusExtent,
    StatusTree,
};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange, MAX_FILE_BLOCKS};

#[path = "common/race.rs"]
mod race;

use race::race;

fn tree(ratio: u64) -> StatusTree {
    StatusTree::new(&StatusContext::new(ClusterRatio::new(ratio).unwrap()))
}

fn blocks(start: u64, len: u64) -> FileRange {
    FileRange::at(FileBlock(start), len)
}

/// Everything, short, as (start, length, kind).
fn dump(tree: &StatusTree) -> Vec<(u64, u64, char)> {
    let kind = |extent: StatusExtent| match extent.status {
        Status::Written(_) => 'w',
        Status::Unwritten(_) => 'u',
        Status::Delayed => 'd',
        Status::Hole => 'h',
    };
    let everything = tree.extents(FileRange::starting_at(FileBlock(0)));
    let entries = everything.into_iter();
    entries
        .map(|extent| (extent.range.start().0, extent.range.len(), kind(extent)))
        .collect()
}

const WRITTEN: Status = Status::Written(DiskBlock(1000));
const UNWRITTEN: Status = Status::Unwritten(DiskBlock(1000));

/// An insert that ends no reservation.
fn put(tree: &StatusTree, range: FileRange, status: Status) {
    assert_eq!(tree.insert(range, status), Ok(Accounting { released: 0 }));
}

#[test]
fn removing_one_of_two_delayed_entries_in_a_cluster_releases_nothing() {
    let tree = tree(4);
    tree.insert_delayed(blocks(0, 1), false, false).unwrap();
    tree.insert_delayed(blocks(2, 2), false, false).unwrap();
    assert_eq!(tree.remove(blocks(0, 2)).unwrap().released, 0);
    assert_eq!(tree.remove(blocks(1, 3)).unwrap().released, 1);
}

#[test]
fn a_cluster_of_two_delayed_entries_is_released_once() {
    let tree = tree(4);
    tree.insert_delayed(blocks(0, 1), false, false).unwrap();
    tree.insert_delayed(blocks(3, 6), false, false).unwrap();
    assert_eq!(tree.remove(blocks(0, 64)).unwrap().released, 3);
}

#[test]
fn a_removal_inside_a_cluster_with_delayed_blocks_on_both_sides_releases_nothing() {
    let tree = tree(16);
    tree.insert_delayed(blocks(0, 16), false, false).unwrap();
    assert_eq!(tree.remove(blocks(5, 3)).unwrap().released, 0);
    assert_eq!(dump(&tree), [(0, 5, 'd'), (8, 8, 'd')]);
}

#[test]
fn an_allocation_beside_delayed_blocks_releases_their_cluster_once() {
    let tree = tree(4);
    tree.insert_delayed(blocks(0, 4), false, false).unwrap();
    assert_eq!(tree.insert(blocks(1, 1), UNWRITTEN).unwrap().released, 1);
    assert!(tree.is_pending(0));
    assert_eq!(tree.insert(blocks(2, 1), UNWRITTEN).unwrap().released, 0);
    // The last delayed blocks go: the record goes with them.
    assert_eq!(tree.insert(blocks(0, 4), WRITTEN).unwrap().released, 0);
    assert_eq!(tree.pending_count(), 0);
}

#[test]
fn freeing_a_pending_cluster_asks_for_its_reservation_back() {
    let tree = tree(4);
    put(&tree, blocks(0, 1), WRITTEN);
    tree.insert_delayed(blocks(2, 4), true, false).unwrap();
    assert_eq!(tree.remove(blocks(0, 1)).unwrap().released, 0);
    assert_eq!(tree.pending_count(), 1);
    assert!(tree.take_pending(0) && !tree.take_pending(0) && !tree.take_pending(1));
    assert_eq!(tree.pending_count(), 0);
    assert_eq!(tree.remove(blocks(0, 8)).unwrap().released, 2);
}

#[test]
fn a_remembered_hole_is_no_allocation_and_leaves_pending_records_alone() {
    let tree = tree(4);
    put(&tree, blocks(0, 1), WRITTEN);
    tree.insert_delayed(blocks(2, 2), true, false).unwrap();
    assert_eq!(tree.insert(blocks(2, 1), Status::Hole).unwrap().released, 0);
    assert!(tree.is_pending(0));
    assert_eq!(tree.insert(blocks(3, 1), Status::Hole).unwrap().released, 0);
    assert!(!tree.is_pending(0));
}

#[test]
fn input_that_no_tree_can_hold_is_refused_and_changes_nothing() {
    let tree = tree(4);
    let too_far = blocks(MAX_FILE_BLOCKS, 1);
    let past_the_volume = Status::Written(DiskBlock(Status::MAX_DISK_BLOCKS - 3));
    let invalid = |error: Option<Error>| matches!(error, Some(Error::InvalidInput(_)));
    for (range, status) in [
        (too_far, WRITTEN),
        (blocks(u64::MAX, 0), WRITTEN),
        (blocks(0, 4), past_the_volume),
        (blocks(0, 4), Status::Unwritten(DiskBlock(u64::MAX))),
        (blocks(0, 4), Status::Delayed),
    ] {
        assert!(
            invalid(tree.insert(range, status).err()),
            "{range:?} {status:?}"
        );
        assert!(
            invalid(tree.cache(range, status).err()),
            "{range:?} {status:?}"
        );
    }
    assert!(invalid(tree.remove(too_far).err()));
    assert!(invalid(tree.insert_delayed(too_far, false, false).err()));
    for inside_a_cluster in [blocks(1, 3), blocks(9, 2)] {
        let refused = tree.insert_delayed(inside_a_cluster, false, true);
        assert!(invalid(refused.err()), "{inside_a_cluster:?}");
    }
    assert_eq!((dump(&tree), tree.change_counter()), (vec![], 0));
    let to_the_end = FileRange::starting_at(FileBlock(0));
    assert_eq!(
        tree.insert(to_the_end, Status::Hole),
        Ok(Accounting { released: 0 })
    );
    assert_eq!(dump(&tree), [(0, MAX_FILE_BLOCKS, 'h')]);
    let last_of_the_volume = Status::Written(DiskBlock(Status::MAX_DISK_BLOCKS - 4));
    put(&tree, blocks(0, 4), last_of_the_volume);
    assert_eq!(tree.lookup(FileBlock(u64::MAX)), None);
}

#[test]
fn empty_ranges_do_nothing() {
    let tree = tree(4);
    let nothing = Ok(Accounting { released: 0 });
    assert_eq!(tree.insert(blocks(5, 0), WRITTEN), nothing);
    assert_eq!(tree.remove(blocks(5, 0)), nothing);
    assert_eq!(tree.insert_delayed(blocks(5, 0), true, false), Ok(()));
    assert_eq!(
        tree.cache(blocks(5, 0), Status::Hole),
        Ok(CacheOutcome::Kept)
    );
    assert_eq!(
        (dump(&tree), tree.change_counter(), tree.pending_count()),
        (vec![], 0, 0)
    );
}

#[test]
fn delayed_blocks_never_replace_delayed_or_allocated_ones() {
    for first in [WRITTEN, UNWRITTEN, Status::Delayed] {
        let tree = tree(1);
        match first {
            Status::Delayed => tree.insert_delayed(blocks(5, 1), false, false).unwrap(),
            _ => assert_eq!(tree.insert(blocks(5, 1), first).unwrap().released, 0),
        }
        let before = dump(&tree);
        let refused = tree.insert_delayed(blocks(0, 8), false, false);
        assert!(matches!(refused, Err(Error::Corrupt(_))), "{first:?}");
        assert_eq!((dump(&tree), tree.change_counter()), (before, 1));
    }
}

#[test]
fn what_is_read_never_replaces_what_is_known() {
    let tree = tree(1);
    tree.insert_delayed(blocks(4, 2), false, false).unwrap();
    assert_eq!(
        tree.cache(blocks(0, 10), Status::Hole),
        Ok(CacheOutcome::Kept)
    );
    assert_eq!(
        tree.cache(blocks(0, 4), Status::Hole),
        Ok(CacheOutcome::Inserted)
    );
    assert_eq!(tree.cache(blocks(2, 1), WRITTEN), Ok(CacheOutcome::Kept));
    assert_eq!(
        tree.cache(blocks(3, 1), Status::Hole),
        Ok(CacheOutcome::Kept)
    );
    assert_eq!(
        (dump(&tree), tree.change_counter()),
        (vec![(0, 4, 'h'), (4, 2, 'd')], 1)
    );
}

#[test]
fn a_look_holds_until_something_changes() {
    let (tree, other) = (tree(1), tree(1));
    put(&tree, blocks(0, 8), WRITTEN);
    put(&tree, blocks(12, 8), Status::Hole);
    let (known, unknown) = (tree.look(FileBlock(3)), tree.look(FileBlock(9)));
    assert_eq!(
        known.extent(),
        Some(StatusExtent {
            range: blocks(0, 8),
            status: WRITTEN
        })
    );
    assert_eq!((known.gap(), unknown.extent()), (None, None));
    assert_eq!(unknown.gap(), Some(blocks(8, 4)));
    assert_eq!(
        tree.look(FileBlock(30)).gap(),
        Some(FileRange::starting_at(FileBlock(20)))
    );
    assert_eq!(unknown.change_counter(), 2);
    let mut edit = tree.edit();
    assert!(edit.revalidate(&known) && edit.revalidate(&unknown));
    assert!(!other.edit().revalidate(&known));
    edit.insert_delayed(blocks(12, 1), false, false).unwrap();
    assert!(!edit.revalidate(&known) && !edit.revalidate(&unknown));
    drop(edit);
    assert_eq!(tree.change_counter(), 3);
}

#[test]
fn searches_stay_inside_their_range() {
    let tree = tree(4);
    tree.insert_delayed(blocks(5, 1), false, false).unwrap();
    put(&tree, blocks(10, 4), WRITTEN);
    let delayed = StatusExtent {
        range: blocks(5, 1),
        status: Status::Delayed,
    };
    assert_eq!(
        tree.find_range(blocks(0, 6), Status::is_delayed),
        Some(delayed)
    );
    // The first entry behind the range matches; ext4 would return it.
    assert_eq!(tree.find_range(blocks(0, 5), Status::is_delayed), None);
    assert_eq!(
        tree.find_range(blocks(0, 11), Status::is_written)
            .unwrap()
            .range,
        blocks(10, 4)
    );
    assert!(tree.scan_range(blocks(13, 9), Status::is_allocated));
    assert!(!tree.scan_range(blocks(14, 9), Status::is_allocated));
    assert!(!tree.scan_range(blocks(5, 0), Status::is_delayed));
    assert!(tree.scan_cluster(FileBlock(7), Status::is_delayed));
    assert!(!tree.scan_cluster(FileBlock(8), Status::is_delayed));
}

#[test]
fn the_shrinker_gives_used_entries_a_second_chance_and_spares_delayed_ones() {
    let context = StatusContext::new(ClusterRatio::ONE);
    let tree = StatusTree::new(&context);
    for i in 0..4 {
        put(&tree, blocks(i * 10, 1), WRITTEN);
    }
    tree.insert_delayed(blocks(50, 1), false, false).unwrap();
    assert!(tree.lookup(FileBlock(10)).is_some());
    assert_eq!(tree.lookup(FileBlock(11)), None);
    assert_eq!(
        tree.shrink(100),
        ShrinkOutcome {
            scanned: 5,
            reclaimed: 3
        }
    );
    assert_eq!(dump(&tree), [(10, 1, 'w'), (50, 1, 'd')]);
    assert_eq!(
        tree.shrink(100),
        ShrinkOutcome {
            scanned: 2,
            reclaimed: 1
        }
    );
    assert_eq!(tree.lookup(FileBlock(10)), None);
    assert_eq!(
        tree.shrink(100),
        ShrinkOutcome {
            scanned: 1,
            reclaimed: 0
        }
    );
    assert_eq!(
        (dump(&tree), tree.change_counter()),
        (vec![(50, 1, 'd')], 5)
    );
    let stats = context.stats();
    assert_eq!(
        (stats.status_hits, stats.status_misses, stats.status_shrunk),
        (1, 2, 4)
    );
}

#[test]
fn the_shrinker_goes_on_where_it_ended_and_wraps_once() {
    let tree = tree(1);
    for i in 0..6 {
        tree.insert_delayed(blocks(i * 10, 1), false, false)
            .unwrap();
        put(&tree, blocks(i * 10 + 5, 1), WRITTEN);
    }
    assert_eq!(
        tree.shrink(0),
        ShrinkOutcome {
            scanned: 0,
            reclaimed: 0
        }
    );
    assert_eq!(
        tree.shrink(4),
        ShrinkOutcome {
            scanned: 4,
            reclaimed: 2
        }
    );
    assert_eq!(
        tree.shrink(4),
        ShrinkOutcome {
            scanned: 4,
            reclaimed: 2
        }
    );
    put(&tree, blocks(5, 1), WRITTEN);
    assert_eq!(
        tree.shrink(6),
        ShrinkOutcome {
            scanned: 6,
            reclaimed: 3
        }
    );
    assert!(tree.shrink(100).scanned == 6 && tree.reclaimable_count() == 0);
}

#[test]
fn trees_take_turns_and_precached_or_busy_ones_are_spared() {
    let context = StatusContext::new(ClusterRatio::ONE);
    let list = ShrinkerList::new();
    let trees: Vec<_> = (0..3)
        .map(|_| Arc::new(StatusTree::new(&context)))
        .collect();
    for tree in &trees {
        list.register(tree);
        (0..4)
            .for_each(|i| assert_eq!(tree.insert(blocks(i * 10, 1), WRITTEN).unwrap().released, 0));
    }
    let left = || {
        trees
            .iter()
            .map(|tree| tree.entry_count())
            .collect::<Vec<_>>()
    };
    trees[1].edit().set_precached();
    let busy = trees[2].edit();
    assert_eq!(list.shrink(3).reclaimed, 3);
    assert_eq!(left(), [1, 4, 4]);
    // The first tree had its turn; of the others one is precached and one busy.
    assert_eq!(list.shrink(3).reclaimed, 1);
    drop(busy);
    assert_eq!(list.shrink(3).reclaimed, 3);
    assert_eq!(left(), [0, 4, 1]);
    assert_eq!(list.shrink(100).reclaimed, 1);
    assert_eq!(
        list.shrink(100).reclaimed,
        4,
        "nothing else is left: precached trees too"
    );
    assert_eq!(left(), [0, 0, 0]);
    // Clearing ends the precached state.
    trees[1].edit().set_precached();
    trees[1].clear();
    put(&trees[1], blocks(0, 1), WRITTEN);
    put(&trees[0], blocks(0, 1), WRITTEN);
    assert_eq!(list.shrink(100).reclaimed, 2);
    drop(trees);
    assert_eq!(list.shrink(100), ShrinkOutcome::default());
}

#[test]
fn what_was_used_lately_stays_also_where_trees_have_nothing_else() {
    let context = StatusContext::new(ClusterRatio::ONE);
    let list = ShrinkerList::new();
    let trees = [(); 2].map(|()| Arc::new(StatusTree::new(&context)));
    for tree in &trees {
        list.register(tree);
        (0..4).for_each(|i| put(tree, blocks(i * 10, 1), WRITTEN));
        (0..4).for_each(|i| assert!(tree.lookup(FileBlock(i * 10)).is_some()));
    }
    trees[1].edit().set_precached();
    let outcome = |scanned, reclaimed| ShrinkOutcome { scanned, reclaimed };
    assert_eq!(list.shrink(6), outcome(6, 0));
    assert_eq!(list.shrink(4), outcome(4, 4));
}

#[test]
fn trees_share_one_budget() {
    let context = StatusContext::new(ClusterRatio::ONE);
    let list = ShrinkerList::new();
    let trees = [(); 2].map(|()| Arc::new(StatusTree::new(&context)));
    for tree in &trees {
        list.register(tree);
        (0..4).for_each(|i| put(tree, blocks(i * 10, 1), WRITTEN));
    }
    let outcome = ShrinkOutcome {
        scanned: 6,
        reclaimed: 6,
    };
    assert_eq!(list.shrink(6), outcome);
}

#[test]
fn a_look_is_never_older_than_its_change_counter() {
    let tree = tree(1);
    // The n-th change puts the block at disk block n.
    race(
        |n| drop(tree.insert(blocks(0, 1), Status::Written(DiskBlock(n)))),
        || {
            let look = tree.look(FileBlock(0));
            let change = look
                .extent()
                .map_or(0, |extent| extent.status.disk_block().unwrap().0);
            assert!(change >= look.change_counter(), "{look:?}");
        },
    );
}

#[test]
fn a_conversion_is_never_seen_as_a_hole_nor_half_done() {
    let tree = tree(1);
    put(&tree, blocks(0, 64), UNWRITTEN);
    race(
        |n| {
            let start = n * 7 % 60;
            let place = DiskBlock(1000 + start);
            drop(tree.insert(blocks(start, 4), Status::Written(place)));
            drop(tree.insert(blocks(start, 4), Status::Unwritten(place)));
        },
        || {
            for block in 0..64 {
                let found = tree.lookup(FileBlock(block)).expect("known all the time");
                let place = found.clip(blocks(block, 1)).status.disk_block();
                assert_eq!(place, Some(DiskBlock(1000 + block)));
            }
            let found = tree.extents(blocks(0, 64));
            let written: BTreeSet<u64> = found
                .iter()
                .filter(|e| e.status.is_written())
                .map(|e| e.range.len())
                .collect();
            assert!(
                written.is_empty() || written == BTreeSet::from([4]),
                "{found:?}"
            );
            assert_eq!(
                found.iter().map(|extent| extent.range.len()).sum::<u64>(),
                64
            );
        },
    );
}
