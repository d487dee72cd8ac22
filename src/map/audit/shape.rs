//! How full the nodes are after an edit: which ones share or join, and which stay as they are.

use super::*;

/// Blocks from one extent to the next; half of them are mapped.
const PITCH: u64 = 16;

/// The blocks of extents, by their numbers.
fn blocks(extents: Range<usize>) -> Range<u64> {
    extents.start as u64 * PITCH..extents.end as u64 * PITCH - PITCH / 2
}

/// A map of full leaves, loaded in order.
fn full(leaves: usize) -> ExtentMap<u64> {
    let map = ExtentMap::new();
    for n in 0..leaves * LEAF {
        map.insert(blocks(n..n + 1), (n as u64) << 32).unwrap();
    }
    map
}

/// Takes out the children `lost` of node `node`, which has had `FANOUT` of them, each a full leaf.
fn lose_leaves(map: &ExtentMap<u64>, node: usize, lost: Range<usize>) {
    let leaf = |at: usize| (node * FANOUT + at) * LEAF;
    if !lost.is_empty() {
        map.remove(blocks(leaf(lost.start)..leaf(lost.end)))
            .unwrap();
    }
}

/// Takes out the extents `lost` of a leaf, and of those behind it, that have had `LEAF` each.
fn lose(map: &ExtentMap<u64>, leaf: usize, lost: Range<usize>) {
    let first = leaf * LEAF;
    if !lost.is_empty() {
        map.remove(blocks(first + lost.start..first + lost.end))
            .unwrap();
    }
}

/// A map whose leaves have so many extents.
fn with_leaves(sizes: &[usize]) -> ExtentMap<u64> {
    let map = full(sizes.len());
    for (leaf, size) in sizes.iter().enumerate() {
        lose(&map, leaf, *size..LEAF);
    }
    assert_eq!(audit(&map).leaves, sizes);
    map
}

#[test]
fn a_leaf_that_gets_few_extents_joins_a_neighbour_that_has_room() {
    let leaves_after = |before: &[usize], leaf: usize, kept: usize| {
        let map = with_leaves(before);
        lose(&map, leaf, kept..before[leaf]);
        audit(&map).leaves
    };
    assert_eq!(leaves_after(&[30, 8, 8], 1, 7), [30, 7, 8], "not yet few");
    assert_eq!(leaves_after(&[30, 7, 16], 1, 6), [30, 22]);
    assert_eq!(leaves_after(&[16, 7, 30], 1, 6), [22, 30]);
    assert_eq!(leaves_after(&[8, 7, 8], 1, 6), [14, 8]);
    assert_eq!(leaves_after(&[17, 7, 17], 1, 6), [17, 6, 17], "no room");
    assert_eq!(leaves_after(&[30, 30, 20], 1, 2), [30, 22], "at once");
    assert_eq!(leaves_after(&[30, 10, 10], 1, 0), [30, 10]);
}

#[test]
fn a_leaf_that_overflows_shares_with_a_neighbour() {
    let after = |before: &[usize], leaf: usize, at: usize| {
        let map = with_leaves(before);
        let behind = blocks(0..leaf * LEAF + at).end;
        map.insert(behind + 2..behind + 4, 0).unwrap();
        audit(&map).leaves
    };
    assert_eq!(after(&[20, 30, 30], 1, 15), [25, 26, 30]);
    assert_eq!(after(&[30, 30, 10], 1, 15), [20, 20, 21, 10]);
    assert_eq!(after(&[30, 10], 0, 15), [20, 21]);
    assert_eq!(after(&[20, 29, 30], 1, 15), [20, 30, 30], "not yet full");
    assert_eq!(after(&[20, 30, 30], 1, 30), [20, 30, 1, 30], "at the end");
}

#[test]
fn what_fits_into_one_leaf_after_an_edit_of_two_is_one_leaf() {
    for (lost, after) in [(15..45, [10, 30]), (4..57, [10, 7])] {
        let map = with_leaves(&[10, 30, 30]);
        lose(&map, 1, lost);
        assert_eq!(audit(&map).leaves, after);
    }
}

#[test]
fn many_new_extents_before_others_are_spread_evenly() {
    let map = full(99);
    lose(&map, 98, 10..LEAF);
    map.edit()
        .update(..blocks(0..98 * LEAF + 9).end, |old| Some(old.value() + 1))
        .unwrap();
    let leaves = audit(&map).leaves;
    assert_eq!(leaves.len(), 99);
    assert!(leaves.iter().all(|size| (29..=30).contains(size)));
}

#[test]
fn an_index_node_that_gets_few_children_joins_a_neighbour_that_has_room() {
    let after = |before: [usize; 3], node: usize, kept: usize| {
        let map = full(before.len() * FANOUT);
        for (node, size) in before.iter().enumerate() {
            lose_leaves(&map, node, *size..FANOUT);
        }
        assert_eq!(audit(&map).indices[1..], before);
        lose_leaves(&map, node, kept..before[node]);
        audit(&map).indices[1..].to_vec()
    };
    assert_eq!(after([16, 5, 8], 1, 4), [16, 4, 8], "not yet few");
    assert_eq!(after([16, 4, 9], 1, 3), [16, 12]);
    assert_eq!(after([9, 4, 16], 1, 3), [12, 16]);
    assert_eq!(after([10, 4, 10], 1, 3), [10, 3, 10], "no room");
}
