//! Loom models of what readers of the extent map see beside edits: every interleaving, and every reordering that the
//! memory orderings allow, of a few steps of the real code.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_map`
//!
//! Epochs never end here, and no memory is reused. That leaves so few steps that loom goes through all executions that it
//! finds (not quite all there are, see `common/roles.rs`), but where a model says otherwise. Writers are the main thread,
//! the role in which it finds most. `loom_reuse` has the real epochs.
#![cfg(all(loom, not(crossbeam_loom)))]

use std::sync::Arc;

use extent_map::map::probe::Mutation::{
    CacheWithoutCheck, PublishInPieces, ReadTorn, RelaxedPublish, TrustStaleLook, WalkWithoutCheck,
};
use extent_map::map::{Extent, ExtentMap};
use loom::sync::atomic::{AtomicBool, Ordering};

#[path = "common/apart.rs"]
mod apart;
#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/loom_map.rs"]
mod loom_map;
#[path = "common/watched.rs"]
mod watched;

use apart::Apart;
use loom_map::{Model, map, reader, set, two_leaves, value, values};
use watched::Watched;

#[test]
fn whoever_sees_an_edit_sees_all_of_it_and_what_came_before() {
    let allowed = [(103, 102), (103, 500), (501, 500)];
    let model = Model::new("publish, lookup", allowed);
    model.proves(&[RelaxedPublish, PublishInPieces], |broken| {
        let map = map::<u64>(broken);
        map.insert(0..8, 100).unwrap();
        let before = Arc::new(Watched::default());
        let theirs = Arc::clone(&before);
        let reader = reader(&map, move |map| {
            let value = |block| map.get(block)?.value_at(block);
            let at = |block| value(block).expect("mapped all the time");
            let found = (at(3), at(2));
            if found.1 == 500 {
                assert_eq!(theirs.get(), 7);
            }
            found
        });
        before.set(7);
        map.insert(2..4, 500).unwrap();
        reader.join().unwrap()
    });
}

/// Replaces four extents in both leaves by one.
fn replace_most(map: &ExtentMap<Apart>) {
    set(map, 4, 18, 9);
}

#[test]
fn an_insert_over_several_leaves_is_one_change_for_lookups() {
    let allowed = [(1, 4), (1, 9), (9, 9)];
    let model = Model::new("insert over leaves, lookups", allowed);
    model.proves(&[PublishInPieces], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| (value(map, 4), value(map, 17)));
        replace_most(&map);
        reader.join().unwrap()
    });
}

#[test]
fn an_insert_over_several_leaves_is_one_change_for_a_walk() {
    let allowed = [vec![0, 1, 2, 3, 4], vec![0, 9]];
    let model = Model::new("insert over leaves, walk", allowed);
    model.proves(&[PublishInPieces], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, values);
        replace_most(&map);
        reader.join().unwrap()
    });
}

#[test]
fn what_one_reader_tells_another_about_an_edit_stays_so() {
    // Whether the first one saw the edit, whether the second one was told, and whether it saw it.
    let allowed = [
        (false, false, false),
        (false, false, true),
        (true, false, false),
        (true, false, true),
        (true, true, true),
    ];
    let model = Model::new("insert over leaves, two readers", allowed);
    model.proves(&[PublishInPieces], |broken| {
        let map = two_leaves(broken);
        let told = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&told);
        let first = reader(&map, move |map| {
            let saw = value(map, 4) == 9;
            told.store(saw, Ordering::Release);
            saw
        });
        let second = reader(&map, move |map| {
            let told = heard.load(Ordering::Acquire);
            let walk = values(map);
            assert!(
                [vec![0, 1, 2, 3, 4], vec![0, 9]].contains(&walk),
                "{walk:?}"
            );
            (told, walk.len() == 2)
        });
        replace_most(&map);
        let (told, saw) = second.join().unwrap();
        (first.join().unwrap(), told, saw)
    });
}

#[test]
fn a_walk_over_two_leaves_sees_two_edits_in_their_order() {
    let allowed = [[2, 2, 2, 2, 2], [2, 1, 2, 2, 2], [2, 1, 2, 2, 1]].map(Vec::from);
    let model = Model::new("walk, an edit in each leaf", allowed);
    model.proves(&[WalkWithoutCheck], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| map.pin().iter().map(Extent::len).collect());
        map.remove(5..6).unwrap();
        map.remove(17..18).unwrap();
        reader.join().unwrap()
    });
}

#[test]
fn a_gap_between_two_leaves_sees_two_edits_in_their_order() {
    let allowed = [Some(14..=15), Some(13..=15), Some(13..=16)];
    let model = Model::new("gap, an edit in each leaf", allowed).within(3);
    model.proves(&[WalkWithoutCheck], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| map.lookup(14).gap());
        map.remove(13..14).unwrap();
        map.remove(16..17).unwrap();
        reader.join().unwrap()
    });
}

#[test]
fn a_walk_over_two_leaves_sees_values_change_in_their_order() {
    let allowed = [[0, 1, 2, 3, 4], [0, 8, 2, 3, 4], [0, 8, 2, 3, 9]].map(Vec::from);
    let model = Model::new("walk, a value in each leaf", allowed);
    model.proves(&[WalkWithoutCheck], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, values);
        set(&map, 4, 6, 8);
        set(&map, 16, 18, 9);
        reader.join().unwrap()
    });
}

#[test]
fn a_walk_over_one_leaf_sees_values_change_in_their_order() {
    let allowed = [[0, 1], [8, 1], [8, 9]].map(Vec::from);
    let model = Model::new("walk, two values in a leaf", allowed);
    model.proves(&[WalkWithoutCheck], |broken| {
        let map = map(broken);
        set(&map, 0, 2, 0);
        set(&map, 4, 6, 1);
        let reader = reader(&map, values);
        set(&map, 0, 2, 8);
        set(&map, 4, 6, 9);
        reader.join().unwrap()
    });
}

#[test]
fn a_walk_sees_a_value_and_an_edit_elsewhere_in_their_order() {
    let allowed = [[0, 1, 2, 3, 4], [0, 8, 2, 3, 4], [0, 8, 2, 3, 9]].map(Vec::from);
    let model = Model::new("walk, a value and an edit", allowed);
    model.proves(&[WalkWithoutCheck], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, values);
        set(&map, 4, 6, 8);
        set(&map, 16, 19, 9);
        reader.join().unwrap()
    });
}

#[test]
fn whoever_sees_a_changed_value_sees_what_came_before() {
    let allowed = [(4, 1), (4, 8), (9, 8)];
    let model = Model::new("a value, lookups", allowed);
    model.proves(&[PublishInPieces], |broken| {
        let map = two_leaves(broken);
        let before = Arc::new(Watched::default());
        let theirs = Arc::clone(&before);
        let reader = reader(&map, move |map| {
            let last = value(map, 17);
            if last == 9 {
                assert_eq!(theirs.get(), 7);
            }
            (last, value(map, 4))
        });
        set(&map, 4, 6, 8);
        before.set(7);
        set(&map, 16, 18, 9);
        reader.join().unwrap()
    });
}

#[test]
fn length_and_value_of_an_extent_belong_together() {
    let allowed = [(2, 100), (4, 100), (4, 500)];
    let model = Model::new("growth and a value, lookup", allowed);
    model.proves(&[ReadTorn], |broken| {
        let map = map::<u64>(broken);
        map.insert(0..2, 100).unwrap();
        let reader = reader(&map, |map| {
            let extent = map.get(1).unwrap();
            (extent.len(), extent.value())
        });
        map.insert(2..4, 102).unwrap();
        map.insert(0..4, 500).unwrap();
        reader.join().unwrap()
    });
}

/// Looks, locks, and asks whether the look still stands, which must not be said of one that does not.
fn look_again(map: &ExtentMap<Apart>, block: u64) -> bool {
    let look = map.lookup(block);
    let editor = map.edit();
    let stands = editor.revalidate(&look);
    let now = editor.lookup(block);
    let same = (look.extent(), look.gap()) == (now.extent(), now.gap());
    assert!(same || !stands, "{look:?} is {now:?}");
    stands
}

#[test]
fn a_look_at_an_extent_stands_only_if_its_leaf_is_untouched() {
    // A look into the other leaf stands in any case.
    let allowed = [(false, true), (true, true)];
    let model = Model::new("look again, extent", allowed);
    model.proves(&[TrustStaleLook], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| (look_again(map, 4), look_again(map, 17)));
        map.remove(5..6).unwrap();
        set(&map, 4, 5, 8);
        reader.join().unwrap()
    });
}

#[test]
fn a_look_at_a_gap_stands_only_if_both_leaves_are_untouched() {
    // The first gap reaches into the leaf that is edited, the other one does not.
    let allowed = [(false, true), (true, true)];
    let model = Model::new("look again, gap", allowed);
    model.proves(&[TrustStaleLook], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| (look_again(map, 14), look_again(map, 10)));
        map.remove(16..17).unwrap();
        reader.join().unwrap()
    });
}

#[test]
fn a_look_into_an_empty_map_stands_only_while_it_is_empty() {
    let model = Model::new("look again, nothing", [false, true]);
    model.proves(&[TrustStaleLook], |broken| {
        let map = map(broken);
        let reader = reader(&map, |map| look_again(map, 2));
        set(&map, 0, 4, 1);
        map.remove(..).unwrap();
        set(&map, 8, 9, 2);
        reader.join().unwrap()
    });
}

#[test]
fn a_view_answers_from_what_it_saw_only_while_that_is_there() {
    // Each is new if one before it was.
    let allowed = [
        [2, 2, 4, 2],
        [2, 2, 4, 9],
        [2, 2, 9, 9],
        [2, 9, 9, 9],
        [9, 9, 9, 9],
    ];
    let model = Model::new("view", allowed);
    model.proves(&[CacheWithoutCheck], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, |map| {
            let view = map.pin();
            let near = |block| view.get(block).expect("mapped all the time").value().0;
            // The view remembers what it found second.
            let (first, second) = (near(8), near(8));
            let elsewhere = value(map, 17);
            [first, second, elsewhere, near(9)]
        });
        replace_most(&map);
        reader.join().unwrap()
    });
}

#[test]
fn a_walk_over_a_leaf_that_left_the_tree_sees_values_change_in_their_order() {
    let allowed = [vec![0, 1], vec![8, 1], vec![8, 9], vec![8]];
    let model = Model::new("walk, two values and a removal in a leaf", allowed).within(3);
    model.proves(&[], |broken| {
        let map = map(broken);
        set(&map, 0, 2, 0);
        set(&map, 4, 6, 1);
        let reader = reader(&map, values);
        set(&map, 0, 2, 8);
        set(&map, 4, 6, 9);
        map.remove(4..6).unwrap();
        reader.join().unwrap()
    });
}
